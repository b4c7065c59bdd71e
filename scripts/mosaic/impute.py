"""The counts of a modality that a slice did not measure, from its spots' neighbours in latent space."""

from collections.abc import Sequence

import anndata as ad
import mudata as md
import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.sparsefuncs import mean_variance_axis

from mosaic.errors import InputError
from mosaic.spots import LATENT, stack

# Above this share of non-zero values a dense matrix is the smaller one.
_DENSE_ABOVE = 0.5


def neighbor_weights(queries: np.ndarray, donors: np.ndarray, n_neighbors: int) -> sparse.csr_matrix:
    """Equal weights on each query's nearest donors by Euclidean distance.

    Parameters
    ----------
    queries, donors
        Latent coordinates (spots x n_latent).
    n_neighbors
        Neighbours per query; all donors where there are fewer.

    Returns
    -------
    Weights (queries x donors) with rows that sum to 1.
    """
    n_neighbors = min(n_neighbors, len(donors))
    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(donors)
    return sparse.csr_matrix(search.kneighbors_graph(queries) / n_neighbors)


def impute_modality(
    embedding: md.MuData, slice_name: str, modality: str, donors: Sequence[ad.AnnData], *, n_neighbors: int
) -> ad.AnnData:
    """Impute one modality in one slice that lacks it (Yan et al., Nature Genetics 2026).

    For each modality that the slice did measure, a spot's neighbours are the donors nearest to it in latent space, by
    the donors' embedding of the missing modality; their counts are averaged, then the averages over modalities.

    Parameters
    ----------
    embedding
        As ``training.collect_embeddings`` makes it.
    slice_name
        The slice that lacks the modality.
    modality
        The modality to impute.
    donors
        Slices that measured it, with ``layers["counts"]`` (kind ``features``: X, which then stands for the counts);
        their shared features are imputed.
    n_neighbors
        Neighbours per measured modality.

    Returns
    -------
    AnnData of the slice's spots x features with ``layers["imputed"]``, the mean counts, and ``layers["imputed_sd"]``,
    the standard deviation of the neighbours' counts (float32; sparse where most values are zero); ``obs["slice"]``,
    ``obs["modalities"]`` and ``obsm["spatial"]`` as in ``embedding``.

    Raises
    ------
    InputError
        If the slice has no spots in ``embedding``, or the donors share no feature.
    """
    counts = stack(donors, modality)
    pool = counts.obs_names.isin(embedding[modality].obs_names)
    counts = counts[pool]
    donor_latent = embedding[modality][counts.obs_names].obsm[LATENT]
    spots = embedding.obs_names[(embedding.obs["slice"] == slice_name).to_numpy()]
    total = sparse.csr_matrix((len(spots), counts.n_obs), dtype=np.float32)
    measured = np.zeros(len(spots))
    for adata in embedding.mod.values():
        rows = np.flatnonzero(spots.isin(adata.obs_names))
        if rows.size:
            weights = neighbor_weights(adata[spots[rows]].obsm[LATENT], donor_latent, n_neighbors).tocoo()
            total += sparse.csr_matrix((weights.data, (rows[weights.row], weights.col)), shape=total.shape)
            measured[rows] += 1
    if not len(spots):
        raise InputError("has no spots to impute", where=f"slice {slice_name}")
    weights = sparse.diags_array(1 / measured) @ total
    values = sparse.csr_matrix(counts.layers.get("counts", counts.X))
    mean = sparse.csr_matrix(weights @ values, dtype=np.float32)
    square = sparse.csr_matrix(weights @ values.power(2), dtype=np.float32)
    spread = square - mean.power(2)
    spread.data = np.sqrt(np.maximum(spread.data, 0))
    layers = {"imputed": mean, "imputed_sd": spread}
    if mean.nnz > _DENSE_ABOVE * np.prod(mean.shape):
        layers = {name: matrix.toarray() for name, matrix in layers.items()}
    where = embedding.obs_names.get_indexer(spots)
    return ad.AnnData(
        obs=embedding.obs.loc[spots, ["slice", "barcode", "modalities"]],
        var=counts.var[[]],
        layers=layers,
        obsm={"spatial": embedding.obsm["spatial"][where]},
    )


def most_variable(measured: ad.AnnData, n_features: int = 4) -> list[str]:
    """Names of the features whose measured counts differ most between spots, by the variance of log1p.

    Parameters
    ----------
    measured
        Spots x features with ``layers["counts"]`` (kind ``features``: X, whose own variance is taken).
    n_features
        How many to name.
    """
    counts = measured.layers.get("counts")
    values = sparse.csr_matrix(measured.X) if counts is None else counts.log1p()
    _, variance = mean_variance_axis(sparse.csr_matrix(values), axis=0)
    return measured.var_names[np.argsort(-variance, kind="stable")[:n_features]].tolist()


def dense(matrix: np.ndarray | sparse.spmatrix) -> np.ndarray:
    """A layer as a plain array, for the few features of a figure."""
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
