"""Donors: the spots with a modality that are most similar to a spot without it."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.preprocessing import normalize

from mosaic.embedding import LATENT
from mosaic.matrices import equal_weights
from mosaic.neighbors import Metric, nearest
from mosaic.spatial import spatial_neighbors
from mosaic.spots import slice_names


def nearest_donors(
    queries: np.ndarray, donors: np.ndarray, n_neighbors: int, *, metric: Metric = "euclidean"
) -> sparse.csr_matrix:
    """Equal weights on each query's nearest donors.

    Parameters
    ----------
    queries, donors
        Latent coordinates (spots x n_latent).
    n_neighbors
        Neighbours per query; all donors if there are fewer.
    metric
        See ``neighbors.nearest``.

    Returns
    -------
    Weights (queries x donors) with rows that sum to 1.
    """
    return equal_weights(nearest(queries, donors, n_neighbors, metric)[1], len(donors))


def matched_donors(
    queries: np.ndarray, donors: np.ndarray, n_neighbors: int, *, own: np.ndarray | None = None, candidates: int = 4
) -> sparse.csr_matrix:
    """Equal weights on each query's nearest donors, corrected for hubs.

    In many dimensions some donors, the hubs, are near to every query, so that all queries would average the same few.
    The mean squared distance of a donor to its nearest queries is therefore subtracted from twice the squared distance
    (cross-domain similarity local scaling; Conneau et al., ICLR 2018).

    Parameters
    ----------
    queries, donors, n_neighbors
        As for ``nearest_donors``.
    own
        Row numbers of the queries among the donors, if they are donors themselves; a query is then not its own donor.
    candidates
        Nearest donors that are ranked anew, per neighbour chosen; 1: no correction.

    Returns
    -------
    As ``nearest_donors``.
    """
    n_neighbors = min(n_neighbors, len(donors) - (own is not None))
    # A query that is a donor takes the place of a candidate.
    n_candidates = min(max(candidates * n_neighbors, n_neighbors + (own is not None)), len(donors))
    distance, candidate = nearest(queries, donors, n_candidates)
    hubness = (nearest(donors, queries, n_neighbors)[0] ** 2).mean(axis=1)
    score = 2 * distance**2 - hubness[candidate]
    if own is not None:
        score[candidate == own[:, None]] = np.inf
    chosen = np.take_along_axis(candidate, np.argsort(score, axis=1, kind="stable")[:, :n_neighbors], axis=1)
    return equal_weights(chosen, len(donors))


def smooth_latent(adata: ad.AnnData, n_neighbors: int) -> np.ndarray:
    """Mean latent coordinates of each spot and its nearest spots on the tissue, slice by slice.

    Parameters
    ----------
    adata
        Spots of one modality, with ``obsm["X_latent"]``, ``obsm["spatial"]`` and ``obs["slice"]``.
    n_neighbors
        Neighbours of a spot; 0: no smoothing.
    """
    latent = np.array(adata.obsm[LATENT], dtype=np.float64)
    slices = adata.obs["slice"].to_numpy(dtype=str)
    for name in slice_names(adata.obs) if n_neighbors else ():
        rows = np.flatnonzero(slices == name)
        if len(rows) > 1:
            around = spatial_neighbors(np.asarray(adata.obsm["spatial"])[rows], n_neighbors)
            around += sparse.eye_array(len(rows), dtype=np.float32)
            latent[rows] = normalize(around, norm="l1") @ latent[rows]
    return latent


def smoothed_latent(adata: ad.AnnData, names: pd.Index, n_neighbors: int) -> np.ndarray:
    """Latent coordinates of some spots, smoothed over all spots of their slices."""
    return smooth_latent(adata, n_neighbors)[adata.obs_names.get_indexer(names)]
