"""The neighbour search against all distances, exact and approximate."""

import faiss
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from mosaic import neighbors

METRICS = [("euclidean", "euclidean"), ("manhattan", "cityblock")]


@pytest.fixture
def tissue():
    """Points along a curve in 30 dimensions, with noise: easy as tissue is, hard enough to miss some."""
    rng = np.random.default_rng(0)
    place = rng.uniform(0, 1, (6000, 3))
    points = np.hstack([np.sin(place * (1 + number)) for number in range(10)]) + rng.normal(scale=0.05, size=(6000, 30))
    return points[:3000].astype(np.float32), points[3000:].astype(np.float32)


@pytest.mark.parametrize(("metric", "name"), METRICS)
def test_all_distances(tissue, metric, name):
    queries, among = tissue[0][:200], tissue[1][:300]
    distance, found = neighbors.nearest(queries, among, 7, metric)
    every = cdist(queries, among, name)
    np.testing.assert_allclose(distance, np.sort(every, axis=1)[:, :7], rtol=1e-3)
    np.testing.assert_allclose(np.take_along_axis(every, found, axis=1), distance, rtol=1e-3)
    assert neighbors.nearest(queries, among[:4], 7, metric)[1].shape == (200, 4)


@pytest.mark.parametrize(("metric", "name"), METRICS)
def test_approximate_search_finds_what_it_must_on_any_number_of_threads(tissue, metric, name, monkeypatch, caplog):
    truth = np.argsort(cdist(*tissue, name), axis=1)[:, :10]
    monkeypatch.setattr(neighbors, "_MOST_EXACT", 1000)
    monkeypatch.setattr(neighbors, "_LINKS", 4)  # so few that the first width does not do
    monkeypatch.setattr(neighbors, "_LISTS", (2, 4, 16))
    results, before = [], faiss.omp_get_max_threads()
    for threads in (1, 2):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        faiss.omp_set_num_threads(threads)
        with caplog.at_level("INFO", logger="mosaic"):
            results.append(neighbors.nearest(*tissue, 10, metric)[1])
        assert faiss.omp_get_max_threads() == threads
    faiss.omp_set_num_threads(before)
    np.testing.assert_array_equal(*results)
    recall = np.mean([np.isin(row, own).mean() for row, own in zip(truth, results[0], strict=True)])
    assert 0.93 < recall < 1  # measured on a sample
    assert "approximate neighbours of 3000 among 3000: recall 0.9" in caplog.text


@pytest.mark.parametrize(("metric", "name"), METRICS)
def test_where_the_widest_search_fails_all_distances_are_computed(tissue, metric, name, monkeypatch, caplog):
    monkeypatch.setattr(neighbors, "_MOST_EXACT", 1000)
    monkeypatch.setattr(neighbors, "_WIDTHS", (10,))
    monkeypatch.setattr(neighbors, "_LINKS", 2)
    monkeypatch.setattr(neighbors, "_LISTS", (1,))
    with caplog.at_level("INFO", logger="mosaic"):
        found = neighbors.nearest(*tissue, 10, metric)[1]
    assert "so all distances are computed" in caplog.text
    truth = np.argsort(cdist(*tissue, name), axis=1)[:, :10]
    assert np.mean([np.isin(row, own).mean() for row, own in zip(truth, found, strict=True)]) > 0.999


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("whole_numbers", [False, True])
@pytest.mark.parametrize("sizes", [(700, 530), (4, 900), (900, 4)])
def test_neighbours_both_ways_are_those_of_two_searches(monkeypatch, threads, whole_numbers, sizes):
    """Whole numbers give many equal distances, of which the first rows count."""
    monkeypatch.setattr(neighbors, "n_threads", lambda: threads)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 4, (n, 7)) if whole_numbers else rng.normal(size=(n, 7)) for n in sizes)
    forth, asked, back = neighbors.nearest_both(first, second, 5, 9)
    np.testing.assert_array_equal(forth, neighbors.nearest(first, second, 5, "manhattan")[1])
    np.testing.assert_array_equal(asked, np.arange(len(second)))
    np.testing.assert_array_equal(back, neighbors.nearest(second, first, 9, "manhattan")[1])


def test_beyond_the_exact_search_only_rows_that_were_found_are_asked(monkeypatch):
    monkeypatch.setattr(neighbors, "_MOST_EXACT", 1000)
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(50, 7)), rng.normal(size=(400, 7))
    forth, asked, back = neighbors.nearest_both(first, second, 2, 3)
    assert asked.tolist() == sorted(set(forth.ravel()))
    assert back.shape == (len(asked), 3)
