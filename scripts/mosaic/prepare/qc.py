"""Quality control of one modality of one slice: the spots and features that pass, and why others fail."""

import logging
from collections.abc import Mapping

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import median_abs_deviation

from mosaic.errors import InputError

logger = logging.getLogger(__name__)

# Of a small slice, min_spots drops many features: of more than this proportion of spots, and with more of the counts.
_MANY_SPOTS, _MANY_COUNTS = 0.02, 0.01

# A threshold is a number or {"mads": n}: n median absolute deviations from the slice's median. For counts, which
# are skewed, deviations are computed on log1p, as in Germain et al., Genome Biology 2020 (pipeComp).
Threshold = float | Mapping[str, float] | None


def spot_metrics(adata: ad.AnnData, mito_prefix: str | None = None) -> pd.DataFrame:
    """Per spot: total counts, number of features with a count, and percentage of mitochondrial counts.

    Parameters
    ----------
    adata
        Spots x features with ``layers["counts"]`` and ``obs["in_tissue"]``.
    mito_prefix
        Prefix of mitochondrial feature names, case-insensitive. None: no mitochondrial percentage.

    Returns
    -------
    DataFrame (spots) with ``total_counts``, ``n_features``, ``mito_percent`` (NaN without mitochondrial features) and
    ``in_tissue`` (bool).
    """
    mito = adata.var_names.str.upper().str.startswith((mito_prefix or "").upper()) & bool(mito_prefix)
    counts = adata.layers["counts"]
    total = np.ravel(counts.sum(axis=1))
    with np.errstate(invalid="ignore"):  # of a spot without counts
        percent = np.ravel(counts[:, np.asarray(mito)].sum(axis=1)) / total * 100 if mito.any() else np.nan
    return pd.DataFrame(
        {
            "total_counts": total,
            "n_features": np.ravel((counts > 0).sum(axis=1)),
            "mito_percent": percent,
            "in_tissue": adata.obs["in_tissue"].to_numpy(dtype=bool),
        },
        index=adata.obs_names,
    )


def threshold(values: np.ndarray, rule: Threshold, *, side: int, log: bool) -> float | None:
    """Resolve a threshold: deviations are converted to a value on the spots of the slice.

    Parameters
    ----------
    values
        The metric of the spots under tissue; NaN where a spot has none.
    rule
        A number, ``{"mads": n}`` or None.
    side
        -1 for a lower bound, 1 for an upper one.
    log
        Whether deviations are computed on log1p(values).
    """
    if rule is None or not isinstance(rule, Mapping):
        return rule
    values = values[~np.isnan(values)]
    scale = np.log1p(values) if log else values
    bound = np.median(scale) + side * rule["mads"] * median_abs_deviation(scale, scale="normal")
    # Back from logarithms, rounding must not put the bound beyond a value within it: most spots may have that of the
    # median.
    return min(float(np.expm1(bound)), float(values[scale >= bound].min())) if log else float(bound)


def filter_slice(
    adata: ad.AnnData,
    *,
    min_counts: Threshold = None,
    min_features: Threshold = None,
    min_spots: int = 0,
    max_mito_percent: Threshold = None,
    mito_prefix: str | None = None,
) -> tuple[ad.AnnData, pd.DataFrame, dict]:
    """Drop spots and features of one modality of one slice that fail quality control.

    Features are judged on the spots that passed. A spot that fails several thresholds counts for each.

    Parameters
    ----------
    adata
        As ``read.read_slice`` returns it. Without ``layers["counts"]`` (kind ``features``), only ``in_tissue`` applies.
    min_counts, min_features
        Minimum counts and minimum features with a count, per spot.
    min_spots
        Minimum number of spots with a count of a feature.
    max_mito_percent, mito_prefix
        Maximum percentage of mitochondrial counts per spot, and the prefix of these features.

    Returns
    -------
    The AnnData that passed; for each spot of the input the metrics, ``kept`` (bool) and ``reasons``; and a summary:
    numbers, resolved thresholds, reasons with their counts, dropped features, and controls with their total counts.

    Raises
    ------
    InputError
        If no spot or no feature passes, or ``max_mito_percent`` is set but no feature has the prefix.
    """
    where = f"slice {adata.obs['slice'].iloc[0]}"
    counted = "counts" in adata.layers
    metrics = spot_metrics(adata, mito_prefix) if counted else adata.obs[["in_tissue"]].copy()
    tissue = metrics["in_tissue"].to_numpy()
    failed = {"off tissue": ~tissue}
    bounds = {}
    if counted and tissue.any():
        if max_mito_percent is not None and metrics["mito_percent"].isna().all():
            raise InputError(
                f"max_mito_percent is set, but no feature begins with {mito_prefix!r}",
                where=where,
                hint="set mito_prefix to the prefix of your mitochondrial features, or max_mito_percent to null",
            )
        for metric, rule, side in (
            ("total_counts", min_counts, -1),
            ("n_features", min_features, -1),
            ("mito_percent", max_mito_percent, 1),
        ):
            values = metrics[metric].to_numpy()
            bound = threshold(values[tissue], rule, side=side, log=side < 0)
            bounds[metric] = bound
            if bound is not None:
                name = {"total_counts": "few counts", "n_features": "few features", "mito_percent": "mitochondrial"}
                failed[name[metric]] = tissue & (values > bound if side > 0 else values < bound)
    table = pd.DataFrame(failed, index=metrics.index)
    kept = ~table.any(axis=1).to_numpy()
    metrics["kept"] = kept
    metrics["reasons"] = table.dot(table.columns + ", ").str.removesuffix(", ")
    passed = adata[kept]
    if passed.n_obs == 0:
        raise InputError(
            f"no spot of {adata.n_obs} passes quality control "
            f"({', '.join(f'{count} {reason}' for reason, count in table.sum().items() if count)}; bounds {bounds})",
            where=where,
            hint="relax the thresholds under qc in the config, or check the counts of this slice",
        )
    dropped = pd.Index([])
    if counted and min_spots:
        enough = np.asarray((passed.layers["counts"] > 0).sum(axis=0)).ravel() >= min_spots
        dropped = passed.var_names[~enough]
        if min_spots > _MANY_SPOTS * passed.n_obs:
            _tell_lost(passed.layers["counts"], enough, min_spots, where)
        passed = passed[:, enough]
        if passed.n_vars == 0:
            raise InputError(
                f"no feature is seen in {min_spots} spots",
                where=where,
                hint="lower min_spots under qc in the config",
            )
    passed = passed.copy()
    controls = passed.uns.pop("controls", {})
    summary = {
        "spots_in": adata.n_obs,
        "spots_kept": passed.n_obs,
        "spots_dropped_by_reason": {reason: int(count) for reason, count in table.sum().items()},
        "thresholds": bounds,
        "features_in": adata.n_vars,
        "features_kept": passed.n_vars,
        "features_dropped": {"seen in fewer than min_spots spots": dropped.tolist()},
        # Set apart when the slice was read: they are not among the features.
        "controls": dict(controls),
        "dropped_spots": metrics.loc[~kept, "reasons"].to_dict(),
    }
    kept_shape = (passed.n_obs, adata.n_obs, passed.n_vars, adata.n_vars)
    logger.info("%s: %d of %d spots, %d of %d features kept", where, *kept_shape)
    return passed, metrics, summary


def _tell_lost(counts: sparse.csr_matrix, enough: np.ndarray, min_spots: int, where: str) -> None:
    """Warn of a slice so small that ``min_spots`` drops many of its counts (spots x features)."""
    lost = counts[:, ~enough].sum() / max(counts.sum(), 1)
    if lost > _MANY_COUNTS and enough.any():
        logger.warning(
            "%s: min_spots %d asks a feature to be seen in %.0f %% of its %d spots, and drops %d features with %.0f %% "
            "of its counts; with features: shared, all other slices lose them, too. Lower min_spots under qc",
            where,
            min_spots,
            100 * min_spots / counts.shape[0],
            counts.shape[0],
            (~enough).sum(),
            100 * lost,
        )
