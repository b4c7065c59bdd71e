"""From the normalised slices of one modality to features: selection, PCA or LSI, and batch correction."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
from scipy import sparse
from scipy.stats import zscore
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize

from mosaic.errors import InputError
from mosaic.prepare.batch_correction import correct, within_slices
from mosaic.prepare.panel_pca import feature_means, feature_scales, panel_pca, panel_shares, pca, place_means
from mosaic.spots import MEASURED, shared_features, slice_names, stack

logger = logging.getLogger(__name__)

# With fewer features, exchanged names agree by chance too often.
LEAST_FEATURES = 20
# Of the shares of the counts that the shared features have in two slices, how many times as large one may be.
_UNEQUAL = 2


def select_features(adata: ad.AnnData, selection: str, n_top: int | None) -> np.ndarray:
    """Select the features for the reduction.

    Parameters
    ----------
    adata
        The stacked slices: normalised X, ``obs["slice"]``; ``layers["counts"]`` for ``seurat_v3``; ``varm["measured"]``
        if they measured different features, which then count where they were measured.
    selection
        ``seurat``: highly variable within slices, on log-normalised X (Satija et al., Nature Biotechnology 2015).
        ``seurat_v3``: the same on counts (Stuart et al., Cell 2019). ``prevalence``: detected in most spots, averaged
        over slices. ``all``: every feature.
    n_top
        Number of features; None keeps all.

    Returns
    -------
    Boolean mask (features).

    Raises
    ------
    InputError
        If the selection of highly variable features fails on the data.
    """
    if selection == "all" or n_top is None or n_top >= adata.n_vars:
        return np.ones(adata.n_vars, dtype=bool)
    there = adata.varm[MEASURED].to_numpy().sum(axis=1) if MEASURED in adata.varm else adata.obs["slice"].nunique()
    if selection == "prevalence":
        seen = np.sum(
            [
                np.asarray((adata.X[(adata.obs["slice"] == name).to_numpy()] > 0).mean(axis=0)).ravel()
                for name in slice_names(adata.obs)
            ],
            axis=0,
        )
        seen = seen / there
        mask = np.zeros(adata.n_vars, dtype=bool)
        mask[np.argsort(-seen, kind="stable")[:n_top]] = True
        return mask
    # Imported here: it takes seconds, in jobs of their own, and few modalities need it.
    import scanpy as sc

    try:
        frame = sc.pp.highly_variable_genes(
            adata,
            n_top_genes=n_top,
            flavor=selection,
            batch_key="slice",
            layer="counts" if selection == "seurat_v3" else None,
            inplace=False,
        )
    except ValueError as error:  # the fit of variance on mean fails if most features are very sparse
        raise InputError(
            f"{selection} can't fit variance on mean ({error})",
            where="feature_selection",
            hint="set feature_selection to prevalence or all, or raise min_spots under qc",
        ) from error
    if MEASURED not in adata.varm or selection != "seurat":
        return frame["highly_variable"].to_numpy()
    # As scanpy ranks them, but a slice that did not measure a feature has no part in the mean of its dispersions.
    frame = frame.assign(dispersions_norm=frame["dispersions_norm"].fillna(0).to_numpy() / there)
    ranked = frame.assign(place=np.arange(len(frame))).sort_values(
        ["highly_variable_nbatches", "dispersions_norm"], ascending=False, kind="stable"
    )
    mask = np.zeros(adata.n_vars, dtype=bool)
    mask[ranked["place"].to_numpy()[:n_top]] = True
    return mask


def lsi(matrix: sparse.csr_matrix, n_comps: int, *, drop_first: str | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Latent semantic indexing: truncated SVD, then z-scores of each spot's coordinates.

    Parameters
    ----------
    matrix
        Spots x features, log-scaled frequencies.
    n_comps
        Components returned.
    drop_first
        Drop the first component, which in accessibility data correlates with depth: ``before_zscore``, or
        ``after_zscore`` as published, in which case it still affects the scale of the others. None keeps it.
    seed
        Seed of the SVD.

    Returns
    -------
    Coordinates (spots x n_comps, float32) and loadings (features x n_comps, float32), behind those of the first
    component if it is dropped. See ``zscores`` for spots without counts.
    """
    # Exact, with the signs of scikit-learn: z-scores over the components of a spot depend on the signs.
    svd = TruncatedSVD(n_comps + int(drop_first is not None), algorithm="arpack", random_state=seed)
    coordinates = zscores(svd.fit_transform(matrix), matrix, drop_first=drop_first)
    return coordinates.astype(np.float32), svd.components_.T.astype(np.float32)


def zscores(coordinates: np.ndarray, matrix: sparse.csr_matrix, *, drop_first: str | None) -> np.ndarray:
    """z-scores of each spot's coordinates in LSI; 0 of a spot without counts, of which they would be those of rounding.

    Parameters
    ----------
    coordinates
        Spots x components, the first included.
    matrix, drop_first
        See ``lsi``.
    """
    empty = np.asarray(matrix.sum(axis=1)).ravel() == 0
    if drop_first == "before_zscore":
        coordinates = coordinates[:, 1:]
    found = np.zeros_like(coordinates)
    found[~empty] = zscore(coordinates[~empty], axis=1, ddof=1)
    return found[:, 1:] if drop_first == "after_zscore" else found


def log_normalize(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale each spot to a sum of 10,000 and take log1p (spots x features)."""
    return (normalize(matrix, norm="l1") * 1e4).log1p()


def tell_empty(matrix: sparse.csr_matrix, what: str) -> None:
    """Warn of spots without counts in the features of a matrix (spots x features), whose name is ``what``."""
    empty = int((np.asarray(matrix.sum(axis=1)).ravel() == 0).sum())
    if empty:
        logger.warning(
            "%s: %d of %d spots have no counts in the features that are used, and say nothing here: raise min_counts "
            "or min_features under qc to drop them",
            what,
            empty,
            matrix.shape[0],
        )


def inverse_document_frequency(counts: sparse.csr_matrix) -> np.ndarray:
    """The rarity of each peak over all spots, by which term frequencies are weighted.

    The method of GLUE (Cao & Gao, Nature Biotechnology 2022), which the publication follows.

    Parameters
    ----------
    counts
        Spots x peaks.
    """
    return counts.shape[0] / np.maximum(np.asarray(counts.sum(axis=0)).ravel(), 1)


def weighted(frequencies: sparse.csr_matrix, idf: np.ndarray) -> sparse.csr_matrix:
    """Term frequencies (spots x peaks) times the inverse document frequencies (peaks)."""
    return sparse.csr_matrix(frequencies @ sparse.diags_array(idf), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class ReductionSettings:
    """How a modality is reduced to features.

    Attributes
    ----------
    kind
        ``rna``, ``protein``, ``epigenome`` or ``features``.
    feature_selection, n_top_features
        See ``select_features``.
    scale
        Scale each feature to unit variance over all spots before PCA.
    reduction
        ``pca``, ``lsi`` (on the proportions of the selected features in a spot) or ``none`` (X has the features).
    n_comps
        Number of components; fewer if the data has fewer features or spots.
    batch_correction
        See ``batch_correction.correct``; skipped, with a log message, if there is one slice.
    drop_first
        See ``lsi``.
    features
        See ``spots.stack``. With ``union``, a feature counts in the slices that measured it alone, for selection, scale
        and PCA (``panel_pca``), and log-normalised counts of a panel are those of a spot with its share of all counts.
    """

    kind: str
    feature_selection: str
    n_top_features: int | None
    scale: bool
    reduction: str
    n_comps: int
    batch_correction: str | Mapping[str, Mapping]
    drop_first: str | None = None
    features: str = "shared"

    @property
    def needs_counts(self) -> bool:
        """Whether ``layers["counts"]`` is used, or X alone."""
        return self.reduction == "lsi" or (self.reduction == "pca" and self.feature_selection == "seurat_v3")


class _Components(NamedTuple):
    """Features (spots x components), loadings (features x components), and a maker of both within slices.

    ``var`` and ``agreements`` are what else maps a new slice: see ``reduce_modality``.
    """

    features: np.ndarray
    loadings: np.ndarray | None = None
    within: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None
    var: Mapping[str, np.ndarray] = MappingProxyType({})
    agreements: Mapping[str, float] = MappingProxyType({})


def reduce_modality(slices: Iterable[ad.AnnData], modality: str, *, seed: int = 0, **settings: Any) -> ad.AnnData:
    """Reduce all slices of one modality to the features of graph and encoder.

    Parameters
    ----------
    slices
        Normalised slices of this modality, as ``normalize_slice`` returns them (``layers["counts"]`` only if
        ``ReductionSettings.needs_counts``). With a generator, they stay in memory no longer than necessary.
    modality
        Its name, for messages.
    seed
        Of SVD and Harmony.
    settings
        ``ReductionSettings``.

    Returns
    -------
    AnnData of the selected features without X: ``obsm["X_reduced"]`` (spots x components), ``obsm["X_corrected"]``, the
    same after batch correction, coordinates in ``obsm["spatial"]``; ``varm["loadings"]`` of ``X_reduced``, and
    ``varm["loadings_within"]`` if the pair shift corrected features of the variation within slices;
    ``varm["measured"]`` as of ``spots.stack``; ``uns["batch_correction"]``, the record of the correction
    (``batch_correction.Correction.record``).

    What maps a new slice (``mapping.map_modality``): ``var["mean"]`` and ``var["scale"]``, by which PCA centres and
    scales, or of LSI ``var["mean"]`` of log-scaled frequencies, ``var["idf"]`` of an epigenome, and
    ``var["loading_dropped"]`` of the component that is dropped; ``uns["clusters"]`` of Harmony
    (``batch_correction.Harmonized``); ``uns["agreements"]`` (``slice_agreements``). Absent if the slices measured
    different features.

    Raises
    ------
    InputError
        If the slices share no features, fewer than two components are possible, or no feature varies.
    """
    asked = ReductionSettings(**settings)
    method = asked.batch_correction
    slices = list(slices)
    if asked.kind == "rna" and asked.reduction == "pca" and asked.features == "shared":
        _tell_unequal_shares(slices, modality)
    adata = stack(slices, modality, asked.features)
    del slices
    if asked.reduction == "none":
        found = _Components(np.asarray(adata.X, dtype=np.float32))
    else:
        adata = _selected(adata, modality, asked)
        found = _components(adata, modality, asked, seed)
    if not np.isfinite(found.features).all():
        raise InputError(
            "the features are not finite after reduction",
            where=f"modality {modality}",
            hint="look for features without variance, or raise min_counts under qc",
        )
    if adata.obs["slice"].nunique() == 1:
        logger.info("%s: one slice only: skipped batch correction", modality)
        method = "none"
    names, coordinates = adata.obs["slice"].to_numpy(dtype=str), adata.obsm["spatial"]
    corrected = correct(found.features, names, coordinates, method, seed=seed, within=found.within, what=modality)
    varm = {"loadings": found.loadings, "loadings_within": corrected.loadings, MEASURED: adata.varm.get(MEASURED)}
    uns: dict[str, Any] = {"batch_correction": corrected.record}
    if found.agreements:
        uns["agreements"] = dict(found.agreements)
    if corrected.clusters:
        uns["clusters"] = corrected.clusters
    return ad.AnnData(
        obs=adata.obs,
        # Identifiers, by which the features of a later slice are matched.
        var=adata.var[[*adata.var.columns.intersection(["gene_id"])]].assign(**found.var),
        obsm={"spatial": coordinates, "X_reduced": found.features, "X_corrected": corrected.features},
        varm={key: values for key, values in varm.items() if values is not None},
        uns=uns,
    )


def _tell_unequal_shares(slices: Sequence[ad.AnnData], modality: str) -> None:
    """Warn if shared features have other shares of the counts in each slice, which was scaled by all its features."""
    shared = shared_features(slices)
    if all(adata.n_vars == len(shared) for adata in slices):
        return
    shares = {}
    for adata in slices:
        totals = np.asarray(sparse.csr_matrix(adata.X).expm1().sum(axis=0)).ravel()
        if not np.isclose(totals.sum() / adata.n_obs, 1e4, rtol=1e-2):  # not log-normalised
            return
        shares[adata.obs["slice"].iloc[0]] = totals[adata.var_names.isin(shared)].sum() / totals.sum()
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    if shares[high] > _UNEQUAL * shares[low]:
        logger.warning(
            "%s: the features of all slices have %.1f %% of the counts of %s and %.1f %% of those of %s. As each slice "
            "was scaled to the counts of all its features, they seem higher in %s than in %s: set features: union, or "
            "give all files the same features",
            modality,
            100 * shares[low],
            low,
            100 * shares[high],
            high,
            high,
            low,
        )


def _selected(adata: ad.AnnData, modality: str, settings: ReductionSettings) -> ad.AnnData:
    """The selected features; InputError if they, or the spots, are too few to reduce."""
    mask = select_features(adata, settings.feature_selection, settings.n_top_features)
    logger.info("%s: %d of %d features selected", modality, mask.sum(), adata.n_vars)
    if not mask.all():
        adata = adata[:, mask].copy()
    available = _available(adata, settings)
    if available < 2:
        raise InputError(
            f"{adata.n_obs} spots x {adata.n_vars} features are too few to reduce",
            where=f"modality {modality}",
            hint="give more features or spots, or use kind 'features' for a ready low-dimensional matrix",
        )
    if available < settings.n_comps:
        logger.warning(
            "%s: %d components instead of %d, as the data has no more", modality, available, settings.n_comps
        )
    return adata


def _available(adata: ad.AnnData, settings: ReductionSettings) -> int:
    """Number of components that the data has."""
    return min(adata.shape) - 1 - (settings.drop_first is not None)


def _components(adata: ad.AnnData, modality: str, settings: ReductionSettings, seed: int) -> _Components:
    """PCA or LSI of the selected features."""
    n_comps = min(settings.n_comps, _available(adata, settings))
    if MEASURED in adata.varm:
        return _panel_components(adata, modality, settings, n_comps, seed)
    slices = adata.obs["slice"].to_numpy(dtype=str)
    if settings.reduction == "lsi":
        matrix, var = adata.layers["counts"], dict[str, np.ndarray]()
        if settings.kind == "epigenome":
            var["idf"] = inverse_document_frequency(matrix)
            matrix = weighted(sparse.csr_matrix(adata.X), var["idf"])
        matrix = log_normalize(matrix)
        tell_empty(matrix, modality)
        var["mean"] = _means(matrix)
        agreements = slice_agreements(matrix, slices)
        coordinates, loadings = lsi(matrix, n_comps, drop_first=settings.drop_first, seed=seed)
        if settings.drop_first is None:
            return _Components(coordinates, loadings, var=var, agreements=agreements)
        var["loading_dropped"] = loadings[:, 0]
        return _Components(coordinates, loadings[:, 1:], var=var, agreements=agreements)
    if not (adata.X.max(axis=0) - adata.X.min(axis=0)).max() > 0:
        raise InputError(
            "no feature varies over the spots",
            where=f"modality {modality}",
            hint="check the counts of its files: are they already normalised or clipped?",
        )
    var = {"mean": _means(adata.X), "scale": np.ones(adata.n_vars)}
    agreements = slice_agreements(adata.X, slices)
    if settings.scale:
        import scanpy as sc

        # PCA centres the features without making sparse data dense.
        sc.pp.scale(adata, zero_center=False)
        var["scale"] = adata.var["std"].to_numpy()
    coordinates, loadings = pca(adata.X, n_comps, seed=seed)

    def within() -> tuple[np.ndarray, np.ndarray]:
        axes = within_slices(adata.X, slices, n_comps)
        mean = np.asarray(adata.X.mean(axis=0)).ravel()
        return adata.X @ axes - mean @ axes, axes.astype(np.float32)

    return _Components(coordinates, loadings.astype(np.float32), within, var, agreements)


def slice_agreements(matrix: np.ndarray | sparse.csr_matrix, slices: np.ndarray) -> dict[str, float]:
    """Correlation of the features' means in each slice with those in the others: what a slice of this tissue has.

    Parameters
    ----------
    matrix
        Normalised values (spots x features).
    slices
        Each spot's slice.

    Returns
    -------
    By slice, 1 for a single one; empty with fewer than 20 features, which agree by chance too often.
    """
    if matrix.shape[1] < LEAST_FEATURES:
        return {}
    names, counts = np.unique(slices, return_counts=True)
    if len(names) == 1:
        return {str(names[0]): 1.0}
    sums = np.array([_means(matrix[slices == name]) * count for name, count in zip(names, counts, strict=True)])
    rest = (sums.sum(axis=0) - sums) / (counts.sum() - counts)[:, None]
    pairs = zip(names, sums, rest, strict=True)
    return {str(name): float(np.corrcoef(own, others)[0, 1]) for name, own, others in pairs}


def _means(matrix: np.ndarray | sparse.csr_matrix) -> np.ndarray:
    """Means of the features (features, double precision)."""
    return np.asarray(matrix.mean(axis=0, dtype=np.float64)).ravel()


def _panel_components(
    adata: ad.AnnData, modality: str, settings: ReductionSettings, n_comps: int, seed: int
) -> _Components:
    """PCA of slices that measured different features."""
    measured = adata.varm[MEASURED].to_numpy().T
    if measured.all(axis=0).sum() < 3:
        raise InputError(
            f"of the {adata.n_vars} features selected, {measured.all(axis=0).sum()} are in all slices",
            where=f"modality {modality}",
            hint="set feature_selection: all, or raise n_top_features; slices are compared by what they share",
        )
    rows = [(adata.obs["slice"] == name).to_numpy() for name in adata.varm[MEASURED]]
    parts = [sparse.csr_matrix(adata.X[own], dtype=np.float64) for own in rows]
    if settings.kind == "rna":
        counts = [_with_values(part, np.expm1(part.data)) for part in parts]
        shares = panel_shares(counts, measured)
        logger.info(
            "%s: share of the counts of all features: %s",
            modality,
            ", ".join(f"{name} {share:.2f}" for name, share in zip(adata.varm[MEASURED], shares, strict=True)),
        )
        parts = [_with_values(part, np.log1p(part.data * share)) for part, share in zip(counts, shares, strict=True)]
    if settings.scale:
        scales = sparse.diags_array(1 / feature_scales(parts, measured))
        parts = [sparse.csr_matrix(part @ scales) for part in parts]
    overall = np.tile(feature_means(parts, measured), (len(parts), 1))
    order = np.argsort(np.concatenate([np.flatnonzero(own) for own in rows]))

    def stacked(scores: list[np.ndarray]) -> np.ndarray:
        return np.vstack(scores)[order].astype(np.float32)

    def within() -> tuple[np.ndarray, np.ndarray]:
        means = np.array([np.asarray(part.mean(axis=0)).ravel() for part in parts])
        found = panel_pca(parts, measured, means, n_comps, seed=seed)
        offsets = place_means(found.loadings, measured, means - overall)
        scores = [own + offset for own, offset in zip(found.scores, offsets, strict=True)]
        return stacked(scores), found.loadings.astype(np.float32)

    found = panel_pca(parts, measured, overall, n_comps, seed=seed)
    return _Components(stacked(found.scores), found.loadings.astype(np.float32), within)


def _with_values(matrix: sparse.csr_matrix, values: np.ndarray) -> sparse.csr_matrix:
    return sparse.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)
