"""Neighbour lists, rows of larger matrices, samples and matches of labels, by hand."""

import numpy as np
import pandas as pd
from scipy import sparse

from mosaic import matrices


def test_neighbour_lists_become_a_matrix_that_keeps_their_order():
    neighbors = np.array([[2, 0], [1, 2]])
    np.testing.assert_array_equal(matrices.from_neighbors(neighbors, 4).toarray(), [[1, 0, 1, 0], [0, 1, 1, 0]])
    weighted = matrices.from_neighbors(neighbors, 4, np.array([[0.1, 0.2], [0.3, 0.4]]))
    np.testing.assert_array_equal(weighted.toarray(), [[0.2, 0, 0.1, 0], [0, 0.3, 0.4, 0]])
    assert weighted.indices.tolist() == neighbors.ravel().tolist()
    means = matrices.equal_weights(neighbors, 4)
    np.testing.assert_array_equal(means.toarray(), [[0.5, 0, 0.5, 0], [0, 0.5, 0.5, 0]])
    assert means.indices.tolist() == [0, 2, 1, 2]


def test_rows_of_a_larger_matrix_are_zero_where_there_are_none():
    matrix = sparse.csr_matrix(np.arange(1.0, 7).reshape(3, 2))
    rows = pd.Index(["a", "b", "z", "c"]).get_indexer(["c", "a", "b"])
    assert matrices.placed(matrix, rows, (4, 2)).toarray().tolist() == [[3, 4], [5, 6], [0, 0], [1, 2]]


def test_a_sample_is_seeded_sorted_and_all_rows_if_they_are_few():
    np.testing.assert_array_equal(matrices.sample_rows(5, 5, 0), np.arange(5))
    first, again, other = (matrices.sample_rows(1000, 20, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len(set(first)) == 20
    assert (np.diff(first) > 0).all()
    # A generator goes on: two samples of one differ.
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(matrices.sample_rows(1000, 20, rng), first)
    assert (matrices.sample_rows(1000, 20, rng) != first).any()


def test_labels_are_matched_where_all_matches_together_share_most():
    # "x" shares most with 1, but then "y" would be left with 2, with which it shares nothing.
    shared = pd.DataFrame([[5, 4], [4, 0], [1, 1]], index=["x", "y", "z"], columns=[1, 2])
    assert matrices.match_labels(shared) == {"x": 2, "y": 1}
    assert matrices.match_labels(shared.T) == {1: "y", 2: "x"}


def test_counts_times_their_factor_have_one_depth():
    counts = np.array([[1.0, 3.0], [0.0, 0.0], [5.0, 5.0]])
    np.testing.assert_allclose((counts * matrices.depth_factor(counts.sum(axis=1), 8)).sum(axis=1), [8, 0, 8])
