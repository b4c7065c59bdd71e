"""The counts of a modality that a slice did not measure, from spots elsewhere that did."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.sparsefuncs import mean_variance_axis

from mosaic.errors import InputError
from mosaic.files import whole_file
from mosaic.integrate.graph import spatial_neighbors
from mosaic.neighbors import Metric, nearest
from mosaic.spots import LATENT, slice_names, stack

logger = logging.getLogger(__name__)

Method = Literal["matching", "nearest"]

# What is imputed, in this order wherever both are: predicted counts, and the spread of the donors' counts.
LAYERS = ("imputed", "imputed_sd")

# Above this share of non-zero values a dense matrix is the smaller one.
_DENSE_ABOVE = 0.5
# The correction for hubs looks at so many times the neighbours that it returns.
_CANDIDATES = 4
# The regression sees the source modality through at most so many components ...
_COMPONENTS = 50
# ... and shifts a feature only where, left out in turn, it explains more than this share of what matching leaves.
_LEAST_GAIN = 0.05
_PENALTIES = np.logspace(0, 6, 13)
# Share of a spot's own donors in the variance that errors are measured by; the rest is that of all donors.
_OWN_SPREAD = 0.8
# The regression is fitted on at most so many donors, a seeded sample of them.
_MOST_FITTED = 20_000
# Values of a block of features in the regression, and of a block of spots that are predicted: bounds the memory.
_BLOCK_VALUES = 20_000_000
# Spots whose prediction tells whether the result is stored dense or sparse.
_PROBED = 1000


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
    queries: np.ndarray, donors: np.ndarray, n_neighbors: int, *, own: np.ndarray | None = None
) -> sparse.csr_matrix:
    """Equal weights on each query's nearest donors, corrected for hubs.

    In many dimensions some donors, the hubs, are near to every query, and means over the same few donors look alike.
    A donor's own mean squared distance to its nearest queries is therefore subtracted from twice the squared distance
    (cross-domain similarity local scaling; Conneau et al., ICLR 2018).

    Parameters
    ----------
    queries, donors, n_neighbors
        As for ``nearest_donors``.
    own
        Where the queries are themselves among the donors: their row numbers there. None is then its own donor.

    Returns
    -------
    As ``nearest_donors``.
    """
    n_neighbors = min(n_neighbors, len(donors) - (own is not None))
    n_candidates = min(_CANDIDATES * n_neighbors, len(donors))
    distance, candidate = nearest(queries, donors, n_candidates)
    hubness = (nearest(donors, queries, n_neighbors)[0] ** 2).mean(axis=1)
    score = 2 * distance**2 - hubness[candidate]
    if own is not None:
        score[candidate == own[:, None]] = np.inf
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


class Shift(NamedTuple):
    """What to add to the features that a regression explains: ``difference @ coefficients``.

    Attributes
    ----------
    features
        Their numbers (explained features).
    difference
        How the queries' source counts differ from those of their donors (queries x components).
    coefficients
        Components x explained features.
    """

    features: np.ndarray
    difference: np.ndarray
    coefficients: np.ndarray


def regression_shift(
    source: sparse.csr_matrix,
    counts: sparse.csr_matrix,
    fitted: np.ndarray,
    among: sparse.csr_matrix,
    queries: sparse.csr_matrix,
    weights: sparse.csr_matrix,
) -> Shift:
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
    fitted
        Numbers of the donors that the regression is fitted on.
    among
        Weights of their matches among the other donors (fitted x donors).
    queries
        Counts of the source modality (queries x source features).
    weights
        Of each query's donors (queries x donors).
    """
    scaler = StandardScaler(with_mean=False).fit(source)
    source, queries = scaler.transform(source), scaler.transform(queries)
    if min(source.shape) > _COMPONENTS:
        components = TruncatedSVD(_COMPONENTS, random_state=0).fit(source)
        source, queries = components.transform(source), components.transform(queries)
    else:
        source, queries = source.toarray(), queries.toarray()
    difference = source[fitted] - among @ source
    wanted = queries - weights @ source
    wanted -= wanted.mean(axis=0)
    explained, coefficients = [np.empty(0, dtype=int)], [np.empty((wanted.shape[1], 0))]
    width = max(1, _BLOCK_VALUES // len(difference))
    for start in range(0, counts.shape[1], width):
        block = counts[:, start : start + width]
        rest = (block[fitted] - among @ block).toarray()
        varies = np.flatnonzero(rest.var(axis=0) > 0)
        if not varies.size:
            continue
        rest = rest[:, varies]
        fit = RidgeCV(_PENALTIES, alpha_per_target=True).fit(difference, rest)
        gain = 1 + np.atleast_1d(fit.best_score_) / rest.var(axis=0)
        chosen = gain > _LEAST_GAIN
        explained.append(start + varies[chosen])
        coefficients.append(fit.coef_.reshape(rest.shape[1], -1)[chosen].T)
    return Shift(np.concatenate(explained), wanted, np.hstack(coefficients))


class Imputation(NamedTuple):
    """One modality to be imputed in one slice; spots are predicted block by block, when they are asked for.

    Attributes
    ----------
    spots
        Spots x 0, with ``obs`` and ``obsm["spatial"]`` as in the embedding.
    features
        Names of the features imputed.
    weights
        Of each spot's donors (spots x donors, rows that sum to 1).
    values
        The donors' counts (donors x features).
    donors
        Names of the donors.
    shifts
        Per source modality the rows of its spots (spots of the source), their share in the prediction, and what the
        source adds.
    counted
        Whether values below zero make no sense.
    """

    spots: ad.AnnData
    features: pd.Index
    weights: sparse.csr_matrix
    values: sparse.csr_matrix
    donors: pd.Index
    shifts: Sequence[tuple[np.ndarray, np.ndarray, Shift]]
    counted: bool

    def predict(self, rows: np.ndarray) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Predicted counts, and the standard deviation of the donors' counts (rows x features both, float32)."""
        weights, values = self.weights[rows], self.values
        mean = sparse.csr_matrix(weights @ values)
        squares = sparse.csr_matrix((values.data**2, values.indices, values.indptr), shape=values.shape)
        spread = sparse.csr_matrix(weights @ squares) - mean.power(2)
        spread.data = np.sqrt(np.maximum(spread.data, 0))
        for own, share, shift in self.shifts:
            _, here, there = np.intersect1d(rows, own, assume_unique=True, return_indices=True)
            added = share[there, None] * shift.difference[there] @ shift.coefficients
            places = np.repeat(here, added.shape[1]), np.tile(shift.features, len(here))
            mean = mean + sparse.csr_matrix((added.ravel(), places), shape=mean.shape)
        if self.counted:
            mean = mean.maximum(0)
        return sparse.csr_matrix(mean, dtype=np.float32), sparse.csr_matrix(spread, dtype=np.float32)

    def density(self) -> float:
        """Share of predicted counts above zero, among a seeded sample of spots."""
        n_spots = self.weights.shape[0]
        probed = np.random.default_rng(0).choice(n_spots, min(_PROBED, n_spots), replace=False)
        return self.predict(np.sort(probed))[0].nnz / (len(probed) * len(self.features))

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray] | tuple[sparse.csr_matrix, sparse.csr_matrix]]:
        """What ``predict`` gives, block by block over all spots; dense arrays where most values are not zero."""
        as_dense = self.density() > _DENSE_ABOVE
        n_spots = self.weights.shape[0]
        n_rows = max(1, _BLOCK_VALUES // len(self.features))
        for start in range(0, n_spots, n_rows):
            found = self.predict(np.arange(start, min(start + n_rows, n_spots)))
            yield tuple(part.toarray() for part in found) if as_dense else found

    def n_bytes(self) -> int:
        """How much the result takes, before compression."""
        density = self.density()
        return int(2 * 4 * self.weights.shape[0] * len(self.features) * (1 if density > _DENSE_ABOVE else 2 * density))


def prepare(
    embedding: md.MuData,
    slice_name: str,
    modality: str,
    counts: Mapping[str, Sequence[ad.AnnData]],
    *,
    spots: pd.Index | None = None,
    method: Method = "matching",
    n_neighbors: int = 25,
    smooth_neighbors: int = 5,
) -> Imputation:
    """Find what one modality is imputed from in one slice that lacks it.

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
    spots
        Which spots of the slice; None: all of them.
    method, n_neighbors
        See above; neighbours per source.
    smooth_neighbors
        For ``matching``: see ``smooth_latent``.

    Raises
    ------
    InputError
        If the slice has no spots in ``embedding``, or the donors share no feature.
    """
    targets = stack(counts[modality], modality)
    known = targets.obs_names.isin(embedding[modality].obs_names)
    if not known.all():
        targets = targets[known]
    names = embedding.obs_names[(embedding.obs["slice"] == slice_name).to_numpy()] if spots is None else spots
    if not len(names):
        raise InputError("has no spots to impute", where=f"slice {slice_name}")
    values = values_of(targets)
    total, n_sources, found = sparse.csr_matrix((len(names), targets.n_obs)), np.zeros(len(names)), []
    for source, adata in embedding.mod.items():
        rows = np.flatnonzero(names.isin(adata.obs_names))
        if not rows.size:
            continue
        queries = names[rows]
        if method == "nearest":
            z = [
                normalize(part[own].obsm[LATENT])
                for part, own in ((adata, queries), (embedding[modality], targets.obs_names))
            ]
            weights = nearest_donors(*z, n_neighbors, metric="manhattan")
        else:
            places = (embedding, source, queries, modality, targets.obs_names, smooth_neighbors)
            weights, shift = _match(*places, values, counts, n_neighbors)
            if shift is not None:
                found.append((rows, shift))
        total += _placed(weights, rows, total.shape)
        n_sources[rows] += 1
    where = embedding.obs_names.get_indexer(names)
    return Imputation(
        ad.AnnData(
            obs=embedding.obs.loc[names, ["slice", "barcode", "modalities"]],
            obsm={"spatial": embedding.obsm["spatial"][where]},
        ),
        targets.var_names,
        sparse.csr_matrix(sparse.diags_array(1 / n_sources) @ total),
        values,
        targets.obs_names,
        [(rows, 1 / n_sources[rows], shift) for rows, shift in found],
        "counts" in targets.layers,
    )


def unit_of(values: sparse.csr_matrix) -> np.ndarray:
    """Standard deviation of each feature over all donors (features), 1 where it does not vary."""
    variance = mean_variance_axis(sparse.csr_matrix(values, dtype=np.float64), axis=0)[1]
    return np.where(variance > 0, np.sqrt(variance), 1)


def error_scale(spread: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """What errors of imputed counts are in units of: the spread of a spot's donors, drawn to that of all donors.

    A few donors may agree by chance, and would promise what they can't hold.

    Parameters
    ----------
    spread
        ``layers["imputed_sd"]`` (spots x features).
    unit
        See ``unit_of`` (features).
    """
    return np.sqrt(_OWN_SPREAD * spread**2 + (1 - _OWN_SPREAD) * unit**2)


def impute_modality(*arguments: object, **settings: object) -> ad.AnnData:
    """Impute one modality in one slice that lacks it, in memory.

    Parameters
    ----------
    arguments, settings
        See ``prepare``.

    Returns
    -------
    AnnData of the slice's spots x features with ``layers["imputed"]``, the predicted counts, and
    ``layers["imputed_sd"]``, the standard deviation of the donors' counts (float32; sparse where most values are
    zero); ``obs["slice"]``, ``obs["modalities"]`` and ``obsm["spatial"]`` as in ``embedding``.
    """
    imputation = prepare(*arguments, **settings)
    parts = zip(*imputation.blocks(), strict=True)
    layers = [(sparse.vstack(part, format="csr") if sparse.issparse(part[0]) else np.vstack(part)) for part in parts]
    return ad.AnnData(
        obs=imputation.spots.obs,
        var=pd.DataFrame(index=imputation.features),
        obsm=dict(imputation.spots.obsm),
        layers=dict(zip(LAYERS, layers, strict=True)),
    )


def interval(adata: ad.AnnData, features: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Between which counts 90 % of the measured ones would lie, by the errors on hidden spots.

    Parameters
    ----------
    adata
        Imputed counts of a run with ``checks.imputation``, as ``write_imputed`` writes them.
    features
        Names of the features; None: all.

    Returns
    -------
    Lower and upper bounds (spots x features both), not below zero where ``var["counted"]``.

    Raises
    ------
    InputError
        If no errors are known.
    """
    adata = adata if features is None else adata[:, list(features)]
    if "error_low" not in adata.var:
        raise InputError("has no errors of hidden spots in var", hint="run with checks.imputation and a bridge slice")
    mean, spread = (dense(adata.layers[name]) for name in LAYERS)
    scale = error_scale(spread, adata.var["unit"].to_numpy())
    bounds = [mean + adata.var[name].to_numpy() * scale for name in ("error_low", "error_high")]
    counted = adata.var["counted"].to_numpy(dtype=bool)
    return tuple(np.where(counted, np.maximum(bound, 0), bound) for bound in bounds)


def write_imputed(imputation: Imputation, path: str | Path, scores: pd.DataFrame | None = None) -> None:
    """Write what ``impute_modality`` returns as h5ad, block by block, so that the whole is never in memory.

    Parameters
    ----------
    imputation
        As ``prepare`` gives it.
    path
        The file.
    scores
        Per feature what is known of it from hidden spots, for ``var`` (``selfcheck.summarise``).

    Raises
    ------
    InputError
        If the result would be larger than the free space on the disk.
    """
    free, needed = shutil.disk_usage(Path(path).parent).free, imputation.n_bytes()
    if needed > free:
        raise InputError(
            f"{imputation.spots.n_obs} spots x {len(imputation.features)} imputed features take up to "
            f"{needed / 1e9:.1f} GB, but the disk has {free / 1e9:.1f} GB left",
            where=str(path),
            hint="free the disk, or impute fewer features: under qc, min_spots drops those that are hardly ever seen",
        )
    var = pd.DataFrame({"unit": unit_of(imputation.values), "counted": imputation.counted}, index=imputation.features)
    if scores is not None:
        var = var.join(scores)
        var["better_than_mean"] = var["better_than_mean"].eq(True)
    skeleton = ad.AnnData(obs=imputation.spots.obs, var=var, obsm=dict(imputation.spots.obsm))
    with whole_file(path) as unfinished:
        skeleton.write_h5ad(unfinished)
        with h5py.File(unfinished, "a") as file:
            start = 0
            for block in imputation.blocks():
                for name, part in zip(LAYERS, block, strict=True):
                    _append(file["layers"], name, part, start, skeleton.n_obs)
                start += block[0].shape[0]


def _append(layers: h5py.Group, name: str, part: np.ndarray | sparse.csr_matrix, start: int, n_spots: int) -> None:
    """Put the next rows into a layer of an h5ad file; the first ones make it."""
    if sparse.issparse(part):
        if start:
            ad.io.sparse_dataset(layers[name]).append(part)
        else:
            ad.io.write_elem(layers, name, part, dataset_kwargs={"compression": "lzf"})
        return
    if not start:
        layer = layers.create_dataset(name, (n_spots, part.shape[1]), part.dtype, chunks=True, compression="lzf")
        layer.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    layers[name][start : start + len(part)] = part


def _match(
    embedding: md.MuData,
    source: str,
    queries: pd.Index,
    modality: str,
    targets: pd.Index,
    smooth_neighbors: int,
    values: sparse.csr_matrix,
    counts: Mapping[str, Sequence[ad.AnnData]],
    n_neighbors: int,
) -> tuple[sparse.csr_matrix, Shift | None]:
    """Weights on the targets (queries x targets) and what to add, of one source modality."""
    adata = embedding[source]
    paired = targets.isin(adata.obs_names)
    regress = paired.sum() > 1
    if not regress:
        logger.info("%s: no slice measured it beside %s, so nothing is regressed", modality, source)
        paired, adata = np.ones(len(targets), dtype=bool), embedding[modality]
    donors = np.flatnonzero(paired)
    names = targets[donors]
    z = _smoothed(embedding[source], queries, smooth_neighbors)
    z_donors = _smoothed(adata, names, smooth_neighbors)
    weights = matched_donors(z, z_donors, n_neighbors)
    shift = None
    if regress:
        fitted = np.arange(len(donors))
        if len(fitted) > _MOST_FITTED:
            logger.info("%s: the regression is fitted on %d of %d donors", modality, _MOST_FITTED, len(fitted))
            fitted = np.sort(np.random.default_rng(0).choice(len(fitted), _MOST_FITTED, replace=False))
        among = matched_donors(z_donors[fitted], z_donors, n_neighbors, own=fitted)
        measured = stack(counts[source], source)
        parts = [values_of(measured[own]) for own in (names, queries)]
        shift = regression_shift(parts[0], values[donors], fitted, among, parts[1], weights)
        n_explained = len(shift.features)
        logger.info(
            "%s: %s tells more than its match of %d of %d features", modality, source, n_explained, values.shape[1]
        )
    return _placed(weights.T, donors, (len(targets), len(queries))).T, shift


def _smoothed(adata: ad.AnnData, names: pd.Index, n_neighbors: int) -> np.ndarray:
    """Smoothed latent coordinates of some spots, smoothed among all spots of their slices."""
    return smooth_latent(adata, n_neighbors)[adata.obs_names.get_indexer(names)]


def _placed(matrix: sparse.sparray, rows: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A matrix of ``shape`` whose ``rows`` are those of ``matrix``, and zero elsewhere."""
    matrix = matrix.tocoo()
    return sparse.csr_matrix((matrix.data, (np.asarray(rows)[matrix.row], matrix.col)), shape=shape)


def values_of(adata: ad.AnnData) -> sparse.csr_matrix:
    """Counts, or X of kind ``features`` (spots x features, double precision)."""
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


def held_out_notes(imputed: ad.AnnData, names: Sequence[str]) -> list[str] | None:
    """How well features were imputed where they were hidden, in words; None where nothing was hidden.

    Parameters
    ----------
    imputed
        As ``write_imputed`` writes it.
    names
        Of the features.
    """
    if "better_than_mean" not in imputed.var:
        return None
    notes = []
    for row in imputed.var.loc[list(names)].itertuples():
        verdict = "" if row.better_than_mean else ", no better than the mean"
        notes.append(f"hidden spots: r = {row.pearson:.2f}{verdict}" if np.isfinite(row.pearson) else "not checked")
    return notes


def dense(matrix: np.ndarray | sparse.spmatrix) -> np.ndarray:
    """A layer as a plain array, for the few features of a figure."""
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
