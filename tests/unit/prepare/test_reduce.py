"""Feature selection, reduction and batch correction."""

import numpy as np
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.decomposition import PCA

from mosaic import mixing, spots
from mosaic.errors import InputError
from mosaic.prepare import normalize, read, reduce

PLAIN = {
    "kind": "rna",
    "feature_selection": "all",
    "n_top_features": None,
    "scale": False,
    "reduction": "pca",
    "n_comps": 5,
    "batch_correction": "none",
}


@pytest.fixture
def slices(raw_slice, tmp_path):
    """Two log-normalised slices; the counts of the second are doubled in half of the features."""
    made = []
    for number, name in enumerate(["s1", "s2"]):
        raw = raw_slice(n_spots=100, n_features=20, seed=number)
        if number:
            raw.X = sparse.csr_matrix(raw.X.toarray() * np.repeat([1, 2], 10).astype(np.float32))
        raw.write_h5ad(tmp_path / f"{name}.h5ad")
        made.append(normalize.normalize_slice(read.read_slice(tmp_path / f"{name}.h5ad", name, "rna"), "log"))
    return made


@pytest.mark.parametrize(
    ("changed", "needs"),
    [
        ({}, False),
        ({"reduction": "lsi"}, True),
        ({"feature_selection": "seurat_v3"}, True),
        ({"feature_selection": "seurat_v3", "reduction": "none"}, False),
    ],
)
def test_counts_are_read_where_they_are_used(changed, needs):
    assert reduce.ReductionSettings(**PLAIN | changed).needs_counts == needs


def test_pca_is_scikit_learns(slices):
    done = reduce.reduce_modality(slices, "rna", **PLAIN)
    X = np.vstack([adata.X.toarray() for adata in slices])
    expected = PCA(5, svd_solver="full").fit_transform(X)
    np.testing.assert_allclose(np.abs(done.obsm["X_reduced"]), np.abs(expected), atol=1e-3)
    np.testing.assert_allclose(done.obsm["X_reduced"], (X - X.mean(axis=0)) @ done.varm["loadings"], atol=1e-3)
    np.testing.assert_array_equal(done.obsm["X_corrected"], done.obsm["X_reduced"])
    assert done.uns["batch_correction"]["method"] == "none"


def test_harmony_mixes_slices_and_one_slice_needs_none(slices):
    done = reduce.reduce_modality(slices, "rna", **PLAIN | {"batch_correction": "harmony"})
    names = done.obs["slice"].to_numpy(dtype=str)
    before, after = (mixing.ilisi(done.obsm[key], names) for key in ("X_reduced", "X_corrected"))
    assert after > before + 0.05
    assert done.uns["batch_correction"]["ilisi_after"] == pytest.approx(after)
    alone = reduce.reduce_modality(slices[:1], "rna", **PLAIN | {"batch_correction": "harmony"})
    np.testing.assert_array_equal(alone.obsm["X_corrected"], alone.obsm["X_reduced"])
    assert alone.uns["batch_correction"]["method"] == "none"


def test_ready_features_pass_through(slices):
    for adata in slices:
        adata.X = adata.X.toarray()
    for own in (slices, slices[:1]):
        done = reduce.reduce_modality(own, "x", **PLAIN | {"kind": "features", "reduction": "none"})
        stacked = np.vstack([adata.X for adata in own])
        for key in ("X_reduced", "X_corrected"):
            np.testing.assert_array_equal(done.obsm[key], stacked)


def test_lsi_drops_depth_and_scales_spots(slices):
    peaks = [normalize.normalize_slice(adata, "tfidf") for adata in slices]
    settings = PLAIN | {"kind": "epigenome", "reduction": "lsi", "drop_first": "before_zscore"}
    done = reduce.reduce_modality(peaks, "atac", **settings)
    lsi = done.obsm["X_reduced"]
    np.testing.assert_allclose(lsi.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(lsi.std(axis=1, ddof=1), 1, rtol=1e-5)
    # The formulas written out: TF-IDF, spots to 10,000, log1p, SVD, components 2 to 6.
    counts = np.vstack([adata.layers["counts"].toarray() for adata in peaks]).astype(float)
    weighted = counts / counts.sum(axis=1, keepdims=True) * len(counts) / counts.sum(axis=0)
    matrix = np.log1p(1e4 * weighted / weighted.sum(axis=1, keepdims=True))
    loadings = done.varm["loadings"]
    expected = matrix @ loadings
    expected = (expected - expected.mean(axis=1, keepdims=True)) / expected.std(axis=1, ddof=1, keepdims=True)
    np.testing.assert_allclose(lsi, expected, atol=0.15)  # of a flat spectrum
    first = np.linalg.svd(matrix)[2][0]
    np.testing.assert_allclose(loadings.T @ np.column_stack([first, loadings]), np.eye(6)[1:], atol=0.01)


def test_lsi_as_published_is_scaled_before_the_first_component_goes(slices):
    peaks = [normalize.normalize_slice(adata, "tfidf") for adata in slices]
    settings = PLAIN | {"kind": "epigenome", "reduction": "lsi", "drop_first": "after_zscore"}
    published = reduce.reduce_modality(peaks, "atac", **settings).obsm["X_reduced"]
    settings |= {"n_comps": PLAIN["n_comps"] + 1, "drop_first": None}
    np.testing.assert_allclose(
        published, reduce.reduce_modality(peaks, "atac", **settings).obsm["X_reduced"][:, 1:], atol=1e-4
    )


@pytest.mark.parametrize("drop_first", ["before_zscore", "after_zscore"])
def test_lsi_of_a_spot_without_the_selected_peaks_is_no_noise(slices, drop_first, caplog):
    counts = slices[0].layers["counts"].toarray()
    counts[:, 19], counts[3] = 0, 0
    counts[3, 19] = 1  # a peak that no other spot has, which is not selected
    slices[0].layers["counts"] = sparse.csr_matrix(counts)
    settings = {"kind": "epigenome", "reduction": "lsi", "drop_first": drop_first}
    settings |= {"feature_selection": "prevalence", "n_top_features": 19}
    peaks = [normalize.normalize_slice(slices[0], "tfidf")]
    done = reduce.reduce_modality(peaks, "atac", **PLAIN | settings).obsm["X_reduced"]
    assert not done[3].any()
    assert np.delete(done, 3, axis=0).any(axis=1).all()
    assert "atac: 1 of 100 spots have no counts in the features that are used" in caplog.text


def test_lsi_of_rna_takes_shares_of_the_selected_features(slices):
    settings = PLAIN | {"kind": "rna", "reduction": "lsi", "feature_selection": "seurat_v3", "n_top_features": 9}
    done = reduce.reduce_modality([normalize.normalize_slice(adata, "log") for adata in slices], "rna", **settings)
    counts = np.vstack([adata[:, done.var_names].layers["counts"].toarray() for adata in slices])
    scores = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)) @ done.varm["loadings"]
    expected = (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, ddof=1, keepdims=True)
    np.testing.assert_allclose(done.obsm["X_reduced"], expected, atol=0.15)  # of a flat spectrum


def test_feature_selection(slices):
    stacked = spots.stack(slices, "rna")
    X = stacked.X.tolil()
    X[50:, 4] = 0
    stacked.X = X.tocsr()
    assert not reduce.select_features(stacked, "prevalence", 19)[4]
    for flavour in ("seurat", "seurat_v3"):
        assert reduce.select_features(stacked, flavour, 7).sum() == 7
    assert reduce.select_features(stacked, "all", 3).all()
    assert reduce.select_features(stacked, "seurat", 20).all()


def test_selection_that_breaks_down_says_what_to_do(slices, monkeypatch):
    def singular(*args, **kwargs):
        raise ValueError(b"There are other near singularities as well. 0.03")

    monkeypatch.setattr(sc.pp, "highly_variable_genes", singular)
    with pytest.raises(
        InputError, match=r"seurat_v3 can't fit .*near singularities.*\n.*set feature_selection to prev"
    ):
        reduce.select_features(spots.stack(slices, "rna"), "seurat_v3", 7)


def test_too_little_to_reduce(slices):
    with pytest.raises(InputError, match=r"modality rna: 200 spots x 2 features are too few"):
        reduce.reduce_modality([adata[:, :2].copy() for adata in slices], "rna", **PLAIN)


def test_a_column_highly_variable_of_the_user_selects_nothing(slices):
    plain = reduce.reduce_modality(slices, "rna", **PLAIN)
    for adata in slices:
        adata.var["highly_variable"] = np.arange(adata.n_vars) < 6
    np.testing.assert_array_equal(
        reduce.reduce_modality(slices, "rna", **PLAIN).obsm["X_reduced"], plain.obsm["X_reduced"]
    )


def test_features_without_variance_are_told(slices):
    for adata in slices:
        adata.X = sparse.csr_matrix(np.ones(adata.shape, dtype=np.float32))
    with pytest.raises(InputError, match=r"modality rna: no feature varies"):
        reduce.reduce_modality(slices, "rna", **PLAIN)


def test_the_pair_shift_takes_loadings_of_the_variation_within_slices(slices):
    done = reduce.reduce_modality(slices, "rna", **PLAIN | {"batch_correction": "pair_shift"})
    assert done.uns["batch_correction"]["method"] == "pair_shift"
    assert done.varm["loadings_within"].shape == done.varm["loadings"].shape
    assert np.abs(done.varm["loadings_within"] - done.varm["loadings"]).max() > 0.01


def test_a_panel_beside_many_features_is_told(slices, caplog):
    def panel(n_features):
        adata = slices[1][:, :n_features].copy()
        return [slices[0], normalize.normalize_slice(adata, "log")]

    for given, changed, told in (
        (panel(20), {}, False),
        (panel(14), {}, False),
        (panel(8), {"features": "union"}, False),
        (panel(8), {"reduction": "lsi"}, False),
        (panel(8), {}, True),
    ):
        caplog.clear()
        reduce.reduce_modality(given, "rna", **PLAIN | changed)
        assert ("% of the counts of s1 and 100.0 % of those of s2" in caplog.text) == told
    caplog.clear()
    counted = [normalize.normalize_slice(adata, "none") for adata in panel(8)]
    reduce.reduce_modality(counted, "rna", **PLAIN)
    assert "of those of s2" not in caplog.text


def test_union_of_equal_features_changes_no_bit(slices):
    one, other = (reduce.reduce_modality(slices, "rna", **PLAIN, features=name) for name in ("shared", "union"))
    np.testing.assert_array_equal(one.obsm["X_reduced"], other.obsm["X_reduced"])
    assert "measured" not in other.varm


@pytest.mark.parametrize("changed", [{}, {"scale": True}, {"batch_correction": "pair_shift"}])
def test_union_takes_all_features_and_says_who_measured_them(slices, changed):
    panel = [slices[0], slices[1][:, 5:15].copy()]
    done = reduce.reduce_modality(panel, "rna", **PLAIN | changed, features="union")
    assert done.var_names.tolist() == slices[0].var_names.tolist()
    assert done.varm["measured"]["s1"].all()
    assert done.varm["measured"].index[done.varm["measured"]["s2"]].tolist() == panel[1].var_names.tolist()
    assert done.obsm["X_corrected"].shape == (200, 5)
    assert np.isfinite(done.obsm["X_corrected"]).all()
    # The order of the spots is that of the slices.
    assert done.obs["slice"].tolist() == ["s1"] * 100 + ["s2"] * 100
    shared = reduce.reduce_modality(panel, "rna", **PLAIN | changed)
    assert shared.shape == (200, 10)


@pytest.mark.parametrize("selection", ["seurat", "prevalence"])
def test_union_selects_features_by_the_slices_that_measured_them(slices, selection):
    """A feature of one slice is as good as the others of that slice; zeros that were not measured are no counts."""
    panel = [slices[0][:, 5:].copy(), slices[1][:, :15].copy()]
    stacked = spots.stack(panel, "rna", "union")
    mask = reduce.select_features(stacked, selection, 12)
    assert mask.sum() == 12
    if selection == "prevalence":
        seen = [
            np.mean([(adata[:, name].X.toarray() > 0).mean() for adata in panel if name in adata.var_names])
            for name in stacked.var_names
        ]
        assert min(np.array(seen)[mask]) >= max(np.array(seen)[~mask])


def test_union_of_slices_that_share_too_little_is_told(slices):
    panel = [slices[0][:, :10].copy(), slices[1][:, 8:].copy()]
    with pytest.raises(InputError, match="of the 20 features selected, 2 are in all slices"):
        reduce.reduce_modality(panel, "rna", **PLAIN, features="union")


def test_slices_agree_with_the_others():
    rng = np.random.default_rng(0)
    mean = rng.lognormal(size=30)
    matrix = np.vstack(
        [mean + rng.normal(scale=0.01, size=(20, 30)), np.tile(mean[::-1], (20, 1)), np.tile(mean, (60, 1))]
    )
    slices = np.repeat(["a", "b", "c"], [20, 20, 60])
    for values in (matrix, sparse.csr_matrix(matrix)):
        found = reduce.slice_agreements(values, slices)
        assert list(found) == ["a", "b", "c"]
        rest = matrix[slices != "b"].mean(axis=0)
        assert found["b"] == pytest.approx(np.corrcoef(mean[::-1], rest)[0, 1])
        assert found["a"] > 0.9
    assert reduce.slice_agreements(matrix[:, :19], slices) == {}
    assert reduce.slice_agreements(matrix[:20], slices[:20]) == {"a": 1.0}
