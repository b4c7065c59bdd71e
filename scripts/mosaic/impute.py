"""The counts of a modality that a slice did not measure, from spots elsewhere that did."""

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.sparsefuncs import mean_variance_axis

from mosaic.errors import InputError
from mosaic.graph import spatial_neighbors
from mosaic.neighbors import Metric, nearest
from mosaic.spots import LATENT, slice_names, stack

logger = logging.getLogger(__name__)

Method = Literal["matching", "nearest"]

# Above this share of non-zero values a dense matrix is the smaller one.
_DENSE_ABOVE = 0.5
# The correction for hubs looks at so many times the neighbours that it returns.
_CANDIDATES = 4
# The regression sees the source modality through at most so many components ...
_COMPONENTS = 50
# ... and shifts a feature only where, left out in turn, it explains more than this share of what matching leaves.
_LEAST_GAIN = 0.05
_PENALTIES = np.logspace(0, 6, 13)
# Values of a block of features in the regression: bounds its memory.
_BLOCK_VALUES = 20_000_000


def nearest_donors(
    queries: np.ndarray, donors: np.ndarray, n_neighbors: int, *, metric: Metric = "euclidean"
) -> sparse.csr_matrix:
    """Equal weights on each query's nearest donors.

    Parameters
    ----------
    queries, donors
        Latent coordinates (spots x n_latent).
    n_neighbors
        Neighbours per query; all donors where there are fewer.
    metric
        See ``neighbors.nearest``.

    Returns
    -------
    Weights (queries x donors) with rows that sum to 1.
    """
    return _equal_weights(nearest(queries, donors, n_neighbors, metric)[1], len(donors))


def matched_donors(
    queries: np.ndarray, donors: np.ndarray, n_neighbors: int, *, leave_out_self: bool = False
) -> sparse.csr_matrix:
    """Equal weights on each query's nearest donors, corrected for hubs.

    In many dimensions some donors, the hubs, are near to every query, and means over the same few donors look alike.
    A donor's own mean squared distance to its nearest queries is therefore subtracted from twice the squared distance
    (cross-domain similarity local scaling; Conneau et al., ICLR 2018).

    Parameters
    ----------
    queries, donors, n_neighbors
        As for ``nearest_donors``.
    leave_out_self
        Queries and donors are the same spots in the same order, and none may be its own donor.

    Returns
    -------
    As ``nearest_donors``.
    """
    n_neighbors = min(n_neighbors, len(donors) - leave_out_self)
    n_candidates = min(_CANDIDATES * n_neighbors, len(donors))
    distance, candidate = nearest(queries, donors, n_candidates)
    hubness = (nearest(donors, queries, n_neighbors)[0] ** 2).mean(axis=1)
    score = 2 * distance**2 - hubness[candidate]
    if leave_out_self:
        score[candidate == np.arange(len(queries))[:, None]] = np.inf
    chosen = np.take_along_axis(candidate, np.argsort(score, axis=1, kind="stable")[:, :n_neighbors], axis=1)
    return _equal_weights(chosen, len(donors))


def _equal_weights(chosen: np.ndarray, n_donors: int) -> sparse.csr_matrix:
    n_queries, n_neighbors = chosen.shape
    ends = np.arange(n_queries + 1) * n_neighbors
    weights = sparse.csr_matrix((np.full(chosen.size, 1 / n_neighbors), chosen.ravel(), ends), (n_queries, n_donors))
    weights.sort_indices()
    return weights


def smooth_latent(adata: ad.AnnData, n_neighbors: int) -> np.ndarray:
    """Mean latent coordinates of each spot and its nearest spots on the tissue, slice by slice.

    Parameters
    ----------
    adata
        Spots of one modality, with ``obsm["X_latent"]``, ``obsm["spatial"]`` and ``obs["slice"]``.
    n_neighbors
        Neighbours of a spot; 0 leaves all as it is.
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


def regression_shift(
    source: sparse.csr_matrix,
    counts: sparse.csr_matrix,
    among: sparse.csr_matrix,
    queries: sparse.csr_matrix,
    weights: sparse.csr_matrix,
) -> tuple[np.ndarray, np.ndarray]:
    """What a query's own source modality says beyond its donors: the regression of a bias-corrected matching.

    After Abadie & Imbens (JBES 2011): what matching leaves unexplained in each donor, when it is matched to the other
    donors, is regressed (ridge, penalty per feature by leave-one-out) on how the donor's source counts differ from
    those of its matches; the fit is applied to how a query's source counts differ from those of its donors. These
    differences are centred over the queries, so that a batch effect between slices shifts nothing. Depth is the
    foremost thing that is carried over so.

    Parameters
    ----------
    source, counts
        The donors' counts of the source modality (donors x source features) and of the one imputed (donors x
        features).
    among
        Weights of each donor's matches among the other donors (donors x donors).
    queries
        Counts of the source modality (queries x source features).
    weights
        Of each query's donors (queries x donors).

    Returns
    -------
    Numbers of the features that the regression explains, and what to add to them (queries x those features).
    """
    scaler = StandardScaler(with_mean=False).fit(source)
    source, queries = scaler.transform(source), scaler.transform(queries)
    if min(source.shape) > _COMPONENTS:
        components = TruncatedSVD(_COMPONENTS, random_state=0).fit(source)
        source, queries = components.transform(source), components.transform(queries)
    else:
        source, queries = source.toarray(), queries.toarray()
    difference = source - among @ source
    wanted = queries - weights @ source
    wanted -= wanted.mean(axis=0)
    explained, shifts = [], []
    width = max(1, _BLOCK_VALUES // len(difference))
    for start in range(0, counts.shape[1], width):
        block = counts[:, start : start + width]
        rest = (block - among @ block).toarray()
        varies = np.flatnonzero(rest.var(axis=0) > 0)
        if not varies.size:
            continue
        rest = rest[:, varies]
        fit = RidgeCV(_PENALTIES, alpha_per_target=True).fit(difference, rest)
        gain = 1 + np.atleast_1d(fit.best_score_) / rest.var(axis=0)
        chosen = gain > _LEAST_GAIN
        explained.append(start + varies[chosen])
        shifts.append(wanted @ fit.coef_.reshape(rest.shape[1], -1)[chosen].T)
    if not explained:
        return np.empty(0, dtype=int), np.empty((queries.shape[0], 0))
    return np.concatenate(explained), np.hstack(shifts)


def impute_modality(
    embedding: md.MuData,
    slice_name: str,
    modality: str,
    counts: Mapping[str, Sequence[ad.AnnData]],
    *,
    method: Method = "matching",
    n_neighbors: int = 25,
    smooth_neighbors: int = 5,
) -> ad.AnnData:
    """Impute one modality in one slice that lacks it.

    One prediction for each modality that the slice did measure, the source; then their mean. ``nearest`` is the
    published way (Yan et al., Nature Genetics 2026): the mean counts of the donors nearest by Manhattan distance,
    donors being all spots that measured the missing modality, placed by their latent coordinates of it. ``matching``
    smooths latent coordinates over the tissue, takes as donors the bridge spots that measured source and missing
    modality, placed by the source, corrects for hubs and for what the source says beyond the match (see
    ``smooth_latent``, ``matched_donors``, ``regression_shift``). Where no slice measured both, donors are as for
    ``nearest`` and nothing is regressed.

    Parameters
    ----------
    embedding
        As ``spots.collect_embeddings`` makes it.
    slice_name
        The slice that lacks the modality.
    modality
        The modality to impute.
    counts
        Per modality its slices, with ``layers["counts"]`` (kind ``features``: X, which then stands for the counts).
        Of the missing modality all slices that measured it, whose shared features are imputed; ``matching`` needs the
        source modalities too, in the slice itself and in bridge slices.
    method, n_neighbors
        See above; neighbours per source.
    smooth_neighbors
        For ``matching``: see ``smooth_latent``.

    Returns
    -------
    AnnData of the slice's spots x features with ``layers["imputed"]``, the predicted counts, and
    ``layers["imputed_sd"]``, the standard deviation of the donors' counts (float32; sparse where most values are
    zero); ``obs["slice"]``, ``obs["modalities"]`` and ``obsm["spatial"]`` as in ``embedding``.

    Raises
    ------
    InputError
        If the slice has no spots in ``embedding``, or the donors share no feature.
    """
    targets = stack(counts[modality], modality)
    targets = targets[targets.obs_names.isin(embedding[modality].obs_names)]
    values = _values(targets)
    spots = embedding.obs_names[(embedding.obs["slice"] == slice_name).to_numpy()]
    if not len(spots):
        raise InputError("has no spots to impute", where=f"slice {slice_name}")
    n_sources = np.zeros(len(spots))
    total = sparse.csr_matrix((len(spots), targets.n_obs))
    shift = sparse.csr_matrix((len(spots), targets.n_vars))
    for source, adata in embedding.mod.items():
        rows = np.flatnonzero(spots.isin(adata.obs_names))
        if not rows.size:
            continue
        queries = spots[rows]
        if method == "nearest":
            z = [
                normalize(part[names].obsm[LATENT])
                for part, names in ((adata, queries), (embedding[modality], targets.obs_names))
            ]
            weights = nearest_donors(*z, n_neighbors, metric="manhattan")
        else:
            weights, added = _match(
                embedding, source, queries, modality, targets, counts, n_neighbors, smooth_neighbors
            )
            shift += _placed(added, rows, shift.shape)
        total += _placed(weights, rows, total.shape)
        n_sources[rows] += 1
    total, shift = (sparse.diags_array(1 / n_sources) @ part for part in (total, shift))
    mean = sparse.csr_matrix(total @ values)
    spread = sparse.csr_matrix(total @ values.power(2)) - mean.power(2)
    spread.data = np.sqrt(np.maximum(spread.data, 0))
    mean = mean + shift
    if "counts" in targets.layers:
        mean = mean.maximum(0)
    mean, spread = (sparse.csr_matrix(part, dtype=np.float32) for part in (mean, spread))
    layers = {"imputed": mean, "imputed_sd": spread}
    if mean.nnz > _DENSE_ABOVE * np.prod(mean.shape):
        layers = {name: matrix.toarray() for name, matrix in layers.items()}
    where = embedding.obs_names.get_indexer(spots)
    return ad.AnnData(
        obs=embedding.obs.loc[spots, ["slice", "barcode", "modalities"]],
        var=targets.var[[]],
        layers=layers,
        obsm={"spatial": embedding.obsm["spatial"][where]},
    )


def _match(
    embedding: md.MuData,
    source: str,
    queries: pd.Index,
    modality: str,
    targets: ad.AnnData,
    counts: Mapping[str, Sequence[ad.AnnData]],
    n_neighbors: int,
    smooth_neighbors: int,
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Weights on the targets (queries x targets) and what to add (queries x features), of one source modality."""
    adata = embedding[source]
    paired = targets.obs_names.isin(adata.obs_names)
    regress = paired.sum() > 1
    if not regress:
        logger.info("%s: no slice measured it beside %s, so nothing is regressed", modality, source)
        paired, adata = np.ones(targets.n_obs, dtype=bool), embedding[modality]
    donors = np.flatnonzero(paired)
    names = targets.obs_names[donors]
    z = _smoothed(embedding[source], queries, smooth_neighbors)
    z_donors = _smoothed(adata, names, smooth_neighbors)
    weights = matched_donors(z, z_donors, n_neighbors)
    added = sparse.csr_matrix((len(queries), targets.n_vars))
    if regress:
        measured = stack(counts[source], source)
        among = matched_donors(z_donors, z_donors, n_neighbors, leave_out_self=True)
        explained, columns = regression_shift(
            _values(measured[names]), _values(targets)[donors], among, _values(measured[queries]), weights
        )
        logger.info(
            "%s: %s tells more than its match of %d of %d features", modality, source, len(explained), targets.n_vars
        )
        added = _placed(sparse.csr_matrix(columns.T), explained, added.T.shape).T
    return _placed(weights.T, donors, (targets.n_obs, len(queries))).T, sparse.csr_matrix(added)


def _smoothed(adata: ad.AnnData, names: pd.Index, n_neighbors: int) -> np.ndarray:
    """Smoothed latent coordinates of some spots, smoothed among all spots of their slices."""
    return smooth_latent(adata, n_neighbors)[adata.obs_names.get_indexer(names)]


def _placed(matrix: sparse.sparray, rows: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A matrix of ``shape`` whose ``rows`` are those of ``matrix``, and zero elsewhere."""
    matrix = matrix.tocoo()
    return sparse.csr_matrix((matrix.data, (np.asarray(rows)[matrix.row], matrix.col)), shape=shape)


def _values(adata: ad.AnnData) -> sparse.csr_matrix:
    """Counts, or X of kind ``features``, in double precision for the regression."""
    return sparse.csr_matrix(adata.layers.get("counts", adata.X), dtype=np.float64)


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
