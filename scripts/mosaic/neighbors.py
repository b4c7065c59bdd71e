"""Nearest neighbours: exact where that is fast, else by a graph search whose recall is measured in every run."""

import logging
from typing import Literal

import faiss
import numpy as np

logger = logging.getLogger(__name__)

Metric = Literal["euclidean", "manhattan"]

# Distances up to which all are computed: at as many, both ways take a second or two.
_MOST_EXACT = 20_000**2
# The approximate search is a graph of so many links per row, searched ever wider until a sample of queries finds this
# share of its true neighbours.
_LINKS = 32
_WIDTHS = (64, 128, 256, 512, 1024)
_LEAST_RECALL = 0.95
_SAMPLE = 300


def nearest(
    queries: np.ndarray, among: np.ndarray, n_neighbors: int, metric: Metric = "euclidean"
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of ``among`` to each query, in ascending order of distance.

    Up to 400 million distances the search is exact; above, by hierarchical navigable small worlds (Malkov & Yashunin,
    IEEE TPAMI 2020; faiss, Douze et al. 2024), built on one thread, so that the result is the same for any number of
    threads. Its recall is measured on seeded queries and logged; where even the widest search falls short, all
    distances are computed after all.

    Parameters
    ----------
    queries, among
        Rows x features. Computed on in float32.
    n_neighbors
        How many; all of ``among`` where there are fewer.
    metric
        ``euclidean`` or ``manhattan``.

    Returns
    -------
    Distances and row numbers in ``among`` (queries x neighbours both; float32, int64).
    """
    queries, among = (np.ascontiguousarray(rows, dtype=np.float32) for rows in (queries, among))
    n_neighbors = min(n_neighbors, len(among))
    kind = faiss.METRIC_L2 if metric == "euclidean" else faiss.METRIC_L1
    exact = faiss.IndexFlat(among.shape[1], kind)
    exact.add(among)
    distance, found = None, None
    if len(queries) * len(among) > _MOST_EXACT:
        distance, found = _by_graph(queries, among, n_neighbors, kind, exact)
    if found is None:
        distance, found = exact.search(queries, n_neighbors)
    # faiss gives squared Euclidean distances, which rounding may take below zero.
    return (np.sqrt(np.maximum(distance, 0)) if metric == "euclidean" else distance), found


def _by_graph(queries, among, n_neighbors, kind, exact) -> tuple[np.ndarray | None, np.ndarray | None]:
    graph = faiss.IndexHNSWFlat(among.shape[1], _LINKS, kind)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    graph.add(among)
    faiss.omp_set_num_threads(threads)
    sample = np.random.default_rng(0).choice(len(queries), min(_SAMPLE, len(queries)), replace=False)
    _, truth = exact.search(queries[sample], n_neighbors)
    for width in _WIDTHS:
        graph.hnsw.efSearch = max(width, n_neighbors)
        _, found = graph.search(queries[sample], n_neighbors)
        recall = np.mean([np.isin(row, own).mean() for row, own in zip(truth, found, strict=True)])
        if recall >= _LEAST_RECALL:
            logger.info("approximate neighbours of %d among %d: recall %.3f", len(queries), len(among), recall)
            return graph.search(queries, n_neighbors)
    logger.info("approximate neighbours: recall %.3f at the widest, so all distances are computed", recall)
    return None, None
