"""Metrics of the publication, for latent spaces, domains and imputed counts."""

import logging
from collections.abc import Iterator
from itertools import combinations

import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from sklearn.metrics import adjusted_rand_score, f1_score, normalized_mutual_info_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import normalize

from mosaic.embedding import LATENT
from mosaic.errors import InputError
from mosaic.matrices import depth_factor, from_neighbors, sample_rows
from mosaic.mixing import ilisi, ilisi_within
from mosaic.neighbors import nearest
from mosaic.spatial import spatial_neighbors
from mosaic.spots import paired, slice_names

logger = logging.getLogger(__name__)

# Training pulls these pairs together, so they say less than those of held-out validation.
TRAINING_PAIRS = "FOSCTTM (training pairs)"

# What is added to the name of a metric of the aligned latent space.
ALIGNED = ", aligned"

# Metrics of the latent space; all others are of domains.
_ALSO_ALIGNED = ("iLISI", "iLISI within shared domains", TRAINING_PAIRS)
OF_LATENT = (*_ALSO_ALIGNED, *(name + ALIGNED for name in _ALSO_ALIGNED), "matching score", "label transfer F1")

# Above these numbers of spots a metric uses a seeded sample, with a log message: FOSCTTM compares all pairs of spots;
# iLISI and the matching score search neighbours by brute force, iLISI slowly.
_MOST_PAIRED = 20_000
_MOST_LISI = 10_000

_BLOCK_ROWS = 1024

# Connected spots of one true domain are a small structure if they are fewer than these, on the graph of each spot's
# nearest neighbours (the six of a hexagonal grid).
_SMALL_STRUCTURE = 25
_TISSUE_NEIGHBORS = 6


def foscttm(first: np.ndarray, second: np.ndarray, rows: np.ndarray | None = None) -> float:
    """Fraction of spots closer than the true match, by cosine, both directions averaged: 0 is perfect, 0.5 chance.

    Parameters
    ----------
    first, second
        Embeddings of the same spots by two modalities (spots x n_latent), row by row.
    rows
        Spots whose matches are sought among all spots; None: all.
    """
    first, second = normalize(first), normalize(second)
    rows = np.arange(len(first)) if rows is None else np.asarray(rows)
    closer = 0
    for one, other in ((first, second), (second, first)):
        for start in range(0, len(rows), _BLOCK_ROWS):
            own = rows[start : start + _BLOCK_ROWS]
            similarity = one[own] @ other.T
            match = np.take_along_axis(similarity, own[:, None], axis=1)
            closer += int((similarity > match).sum())
    return closer / (2 * len(rows) * max(len(first) - 1, 1))


def matching_score(first: np.ndarray, second: np.ndarray) -> float:
    """Mean probability of the true match, from shared nearest neighbours (Lance et al., PMLR 2022), 1 is perfect.

    The weight of two spots is the Jaccard index of their neighbourhoods over both modalities (one neighbour in each);
    the weights of each spot sum to 1.

    Parameters
    ----------
    first, second
        As for ``foscttm``.
    """

    def own(queries: np.ndarray, among: np.ndarray) -> sparse.csr_matrix:
        return from_neighbors(nearest(queries, among, 1)[1], len(among))

    first, second = normalize(first), normalize(second)
    shared = own(first, first) @ own(second, first).T + own(first, second) @ own(second, second).T
    shared.data /= 4 - shared.data
    return float(normalize(shared, norm="l1").diagonal().mean())


def label_transfer_f1(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    """Macro F1 of labels transferred by 10 nearest neighbours between modalities, averaged over both directions.

    Parameters
    ----------
    first, second
        As for ``foscttm``.
    labels
        Each spot's label.
    """
    scores = []
    for reference, query in ((first, second), (second, first)):
        model = KNeighborsClassifier(min(10, len(labels))).fit(reference, labels)
        scores.append(f1_score(labels, model.predict(query), average="macro"))
    return float(np.mean(scores))


def pas(coordinates: np.ndarray, domains: np.ndarray) -> float:
    """Proportion of abnormal spots: those with more than half of their 10 nearest in another domain.

    Source: Shang & Zhou, Nature Communications 2022. Degenerate domains score well.

    Parameters
    ----------
    coordinates
        Spots of one slice x 2.
    domains
        Each spot's domain.
    """
    n_neighbors = min(10, len(domains) - 1)
    if not n_neighbors:
        return np.nan
    neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(coordinates).kneighbors(return_distance=False)
    foreign = (domains[neighbors] != domains[:, None]).sum(axis=1)
    return float((foreign > n_neighbors / 2).mean())


def chaos(coordinates: np.ndarray, domains: np.ndarray) -> float:
    """Spatial chaos: mean distance from a spot to the nearest spot of its domain, on standardised coordinates.

    Source: Shang & Zhou, Nature Communications 2022. A domain with one spot contributes 0. Degenerate domains score
    well.

    Parameters
    ----------
    coordinates, domains
        As for ``pas``.
    """
    spread = coordinates.std(axis=0)
    places = (coordinates - coordinates.mean(axis=0)) / np.where(spread > 0, spread, 1)
    total = 0.0
    for domain in np.unique(domains):
        own = places[domains == domain]
        if len(own) > 1:
            total += KDTree(own).query(own, k=2)[0][:, 1].sum()
    return float(total / len(places))


def matched(domains: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which spots carry the domain that is matched with their true one.

    Domains and true domains are matched one to one so that most spots agree (Hungarian algorithm; Kuhn, Naval Research
    Logistics Quarterly 1955). Without a partner, a domain matches no spot.

    Parameters
    ----------
    domains, truth
        Each spot's domain and true domain.

    Returns
    -------
    bool (spots).
    """
    shared = pd.crosstab(truth, domains)
    rows, columns = linear_sum_assignment(shared.to_numpy(), maximize=True)
    partner = pd.Series(shared.columns[columns], index=shared.index[rows])
    return (pd.Series(truth).map(partner) == domains).to_numpy()


def in_small_structure(coordinates: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Which spots of a slice belong to a small structure: fewer than 25 connected spots of one true domain.

    Parameters
    ----------
    coordinates
        Spots of one slice x 2. Each is joined to its six nearest.
    truth
        Each spot's true domain; spots without one connect nothing.

    Returns
    -------
    bool (spots).
    """
    code = pd.factorize(truth)[0]
    if len(code) < 2:
        return code >= 0
    near = spatial_neighbors(coordinates, _TISSUE_NEIGHBORS).tocoo()
    alike = (code[near.row] == code[near.col]) & (code[near.row] >= 0)
    edges = np.ones(alike.sum()), (near.row[alike], near.col[alike])
    piece = connected_components(sparse.coo_matrix(edges, shape=near.shape), directed=False)[1]
    return (np.bincount(piece)[piece] < _SMALL_STRUCTURE) & (code >= 0)


def imputation_scores(imputed: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """Agreement of imputed and measured counts, by the metrics of the publication.

    Pearson correlations are 0 if the imputed values are constant. The correlation matrix distance (CMD; Herdin et
    al., IEEE VTC 2005) is 1 - tr(R1 R2) / (|R1| |R2|) of the correlation matrices, here between features and between
    spots; 0 if they agree. Its memory grows with the square of the spots.

    Parameters
    ----------
    imputed, measured
        Counts (spots x features).

    Returns
    -------
    ``pearson_feature`` and ``pearson_spot``, means over the features and spots that vary in ``measured`` (NaN if none
    does); ``cmd_feature``, ``cmd_spot``; ``rmse``; ``pearson_feature_log``, as the first, of log-normalised counts,
    without what a spot's depth gives to all features alike (NaN if values are below zero).
    """
    imputed, measured = (np.asarray(values, dtype=np.float64) for values in (imputed, measured))
    scores = {}
    for name, one, other in (("feature", imputed.T, measured.T), ("spot", imputed, measured)):
        one, other = _standardised(one), _standardised(other)
        varies = other.any(axis=1)
        scores[f"pearson_{name}"] = float((one * other).sum(axis=1)[varies].mean()) if varies.any() else np.nan
        R1, R2 = one @ one.T, other @ other.T
        norm = np.linalg.norm(R1) * np.linalg.norm(R2)
        scores[f"cmd_{name}"] = float(1 - (R1 * R2).sum() / norm) if norm else np.nan
    scores["rmse"] = float(np.sqrt(((imputed - measured) ** 2).mean()))
    scores["pearson_feature_log"] = np.nan
    if imputed.min(initial=0) >= 0 and measured.min(initial=0) >= 0:
        one, other = (_standardised(_log_normalized(values).T) for values in (imputed, measured))
        varies = other.any(axis=1)
        scores["pearson_feature_log"] = float((one * other).sum(axis=1)[varies].mean()) if varies.any() else np.nan
    return scores


def _log_normalized(counts: np.ndarray) -> np.ndarray:
    """Counts of spots that all have the median total, on the log scale."""
    total = counts.sum(axis=1)
    return np.log1p(counts * depth_factor(total, float(np.median(total))))


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Rows centred and of unit length; constant rows become zero."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return normalize(np.where(np.abs(centred) > 1e-9 * np.abs(rows).max(initial=1), centred, 0))


def evaluate(
    embedding: md.MuData,
    domains: np.ndarray,
    truth: pd.Series | None,
    aligned: md.MuData | None = None,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """All metrics that apply to a run, in a tidy table.

    Parameters
    ----------
    embedding
        As ``embedding.collect_embeddings`` returns it.
    domains
        Each spot's domain.
    truth
        Each spot's true domain, missing where unknown; or None.
    aligned
        The embedding aligned by its domains (``alignment.aligned_embedding``), which adds iLISI and FOSCTTM of it; the
        domains themselves made it, so these say how far alignment went, not whether the domains are right.
    seed
        Seed of the samples that represent large runs.

    Returns
    -------
    DataFrame with ``metric``, ``scope`` (``all``, ``slice:{slice}`` or ``{slice}:{modality}~{modality}``), ``value``
    (NaN if the metric does not apply) and ``direction`` (``up``: more is better; ``down``; ``neither``).

    Raises
    ------
    InputError
        If ``truth`` is given but no spot has a true domain.
    """
    rng = np.random.default_rng(seed)
    slices = embedding.obs["slice"].to_numpy(dtype=str)
    members = {name: slices == name for name in slice_names(embedding.obs)}
    rows, tables = [], []
    if truth is not None:
        tables.append(against_truth(domains, truth, slices, embedding.obsm["spatial"]))
    sample = _sample(len(slices), _MOST_LISI, rng, "iLISI")
    for space, suffix in ((embedding, ""), (aligned, ALIGNED)) if aligned is not None else ((embedding, ""),):
        latent = space.obsm[LATENT][sample]
        rows.append((f"iLISI{suffix}", "all", ilisi(latent, slices[sample]), "up"))
        if truth is not None:
            within = ilisi_within(latent, slices[sample], truth.iloc[sample])
            rows.append((f"iLISI within shared domains{suffix}", "all", within, "up"))
    rows += _alignment(embedding, truth, rng)
    if aligned is not None:
        of_aligned = _alignment(aligned, None, rng)
        rows += [(name + ALIGNED, *values) for name, *values in of_aligned if name == TRAINING_PAIRS]
    for name, metric in (("PAS", pas), ("CHAOS", chaos)):
        values = {f"slice:{key}": metric(embedding.obsm["spatial"][own], domains[own]) for key, own in members.items()}
        rows += [
            (name, scope, value, "down")
            for scope, value in ({"all": float(np.mean([*values.values()]))} | values).items()
        ]
    return pd.concat([*tables, _tidy(rows)], ignore_index=True)


def _tidy(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["metric", "scope", "value", "direction"])


def against_truth(domains: np.ndarray, truth: pd.Series, slices: np.ndarray, coordinates: np.ndarray) -> pd.DataFrame:
    """Agreement of domains with the truth, pooled and per slice.

    ARI and NMI; the recall of small structures (``in_small_structure``) and of the rarest true domain, the share of
    their spots that carry the ``matched`` domain; and the NMI of domain and slice, which should be near that of true
    domain and slice: domains that follow the slice raise it.

    Parameters
    ----------
    domains, truth
        As for ``evaluate``.
    slices
        Each spot's slice.
    coordinates
        Spots x 2.

    Returns
    -------
    As of ``evaluate``.

    Raises
    ------
    InputError
        If no spot has a true domain.
    """
    members = {name: slices == name for name in dict.fromkeys(slices)}
    known = truth.notna().to_numpy()
    if not known.any():
        raise InputError("no spot has a true domain", where="config key truth", hint="set truth to null")
    if not known.all():
        logger.warning("%d of %d spots have no true domain: ARI and NMI exclude them", (~known).sum(), len(known))
    spelled = {name: set(truth[own & known]) for name, own in members.items()}
    for name, labels in spelled.items():
        others = set().union(*(other for key, other in spelled.items() if key != name))
        if len(spelled) > 1 and labels - others:
            logger.warning(
                "true domains of %s that no other slice has: %s. Rename them if they only differ in spelling",
                name,
                ", ".join(sorted(labels - others)),
            )
    rows = []
    for metric, score in (("ARI", adjusted_rand_score), ("NMI", normalized_mutual_info_score)):
        rows.append((metric, "all", score(truth[known], domains[known]), "up"))
        for name, own in members.items():
            own = own & known
            value = score(truth[own], domains[own]) if own.any() else np.nan
            rows.append((metric, f"slice:{name}", value, "up"))
    rows += _recall(domains, truth, members, coordinates)
    for metric, division in (("NMI with slice", domains), ("NMI with slice, truth", truth.to_numpy())):
        value = normalized_mutual_info_score(slices[known], division[known]) if len(members) > 1 else np.nan
        rows.append((metric, "all", value, "neither"))
    return _tidy(rows)


def _recall(
    domains: np.ndarray, truth: pd.Series, members: dict[str, np.ndarray], coordinates: np.ndarray
) -> Iterator[tuple]:
    """Recall of small structures and of the rarest true domain, pooled and per slice; NaN where there are none."""
    code = pd.factorize(truth, sort=True)[0]
    known = code >= 0
    found = np.zeros(len(code), dtype=bool)
    found[known] = matched(domains[known], code[known])
    small = np.zeros(len(code), dtype=bool)
    for own in members.values():
        small[own] = in_small_structure(coordinates[own], truth[own])
    rarest = code == np.bincount(code[known]).argmin()
    for metric, spots in (("recall of small structures", small), ("recall of the rarest domain", rarest)):
        for scope, own in [("all", known), *((f"slice:{name}", own) for name, own in members.items())]:
            chosen = spots & own
            yield metric, scope, found[chosen].mean() if chosen.any() else np.nan, "up"


def _alignment(embedding: md.MuData, truth: pd.Series | None, rng: np.random.Generator) -> Iterator[tuple]:
    """FOSCTTM, matching score and label transfer for each pair of modalities of each bridge slice.

    NaN for a method with one joint latent space, in which all modalities of a spot have the same coordinates.
    """
    bridges = paired({name: adata.obs for name, adata in embedding.mod.items()})
    if not bridges:
        yield from ((TRAINING_PAIRS, "all", np.nan, "down"), ("matching score", "all", np.nan, "up"))
    for slice_name, table in bridges.items():
        for one, other in combinations(table.columns, 2):
            both = table[(table[one] >= 0) & (table[other] >= 0)]
            both = both.iloc[_sample(len(both), _MOST_PAIRED, rng, f"FOSCTTM and matching score of {slice_name}")]
            z = [embedding[name].obsm[LATENT][both[name]] for name in (one, other)]
            scope = f"{slice_name}:{one}~{other}"
            joint = np.array_equal(*z)
            yield TRAINING_PAIRS, scope, np.nan if joint else foscttm(*z), "down"
            yield "matching score", scope, np.nan if joint else matching_score(*z), "up"
            if truth is not None:
                labels = truth.loc[both.index]
                known = labels.notna().to_numpy()
                value = np.nan
                if known.any() and not joint:
                    value = label_transfer_f1(z[0][known], z[1][known], labels[known].to_numpy())
                yield "label transfer F1", scope, value, "up"


def _sample(n_rows: int, most: int, rng: np.random.Generator, what: str) -> np.ndarray:
    if n_rows > most:
        logger.warning("%s: on a sample of %d of %d spots", what, most, n_rows)
    return sample_rows(n_rows, most, rng)
