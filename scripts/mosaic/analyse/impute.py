"""Imputation: the counts of a modality that a slice lacks, from spots that have it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.preprocessing import normalize

from mosaic.analyse.donors import matched_donors, nearest_donors, smoothed_latent
from mosaic.analyse.intervals import LAYERS, unit_of
from mosaic.analyse.regression import Shift, regression_shift
from mosaic.blocks import block_slices
from mosaic.embedding import LATENT
from mosaic.errors import InputError
from mosaic.matrices import placed, sample_rows, values_of
from mosaic.spots import MEASURED

logger = logging.getLogger(__name__)

Method = Literal["matching", "nearest"]


@dataclass(frozen=True, kw_only=True)
class ImputationSettings:
    """How counts are imputed; all but ``method`` and ``n_neighbors`` are of ``matching``.

    Attributes
    ----------
    method, n_neighbors
        See ``prepare``; neighbours per source.
    smooth_neighbors
        See ``donors.smooth_latent``.
    candidates
        See ``donors.matched_donors``.
    least_gain
        See ``regression.regression_shift``.
    most_fitted
        Maximum number of donors to fit the regression on; above, a seeded sample.
    """

    method: Method = "matching"
    n_neighbors: int = 50
    smooth_neighbors: int = 5
    candidates: int = 4
    least_gain: float = 0.05
    most_fitted: int = 20_000


class ImputationPlan(NamedTuple):
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

    @property
    def units(self) -> np.ndarray:
        """See ``intervals.unit_of``, of the donors' counts (features)."""
        return unit_of(self.values)

    def blocks(self) -> Iterator[tuple[sparse.csr_matrix, sparse.csr_matrix]]:
        """What ``predict`` returns, block by block over all spots."""
        return _blocks(self)


class JoinedPlan(NamedTuple):
    """Plans for different features of the same spots; used as an ``ImputationPlan``.

    Attributes
    ----------
    spots
        As of ``ImputationPlan``.
    plans
        Of different features; none if there is nothing to impute.
    counted
        As of ``ImputationPlan``.
    """

    spots: ad.AnnData
    plans: Sequence[ImputationPlan]
    counted: bool

    @property
    def features(self) -> pd.Index:
        """Names of the imputed features."""
        return pd.Index([name for plan in self.plans for name in plan.features])

    @property
    def units(self) -> np.ndarray:
        """See ``ImputationPlan.units``."""
        return np.concatenate([plan.units for plan in self.plans]) if self.plans else np.empty(0)

    def predict(self, rows: np.ndarray) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """See ``ImputationPlan.predict``."""
        if not self.plans:
            nothing = sparse.csr_matrix((len(rows), 0), dtype=np.float32)
            return nothing, nothing
        parts = zip(*(plan.predict(rows) for plan in self.plans), strict=True)
        mean, spread = (sparse.hstack(part, format="csr") for part in parts)
        return mean, spread

    def blocks(self) -> Iterator[tuple[sparse.csr_matrix, sparse.csr_matrix]]:
        """See ``ImputationPlan.blocks``."""
        return _blocks(self)


def _blocks(plan: ImputationPlan | JoinedPlan) -> Iterator[tuple[sparse.csr_matrix, sparse.csr_matrix]]:
    for rows in block_slices(plan.spots.n_obs, len(plan.features)):
        yield plan.predict(np.arange(rows.start, rows.stop))


def plan_modality(
    embedding: md.MuData, slice_name: str, modality: str, counts: Mapping[str, ad.AnnData], **settings: Any
) -> ImputationPlan | JoinedPlan:
    """Plan the imputation of what a slice did not measure of a modality: all of it, or features that its panel lacks.

    Parameters
    ----------
    embedding, slice_name, modality, settings
        See ``plan_imputation``.
    counts
        As there. A modality that was stacked over the features of any slice (``spots.stack``) has for each feature the
        spots of the slices that measured it as donors, and as a source the features that donors and slice share. The
        slice itself may have it.
    """
    targets = counts[modality]
    if MEASURED not in targets.varm:
        if slice_name not in set(targets.obs["slice"].astype(str)):
            return plan_imputation(embedding, slice_name, modality, counts, **settings)
        measured = pd.DataFrame({slice_name: True}, index=targets.var_names)
    else:
        measured = targets.varm[MEASURED]
    lacking = ~measured[slice_name] if slice_name in measured else pd.Series(True, index=measured.index)
    others = measured.loc[lacking].drop(columns=slice_name, errors="ignore")
    # Features that the same slices measured have the same donors.
    patterns, number = np.unique(others.to_numpy(dtype=bool), axis=0, return_inverse=True)
    plans = []
    for i, pattern in enumerate(patterns):
        having, features = others.columns[pattern], others.index[number.ravel() == i]
        donors = targets[targets.obs["slice"].isin(having).to_numpy(), targets.var_names.isin(features)].copy()
        plans.append(plan_imputation(embedding, slice_name, modality, counts, donors=donors, **settings))
    return JoinedPlan(_spots_of(embedding, _names_of(embedding, slice_name)), plans, "counts" in targets.layers)


def plan_imputation(
    embedding: md.MuData,
    slice_name: str,
    modality: str,
    counts: Mapping[str, ad.AnnData],
    *,
    spots: pd.Index | None = None,
    donors: ad.AnnData | None = None,
    **settings: Any,
) -> ImputationPlan:
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
    donors
        Spots with the features to impute, as in ``counts``; None: those of ``counts`` of the modality.
    settings
        Those of ``ImputationSettings`` that differ from its defaults.

    Raises
    ------
    InputError
        If the slice has no spots in ``embedding``.
    """
    asked = ImputationSettings(**settings)
    targets = counts[modality] if donors is None else donors
    known = targets.obs_names.isin(embedding[modality].obs_names)
    if not known.all():
        targets = targets[known]
    names = _names_of(embedding, slice_name) if spots is None else spots
    donors = ad.AnnData(values_of(targets), obs=targets.obs[[]], var=targets.var[[]])
    total, n_sources, found = sparse.csr_matrix((len(names), donors.n_obs)), np.zeros(len(names)), []
    for source, adata in embedding.mod.items():
        rows = np.flatnonzero(names.isin(adata.obs_names))
        if not rows.size:
            continue
        queries = names[rows]
        if asked.method == "nearest":
            z, z_donors = (
                normalize(part[own].obsm[LATENT])
                for part, own in ((adata, queries), (embedding[modality], donors.obs_names))
            )
            weights = nearest_donors(z, z_donors, asked.n_neighbors, metric="manhattan")
        else:
            weights, shift = _match(embedding, source, queries, modality, donors, counts, asked)
            if shift is not None:
                found.append((rows, shift))
        total += placed(weights, rows, total.shape)
        n_sources[rows] += 1
    return ImputationPlan(
        _spots_of(embedding, names),
        donors.var_names,
        sparse.csr_matrix(sparse.diags_array(1 / n_sources) @ total),
        donors.X,
        donors.obs_names,
        [(rows, 1 / n_sources[rows], shift) for rows, shift in found],
        "counts" in targets.layers,
    )


def _names_of(embedding: md.MuData, slice_name: str) -> pd.Index:
    """Names of the spots of a slice; InputError if there are none."""
    names = embedding.obs_names[(embedding.obs["slice"] == slice_name).to_numpy()]
    if not len(names):
        raise InputError("has no spots to impute", where=f"slice {slice_name}")
    return names


def _spots_of(embedding: md.MuData, names: pd.Index) -> ad.AnnData:
    """Spots x 0, as in the embedding."""
    return ad.AnnData(
        obs=embedding.obs.loc[names, ["slice", "barcode", "modalities"]],
        obsm={"spatial": embedding.obsm["spatial"][embedding.obs_names.get_indexer(names)]},
    )


def impute_modality(
    embedding: md.MuData, slice_name: str, modality: str, counts: Mapping[str, ad.AnnData], **settings: Any
) -> ad.AnnData:
    """Impute what a slice did not measure of a modality, in memory.

    Parameters
    ----------
    embedding, slice_name, modality, counts, settings
        See ``plan_modality``.

    Returns
    -------
    AnnData of the slice's spots x features with ``layers["imputed"]``, the predicted counts, and
    ``layers["imputed_sd"]``, the standard deviation of the donors' counts (float32, sparse); ``obs["slice"]``,
    ``obs["modalities"]`` and ``obsm["spatial"]`` as in ``embedding``.
    """
    imputation = plan_modality(embedding, slice_name, modality, counts, **settings)
    parts = zip(*imputation.blocks(), strict=True)
    return ad.AnnData(
        obs=imputation.spots.obs,
        var=pd.DataFrame(index=imputation.features),
        obsm=dict(imputation.spots.obsm),
        layers={name: sparse.vstack(part, format="csr") for name, part in zip(LAYERS, parts, strict=True)},
    )


def _match(
    embedding: md.MuData,
    source: str,
    queries: pd.Index,
    modality: str,
    targets: ad.AnnData,
    counts: Mapping[str, ad.AnnData],
    settings: ImputationSettings,
) -> tuple[sparse.csr_matrix, Shift | None]:
    """Weights on the targets (queries x targets) and the shift to add, for one source modality."""
    adata = embedding[source]
    paired = targets.obs_names.isin(adata.obs_names)
    regress = paired.sum() > 1
    if not regress:
        logger.info("%s: no slice has both it and %s, so nothing is regressed", modality, source)
        paired, adata = np.ones(targets.n_obs, dtype=bool), embedding[modality]
    donors = np.flatnonzero(paired)
    names, values = targets.obs_names[donors], targets.X[donors]
    z = smoothed_latent(embedding[source], queries, settings.smooth_neighbors)
    z_donors = smoothed_latent(adata, names, settings.smooth_neighbors)
    n_neighbors, candidates = settings.n_neighbors, settings.candidates
    weights = matched_donors(z, z_donors, n_neighbors, candidates=candidates)
    shift = None
    if regress:
        fitted = sample_rows(len(donors), settings.most_fitted, 0)
        if len(fitted) < len(donors):
            logger.info("%s: the regression is fitted on %d of %d donors", modality, len(fitted), len(donors))
        among = matched_donors(z_donors[fitted], z_donors, n_neighbors, own=fitted, candidates=candidates)
        measured = [values_of(own) for own in _both(counts[source], names, queries)]
        shift = regression_shift(
            measured[0], values, fitted, among, measured[1], weights, least_gain=settings.least_gain
        )
        n_explained = len(shift.features)
        logger.info("%s: regression on %s improves %d of %d features", modality, source, n_explained, targets.n_vars)
    return placed(weights.T, donors, (targets.n_obs, len(queries))).T, shift


def _both(adata: ad.AnnData, donors: pd.Index, queries: pd.Index) -> tuple[ad.AnnData, ad.AnnData]:
    """Donors and queries of a source, with the features that all their slices measured."""
    ours, theirs = adata[donors], adata[queries]
    if MEASURED not in adata.varm:
        return ours, theirs
    names = [*ours.obs["slice"].astype(str).unique(), *theirs.obs["slice"].astype(str).unique()]
    shared = adata.varm[MEASURED][names].all(axis=1).to_numpy()
    return ours[:, shared], theirs[:, shared]
