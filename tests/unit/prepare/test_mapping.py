"""New slices in the space of a reference: projection, and correction against symphonypy."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic.errors import InputError
from mosaic.prepare import batch_correction, mapping, normalize, reduce

SETTINGS = {
    "kind": "rna",
    "feature_selection": "all",
    "n_top_features": None,
    "scale": False,
    "reduction": "pca",
    "n_comps": 5,
    "batch_correction": "none",
}
LSI = {"reduction": "lsi", "kind": "epigenome"}
NORMALIZATION = {"rna": "log", "epigenome": "tfidf"}


def tissue(name, seed, factor=1.0, side=16, n_features=40, kind=7):
    """Counts of a slice with four domains, each a quarter of the tissue; ``factor`` multiplies each feature.

    ``kind`` is the seed of the domains' profiles: the same tissue, or another.
    """
    rng = np.random.default_rng(seed)
    places = np.column_stack(np.divmod(np.arange(side**2), side)).astype(float)
    domain = 2 * (places[:, 0] >= side / 2) + (places[:, 1] >= side / 2)
    profile = np.random.default_rng(kind).lognormal(1.5, 1, size=(4, n_features))
    counts = sparse.csr_matrix(rng.poisson(profile[domain] * factor).astype(np.float32))
    barcodes = [f"BC{number}" for number in range(side**2)]
    obs = pd.DataFrame({"slice": name, "barcode": barcodes}, index=[f"{name}:{barcode}" for barcode in barcodes])
    var = pd.DataFrame(index=[f"G{number}" for number in range(n_features)])
    return ad.AnnData(counts, obs=obs, var=var, obsm={"spatial": places}, layers={"counts": counts})


def normalized(*slices, kind="rna"):
    return [normalize.normalize_slice(adata, NORMALIZATION[kind]) for adata in slices]


def renamed(adata, name):
    """The same slice under another name."""
    other = adata.copy()
    other.obs["slice"] = name
    other.obs_names = [f"{name}:{barcode}" for barcode in other.obs["barcode"]]
    return other


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"scale": True},
        {"reduction": "lsi"},
        {**LSI, "drop_first": "before_zscore"},
        {**LSI, "drop_first": "after_zscore"},
    ],
)
def test_a_slice_of_the_reference_is_projected_onto_itself(changed):
    settings = SETTINGS | changed
    slices = normalized(tissue("s1", 0), tissue("s2", 1), kind=settings["kind"])
    reference = reduce.reduce_modality([adata.copy() for adata in slices], "rna", **settings)
    # In another order of features, with one that the reference does not know.
    new = renamed(slices[1][:, ::-1].copy(), "new")
    found = mapping.map_modality([new], reference, "rna", **settings)
    own = (reference.obs["slice"] == "s2").to_numpy()
    np.testing.assert_allclose(found.obsm["X_reduced"], reference.obsm["X_reduced"][own], atol=2e-4)
    assert found.uns["mapping"]["new"]["found"] == 1
    assert found.uns["mapping"]["new"]["agreement"] > 0.95
    assert list(found.var_names) == list(reference.var_names)
    # Batch correction could hide that features bear each other's names.
    new.var_names = np.random.default_rng(0).permutation(new.var_names)
    found = mapping.map_modality([new], reference, "rna", **settings)
    assert found.uns["mapping"]["new"]["agreement"] < 0.5


def test_symphony_is_symphonypys():
    symphonypy = pytest.importorskip("symphonypy._utils", reason="symphonypy, only compared with, is not installed")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)) + 3 * np.eye(6)[rng.integers(0, 3, 300)]
    slices = np.repeat(["a", "b"], 150)
    features[150:] += 0.5
    clusters = batch_correction.harmony(features, slices, seed=0, nclust=8).clusters
    X = features[:80] + np.array([1, 0, 0, 0, -1, 0])
    found = mapping.symphony(X, clusters)
    centres = clusters["C"] / np.linalg.norm(clusters["C"], axis=1, keepdims=True)
    R = symphonypy._assign_clusters(X, clusters["sigma"], centres, len(centres))
    phi = np.ones((2, len(X)))
    expected = symphonypy._correct_query(X, phi, R, clusters["Nr"], clusters["C"], np.diag([0.0, 1.0]))
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert np.abs(found - X).max() > 0.1


@pytest.mark.parametrize("method", ["harmony", "pair_shift", "auto"])
def test_a_slice_of_another_batch_comes_to_its_domains(method):
    rng = np.random.default_rng(3)
    factors = [rng.lognormal(0, 0.5, size=40) for _ in range(3)]
    slices = normalized(*(tissue(f"s{i}", i, factor) for i, factor in enumerate(factors)))
    settings = SETTINGS | {"batch_correction": method}
    reference = reduce.reduce_modality([adata.copy() for adata in slices[:2]], "rna", **settings)
    found = mapping.map_modality(slices[2:], reference, "rna", **settings)
    record = found.uns["mapping"]["s2"]
    assert record["ilisi_after"] > record["ilisi_before"] + 0.1
    assert (
        record["method"]
        == {"harmony": "symphony", "pair_shift": "pair_shift"}[reference.uns["batch_correction"]["method"]]
    )
    places = np.asarray(reference.obsm["spatial"])
    domain = 2 * (places[:, 0] >= 8) + (places[:, 1] >= 8)
    centres = np.array([reference.obsm["X_corrected"][domain == d].mean(axis=0) for d in range(4)])
    apart = ((found.obsm["X_corrected"][:, None] - centres) ** 2).sum(axis=2)
    assert (apart.argmin(axis=1) == domain[:256]).mean() > 0.95


@pytest.mark.parametrize(("n_slices", "strong"), [(1, False), (2, False), (3, True)])
def test_another_tissue_agrees_less_than_the_slices_of_the_reference(n_slices, strong):
    """Whatever the correction made of it; a slice of the same tissue from another batch agrees about as well."""
    rng = np.random.default_rng(3)
    factors = [rng.lognormal(0, 0.5 * strong, size=40) for _ in range(5)]
    known = normalized(*(tissue(f"s{i}", i, factors[i]) for i in range(n_slices)))
    settings = SETTINGS | {"batch_correction": "pair_shift"}
    reference = reduce.reduce_modality(known, "rna", **settings)
    new = [tissue("same", 8, factors[3]), tissue("other", 9, factors[4], kind=1)]
    records = mapping.map_modality(normalized(*new), reference, "rna", **settings).uns["mapping"]
    assert records["same"]["relative"] > 0.75
    assert records["other"]["relative"] < 0.55
    del reference.uns["agreements"]  # of an earlier version
    records = mapping.map_modality(normalized(*new), reference, "rna", **settings).uns["mapping"]
    assert np.isnan(records["other"]["relative"])


def test_a_reference_of_one_slice_has_the_new_slice_shifted_onto_it():
    slices = normalized(tissue("s1", 0), tissue("s2", 1, np.random.default_rng(1).lognormal(0, 1, size=40)))
    settings = SETTINGS | {"batch_correction": "auto"}
    reference = reduce.reduce_modality([slices[0].copy()], "rna", **settings)
    found = mapping.map_modality(slices[1:], reference, "rna", **settings)
    assert found.uns["mapping"]["s2"]["method"] == "pair_shift"
    assert found.uns["mapping"]["s2"]["ilisi_after"] > found.uns["mapping"]["s2"]["ilisi_before"] + 0.2
    kept = mapping.map_modality(slices[1:], reference, "rna", **settings | {"batch_correction": "none"})
    np.testing.assert_array_equal(kept.obsm["X_corrected"], kept.obsm["X_reduced"])


def test_each_slice_is_mapped_by_itself():
    slices = normalized(*(tissue(f"s{i}", i) for i in range(4)))
    settings = SETTINGS | {"batch_correction": "harmony"}
    reference = reduce.reduce_modality([adata.copy() for adata in slices[:2]], "rna", **settings)
    both = mapping.map_modality(slices[2:], reference, "rna", **settings)
    alone = mapping.map_modality(slices[3:], reference, "rna", **settings)
    np.testing.assert_array_equal(both.obsm["X_corrected"][-alone.n_obs :], alone.obsm["X_corrected"])


def test_missing_features_are_average_counted_and_below_a_share_refused():
    slices = normalized(tissue("s1", 0), tissue("s2", 1))
    reference = reduce.reduce_modality([slices[0].copy()], "rna", **SETTINGS)
    present = np.arange(40) % 4 > 0
    found = mapping.map_modality([slices[1][:, present].copy()], reference, "rna", **SETTINGS)
    assert found.uns["mapping"]["s2"]["found"] == pytest.approx(0.75)
    filled = slices[1].X.toarray()
    filled[:, ~present] = reference.var["mean"].to_numpy()[~present]
    expected = (filled - reference.var["mean"].to_numpy()) @ reference.varm["loadings"]
    np.testing.assert_allclose(found.obsm["X_reduced"], expected, atol=1e-4)
    with pytest.raises(InputError, match=r"s2, rna: has 10 of the 40 features of the reference, 25%.*50% are needed"):
        mapping.map_modality([slices[1][:, :10].copy()], reference, "rna", **SETTINGS)


@pytest.mark.parametrize("method", ["none", "harmony", "pair_shift"])
def test_a_spot_without_counts_of_the_reference_leaves_the_others_as_they_are(method):
    settings = SETTINGS | LSI | {"drop_first": "before_zscore", "batch_correction": method}
    slices = normalized(tissue("s1", 0), tissue("s2", 1), kind="epigenome")
    reference = reduce.reduce_modality([adata[:, 1:].copy() for adata in slices], "atac", **settings)
    new = tissue("new", 3)
    counts = new.layers["counts"].toarray()
    counts[5] = 0
    counts[5, 0] = 1  # of a peak that the reference does not know
    new.layers["counts"] = sparse.csr_matrix(counts)
    found = mapping.map_modality(normalized(new, kind="epigenome"), reference, "atac", **settings)
    assert not found.obsm["X_reduced"][5].any()
    assert np.isfinite(found.obsm["X_corrected"]).all()
    assert 0 < found.uns["mapping"]["new"]["ilisi_after"] <= 1


def test_a_name_of_the_reference_is_refused():
    slices = normalized(tissue("s1", 0))
    reference = reduce.reduce_modality([slices[0].copy()], "rna", **SETTINGS)
    with pytest.raises(InputError, match="slice s1: is a slice of the reference, too"):
        mapping.map_modality(slices, reference, "rna", **SETTINGS)


def test_features_of_different_panels_are_no_reference():
    slices = normalized(tissue("s1", 0), tissue("s2", 1))
    reduced = reduce.reduce_modality([slices[0][:, :30].copy(), slices[1].copy()], "rna", **SETTINGS, features="union")
    with pytest.raises(InputError, match="slices that measured different features"):
        mapping.mappable(reduced, "rna", SETTINGS)
