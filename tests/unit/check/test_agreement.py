"""Slices of one tissue agree on which features are high; slices with wrong names do not."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic.check import agreement

RNG = np.random.default_rng(0)
LEVEL = RNG.lognormal(0, 1.5, 300)


def part(level, n_spots=40, as_matrix=sparse.csr_matrix):
    counts = np.random.default_rng(1).poisson(level, (n_spots, len(level))).astype(np.float32)
    names = [f"g{number}" for number in range(len(level))]
    return agreement.profile(ad.AnnData(layers={"counts": as_matrix(counts)}, var=pd.DataFrame(index=names)))


def values(**levels):
    return agreement.agreements({(name, "rna"): part(level) for name, level in levels.items()}).set_index("slice")


def other_donor(level=LEVEL):
    return level * RNG.lognormal(0, 1, len(level))


def test_donors_agree_and_interchanged_names_do_not():
    table = values(s1=LEVEL, s2=other_donor(), s3=other_donor(), s4=RNG.permutation(LEVEL))
    assert table["agreement"].drop("s4").min() > agreement.GOOD
    assert table.loc["s4", "agreement"] < agreement.BAD
    (warning,) = agreement.warnings(table.reset_index())
    assert str(warning).startswith("rna of slice s4: other features are high and low")


def test_an_odd_slice_of_three_lowers_its_own_value_alone():
    table = values(s1=LEVEL, s2=other_donor(), s3=RNG.permutation(LEVEL))
    assert table["agreement"].drop("s3").min() > agreement.GOOD
    assert table.loc["s3", "agreement"] < agreement.BAD


def test_of_two_slices_both_are_named():
    table = values(s1=LEVEL, s2=RNG.permutation(LEVEL))
    assert len(agreement.warnings(table.reset_index())) == 2


def test_few_counts_are_no_disagreement():
    deep, shallow = part(LEVEL), part(LEVEL / 200)
    seen = (deep.sum(axis=1) + shallow.sum(axis=1)) > 0
    raw = np.corrcoef(*(np.log1p(frame[seen].sum(axis=1)) for frame in (deep, shallow)))[0, 1]
    table = agreement.agreements({("s1", "rna"): deep, ("s2", "rna"): shallow})
    assert raw < 0.7
    assert table["agreement"].min() > max(raw + 0.1, agreement.GOOD)


def test_what_cannot_be_judged_is_missing_and_warns_of_nothing():
    few = {(name, "adt"): part(LEVEL[:19]) for name in ("s1", "s2")}
    silent = {("s1", "rna"): part(LEVEL), ("s2", "rna"): part(np.zeros(300))}
    alone = {("s1", "atac"): part(LEVEL)}
    table = agreement.agreements(few | silent | alone)
    assert table["modality"].tolist() == ["adt", "adt", "rna", "rna"]
    assert table["agreement"].isna().all()
    seen = int((part(LEVEL).sum(axis=1) > 0).sum())
    assert table["n_features"].tolist() == [19, 19, seen, seen]
    assert agreement.warnings(table) == []


def test_features_are_matched_by_name_whatever_their_order():
    own = part(LEVEL)
    table = agreement.agreements({("s1", "rna"): own, ("s2", "rna"): own.iloc[::-1]})
    np.testing.assert_allclose(table["agreement"], 1)


@pytest.mark.parametrize("as_matrix", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_profile_sums_the_two_halves(as_matrix):
    counts = np.arange(12, dtype=np.float32).reshape(4, 3) + 1
    found = agreement.profile(ad.AnnData(layers={"counts": as_matrix(counts)}, var=pd.DataFrame(index=["a", "b", "c"])))
    np.testing.assert_array_equal(found.sum(axis=1), counts.sum(axis=0))
    assert (found > 0).all().all()


@pytest.mark.parametrize(
    ("folder", "n_features"),
    [("simulation/replicate1", 100), ("pbmc_mosaic", 224), ("cortex_rna_atac", 1600), ("serial_breast_st", 5000)],
)
def test_published_data_agree_and_interchanged_names_fail(shared_data, folder, n_features):
    profiles = {}
    for path in sorted((shared_data / folder).glob("*.h5ad")):
        name, _, modality = path.stem.partition("_")
        adata = ad.read_h5ad(path)
        adata.layers["counts"] = adata.X
        profiles[name, modality or "rna"] = agreement.profile(adata)
    table = agreement.agreements(profiles)
    assert table["agreement"].min() > agreement.GOOD
    assert table["n_features"].min() >= n_features
    key = next(key for key in profiles if (table["modality"] == key[1]).sum() > 1)
    wrong = profiles[key].set_axis(np.random.default_rng(0).permutation(profiles[key].index))
    found = agreement.agreements(profiles | {key: wrong}).set_index(["slice", "modality"])
    assert found.loc[key, "agreement"] < agreement.BAD
