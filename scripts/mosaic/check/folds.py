"""Held-out validation: hide measured counts, impute them from the rest, and compare.

A fold hides one modality in a bridge slice: in the whole slice if the other slices still link the modalities, else in
one stripe at a time of the spots that also have another modality. A fold that cannot be made is skipped, and its reason
recorded. A fold builds the graph of the hidden modality and trains the encoders without the hidden spots. It scores
imputed against measured counts, beside two baselines: the mean profile of the donors, and the mean of the donors
nearest in the features of the source modality before integration. Feature selection and batch correction have seen the
hidden counts; nothing else has.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from mosaic import matrices
from mosaic.analyse import impute
from mosaic.analyse.intervals import error_scale, unit_of
from mosaic.analyse.metrics import foscttm, imputation_scores
from mosaic.embedding import LATENT
from mosaic.errors import InputError, printable
from mosaic.integrate import model, training
from mosaic.integrate.graph import build_graph
from mosaic.neighbors import nearest

logger = logging.getLogger(__name__)

# Quantiles that represent the distribution of errors of each feature.
QUANTILES = np.linspace(0, 1, 101)
# Columns of the feature table of a modality.
_FEATURES = ["n_spots", "pearson", "rmse", "rmse_mean", "pearson_neighbors", "rmse_neighbors"]
_FEATURES += ["pearson_log", "pearson_log_neighbors", "auroc", "error_low", "error_high", "better_than_mean"]
# Suffixes of names: the imputed counts, and the two baselines.
WAYS = ("", "_mean", "_neighbors")
# Nominal coverage of the intervals.
NOMINAL = 0.9
NOMINALS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# Maximum number of spots for the CMD, whose memory grows with the square of the spots.
_MOST_SPOTS = 2000
# Maximum number of paired spots for the FOSCTTM of hidden spots.
_MOST_PAIRED = 20_000


def stripe(coordinates: np.ndarray, part: int, n_stripes: int) -> np.ndarray:
    """Mask of the spots in one of ``n_stripes`` equal-sized stripes across the long axis of the tissue; 0: all spots.

    Parameters
    ----------
    coordinates
        Spots x 2.
    part, n_stripes
        Number of the stripe, from 1, and number of stripes.

    Returns
    -------
    Boolean mask (spots).
    """
    if part == 0:
        return np.ones(len(coordinates), dtype=bool)
    centred = coordinates - coordinates.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    order = rankdata(np.round(centred @ axes[:, -1], 6), method="ordinal") - 1
    return order * n_stripes // len(coordinates) == part - 1


@dataclass(frozen=True, kw_only=True)
class FoldSettings:
    """What all folds of a run have in common.

    Attributes
    ----------
    n_stripes
        As for ``design.SampleSheet.folds``.
    graph, train, impute
        Settings of ``graph.build_graph``, ``training.fit`` and ``impute.plan_imputation``.
    seed
        Of training.
    """

    n_stripes: int
    graph: Mapping[str, Any]
    train: Mapping[str, Any]
    impute: Mapping[str, Any]
    seed: int


class Fold(NamedTuple):
    """Result of a fold. For a skipped fold, both are empty and ``scored.uns["left_out"]`` has the reason.

    Attributes
    ----------
    scored
        AnnData of hidden spots x features without X. ``obs``: Pearson over features of the imputed counts (``pearson``)
        and of the baselines (``pearson_mean``, ``pearson_neighbors``). ``varm``: sums over the hidden spots for each of
        the three (``moments``, ``moments_mean``, ``moments_neighbors``; see ``_pearson``), the same of log-normalised
        values (``moments_log``, ...), and quantiles of (measured - imputed) / scale (``errors``). ``var["auroc"]`` of
        counts above zero. ``uns``: slice, modality, part; CMD of the imputed counts and of the neighbours; by scope,
        ``foscttm`` of the hidden spots, which the encoder embeds after training, among all spots of the slice.
    embedding
        AnnData of all spots without X: ``obsm["X_latent"]``, ``obs["slice"]``, and ``obs["modalities"]``, by which the
        fold embedded the spot: for hidden spots, without the hidden modality.
    """

    scored: ad.AnnData
    embedding: ad.AnnData


def try_fold(
    reduced: Mapping[str, ad.AnnData],
    graphs: Mapping[str, ad.AnnData],
    counts: Mapping[str, ad.AnnData],
    fold: tuple[str, str, int],
    mnn_pairs: Sequence[tuple[str, str]],
    settings: FoldSettings,
) -> Fold:
    """Run a fold; if it cannot be made, return an empty one with the reason.

    Parameters
    ----------
    reduced, graphs, counts, fold, mnn_pairs, settings
        As for ``run_fold``.
    """
    try:
        return run_fold(reduced, graphs, counts, fold, mnn_pairs, settings)
    except InputError as error:
        slice_name, modality, part = fold
        reason = printable(f"{error.where}: {error.problem}" if error.where else error.problem)
        logger.warning("skipped this fold of held-out validation: %s", reason)
        scored, embedding = ad.AnnData(obs=pd.DataFrame(index=[])), ad.AnnData(obs=pd.DataFrame(index=[]))
        scored.uns = {"slice": slice_name, "modality": modality, "part": part, "left_out": reason}
        return Fold(scored, embedding)


def run_fold(
    reduced: Mapping[str, ad.AnnData],
    graphs: Mapping[str, ad.AnnData],
    counts: Mapping[str, ad.AnnData],
    fold: tuple[str, str, int],
    mnn_pairs: Sequence[tuple[str, str]],
    settings: FoldSettings,
) -> Fold:
    """Hide a modality, build its graph, train, impute, and compare.

    Parameters
    ----------
    reduced
        Per modality, as ``reduce.reduce_modality`` returns it.
    graphs
        Per modality, as ``graph.build_graph`` returns it, of all spots; training does not use that of the hidden one.
    counts
        As for ``impute.plan_imputation``.
    fold
        As ``design.SampleSheet.folds`` returns it.
    mnn_pairs
        Pairs of slices to link in the hidden modality; without the fold's slice if all of it is hidden.
    settings
        Of all folds.

    Raises
    ------
    InputError
        If no other spot has the hidden modality, if the hidden spots have no other modality, or if a called function
        raises it.
    """
    slice_name, modality, part = fold
    whole = reduced[modality]
    sources = [name for name in graphs if name != modality and (graphs[name].obs["slice"] == slice_name).any()]
    hidden, spots = _hidden(whole, [graphs[name].obs_names for name in sources], fold, settings.n_stripes)
    kept = whole[np.delete(np.arange(whole.n_obs), hidden)]
    _check_hidden(graphs, kept, spots, fold)
    remaining = set(kept.obs["slice"].unique())
    mnn_pairs = [pair for pair in mnn_pairs if set(pair) <= remaining]
    seen_graphs = {**graphs, modality: build_graph(kept, kept.obsm["X_corrected"], mnn_pairs, **settings.graph)}
    encoders, _ = training.fit(seen_graphs, seed=settings.seed, **settings.train)
    mdata = model.embed(seen_graphs, encoders)
    imputation = impute.plan_imputation(mdata, slice_name, modality, counts, spots=spots, **settings.impute)

    donors = imputation.values
    mean = np.asarray(donors.mean(axis=0)).ravel(), _mean_log(donors, counted=imputation.counted)
    n_neighbors = impute.ImputationSettings(**settings.impute).n_neighbors
    near = _unintegrated(reduced, sources, spots, imputation.donors, n_neighbors)
    scored = _score(matrices.values_of(counts[modality][spots]), imputation, mean, near)
    scored.uns |= {"slice": slice_name, "modality": modality, "part": part}
    latent = model.embed_modality(graphs[modality], encoders[modality])
    latent = pd.DataFrame(latent, index=graphs[modality].obs_names)
    scored.uns["foscttm"] = {
        f"{slice_name}:{source}~{modality}": _unseen_foscttm(mdata[source], latent, slice_name, spots)
        for source in sources
    }
    obs = mdata.obs[["slice", "modalities"]].copy()
    return Fold(scored, ad.AnnData(obs=obs, obsm={LATENT: mdata.obsm[LATENT]}))


def _hidden(
    whole: ad.AnnData, sources: Sequence[pd.Index], fold: tuple[str, str, int], n_stripes: int
) -> tuple[np.ndarray, pd.Index]:
    """Rows to hide, and the names of those that can be imputed: of spots that also have another modality."""
    slice_name, _, part = fold
    in_slice = (whole.obs["slice"] == slice_name).to_numpy()
    seen = in_slice & whole.obs_names.isin(np.concatenate(sources))
    hidden = np.flatnonzero(in_slice if part == 0 else seen)
    hidden = hidden[stripe(whole.obsm["spatial"][hidden], part, n_stripes)]
    return hidden, whole.obs_names[hidden][seen[hidden]]


def _check_hidden(
    graphs: Mapping[str, ad.AnnData], kept: ad.AnnData, spots: pd.Index, fold: tuple[str, str, int]
) -> None:
    """Whether something is left to impute from, and a chain of slices to align the modalities by."""
    slice_name, modality, _ = fold
    if kept.n_obs < 2 or not len(spots):
        what = "no other spot measured it" if len(spots) else "no spot measured another modality, too"
        raise InputError(f"{modality} can't be hidden, as {what}", where=f"slice {slice_name}")
    remaining = {name: adata.obs["slice"].unique() for name, adata in {**graphs, modality: kept}.items()}
    # Slices by modalities: whatever a slice measured, it joins.
    design = pd.DataFrame({name: pd.Series(1, index=own.astype(str)) for name, own in remaining.items()}).fillna(0)
    if connected_components(sparse.block_array([[None, design.to_numpy()], [design.to_numpy().T, None]]))[0] > 1:
        problem = f"without {modality} no chain of bridge slices joins all modalities"
        raise InputError(problem, where=f"slice {slice_name}")


def _unintegrated(
    reduced: Mapping[str, ad.AnnData], sources: Sequence[str], spots: pd.Index, donors: pd.Index, n_neighbors: int
) -> sparse.csr_matrix:
    """Weights of the nearest donors before batch correction, in the first source modality with spot and donors."""
    n_neighbors = min(n_neighbors, len(donors))
    # Spots without a source modality in common with the donors get evenly spaced donors.
    chosen = np.tile(np.linspace(0, len(donors) - 1, n_neighbors).astype(int), (len(spots), 1))
    open_rows = np.ones(len(spots), dtype=bool)
    for source in sources:
        adata = reduced[source]
        queries, among = adata.obs_names.get_indexer(spots), adata.obs_names.get_indexer(donors)
        rows, places = np.flatnonzero(open_rows & (queries >= 0)), np.flatnonzero(among >= 0)
        if rows.size and places.size >= n_neighbors:
            features = adata.obsm["X_reduced"]
            found = nearest(features[queries[rows]], features[among[places]], n_neighbors)[1]
            chosen[rows] = places[found]
            open_rows[rows] = False
    return matrices.from_neighbors(chosen, len(donors), np.full(chosen.shape, 1 / n_neighbors))


def _score(
    measured: sparse.csr_matrix,
    imputation: impute.ImputationPlan,
    means: tuple[np.ndarray, np.ndarray],
    near: sparse.csr_matrix,
) -> ad.AnnData:
    """Compare imputed with measured counts, by blocks of features, so that only one block is dense at a time.

    ``means`` are those of the donors, of counts and of log-normalised counts.
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
    width = max(1, matrices.BLOCK_VALUES // max(spots.n_obs, 1))
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
    summary: dict[str, float] = {}
    for way, values in (("", predicted[few]), ("_neighbors", sparse.csr_matrix(near[few] @ imputation.values))):
        scores = imputation_scores(values.toarray(), measured[few].toarray()) if n_features <= _MOST_SPOTS else {}
        summary |= {f"{name}{way}": scores.get(name, np.nan) for name in ("cmd_feature", "cmd_spot")}
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


def _mean_log(donors: sparse.csr_matrix, *, counted: bool) -> np.ndarray:
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


def _unseen_foscttm(source: ad.AnnData, latent: pd.DataFrame, slice_name: str, hidden: pd.Index) -> float:
    """FOSCTTM of hidden spots, whose pairs no contrastive loss has seen, among all paired spots of their slice."""
    names = source.obs_names[(source.obs["slice"] == slice_name).to_numpy()]
    both = names[names.isin(latent.index)]
    both = both[matrices.sample_rows(len(both), _MOST_PAIRED, 0)]
    rows = np.flatnonzero(both.isin(hidden))
    return foscttm(source[both].obsm[LATENT], latent.loc[both].to_numpy(), rows) if len(rows) else np.nan


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
        Per fold and way (``imputed``, ``mean``, ``neighbors``): ``n_spots``, ``pearson_spot``, ``cmd_feature``,
        ``cmd_spot``; or, in a separate row, the reason of a skipped fold (``left_out``).
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
        (_name(adata), "left out", 0, np.nan, np.nan, np.nan, adata.uns["left_out"])
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
            rows.append((name, way[1:] or "imputed", adata.n_obs, adata.obs[f"pearson{way}"].mean(), *cmd, ""))
        alignment += [(name, scope, value) for scope, value in adata.uns["foscttm"].items()]
    return Summary(features, *_tables(held, rows + left_out, alignment))


def _name(adata: ad.AnnData) -> str:
    return "{slice}.{modality}.{part}".format(**adata.uns)


def _tables(coverage: list[tuple], folds: list[tuple], alignment: list[tuple]) -> tuple[pd.DataFrame, ...]:
    return (
        pd.DataFrame(coverage, columns=["fold", "nominal", "actual"]),
        pd.DataFrame(folds, columns=["fold", "way", "n_spots", "pearson_spot", "cmd_feature", "cmd_spot", "left_out"]),
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
