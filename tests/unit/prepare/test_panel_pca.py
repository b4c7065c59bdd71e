"""PCA of slices that measured different features, on data of which all is known."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.decomposition import PCA

from mosaic.prepare import panel_pca


@pytest.fixture
def two():
    """Two slices of 150 spots of one tissue of three components: 60 features, of which the second measured 20."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 3)) * (4, 2, 1)
    axes = np.linalg.qr(rng.normal(size=(60, 3)))[0]
    values = truth @ axes.T + rng.normal(scale=0.1, size=(300, 60)) + rng.normal(size=60)
    measured = np.ones((2, 60), dtype=bool)
    measured[1, 20:] = False
    return truth, values, measured


def fitted(values, measured, n_comps=3):
    parts = [sparse.csr_matrix(own * there) for own, there in zip(np.split(values, 2), measured, strict=True)]
    means = np.tile(panel_pca.feature_means(parts, measured), (2, 1))
    return panel_pca.panel_pca(parts, measured, means, n_comps)


@pytest.mark.parametrize("made", [np.asarray, sparse.csr_matrix])
def test_components_are_those_of_scanpy(made):
    matrix = made(np.random.default_rng(0).poisson(2, (60, 20)).astype(np.float32))
    expected = ad.AnnData(matrix.copy())
    sc.pp.pca(expected, n_comps=5, random_state=3)
    coordinates, loadings = panel_pca.pca(matrix, 5, seed=3)
    np.testing.assert_array_equal(coordinates, expected.obsm["X_pca"])
    np.testing.assert_array_equal(loadings, expected.varm["PCs"])


def test_where_all_was_measured_it_is_pca(two):
    _, values, measured = two
    found = fitted(values, np.ones_like(measured))
    expected = PCA(3, svd_solver="full").fit(values)
    np.testing.assert_allclose(np.abs((found.loadings * expected.components_.T).sum(axis=0)), 1, atol=1e-4)
    np.testing.assert_allclose(found.loadings.T @ found.loadings, np.eye(3), atol=1e-10)
    scores = expected.transform(values)
    for own, other in zip(np.vstack(found.scores).T, scores.T, strict=True):
        assert abs(np.corrcoef(own, other)[0, 1]) > 0.9999
        # The posterior mean is a little nearer to the mean than the projection.
        assert 0.98 < own.std() / other.std() <= 1.0001


def test_what_was_not_measured_is_missing_and_not_zero(two):
    truth, values, measured = two
    found = fitted(values, measured)
    scores = np.vstack(found.scores)
    # Both slices lie in the same space: one regression on the truth explains the scores of both.
    map_, *_ = np.linalg.lstsq(truth[:150], scores[:150], rcond=None)
    error = scores[150:] - truth[150:] @ map_
    # A third of the features has a noise of 0.1 times the square root of three.
    assert (error.std(axis=0) < 0.2).all()
    filled = np.vstack([values[:150], values[150:] * measured[1]])
    plain = PCA(3, svd_solver="full").fit_transform(filled)
    map_, *_ = np.linalg.lstsq(truth[:150], plain[:150] - plain[:150].mean(axis=0), rcond=None)
    off = plain[150:] - truth[150:] @ map_
    assert off.std(axis=0).max() > 5 * error.std(axis=0).max()
    # Loadings of features that one slice measured are those of a fit on it alone.
    alone = PCA(3, svd_solver="full").fit(values[:150])
    overlap = np.linalg.svd(found.loadings.T @ alone.components_.T)[1]
    assert overlap.min() > 0.999


def test_it_gives_the_same_twice_and_more_components_than_shared_features(two):
    _, values, measured = two
    measured = measured.copy()
    measured[1, 4:] = False
    one, other = fitted(values, measured, 10), fitted(values, measured, 10)
    np.testing.assert_array_equal(one.loadings, other.loadings)
    assert one.loadings.shape == (60, 10)
    assert np.isfinite(np.vstack(one.scores)).all()


def test_means_and_scales_are_of_the_spots_that_measured():
    parts = [sparse.csr_matrix([[1.0, 2], [3, 6]]), sparse.csr_matrix([[5.0, 0], [7, 0]])]
    measured = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(panel_pca.feature_means(parts, measured), [4, 4])
    np.testing.assert_allclose(
        panel_pca.feature_scales(parts, measured),
        np.std([[1, 3, 5, 7]], ddof=1).repeat(2) * [1, np.std([2, 6], ddof=1) / np.std([1, 3, 5, 7], ddof=1)],
    )


def test_the_share_of_a_panel_is_that_of_its_features_elsewhere():
    # Of ten counts six are in the panel; the panel's own spots have ten in it, as all are scaled to ten.
    parts = [sparse.csr_matrix([[2.0, 4, 3, 1]] * 3), sparse.csr_matrix([[10 / 3, 20 / 3, 0, 0]] * 5)]
    measured = np.array([[True] * 4, [True, True, False, False]])
    np.testing.assert_allclose(panel_pca.panel_shares(parts, measured), [1, 0.6])


def test_differences_of_slices_are_placed_by_what_they_measured(two):
    _, _, measured = two
    axes = np.linalg.qr(np.random.default_rng(1).normal(size=(60, 3)))[0]
    places = np.array([[1.0, 2, 3], [-1, 0, 2]])
    found = panel_pca.place_means(axes, measured, (places @ axes.T) * measured)
    np.testing.assert_allclose(found, places, atol=1e-10)
