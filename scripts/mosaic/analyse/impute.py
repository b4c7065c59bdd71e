"""Imputation: the counts of a modality that a slice lacks, from spots that have it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.preprocessing import normalize

from mosaic.analyse.donors import matched_donors, nearest_donors, smoothed_latent
from mosaic.analyse.intervals import LAYERS
from mosaic.analyse.regression import Shift, regression_shift
from mosaic.embedding import LATENT
from mosaic.errors import InputError
from mosaic.matrices import BLOCK_VALUES, placed, sample_rows, values_of

logger = logging.getLogger(__name__)

Method = Literal["matching", "nearest"]


# Proportion of non-zero values above which a dense matrix is smaller than a sparse one.
_DENSE_ABOVE = 0.5
# Maximum number of donors to fit the regression on; above, a seeded sample.
_MOST_FITTED = 20_000
# Number of spots whose prediction decides whether the result is stored dense or sparse.
_PROBED = 1000


class Imputation(NamedTuple):
    """Plan to impute one modality in one slice; it predicts spots block by block, on demand.

    Attributes
    ----------
    spots
        Spots x 0, with ``obs`` and ``obsm["spatial"]`` as in the embedding.
    features
        Names of the imputed features.
    weights
        Of each spot's donors (spots x donors, rows that sum to 1).
    values
        The donors' counts (donors x features).
    donors
        Names of the donors.
    shifts
        Per source modality the rows of its spots (spots of the source), their weight in the prediction, and the shift
        that the source adds.
    counted
        Whether the values are counts, which cannot be below zero.
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
        """Proportion of predicted counts above zero, in a seeded sample of spots."""
        n_spots = self.weights.shape[0]
        probed = np.random.default_rng(0).choice(n_spots, min(_PROBED, n_spots), replace=False)
        return self.predict(np.sort(probed))[0].nnz / (len(probed) * len(self.features))

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray] | tuple[sparse.csr_matrix, sparse.csr_matrix]]:
        """Predictions block by block over all spots; dense arrays if most values are not zero."""
        as_dense = self.density() > _DENSE_ABOVE
        n_spots = self.weights.shape[0]
        n_rows = max(1, BLOCK_VALUES // len(self.features))
        for start in range(0, n_spots, n_rows):
            found = self.predict(np.arange(start, min(start + n_rows, n_spots)))
            yield tuple(part.toarray() for part in found) if as_dense else found

    def n_bytes(self) -> int:
        """Size of the result in bytes, before compression."""
        density = self.density()
        return int(2 * 4 * self.weights.shape[0] * len(self.features) * (1 if density > _DENSE_ABOVE else 2 * density))


def prepare(
    embedding: md.MuData,
    slice_name: str,
    modality: str,
    counts: Mapping[str, ad.AnnData],
    *,
    spots: pd.Index | None = None,
    method: Method = "matching",
    n_neighbors: int = 25,
    smooth_neighbors: int = 5,
) -> Imputation:
    """Plan the imputation of one modality in one slice that lacks it.

    Each modality of the slice (a source) gives a prediction; the result is their mean. ``nearest`` is the published
    method (Yan et al., Nature Genetics 2026): the mean counts of the donors nearest by Manhattan distance. Donors are
    all spots with the missing modality, at their latent coordinates of it. ``matching`` smooths latent coordinates over
    the tissue, uses as donors the bridge spots with source and missing modality, at their coordinates of the source,
    and corrects for hubs and for differences in the source (see ``smooth_latent``, ``matched_donors``,
    ``regression_shift``). If no slice has both modalities, donors are as for ``nearest``, without regression.

    Parameters
    ----------
    embedding
        As ``embedding.collect_embeddings`` returns it.
    slice_name
        The slice that lacks the modality.
    modality
        The modality to impute.
    counts
        Per modality its slices, stacked (``spots.stack``), with ``layers["counts"]`` (kind ``features``: X, which then
        stands for the counts). Of the missing modality all slices that have it; their shared features are imputed.
        ``matching`` also needs the source modalities, in the slice itself and in bridge slices.
    spots
        Spots of the slice to impute; None: all.
    method, n_neighbors
        See above; ``n_neighbors`` per source.
    smooth_neighbors
        For ``matching``: see ``smooth_latent``.

    Raises
    ------
    InputError
        If the slice has no spots in ``embedding``.
    """
    targets = counts[modality]
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
            z, z_donors = (
                normalize(part[own].obsm[LATENT])
                for part, own in ((adata, queries), (embedding[modality], targets.obs_names))
            )
            weights = nearest_donors(z, z_donors, n_neighbors, metric="manhattan")
        else:
            places = (embedding, source, queries, modality, targets.obs_names, smooth_neighbors)
            weights, shift = _match(*places, values, counts, n_neighbors)
            if shift is not None:
                found.append((rows, shift))
        total += placed(weights, rows, total.shape)
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


def impute_modality(*arguments: Any, **settings: Any) -> ad.AnnData:
    """Impute one modality in one slice that lacks it, in memory.

    Parameters
    ----------
    arguments, settings
        See ``prepare``.

    Returns
    -------
    AnnData of the slice's spots x features with ``layers["imputed"]``, the predicted counts, and
    ``layers["imputed_sd"]``, the standard deviation of the donors' counts (float32; sparse if most values are
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


def _match(
    embedding: md.MuData,
    source: str,
    queries: pd.Index,
    modality: str,
    targets: pd.Index,
    smooth_neighbors: int,
    values: sparse.csr_matrix,
    counts: Mapping[str, ad.AnnData],
    n_neighbors: int,
) -> tuple[sparse.csr_matrix, Shift | None]:
    """Weights on the targets (queries x targets) and the shift to add, for one source modality."""
    adata = embedding[source]
    paired = targets.isin(adata.obs_names)
    regress = paired.sum() > 1
    if not regress:
        logger.info("%s: no slice has both it and %s, so nothing is regressed", modality, source)
        paired, adata = np.ones(len(targets), dtype=bool), embedding[modality]
    donors = np.flatnonzero(paired)
    names = targets[donors]
    z = smoothed_latent(embedding[source], queries, smooth_neighbors)
    z_donors = smoothed_latent(adata, names, smooth_neighbors)
    weights = matched_donors(z, z_donors, n_neighbors)
    shift = None
    if regress:
        fitted = sample_rows(len(donors), _MOST_FITTED, 0)
        if len(fitted) < len(donors):
            logger.info("%s: the regression is fitted on %d of %d donors", modality, len(fitted), len(donors))
        among = matched_donors(z_donors[fitted], z_donors, n_neighbors, own=fitted)
        parts = [values_of(counts[source][own]) for own in (names, queries)]
        shift = regression_shift(parts[0], values[donors], fitted, among, parts[1], weights)
        n_explained = len(shift.features)
        logger.info("%s: regression on %s improves %d of %d features", modality, source, n_explained, values.shape[1])
    return placed(weights.T, donors, (len(targets), len(queries))).T, shift
