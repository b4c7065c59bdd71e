"""Scores of held-out validation: imputed against hidden counts in a fold, and their summary over the folds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import rankdata

from mosaic import matrices
from mosaic.analyse.intervals import error_scale, unit_of
from mosaic.analyse.metrics import imputation_scores

if TYPE_CHECKING:
    from mosaic.analyse.impute import ImputationPlan

# Quantiles that represent the distribution of errors of each feature.
QUANTILES = np.linspace(0, 1, 101)
# Columns of the feature table of a modality.
_FEATURES = ["n_spots", "pearson", "rmse", "rmse_mean", "pearson_neighbors", "rmse_neighbors"]
_FEATURES += ["pearson_log", "pearson_log_neighbors", "auroc", "error_low", "error_high", "better_than_mean"]
_FOLDS = ["fold", "way", "n_spots", "n_scored", "n_features", "pearson_spot", "cmd_feature", "cmd_spot", "left_out"]
# Suffixes of names: the imputed counts, and the two baselines.
WAYS = ("", "_mean", "_neighbors")
# Maximum number of features scored beyond those selected.
_MOST_OTHERS = 1000
# Maximum number of values in a block of features; a dozen arrays of this size are there at a time.
_BLOCK_VALUES = 1_000_000
# Nominal coverage of the intervals.
NOMINAL = 0.9
NOMINALS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# Maximum number of spots for the CMD, whose memory grows with the square of the spots.
_MOST_SPOTS = 2000


def scored_features(measured: pd.Index, selected: pd.Index) -> pd.Index:
    """The features that held-out validation imputes and scores: those selected for reduction, and others.

    All others of a protein panel; of a transcriptome a seeded sample of 1,000, the same in every fold of a run. Without
    the limit, imputing and scoring 18,000 genes would take several times as long as training.

    Parameters
    ----------
    measured
        Names of the features of the modality.
    selected
        Names of those that the run reduces.

    Returns
    -------
    Names, in the order of ``measured``.
    """
    others = np.flatnonzero(~measured.isin(selected))
    kept = measured.isin(selected)
    kept[others[matrices.sample_rows(len(others), _MOST_OTHERS, 0)]] = True
    return measured[kept]


def score_fold(
    measured: sparse.csr_matrix,
    imputation: "ImputationPlan",
    means: tuple[np.ndarray, np.ndarray],
    near: sparse.csr_matrix,
) -> ad.AnnData:
    """Compare imputed with measured counts, by blocks of features, so that only one block is dense at a time.

    Parameters
    ----------
    measured
        The hidden counts (spots x features).
    imputation
        Of these spots.
    means
        Of the donors: of counts, and of log-normalised counts.
    near
        Weights of the donors nearest before integration (spots x donors).

    Returns
    -------
    As ``folds.Fold.scored``, without what names the fold and without ``foscttm``.
    """
    spots, n_features = imputation.spots, measured.shape[1]
    predicted, spread = imputation.predict(np.arange(spots.n_obs))
    unit = unit_of(imputation.values)
    per_spot = {way: np.zeros((spots.n_obs, 5)) for way in WAYS}
    per_feature = {f"{scale}{way}": np.zeros((n_features, 5)) for scale in ("", "_log") for way in WAYS}
    of_donors = np.asarray(imputation.values.sum(axis=1))
    depth = np.median(of_donors)
    factors = [
        matrices.depth_factor(total, depth) if imputation.counted else None
        for total in (measured.sum(axis=1), predicted.sum(axis=1), near @ of_donors)
    ]
    auroc, errors = np.empty(n_features), np.empty((n_features, len(QUANTILES)))
    width = max(1, _BLOCK_VALUES // max(spots.n_obs, 1))
    for start in range(0, n_features, width):
        block = slice(start, start + width)
        truth = measured[:, block].toarray()
        imputed = predicted[:, block].toarray().astype(np.float64)
        neighbors = (near @ imputation.values[:, block]).toarray()
        counts = truth, imputed, neighbors
        logs = [_log_normalized(values, factor) for values, factor in zip(counts, factors, strict=True)]
        for name, (true, own, by_neighbors), mean in (("", counts, means[0]), ("_log", logs, means[1])):
            for way, values in zip(WAYS, (own, np.broadcast_to(mean[block], true.shape), by_neighbors), strict=True):
                products = np.stack([values, true, values**2, true**2, values * true])
                per_feature[f"{name}{way}"][block] = products.sum(axis=1).T
                if not name:
                    per_spot[way] += products.sum(axis=2).T
        auroc[block] = _auroc(imputed, truth > 0)
        scale = error_scale(spread[:, block].toarray(), unit[block])
        errors[block] = np.quantile((truth - imputed) / scale, QUANTILES, axis=0).T
    few = np.sort(np.random.default_rng(0).permutation(spots.n_obs)[:_MOST_SPOTS])
    summary = {f"{name}{way}": np.nan for way in ("", "_neighbors") for name in ("cmd_feature", "cmd_spot")}
    if n_features <= _MOST_SPOTS:
        for way, values in (("", predicted[few]), ("_neighbors", sparse.csr_matrix(near[few] @ imputation.values))):
            scores = imputation_scores(values.toarray(), measured[few].toarray())
            summary |= {f"{name}{way}": scores[name] for name in ("cmd_feature", "cmd_spot")}
    adata = ad.AnnData(
        obs=spots.obs.assign(**{f"pearson{way}": _pearson(own, n_features) for way, own in per_spot.items()}),
        var=pd.DataFrame({"auroc": auroc}, index=imputation.features),
        obsm=dict(spots.obsm),
        varm={"errors": errors.astype(np.float32)} | {f"moments{way}": own for way, own in per_feature.items()},
    )
    adata.uns["summary"] = summary
    return adata


def _log_normalized(counts: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    """Counts without depth, on the log scale (spots x features); values that are no counts stay as they are."""
    return counts if factor is None else np.log1p(counts * factor)


def mean_log(donors: sparse.csr_matrix, *, counted: bool) -> np.ndarray:
    """Mean of the donors' log-normalised counts (features)."""
    if counted:
        total = np.asarray(donors.sum(axis=1))
        factor = matrices.depth_factor(total, np.median(total))
        donors = sparse.csr_matrix(donors.multiply(factor)).log1p()
    return np.asarray(donors.mean(axis=0)).ravel()


def _pearson(moments: np.ndarray, n: int) -> np.ndarray:
    """Pearson correlations from sums of x, y, x x, y y and x y over n (rows x 5); 0 where either does not vary."""
    x, y, xx, yy, xy = moments.T / n
    spread = np.maximum(xx - x**2, 0) * np.maximum(yy - y**2, 0)
    return np.where(spread > 1e-12, (xy - x * y) / np.sqrt(np.maximum(spread, 1e-12)), 0)


def _rmse(moments: np.ndarray, n: int) -> np.ndarray:
    """Root mean squared difference of x and y from the same sums."""
    _, _, xx, yy, xy = moments.T / n
    return np.sqrt(np.maximum(xx - 2 * xy + yy, 0))


def _error_spread(moments: np.ndarray, n: int) -> np.ndarray:
    """Standard deviation of x - y from the same sums: the error that is not the same in all spots.

    The logarithm of a mean is above the mean of logarithms, the more so the fewer the counts: no fault of imputation.
    """
    x, y, _, _, _ = moments.T / n
    return np.sqrt(np.maximum(_rmse(moments, n) ** 2 - (x - y) ** 2, 0))


def _auroc(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column, by ranks (Mann-Whitney); NaN where all or none are present."""
    n_present = present.sum(axis=0)
    n_absent = len(present) - n_present
    ranks = rankdata(values, axis=0)
    above = (ranks * present).sum(axis=0) - n_present * (n_present + 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n_present * n_absent > 0, above / (n_present * n_absent), np.nan)


class Summary(NamedTuple):
    """Results of all folds of one modality.

    Attributes
    ----------
    features
        Per feature, over all hidden spots: ``n_spots``; ``pearson`` and ``pearson_neighbors``; ``rmse``, ``rmse_mean``
        and ``rmse_neighbors``; ``pearson_log`` and ``pearson_log_neighbors``, of log-normalised counts, without what a
        spot's depth gives to all features alike; ``auroc``; ``error_low`` and ``error_high``, between which 90 % of the
        errors lie, in units of ``intervals.error_scale``; ``better_than_mean``, of log-normalised counts: errors that
        vary less over the spots than those of the donors' mean, and a correlation above zero.
    coverage
        Per fold and nominal coverage: the proportion of measured counts inside the intervals from the other folds
        (``actual``). Empty if there is one fold.
    folds
        Per fold and way (``imputed``, ``mean``, ``neighbors``): ``n_spots``; ``n_scored`` of the ``n_features`` that
        were measured, see ``scored_features``; ``pearson_spot``, ``cmd_feature``, ``cmd_spot``; or, in a separate row,
        the reason of a skipped fold (``left_out``).
    foscttm
        Per fold and scope, for pairs of spots that no contrastive loss has seen.
    """

    features: pd.DataFrame
    coverage: pd.DataFrame
    folds: pd.DataFrame
    foscttm: pd.DataFrame


def summarise(scored: Sequence[ad.AnnData]) -> Summary:
    """Summarise the folds of one modality.

    Parameters
    ----------
    scored
        As ``try_fold`` returns them. The summary keeps the features that all folds have, and none if all folds were
        skipped.
    """
    left_out = [
        (_name(adata), "left out", 0, 0, 0, np.nan, np.nan, np.nan, adata.uns["left_out"])
        for adata in scored
        if "left_out" in adata.uns
    ]
    scored = [adata for adata in scored if "left_out" not in adata.uns]
    if not scored:
        features = pd.DataFrame(columns=_FEATURES, index=pd.Index([], name="feature"))
        return Summary(features, *_tables([], left_out, []))
    shared = scored[0].var_names
    for adata in scored[1:]:
        shared = shared[shared.isin(adata.var_names)]
    scored = [adata[:, shared] for adata in scored]
    n_spots = np.array([adata.n_obs for adata in scored])
    share = n_spots / n_spots.sum()
    keys = [f"{scale}{way}" for scale in ("", "_log") for way in WAYS]
    sums = {key: np.sum([adata.varm[f"moments{key}"] for adata in scored], axis=0) for key in keys}
    errors = [np.asarray(adata.varm["errors"], dtype=np.float64) for adata in scored]
    low, high = _bounds(errors, NOMINAL)
    features = pd.DataFrame({"n_spots": n_spots.sum()}, index=shared)
    for way in WAYS:
        if way != "_mean":
            features[f"pearson{way}"] = _pearson(sums[way], n_spots.sum())
        features[f"rmse{way}"] = _rmse(sums[way], n_spots.sum())
    for key in ("_log", "_log_neighbors"):
        features[f"pearson{key}"] = _pearson(sums[key], n_spots.sum())
    auroc = np.array([adata.var["auroc"] for adata in scored])
    known = np.isfinite(auroc) * share[:, None]
    with np.errstate(invalid="ignore"):
        features["auroc"] = (np.nan_to_num(auroc) * known).sum(axis=0) / known.sum(axis=0)
    features["error_low"], features["error_high"] = low, high
    spread, spread_mean = (_error_spread(sums[key], n_spots.sum()) for key in ("_log", "_log_mean"))
    features["better_than_mean"] = (spread < spread_mean) & (features["pearson_log"] > 0)

    names = [_name(adata) for adata in scored]
    held = []
    for number, name in enumerate(names) if len(scored) > 1 else ():
        others = errors[:number] + errors[number + 1 :]
        for nominal in NOMINALS:
            low, high = _bounds(others, nominal)
            inside = _share(errors[number], high, "right") - _share(errors[number], low, "left")
            held.append((name, nominal, float(inside.mean())))
    rows, alignment = [], []
    for name, adata in zip(names, scored, strict=True):
        for way in WAYS:
            cmd = [adata.uns["summary"].get(f"{key}{way}", np.nan) for key in ("cmd_feature", "cmd_spot")]
            sizes = adata.n_obs, adata.n_vars, adata.uns["n_features"]
            rows.append((name, way[1:] or "imputed", *sizes, adata.obs[f"pearson{way}"].mean(), *cmd, ""))
        alignment += [(name, scope, value) for scope, value in adata.uns["foscttm"].items()]
    return Summary(features, *_tables(held, rows + left_out, alignment))


def _name(adata: ad.AnnData) -> str:
    return "{slice}.{modality}.{part}".format(**adata.uns)


def _tables(coverage: list[tuple], folds: list[tuple], alignment: list[tuple]) -> tuple[pd.DataFrame, ...]:
    return (
        pd.DataFrame(coverage, columns=["fold", "nominal", "actual"]),
        pd.DataFrame(folds, columns=_FOLDS),
        pd.DataFrame(alignment, columns=["fold", "scope", "foscttm"]),
    )


def _bounds(errors: Sequence[np.ndarray], nominal: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper error that enclose the nominal proportion of errors, per feature; folds have equal weight."""
    pooled = np.hstack(errors)
    return tuple(np.quantile(pooled, [(1 - nominal) / 2, (1 + nominal) / 2], axis=1))


def _share(errors: np.ndarray, bound: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    """Proportion of each feature's errors below its bound (``left``) or up to it (``right``); many counts are equal."""
    shares = np.empty(len(bound))
    for number, (row, own) in enumerate(zip(errors, bound, strict=True)):
        place = np.searchsorted(row, own, side)
        if place in (0, len(row)):
            shares[number] = place and 1
        else:
            between = (own - row[place - 1]) / (row[place] - row[place - 1])
            shares[number] = QUANTILES[place - 1] + between * (QUANTILES[place] - QUANTILES[place - 1])
    return shares
