"""Markers of domains: planted ones are found, a batch effect and noise are not."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import roc_auc_score

from mosaic.analyse import markers
from mosaic.prepare import normalize

FEATURES = [f"g{number}" for number in range(30)]


def sliced(name: str, n_spots: int, labels: np.ndarray, planted: dict[int, str], seed: int, batch: int = 29):
    """Poisson counts, tenfold where planted; one feature high in the whole slice."""
    rate = np.full((n_spots, len(FEATURES)), 5.0)
    for feature, label in planted.items():
        rate[labels == label, feature] = 50
    rate[:, batch] = 200
    counts = sparse.csr_matrix(np.random.default_rng(seed).poisson(rate).astype(np.float32))
    obs = pd.DataFrame({"slice": name}, index=[f"{name}:{number}" for number in range(n_spots)])
    adata = ad.AnnData(counts.copy(), obs=obs, var=pd.DataFrame(index=FEATURES), layers={"counts": counts})
    return normalize.normalize_slice(adata, "log")


@pytest.fixture
def two_slices():
    labels = np.repeat(["0", "1", "2"], 40)
    slices = [sliced("a", 120, labels, {0: "0", 1: "1"}, 0), sliced("b", 120, labels, {0: "0", 2: "2"}, 1, batch=28)]
    domains = pd.Series(np.tile(labels, 2), index=[*slices[0].obs_names, *slices[1].obs_names])
    return slices, domains


def test_planted_markers_come_first_and_only_those_of_every_slice_are_drawn(two_slices):
    found = markers.rank_markers(*two_slices)
    first = found.table.groupby(["slice", "domain"])["feature"].first()
    assert first["a", "0"] == first["b", "0"] == "g0"
    assert (first["a", "1"], first["b", "2"]) == ("g1", "g2")
    # g1 and g2 mark a domain in one slice; g28 and g29 are high in one slice.
    marks = found.profile.drop_duplicates("feature").set_index("feature")["marker_of"]
    assert marks["g0"] == "0"
    assert not {"g1", "g2", "g28", "g29"} & set(marks.index)
    g0 = found.profile[found.profile["feature"] == "g0"].set_index("domain")
    assert g0["mean"].idxmax() == "0"


def test_numbers_are_those_of_independent_arithmetic(two_slices):
    slices, domains = two_slices
    row = (
        markers.rank_markers(slices, domains).table.query("slice == 'a' and domain == '1' and feature == 'g1'").iloc[0]
    )
    inside = (domains[slices[0].obs_names] == "1").to_numpy()
    x = slices[0].X.toarray()[:, 1]
    assert row["difference"] == pytest.approx(x[inside].mean() - x[~inside].mean(), rel=1e-5)
    assert row["share_outside"] == pytest.approx((x[~inside] > 0).mean())
    assert row["pval_adj"] < 1e-10
    assert row["auroc"] == pytest.approx(roc_auc_score(inside, x), abs=1e-6)


def test_small_domains_are_left_out(two_slices):
    slices, domains = two_slices
    few = domains.copy()
    few.iloc[:5] = "9"
    assert "9" not in set(markers.rank_markers(slices, few).table["domain"])


def test_slices_of_one_domain_each_have_empty_tables_with_the_same_columns(two_slices, caplog):
    slices, domains = two_slices
    some = markers.rank_markers(slices, domains)
    none = markers.rank_markers(slices, pd.Series(np.repeat(["0", "1"], 120), domains.index))
    assert none.table.empty
    assert none.profile.empty
    assert [list(table) for table in none] == [list(table) for table in some]
    assert "no slice has two domains of 10 spots or more" in caplog.text


def test_profile_has_room_for_every_domain(two_slices):
    found = markers.rank_markers(*two_slices, most=1)
    assert found.profile.groupby("marker_of")["feature"].nunique().max() == 1


def test_a_feature_that_all_slices_of_a_domain_lack_has_no_mean_there(two_slices):
    slices, domains = two_slices
    # Domain 1 is in the first slice alone, which lacks g2; no feature but those planted marks anything.
    lacking = slices[0][:, slices[0].var_names != "g2"].copy()
    domains = domains.where(~domains.index.isin(slices[1].obs_names) | (domains != "1"), "0")
    profile = markers.rank_markers([lacking, slices[1]], domains).profile.set_index(["feature", "domain"])
    assert profile.loc["g2", "marker_of"].unique().tolist() == ["2"]
    assert profile.loc[("g2", "1"), ["mean", "share"]].isna().all()
    assert profile.drop(index=("g2", "1")).notna().all(axis=None)
