"""From normalised new slices to the features of a reference: selection, scaling, projection and batch correction."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.errors import InputError, few
from mosaic.mixing import ilisi_between
from mosaic.prepare.batch_correction import (
    APART,
    offset_onto_others,
    spot_moves,
    tiles_of,
)
from mosaic.prepare.reduce import LEAST_FEATURES, ReductionSettings, log_normalize, tell_empty, weighted, zscores
from mosaic.spots import MEASURED

logger = logging.getLogger(__name__)

# Ridge penalty of Symphony.
_LAMBDA = 1.0


class Mapped(NamedTuple):
    """One slice in the space of a reference.

    Attributes
    ----------
    reduced, corrected
        Features before and after batch correction (spots x components, float32).
    record
        ``found``, the share of the reference's features that the slice measured; ``agreement``, the correlation of
        their means with those of the reference (NaN for ready features, and with fewer than 20); ``relative``, that
        divided by the least of the reference's slices with the others (``reduce.slice_agreements``); ``method`` of the
        batch correction; ``moved``, the root mean square distance that spots moved, relative to that from a spot to the
        mean.
    """

    reduced: np.ndarray
    corrected: np.ndarray
    record: dict[str, Any]


def mappable(reduced: ad.AnnData, modality: str, settings: Mapping[str, Any]) -> None:
    """Whether new slices can be mapped onto these features; InputError if not.

    Parameters
    ----------
    reduced
        As ``reduce.reduce_modality`` returns it.
    modality
        Its name, for messages.
    settings
        Of ``reduce.ReductionSettings``.
    """
    if MEASURED in reduced.varm:
        raise InputError(
            "slices that measured different features (features: union) are no reference",
            where=f"modality {modality}",
            hint="set features: shared, or export no reference",
        )
    if settings["reduction"] != "none" and "mean" not in reduced.var:
        raise InputError(
            "the features lack the means that map a new slice",
            where=f"modality {modality}",
            hint="they are of an earlier version: run `reduce` again",
        )


def symphony(features: np.ndarray, clusters: Mapping[str, Any]) -> np.ndarray:
    """Correct the features of one new slice as Harmony corrected those of the reference, which stays as it is.

    Symphony (Kang et al., Nature Communications 2021): spots go softly to the clusters of the reference, and in each
    cluster a ridge regression on reference and slice says what is of the slice.

    Parameters
    ----------
    features
        Spots x components, as the reference's before its correction.
    clusters
        See ``batch_correction.Harmonized``.

    Returns
    -------
    Corrected features (spots x components, float64).
    """
    X = np.asarray(features, dtype=np.float64)
    sizes, sums = np.asarray(clusters["Nr"], dtype=np.float64), np.asarray(clusters["C"], dtype=np.float64)
    lengths = [np.linalg.norm(own, axis=1, keepdims=True) for own in (X, sums)]
    # A spot at 0, such as one without counts, is as near to all clusters.
    unit, centres = (own / np.where(length, length, 1) for own, length in zip((X, sums), lengths, strict=True))
    R = -2 * (1 - unit @ centres.T) / clusters["sigma"]
    R = np.exp(R - R.max(axis=1, keepdims=True))
    R /= R.sum(axis=1, keepdims=True)
    # Per cluster, intercept and effect of the slice: two equations, solved by hand.
    own, total = R.sum(axis=0)[:, None], R.T @ X
    intercept = (total + sums) * (own + _LAMBDA) - total * own
    intercept /= (own + sizes[:, None]) * (own + _LAMBDA) - own**2
    effect = (total - own * intercept) / (own + _LAMBDA)
    return X - R @ effect


def map_modality(
    slices: Iterable[ad.AnnData],
    reference: ad.AnnData,
    modality: str,
    *,
    least_share: float = 0.5,
    renamed: pd.DataFrame | None = None,
    **settings: Any,
) -> ad.AnnData:
    """Map new slices of one modality to the features of a reference, each by itself.

    Parameters
    ----------
    slices
        Normalised slices, as for ``reduce.reduce_modality``.
    reference
        What that returned for the slices of the reference; ``obsm["X_reduced"]`` is not used.
    modality
        Its name, for messages.
    least_share
        Least share of the reference's features that a slice must have measured. Others have the reference's mean.
    renamed
        Features that slices have under other names than in their files, which are counted
        (``feature_names.Matched``); None: none.
    settings
        ``reduce.ReductionSettings`` of the reference.

    Returns
    -------
    AnnData like that of ``reduce.reduce_modality``, of the new slices. ``uns["batch_correction"]`` sums up
    ``uns["mapping"]``, which has for each slice the record of ``Mapped``, ``by_id``, the share of the reference's
    features that its file names otherwise, and ``ilisi_before`` and ``ilisi_after``, its iLISI with the reference.

    Raises
    ------
    InputError
        If a slice has too few of the features, bears the name of a slice of the reference, or can't be corrected.
    """
    asked = ReductionSettings(**settings)
    mappable(reference, modality, settings)
    obs, spatial, found, records = [], [], [], {}
    taken = set(reference.obs["slice"].astype(str))
    for adata in slices:
        name = str(adata.obs["slice"].iloc[0])
        if name in taken:
            raise InputError(
                "is a slice of the reference, too",
                where=f"slice {name}",
                hint="give the new slice another name in the sheet: spots are named by their slice",
            )
        mapped = map_slice(adata, reference, modality, asked, least_share)
        before, after = (
            ilisi_between(own, reference.obsm["X_corrected"]) for own in (mapped.reduced, mapped.corrected)
        )
        by_id = 0.0 if renamed is None else _share_renamed(renamed, name, reference.var_names)
        records[name] = {**mapped.record, "by_id": by_id, "ilisi_before": before, "ilisi_after": after}
        logger.info(
            "%s of %s: %.0f %% of the reference's %d features (%.0f %% by identifiers or symbols), whose means agree "
            "by %.2f; correction by %s: iLISI with it %.3f before, %.3f after",
            modality,
            name,
            100 * mapped.record["found"],
            reference.n_vars,
            100 * by_id,
            mapped.record["agreement"],
            mapped.record["method"],
            before,
            after,
        )
        obs.append(adata.obs)
        spatial.append(np.asarray(adata.obsm["spatial"]))
        found.append(mapped)
    joined = pd.concat(obs)
    joined["slice"] = pd.Categorical(joined["slice"].astype(str), list(records))
    return ad.AnnData(
        obs=joined[["slice", "barcode"]],
        var=reference.var[[]],
        obsm={
            "spatial": np.vstack(spatial),
            "X_reduced": np.vstack([own.reduced for own in found]),
            "X_corrected": np.vstack([own.corrected for own in found]),
        },
        uns={"mapping": records, "batch_correction": _summary(records)},
    )


def map_slice(
    adata: ad.AnnData, reference: ad.AnnData, modality: str, settings: ReductionSettings, least_share: float
) -> Mapped:
    """Map one slice: see ``map_modality``."""
    name = str(adata.obs["slice"].iloc[0])
    present = reference.var_names.isin(adata.var_names)
    share = float(present.mean())
    needed = 1.0 if settings.reduction == "none" else least_share
    if share < needed:
        lacking = reference.var_names[~present]
        raise InputError(
            f"has {present.sum()} of the {len(present)} features of the reference, {share:.0%}, and lacks "
            f"{few(lacking)}; {needed:.0%} are needed",
            where=f"slice {name}, {modality}",
            hint="are features named as in the reference, and of its species? Otherwise this slice can't be mapped",
        )
    if not present.all():
        logger.info(
            "%s of %s lacks %d of %d features, which are taken for average",
            modality,
            name,
            (~present).sum(),
            len(present),
        )
    places, spots = np.asarray(adata.obsm["spatial"], dtype=np.float64), adata.n_obs
    within = "loadings_within" in reference.varm
    own = _projected(adata, reference, settings, "loadings_within" if within else "loadings", present)
    corrected, method = _corrected(own, places, reference, settings, f"slice {name}, {modality}")
    spread = np.sqrt(((own - own.mean(axis=0)) ** 2).sum(axis=1).mean())
    moved = float(np.sqrt(((corrected - own) ** 2).sum() / spots) / spread) if spread else 0.0
    agreement = _agreement(adata, reference, settings, present)
    least = min(reference.uns.get("agreements", {}).values(), default=np.nan)
    relative = agreement / least if least > 0 else np.nan
    record = {"found": share, "agreement": agreement, "relative": relative, "method": method, "moved": moved}
    return Mapped(own.astype(np.float32), corrected.astype(np.float32), record)


def _share_renamed(renamed: pd.DataFrame, name: str, features: pd.Index) -> float:
    """The share of the reference's features that the file of a slice names otherwise."""
    own = renamed.loc[renamed["slice"] == name, "feature"]
    return float(features.isin(own).mean())


def _projected(
    adata: ad.AnnData, reference: ad.AnnData, settings: ReductionSettings, loadings: str, present: np.ndarray
) -> np.ndarray:
    """Components of a slice before batch correction (spots x components); features it lacks have the mean."""
    if settings.reduction == "none":
        return np.asarray(adata[:, reference.var_names].X, dtype=np.float64)
    axes = np.asarray(reference.varm[loadings], dtype=np.float64)
    mean, matrix = reference.var["mean"].to_numpy(), _values(adata, reference, settings, present)
    if settings.reduction == "pca":
        scale = reference.var["scale"].to_numpy()
        axes = axes / scale[:, None]
        return np.asarray(matrix @ axes[present]) - mean[present] @ axes[present]
    if settings.drop_first is not None:
        axes = np.column_stack([reference.var["loading_dropped"].to_numpy(dtype=np.float64), axes])
    tell_empty(matrix, f"slice {adata.obs['slice'].iloc[0]}")
    coordinates = matrix @ axes[present] + mean[~present] @ axes[~present]
    return zscores(coordinates, matrix, drop_first=settings.drop_first)


def _values(adata: ad.AnnData, reference: ad.AnnData, settings: ReductionSettings, present: np.ndarray) -> Any:
    """What is projected (spots x features that are present), before the mean is taken off."""
    adata = adata[:, reference.var_names[present]]
    if settings.reduction == "pca":
        return adata.X
    matrix = sparse.csr_matrix(adata.layers["counts"])
    if settings.kind == "epigenome":
        matrix = weighted(sparse.csr_matrix(adata.X), reference.var["idf"].to_numpy()[present])
    return log_normalize(matrix)


def _agreement(adata: ad.AnnData, reference: ad.AnnData, settings: ReductionSettings, present: np.ndarray) -> float:
    """Correlation of the features' means with those of the reference: batch correction would hide exchanged names."""
    if settings.reduction == "none" or present.sum() < LEAST_FEATURES:
        return np.nan
    own = np.asarray(_values(adata, reference, settings, present).mean(axis=0)).ravel()
    return float(np.corrcoef(own, reference.var["mean"].to_numpy()[present])[0, 1])


def _corrected(
    features: np.ndarray, coordinates: np.ndarray, reference: ad.AnnData, settings: ReductionSettings, where: str
) -> tuple[np.ndarray, str]:
    """Features of a slice after batch correction, and its method.

    As the reference was corrected: by Symphony after Harmony, by the pair shift after the pair shift. A reference of
    one slice has not been corrected, and the slice is shifted onto it, unless ``none`` was asked for.
    """
    if settings.batch_correction == "none":
        return features, "none"
    method = str(reference.uns["batch_correction"]["method"])
    if method == "harmony":
        return symphony(features, reference.uns["clusters"]), "symphony"
    names = np.append(reference.obs["slice"].to_numpy(dtype=str), np.repeat("\n", len(features)))
    stacked = np.vstack([reference.obsm["X_corrected"], features]).astype(np.float64)
    tiles = tiles_of(names, np.vstack([reference.obsm["spatial"], coordinates]))
    number = len(tiles.adjacency) - 1
    means = tiles.mean(stacked)
    moves = np.zeros_like(means)
    try:
        moves[tiles.rows(number)] = -offset_onto_others(means, tiles, number)
    except InputError as error:
        raise InputError(error.problem, where=where, hint=error.hint) from error
    moves += spot_moves(means + moves, tiles, [number])
    return (stacked + moves[tiles.of_spot])[-len(features) :], "pair_shift"


def _summary(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The record of a batch correction, as of ``batch_correction.Correction``, of the slice that mixes least."""
    worst = min(records.values(), key=lambda record: record["ilisi_after"])
    return {"apart": bool(worst["ilisi_after"] < APART), **worst}
