"""Nearest neighbours: exact if that is fast, else by an approximate search whose recall every run measures."""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Literal

import faiss
import numpy as np

from mosaic.matrices import sample_rows
from mosaic.threads import n_threads

logger = logging.getLogger(__name__)

Metric = Literal["euclidean", "manhattan"]

# Maximum number of distances for the exact search: it takes a second or two.
_MOST_EXACT = 20_000**2
# The approximate search widens until a sample of queries has this recall.
_LEAST_RECALL = 0.95
_SAMPLE = 300
# Euclidean (HNSW): links per row, and beam widths.
_LINKS = 32
_WIDTHS = (64, 128, 256, 512, 1024)
# Manhattan (inverted file): number of nearest lists that a query scans, and rows per centroid to fit the centroids.
_LISTS = (8, 16, 32, 64, 128)
_FITTED_ROWS = 64
# Columns per block of the scan: their sums stay in the cache.
_COLUMNS = 512
# Queries per block of a thread.
_ROWS = 2048


def nearest(
    queries: np.ndarray, among: np.ndarray, n_neighbors: int, metric: Metric = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of ``among`` to each query, in ascending order of distance.

    Up to 400 million distances the search is exact. Above, it is approximate; the recall on seeded queries is
    logged. If even the widest search has too low a recall, the exact search runs. Euclidean
    neighbours are found by hierarchical navigable small worlds (Malkov & Yashunin, IEEE TPAMI 2020; faiss, Douze et al.
    2024), Manhattan ones by scanning the lists of the nearest centroids (inverted file; Jégou et al., IEEE TPAMI 2011).
    The result is the same for any number of threads.

    Parameters
    ----------
    queries, among
        Rows x features. Computed on in float32.
    n_neighbors
        Number of neighbours; all of ``among`` if there are fewer.
    metric
        ``euclidean`` or ``manhattan``.

    Returns
    -------
    Distances and row numbers in ``among`` (queries x neighbours both; float32, int64).
    """
    queries, among = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (queries, among))
    n_neighbors = min(n_neighbors, len(among))
    exact, searches = (_euclidean if metric == "euclidean" else _manhattan)(among)
    if len(queries) * len(among) <= _MOST_EXACT:
        return exact(queries, n_neighbors)
    sample = queries[sample_rows(len(queries), _SAMPLE, 0)]
    truth = exact(sample, n_neighbors)[1]
    for search in searches():
        found = search(sample, n_neighbors)[1]
        recall = np.mean([np.isin(row, own).mean() for row, own in zip(truth, found, strict=True)])
        if recall >= _LEAST_RECALL:
            logger.info("approximate neighbours of %d among %d: recall %.3f", len(queries), len(among), recall)
            return search(queries, n_neighbors)
    logger.info("approximate neighbours: recall %.3f at the widest, so all distances are computed", recall)
    return exact(queries, n_neighbors)


def nearest_both(
    first: np.ndarray, second: np.ndarray, n_second: int, n_first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By Manhattan distance the nearest rows of ``second`` to each of ``first``, and the other way round.

    As two calls of ``nearest``; where the search is exact, each distance is computed once for both.

    Parameters
    ----------
    first, second
        Rows x features. Computed on in float32.
    n_second, n_first
        Number of neighbours in each; all if there are fewer.

    Returns
    -------
    Row numbers in ``second`` (rows of ``first`` x neighbours); the rows of ``second`` that follow, ascending; and row
    numbers in ``first`` of each of these (rows x neighbours).
    """
    first, second = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (first, second))
    if len(first) * len(second) > _MOST_EXACT:
        forth = nearest(first, second, n_second, "manhattan")[1]
        asked = np.unique(forth)
        return forth, asked, nearest(second[asked], first, n_first, "manhattan")[1]
    n_second, n_first = min(n_second, len(second)), min(n_first, len(first))
    from mosaic.manhattan import scan_both

    ends = np.arange(0, len(second) + _COLUMNS, _COLUMNS).clip(max=len(second))
    columns = _by_feature(second, ends)
    distance, forth = _no_neighbors(len(first), n_second)

    size = -(-len(first) // n_threads())

    def scan_part(start: int) -> tuple[np.ndarray, np.ndarray]:
        part, back = slice(start, start + size), _no_neighbors(len(second), min(n_first, len(first) - start))
        scan_both(first[part], columns, ends, start, distance[part], forth[part], *back)
        return back

    with ThreadPoolExecutor(n_threads()) as pool:
        parts = list(pool.map(scan_part, range(0, len(first), size)))
    values, back = (np.concatenate(own, axis=1) for own in zip(*parts, strict=True))
    # Of equal distances the first row, as in a scan of all.
    chosen = np.argsort(values, axis=1, kind="stable")[:, :n_first]
    return forth, np.arange(len(second)), np.take_along_axis(back, chosen, axis=1)


def _no_neighbors(n_rows: int, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and row numbers for a scan to fill."""
    return np.full((n_rows, n_neighbors), np.inf, dtype=np.float32), np.zeros((n_rows, n_neighbors), dtype=np.int64)


def _by_feature(among: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The rows feature by feature within a list, so that the processor vectorises the sums."""
    return np.concatenate([among[start:end].T.ravel() for start, end in pairwise(ends)])


# A search: rows and number of neighbours to distances and row numbers.
_Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def _euclidean(among: np.ndarray) -> tuple[_Search, Callable[[], Iterable[_Search]]]:
    def rooted(index: faiss.Index) -> _Search:
        def search(rows: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
            # faiss returns squared distances, which rounding may make negative.
            distance, found = index.search(rows, n_neighbors)
            return np.sqrt(np.maximum(distance, 0)), found

        return search

    def wider() -> Iterable[_Search]:
        graph = faiss.IndexHNSWFlat(among.shape[1], _LINKS)
        # Build on one thread: the graph must not depend on the number of threads.
        threads = n_threads()
        faiss.omp_set_num_threads(1)
        graph.add(among)
        faiss.omp_set_num_threads(threads)
        for graph.hnsw.efSearch in _WIDTHS:
            yield rooted(graph)

    flat = faiss.IndexFlatL2(among.shape[1])
    flat.add(among)
    return rooted(flat), wider


def _manhattan(among: np.ndarray) -> tuple[_Search, Callable[[], Iterable[_Search]]]:
    def exact(rows: np.ndarray, n_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
        ends = np.arange(0, len(among) + _COLUMNS, _COLUMNS).clip(max=len(among))
        lists = np.broadcast_to(np.arange(len(ends) - 1), (len(rows), len(ends) - 1))
        return _scan(rows, among, ends, lists, n_neighbors)

    def wider() -> Iterable[_Search]:
        n_lists = int(np.sqrt(len(among)))
        fit = faiss.Kmeans(among.shape[1], n_lists, niter=8, seed=0, max_points_per_centroid=_FITTED_ROWS)
        fit.train(among)
        nearest_lists, _ = _manhattan(np.asarray(fit.centroids))
        home = nearest_lists(among, 1)[1].ravel()
        order = np.argsort(home, kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(home, minlength=n_lists))])
        grouped = among[order]
        for n_scanned in _LISTS:

            def search(rows: np.ndarray, n_neighbors: int, n_scanned=n_scanned) -> tuple[np.ndarray, np.ndarray]:
                lists = nearest_lists(rows, min(n_scanned, n_lists))[1]
                distance, found = _scan(rows, grouped, ends, lists, n_neighbors)
                return distance, order[found]

            yield search

    return exact, wider


def _scan(
    rows: np.ndarray, among: np.ndarray, ends: np.ndarray, lists: np.ndarray, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each row's nearest in its lists (rows x lists); list l is ``among`` from ``ends[l]`` to ``ends[l + 1]``."""
    from mosaic.manhattan import scan_lists

    distance, found = _no_neighbors(len(rows), n_neighbors)
    columns = _by_feature(among, ends)

    def scan_part(start: int) -> None:
        part = slice(start, start + _ROWS)
        # List by list, so that a list stays in the cache while all its rows scan it.
        order = np.argsort(lists[part], axis=None, kind="stable")
        turns = np.searchsorted(lists[part].ravel()[order], np.arange(len(ends)))
        scan_lists(rows[part], columns, ends, order // lists.shape[1], turns, distance[part], found[part])

    with ThreadPoolExecutor(n_threads()) as pool:
        list(pool.map(scan_part, range(0, len(rows), _ROWS)))
    return distance, found
