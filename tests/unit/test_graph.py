"""Spatial neighbours, mutual nearest neighbours and propagation, against brute force."""

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

from mosaic import graph
from mosaic.errors import InputError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_neighbours_are_the_nearest(rng):
    places = rng.normal(size=(200, 2))
    adjacency = graph.spatial_neighbors(places, 7).toarray()
    distance = cdist(places, places)
    np.fill_diagonal(distance, np.inf)
    expected = np.zeros_like(distance)
    np.put_along_axis(expected, np.argsort(distance, axis=1)[:, :7], 1, axis=1)
    np.testing.assert_array_equal(adjacency, expected)


def test_ties_take_nearest_without_direction_and_whatever_the_order(rng):
    places = np.array([(x, y) for x in range(20) for y in range(20)], dtype=float)
    adjacency = graph.spatial_neighbors(places, 10).tocoo()
    step = np.linalg.norm(places[adjacency.row] - places[adjacency.col], axis=1)
    inner = ((places > 1) & (places < 18)).all(axis=1)
    for spot in np.flatnonzero(inner)[:20]:
        assert sorted(step[adjacency.row == spot].round(6)) == [1] * 4 + [round(2**0.5, 6)] * 4 + [2] * 2
    # Of the four places two steps away, each is chosen about as often as the others.
    far = (step == 2) & inner[adjacency.row]
    way = (places[adjacency.col] - places[adjacency.row])[far]
    share = np.array([(way == side).all(axis=1).mean() for side in ([0, 2], [0, -2], [2, 0], [-2, 0])])
    assert share.min() > 0.2
    scaled = graph.spatial_neighbors(places * 137.3 + 1e4, 10)
    assert (scaled != adjacency.tocsr()).nnz == 0


def test_coincident_spots_are_neighbours_not_lost():
    places = np.vstack([np.zeros((40, 2)), np.arange(1, 11)[:, None] * np.ones(2)])
    adjacency = graph.spatial_neighbors(places, 5)
    assert (adjacency.getnnz(axis=1) == 5).all()
    assert adjacency.diagonal().sum() == 0
    assert adjacency[:40, 40:].nnz == 0


def test_radius_counts_in_pitches_and_isolates_loudly():
    places = np.array([(x, y) for x in range(6) for y in range(6)], dtype=float) * 250
    adjacency = graph.spatial_neighbors(places, 10, radius=1.0)
    assert adjacency.getnnz(axis=1).max() == 4
    lonely = np.vstack([places, [[9000, 9000]]])
    with pytest.raises(InputError, match="leaves 1 of 37 spots without a spatial neighbour"):
        graph.spatial_neighbors(lonely, 4, radius=2.0)


def test_mutual_neighbours_by_brute_force(rng):
    first, second = rng.normal(size=(60, 5)), rng.normal(size=(50, 5))
    unit = [matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (first, second)]
    distance = cdist(*unit, metric="cityblock")
    forth = distance <= np.sort(distance, axis=1)[:, [3]]
    back = distance <= np.sort(distance, axis=0)[[3], :]
    np.testing.assert_array_equal(graph.mutual_nearest_neighbors(first, second, 4), np.argwhere(forth & back))


def test_no_spatial_edge_joins_slices_and_expression_edges_only_the_linked(rng):
    slices = np.repeat(["s1", "s2", "s3"], 30)
    features, places = rng.normal(size=(90, 4)), rng.normal(size=(90, 2))
    spatial, mutual = graph.build_graph(
        features, places, slices, [("s1", "s3")], intra_knns=5, radius=None, inter_knn_base=5
    )
    edges = spatial.tocoo()
    assert (slices[edges.row] == slices[edges.col]).all()
    links = mutual.tocoo()
    assert {*zip(slices[links.row], slices[links.col], strict=True)} == {("s1", "s3"), ("s3", "s1")}
    assert (mutual != mutual.T).nnz == 0
    pairs = graph.mutual_nearest_neighbors(features[:30], features[60:], 5)
    assert links.nnz == 2 * len(pairs)


def test_isolation_names_the_slice():
    places = np.vstack([np.arange(10)[:, None] * [1.0, 0], [[99, 0]], np.arange(10)[:, None] * [1.0, 0]])
    slices = np.repeat(["good", "bad"], [10, 11])[::-1]
    with pytest.raises(InputError, match="slice bad: radius 2"):
        graph.build_graph(np.eye(21), places, slices, [], intra_knns=3, radius=2, inter_knn_base=5)


def test_operator_and_hops_written_out():
    spatial = sparse.csr_matrix(np.array([[0, 1, 0], [0, 0, 0], [0, 1, 0]], dtype=np.float32))
    mutual = sparse.csr_matrix(np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=np.float32))
    A = np.array([[1, 1, 0.8], [0, 1, 0], [0.8, 1, 1]])
    S = A / np.sqrt(np.outer(A.sum(axis=1), A.sum(axis=1)))
    operator = graph.propagation_operator(spatial, mutual, w_g=0.8, symmetric=False)
    np.testing.assert_allclose(operator.toarray(), S.T, rtol=1e-6)
    X = np.array([[1.0, 2], [3, 4], [5, 6]])
    H = graph.hops(X, operator, 2)
    np.testing.assert_allclose(H, np.hstack([X, S.T @ X, S.T @ S.T @ X]), rtol=1e-5)
    undirected = graph.propagation_operator(spatial, mutual, w_g=0.8, symmetric=True).toarray()
    np.testing.assert_allclose(undirected, undirected.T)
