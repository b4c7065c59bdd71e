"""Held-out validation: hide measured counts, impute them from the rest, and compare.

A fold hides one modality in a bridge slice: in the whole slice if the other slices still link the modalities, else in
one stripe at a time of the spots that also have another modality. A fold that cannot be made is skipped, and its reason
recorded. A fold builds the graph of the hidden modality and trains the encoders without the hidden spots. It scores
imputed against measured counts, beside two baselines: the mean profile of the donors, and the mean of the donors
nearest in the features of the source modality before integration. Of thousands of features it imputes and scores those
selected for reduction and a sample of the others (``scores.scored_features``), and of very many hidden spots a sample.
Feature selection and batch correction have seen the hidden counts; nothing else has.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.stats import rankdata

from mosaic import matrices
from mosaic.analyse import impute
from mosaic.analyse.metrics import foscttm
from mosaic.check.scores import mean_log, score_fold, scored_features
from mosaic.embedding import LATENT
from mosaic.errors import InputError, printable
from mosaic.integrate import model, training
from mosaic.integrate.graph import build_graph
from mosaic.neighbors import nearest

logger = logging.getLogger(__name__)

# Maximum number of paired spots for the FOSCTTM of hidden spots, and of hidden spots to impute and score.
_MOST_PAIRED = 20_000
_MOST_SCORED = 20_000


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
        counts above zero. ``uns``: slice, modality, part, number of features measured (``n_features``); CMD of the
        imputed counts and of the neighbours; by scope, ``foscttm`` of the hidden spots, which the encoder embeds after
        training, among all spots of the slice.
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
    targets = counts[modality]
    names = scored_features(targets.var_names, whole.var_names)
    targets = targets[:, names]
    scored_spots = spots[matrices.sample_rows(len(spots), _MOST_SCORED, 0)]
    if len(scored_spots) < len(spots):
        logger.info("scored are %d of %d hidden spots", len(scored_spots), len(spots))
    imputation = impute.plan_imputation(
        mdata, slice_name, modality, counts, spots=scored_spots, donors=targets, **settings.impute
    )

    donors = imputation.values
    mean = np.asarray(donors.mean(axis=0)).ravel(), mean_log(donors, counted=imputation.counted)
    n_neighbors = impute.ImputationSettings(**settings.impute).n_neighbors
    near = _unintegrated(reduced, sources, scored_spots, imputation.donors, n_neighbors)
    scored = score_fold(matrices.values_of(targets[scored_spots]), imputation, mean, near)
    scored.uns |= {"slice": slice_name, "modality": modality, "part": part, "n_features": counts[modality].n_vars}
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


def _unseen_foscttm(source: ad.AnnData, latent: pd.DataFrame, slice_name: str, hidden: pd.Index) -> float:
    """FOSCTTM of hidden spots, whose pairs no contrastive loss has seen, among all paired spots of their slice."""
    names = source.obs_names[(source.obs["slice"] == slice_name).to_numpy()]
    both = names[names.isin(latent.index)]
    both = both[matrices.sample_rows(len(both), _MOST_PAIRED, 0)]
    rows = np.flatnonzero(both.isin(hidden))
    return foscttm(source[both].obsm[LATENT], latent.loc[both].to_numpy(), rows) if len(rows) else np.nan
