"""Spatial neighbours, mutual nearest neighbours and propagation, against brute force."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

from mosaic import mnn
from mosaic.errors import InputError
from mosaic.integrate import graph
from mosaic.spatial import spatial_neighbors


def stacked(places, slices):
    obs = pd.DataFrame({"slice": pd.Categorical(slices), "barcode": np.arange(len(slices)).astype(str)})
    return ad.AnnData(obs=obs.set_index(obs["barcode"].to_numpy()), obsm={"spatial": places})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_neighbours_are_the_nearest(rng):
    places = rng.normal(size=(200, 2))
    adjacency = spatial_neighbors(places, 7).toarray()
    distance = cdist(places, places)
    np.fill_diagonal(distance, np.inf)
    expected = np.zeros_like(distance)
    np.put_along_axis(expected, np.argsort(distance, axis=1)[:, :7], 1, axis=1)
    np.testing.assert_array_equal(adjacency, expected)


def test_ties_take_nearest_without_direction_and_whatever_the_order(rng):
    places = np.array([(x, y) for x in range(20) for y in range(20)], dtype=float)
    adjacency = spatial_neighbors(places, 10).tocoo()
    step = np.linalg.norm(places[adjacency.row] - places[adjacency.col], axis=1)
    inner = ((places > 1) & (places < 18)).all(axis=1)
    for spot in np.flatnonzero(inner)[:20]:
        assert sorted(step[adjacency.row == spot].round(6)) == [1] * 4 + [round(2**0.5, 6)] * 4 + [2] * 2
    # Of the four places two steps away, each is chosen about as often as the others.
    far = (step == 2) & inner[adjacency.row]
    way = (places[adjacency.col] - places[adjacency.row])[far]
    share = np.array([(way == side).all(axis=1).mean() for side in ([0, 2], [0, -2], [2, 0], [-2, 0])])
    assert share.min() > 0.2
    scaled = spatial_neighbors(places * 137.3 + 1e4, 10)
    assert (scaled != adjacency.tocsr()).nnz == 0


def test_coincident_spots_are_neighbours_not_lost():
    places = np.vstack([np.zeros((40, 2)), np.arange(1, 11)[:, None] * np.ones(2)])
    adjacency = spatial_neighbors(places, 5)
    assert (adjacency.getnnz(axis=1) == 5).all()
    assert adjacency.diagonal().sum() == 0
    assert adjacency[:40, 40:].nnz == 0


def test_radius_counts_in_pitches_and_isolates_loudly():
    places = np.array([(x, y) for x in range(6) for y in range(6)], dtype=float) * 250
    adjacency = spatial_neighbors(places, 10, radius=1.0)
    assert adjacency.getnnz(axis=1).max() == 4
    lonely = np.vstack([places, [[9000, 9000]]])
    with pytest.raises(InputError, match="leaves 1 of 37 spots without a spatial neighbour"):
        spatial_neighbors(lonely, 4, radius=2.0)
    # Spots that share their place leave the unit as it is: the distance to the next place.
    doubled = spatial_neighbors(np.vstack([places, places]), 10, radius=1.0)
    assert doubled.getnnz(axis=1).max() == 1 + 2 * 4


def test_mutual_neighbours_by_brute_force(rng):
    first, second = rng.normal(size=(60, 5)), rng.normal(size=(50, 5))
    unit = [matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (first, second)]
    distance = cdist(*unit, metric="cityblock")
    forth = distance <= np.sort(distance, axis=1)[:, [3]]
    back = distance <= np.sort(distance, axis=0)[[3], :]
    np.testing.assert_array_equal(mnn.mutual_nearest_neighbors(first, second, 4), np.argwhere(forth & back))


def test_no_spatial_edge_joins_slices_and_expression_edges_only_the_linked(rng):
    slices = np.repeat(["s1", "s2", "s3"], 30)
    features, places = rng.normal(size=(90, 4)), rng.normal(size=(90, 2))
    built = graph.build_graph(stacked(places, slices), features, [("s1", "s3")], intra_knns=5, inter_knn_base=5)
    mutual = built.obsp["mutual_nearest_neighbors"]
    edges = built.obsp["spatial_connectivities"].tocoo()
    assert (slices[edges.row] == slices[edges.col]).all()
    links = mutual.tocoo()
    assert {*zip(slices[links.row], slices[links.col], strict=True)} == {("s1", "s3"), ("s3", "s1")}
    assert (mutual != mutual.T).nnz == 0
    pairs = mnn.mutual_nearest_neighbors(features[:30], features[60:], 5)
    assert links.nnz == 2 * len(pairs)
    assert links.data.mean() == pytest.approx(1)


def test_isolation_names_the_slice():
    places = np.vstack([np.arange(10)[:, None] * [1.0, 0], [[99, 0]], np.arange(10)[:, None] * [1.0, 0]])
    slices = np.repeat(["good", "bad"], [10, 11])[::-1]
    with pytest.raises(InputError, match="slice bad: radius 2"):
        graph.build_graph(stacked(places, slices), np.eye(21), [], intra_knns=3, radius=2)


def test_the_graph_holds_its_edges_merged(rng):
    slices = np.repeat(["s1", "s2"], 30)
    given = stacked(rng.normal(size=(60, 2)), slices), rng.normal(size=(60, 4)), [("s1", "s2")]
    for w_g, symmetric in ((0.8, True), (0.3, False), (0, True)):
        built = graph.build_graph(*given, intra_knns=5, w_g=w_g, symmetric=symmetric)
        spatial, mutual, merged = (
            built.obsp[key].toarray()
            for key in ("spatial_connectivities", "mutual_nearest_neighbors", "connectivities")
        )
        assert (spatial != spatial.T).any()
        expected = (np.maximum(spatial, spatial.T) if symmetric else spatial) + w_g * mutual
        np.testing.assert_array_equal(merged, expected.astype(np.float32))


def test_knns_and_radius_may_differ_between_slices(rng):
    slices = np.repeat(["s1", "s2"], 30)
    given = stacked(rng.normal(size=(60, 2)), slices), rng.normal(size=(60, 4)), [("s1", "s2")]
    degree = graph.build_graph(*given, intra_knns={"s1": 3, "s2": 7}).obsp["spatial_connectivities"].getnnz(axis=1)
    assert (degree[:30] == 3).all()
    assert (degree[30:] == 7).all()
    with pytest.raises(InputError, match=r"graph.intra_knns: has no value for slice s2"):
        graph.build_graph(*given, intra_knns={"s1": 3})


def test_a_larger_slice_looks_for_fewer_in_a_smaller_one(rng):
    large, small = rng.normal(size=(100, 5)), rng.normal(size=(40, 5))
    alike = mnn.mutual_nearest_neighbors(large, small, 10)
    scaled = mnn.mutual_nearest_neighbors(large, small, 10, auto_threshold=0.8)
    assert len(scaled) < len(alike)
    # Each spot of the larger slice has 10 * 40 / 100 at most; which slice comes first is no matter.
    assert np.bincount(scaled[:, 0]).max() == 4
    back = mnn.mutual_nearest_neighbors(small, large, 10, auto_threshold=0.8)
    assert {tuple(pair) for pair in back[:, ::-1]} == {tuple(pair) for pair in scaled}
    np.testing.assert_array_equal(mnn.mutual_nearest_neighbors(large, small, 10, auto_threshold=0.3), alike)


def test_pairs_that_cross_the_tissue_are_outliers(rng):
    places = rng.uniform(size=(300, 2))
    right, wrong = np.arange(300), rng.permutation(300)[:15]
    pairs = np.vstack([np.column_stack([right, right]), np.column_stack([wrong, wrong[::-1]])])
    far = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1) > 0.4
    kept = graph.spatially_consistent(pairs, places, places, contamination=0.05)
    kept_far = np.linalg.norm(places[kept[:, 0]] - places[kept[:, 1]], axis=1) > 0.4
    assert kept_far.sum() < 0.3 * far.sum()
    slices = np.repeat(["s1", "s2"], 300)
    features = np.vstack([places, places]) + 1
    given = stacked(np.vstack([places, places]), slices), features, [("s1", "s2")]
    every, fewer = (graph.build_graph(*given, rmv_outlier=on).obsp["mutual_nearest_neighbors"].nnz for on in (0, 1))
    assert 0 < fewer < every


def test_smoothed_input_stands_beside_the_features(rng):
    slices = np.repeat(["s1", "s2"], 30)
    places, features = rng.normal(size=(60, 2)), rng.normal(size=(60, 4)).astype(np.float32)
    plain = graph.build_graph(stacked(places, slices), features, [("s1", "s2")], intra_knns=5)
    smoothed = graph.build_graph(
        stacked(places, slices), features, [("s1", "s2")], intra_knns=5, smooth_input=True, smooth_L=2
    )
    assert smoothed.shape == (60, 12)
    A = plain.obsp["spatial_connectivities"].toarray() + np.eye(60)
    S = A / np.sqrt(np.outer(A.sum(axis=1), A.sum(axis=1)))
    np.testing.assert_allclose(smoothed.X, np.hstack([features, S.T @ features, S.T @ S.T @ features]), atol=1e-5)
    found = mnn.mutual_nearest_neighbors(smoothed.X[:30], smoothed.X[30:], 10)
    assert smoothed.obsp["mutual_nearest_neighbors"].nnz == 2 * len(found)
    assert plain.obsp["mutual_nearest_neighbors"].nnz != 2 * len(found)


def test_the_second_search_sees_means_over_the_tissue_and_leaves_the_features(rng):
    slices = np.repeat(["s1", "s2"], 30)
    places, features = rng.normal(size=(60, 2)), rng.normal(size=(60, 4)).astype(np.float32)
    made = graph.build_graph(
        stacked(places, slices),
        features,
        [("s1", "s2")],
        intra_knns=5,
        inter_knn_base=3,
        mnn_on_smoothed=True,
        weight_mnn=False,
    )
    np.testing.assert_array_equal(made.X, features)
    around = made.obsp["spatial_connectivities"].toarray() + np.eye(60)
    means = around @ features / around.sum(axis=1, keepdims=True)
    expected = np.zeros((60, 60))
    for searched in (features, means):
        pairs = mnn.mutual_nearest_neighbors(searched[:30], searched[30:], 3)
        expected[pairs[:, 0], pairs[:, 1] + 30] = 1
    np.testing.assert_array_equal(made.obsp["mutual_nearest_neighbors"].toarray(), np.maximum(expected, expected.T))


def test_another_search_links_what_it_finds(rng):
    slices = np.repeat(["s1", "s2"], 30)
    asked = []

    def search(first, second, n_neighbors, *, auto_threshold):
        asked.append((len(first), len(second), n_neighbors, auto_threshold))
        return np.array([[0, 1], [7, 29]])

    given = stacked(rng.normal(size=(60, 2)), slices), rng.normal(size=(60, 4)), [("s1", "s2")]
    made = graph.build_graph(*given, search=search, inter_knn_base=3, inter_auto_knn=True)
    assert asked == [(30, 30, 3, 0.8)]
    links = made.obsp["mutual_nearest_neighbors"].tocoo()
    assert {*zip(links.row.tolist(), links.col.tolist(), strict=True)} == {(0, 31), (31, 0), (7, 59), (59, 7)}


def test_support_of_a_pair_by_counting(rng):
    near = [sparse.csr_matrix(np.triu(rng.random((n, n)) < 0.2, 1)) for n in (30, 25)]
    near = [(matrix + matrix.T).astype(np.float32) for matrix in near]
    pairs = np.argwhere(rng.random((30, 25)) < 0.1)
    joined = [matrix.toarray() > 0 for matrix in near]
    counted = [sum(joined[0][i, k] and joined[1][j, n] for k, n in pairs) for i, j in pairs]
    assert max(counted) > 1
    for block in (7, 1000):
        np.testing.assert_array_equal(mnn.tissue_support(pairs, *near, block=block), counted)
    assert mnn.tissue_support(pairs[:0], *near).shape == (0,)


def test_pairs_beside_others_weigh_more_than_chance_pairs(rng):
    """Two slices of one tissue, with features that follow the place, and noise on one spot in ten."""
    places = rng.uniform(size=(400, 2))
    features = np.hstack([places, 1 - places])
    noisy = rng.random(400) < 0.1
    other = np.where(noisy[:, None], rng.permutation(features), features)
    made = graph.build_graph(
        stacked(np.vstack([places, places]), np.repeat(["s1", "s2"], 400)),
        np.vstack([features, other]),
        [("s1", "s2")],
    )
    links = sparse.triu(made.obsp["mutual_nearest_neighbors"]).tocoo()
    assert links.data.mean() == pytest.approx(1)
    far = np.linalg.norm(places[links.row] - places[links.col - 400], axis=1) > 0.3
    assert far.sum() > 20
    assert links.data[far].mean() < 0.2 * links.data[~far].mean()


@pytest.mark.parametrize("options", [{}, {"smooth_input": True}, {"mnn_on_smoothed": True}])
def test_a_new_slice_is_linked_as_in_training(rng, options):
    places = np.column_stack(np.divmod(np.arange(64), 8)).astype(float)
    both = stacked(np.vstack([places, places]), np.repeat(["a", "b"], 64))
    features = rng.normal(size=(128, 5)).astype(np.float32)
    trained = graph.build_graph(both, features, [("a", "b")], intra_knns=4, inter_knn_base=3, **options)
    both.obsm["X_corrected"] = features
    known, new = both[:64].copy(), both[64:].copy()
    mapped = graph.link_to_reference(new, known, intra_knns=4, inter_knn_base=3, **options)
    np.testing.assert_array_equal(mapped.X, trained.X)
    assert (mapped.obsp["connectivities"] != trained.obsp["connectivities"]).nnz == 0
