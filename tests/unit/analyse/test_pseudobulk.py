"""Pseudobulk: sums by hand, a planted difference, none, and designs that can't be tested."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic.analyse import conditions, pseudobulk

LEVELS = {f"s{number}": "old" if number < 4 else "young" for number in range(8)}
FEATURES = [f"g{number}" for number in range(60)]


def simulated(seed: int, effect: float) -> tuple[list[ad.AnnData], pd.Series]:
    """Slices of two domains; in the domain ``b`` of the young ones, five features are ``effect`` times as high."""
    random = np.random.default_rng(seed)
    abundance = random.lognormal(1.5, 0.7, len(FEATURES))
    slices, domains = [], []
    for name, level in LEVELS.items():
        own = np.repeat(["a", "b"], 30)
        mean = np.tile(abundance * random.lognormal(0, 0.15, len(FEATURES)), (60, 1))
        if level == "young":
            mean[own == "b", :5] *= effect
        counts = sparse.csr_matrix(random.poisson(mean).astype(np.float32))
        names = [f"{name}:{number}" for number in range(60)]
        obs = pd.DataFrame({"slice": name}, index=names)
        slices.append(ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=FEATURES), layers={"counts": counts}))
        domains.append(pd.Series(own, names))
    return slices, pd.concat(domains)


def test_sums_are_those_of_the_spots_of_a_domain_in_a_slice():
    slices, domains = simulated(0, 1)
    domains.iloc[:25] = "few"  # of s0, which leaves five of a
    bulk = pseudobulk.pseudobulk(iter(slices), domains)
    assert bulk.counts.shape == (16, 60)
    assert set(bulk.samples.loc[bulk.samples["slice"] == "s0", "domain"]) == {"few", "b"}
    (row,) = np.flatnonzero((bulk.samples["slice"] == "s3") & (bulk.samples["domain"] == "b"))
    inside = (domains[slices[3].obs_names] == "b").to_numpy()
    np.testing.assert_array_equal(bulk.counts.iloc[row], slices[3].X.toarray()[inside].sum(axis=0))
    assert bulk.samples.loc[row, "n_spots"] == 30


def test_a_planted_difference_is_found_in_its_domain_alone():
    (contrast,) = conditions.contrasts(LEVELS)
    found = pseudobulk.differences(pseudobulk.pseudobulk(*simulated(1, 2.5)), contrast)
    assert list(found.features) == pseudobulk.FEATURE_COLUMNS
    tests = found.tests.set_index("domain")
    assert (tests.loc["a", "n_different"], tests.loc["a", "n_features"]) == (0, 60)
    first = found.features[found.features["domain"] == "b"].head(5)
    assert set(first["feature"]) == set(FEATURES[:5])
    assert (first["p_adj"] < 0.01).all()
    np.testing.assert_allclose(first["log2_fold_change"], np.log2(2.5), atol=0.6)


def test_donors_with_both_levels_are_compared_with_themselves():
    """Donors differ tenfold in a feature, which only a paired design can take into account."""
    donors = {f"s{number}": f"d{number % 4}" for number in range(8)}
    slices, domains = simulated(2, 2.0)
    for number, adata in enumerate(slices):
        layer = adata.layers["counts"].toarray()
        layer[:, 0] *= (1, 3, 10, 30)[number % 4]
        adata.layers["counts"] = sparse.csr_matrix(layer)
    bulk = pseudobulk.pseudobulk(slices, domains)
    p_adj = {}
    for told in (None, donors):
        (contrast,) = conditions.contrasts(LEVELS, told)
        table = pseudobulk.differences(bulk, contrast).features
        p_adj[contrast.paired] = table.set_index(["domain", "feature"]).loc[("b", "g0"), "p_adj"]
    assert p_adj[True] < 0.05
    assert not p_adj[False] < 0.05


def test_what_cannot_be_tested_is_told():
    bulk = pseudobulk.pseudobulk(*simulated(0, 5))
    (few,) = conditions.contrasts({"s0": "old", "s1": "old", "s4": "young"})
    found = pseudobulk.differences(bulk, few)
    assert found.features.empty
    assert list(found.features) == pseudobulk.FEATURE_COLUMNS
    assert found.tests["note"].tolist() == ["not tested: 1 and 2 replicates with 10 spots, 2 each are needed"] * 2
    (contrast,) = conditions.contrasts(LEVELS)
    found = pseudobulk.differences(bulk, contrast, {"run": {name: f"run of {level}" for name, level in LEVELS.items()}})
    assert found.tests["note"].str.contains("covariates can't be told from the condition").all()
    # A covariate of one value says nothing, and one across the levels is taken into account.
    for told in (dict.fromkeys(LEVELS, "one"), {name: name in ("s0", "s4", "s5") for name in LEVELS}):
        found = pseudobulk.differences(bulk, contrast, {"run": told})
        assert set(found.features.query("domain == 'b'")["feature"].head(5)) == set(FEATURES[:5])


@pytest.mark.parametrize("seed", range(3))
def test_without_a_difference_hardly_any_feature_is_called(seed):
    (contrast,) = conditions.contrasts({f"s{number}": "old" if number % 2 else "young" for number in range(8)})
    found = pseudobulk.differences(pseudobulk.pseudobulk(*simulated(seed, 1)), contrast)
    assert found.tests["n_different"].sum() <= 2
    assert (found.features["p_value"] < 0.05).mean() < 0.12
