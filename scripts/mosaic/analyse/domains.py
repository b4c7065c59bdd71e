"""Tissue domains from an embedding: tied-covariance Gaussian mixture, k-means or Leiden."""

import logging
import random
import warnings
from collections.abc import Iterable, Sequence
from itertools import combinations
from operator import itemgetter
from typing import Literal, NamedTuple

import igraph
import numpy as np
import pandas as pd
from scipy import sparse, special
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances, silhouette_score
from sklearn.mixture import GaussianMixture

from mosaic.errors import InputError
from mosaic.neighbors import nearest

log = logging.getLogger(__name__)

Method = Literal["mixture", "kmeans", "leiden"]

# Ward's clustering needs memory and time quadratic in its rows, so it sees at most this many (as in R's mclust).
_START_ROWS = 2000
# Where there are few spots, each start sees this share of them: what the starts differ by.
_START_SHARE = 0.8
# EM ends in a poor optimum from one subset in ten, on some data from nine in ten, so several are tried, half of them
# from the whitened embedding; and from the best, so many pairs of domains that overlap most are merged on trial.
_STARTS = 10
_MERGES = 5
# Which exchanges promise most is told from EM with a still looser tolerance; so many are fitted again, and one must
# gain this much likelihood a spot.
_TRIAL_TOLERANCE = 1e-2
_REFITS = 3
_EXCHANGE_GAIN = 1e-3
# The starts are compared on at most this many rows and with a loose tolerance; only the best one is fitted to the end.
_COMPARE_ROWS = 20_000
_COMPARE_TOLERANCE = 1e-3
# EM stops when the mean log-likelihood of a spot gains less than this.
_EM_TOLERANCE = 1e-5
_EM_ITERATIONS = 1000
# On top of the within-domain covariance, in units of the embedding's variance (which whitening makes 1).
_RIDGE = 1e-6
# A direction whose variance is this far below the largest is float32 rounding, not signal.
_SMALLEST_VARIANCE = 1e-10
_LEIDEN_NEIGHBORS = 15
# Colours can be told apart up to the first; above the second, domains are crumbs that no figure or marker can show.
_MANY_DOMAINS = 30
_MOST_DOMAINS = 100
# How often half of the spots, at most as many as a start takes, are divided and as many others judge.
_CHOICE_SUBSETS = 8


class DomainLabels(NamedTuple):
    """Domains of the spots.

    Attributes
    ----------
    labels
        Domain of each spot, shape (spots,), integers 0..k-1 from the largest domain to the smallest.
    probability
        Posterior probability of that domain, shape (spots,), in 0..1; None where the method has none.
    """

    labels: np.ndarray
    probability: np.ndarray | None


def cluster_domains(
    embedding: np.ndarray,
    method: Method = "mixture",
    *,
    n_domains: int | None = None,
    resolution: float | None = None,
    seed: int = 0,
) -> DomainLabels:
    """Group spots into tissue domains.

    Parameters
    ----------
    embedding
        Embedding of all spots of all slices, shape (spots, dimensions). Computed on in float64.
    method
        ``mixture``: Gaussian mixture with one covariance for all domains (see :func:`mixture_domains`), the published
        choice; ``kmeans``; ``leiden``: communities of the nearest-neighbour graph.
    n_domains
        Number of domains; required by ``mixture`` and ``kmeans``.
    resolution
        Leiden's resolution, above 0; required by ``leiden``, which finds the number of domains itself.
    seed
        Seed of every random choice: one seed, one result.

    Returns
    -------
    DomainLabels
        Labels ordered by decreasing size, and the mixture's posterior probabilities.

    Raises
    ------
    InputError
        If a needed setting is missing or out of range, the embedding holds NaN or infinity, more domains are asked for
        than there are spots, the method cannot find that many, or Leiden finds more than 100. No method ever stands in
        for another.
    """
    embedding = _checked_embedding(embedding)
    if method == "leiden":
        if resolution is None or resolution <= 0:
            raise InputError(
                f"Leiden needs a resolution above 0, but it is {resolution}",
                where="cluster: resolution",
                hint="set resolution, for example 1.0; higher values give more domains",
            )
        if n_domains is not None:
            log.warning("n_domains = %s is not used: Leiden finds the number of domains from the resolution", n_domains)
        labels, probability = leiden_domains(embedding, resolution, seed), None
        _check_n_found(len(np.unique(labels)), len(labels), resolution)
    elif method in ("mixture", "kmeans"):
        _check_n_domains(n_domains, len(embedding))
        if resolution is not None:
            log.warning("resolution = %s is not used: only Leiden has one", resolution)
        if method == "mixture":
            labels, probability = mixture_domains(embedding, n_domains, seed)
        else:
            labels, probability = kmeans_domains(embedding, n_domains, seed), None
    else:
        raise InputError(
            f"unknown clustering method '{method}'", where="cluster: method", hint="choose mixture, kmeans or leiden"
        )
    return DomainLabels(_by_decreasing_size(labels), probability)


def choose_n_domains(
    embedding: np.ndarray, n_domains_range: Sequence[int] = (2, 15), *, seed: int = 0
) -> tuple[int, pd.DataFrame]:
    """Choose the number of domains by the silhouette of left-out spots.

    The tied mixture is fitted to eight seeded subsets, each half of the spots and 2000 at most. It then labels as many
    other spots, and the silhouette (Rousseeuw, Journal of Computational and Applied Mathematics 1987) says how well
    its domains are set apart in the embedding. Chosen is the largest number whose mean is within one standard error
    of the best (the rule of Breiman et al., Classification and Regression Trees, 1984): where numbers can't be told
    apart, one domain too many costs less than one too few. docs/method.md compares it with other criteria.

    Parameters
    ----------
    embedding
        Shape (spots, dimensions). Of more than 20,000 spots a seeded sample of so many is used.
    n_domains_range
        Smallest and largest number to choose from, both included.
    seed
        Seed of the subsets.

    Returns
    -------
    n_domains, curve
        The choice, and a table with a row per number and the columns ``n_domains``, ``silhouette`` (mean over the
        subsets, -1..1), ``standard_error`` (of that mean) and ``chosen`` (true in one row).

    Raises
    ------
    InputError
        If the range is not one, there are too few spots for its upper end, the embedding holds NaN or infinity, or no
        mixture of the range can be fitted.
    """
    embedding = _checked_embedding(embedding)
    low, high = n_domains_range
    if not 2 <= low < high:
        raise InputError(
            f"the range of the number of domains is {low} to {high}",
            where="cluster: n_domains_range",
            hint="write the smallest, 2 or more, and a larger one, for example [2, 15]",
        )
    rng = np.random.default_rng(seed)
    sample = _sample(len(embedding), _COMPARE_ROWS, rng)
    if len(sample) < len(embedding):
        log.info("the number of domains is chosen on a sample of %d of %d spots", len(sample), len(embedding))
    embedding = embedding[sample]
    white = _whitened(embedding)
    needed = white.shape[1] + high
    if len(white) // 2 <= needed:
        raise InputError(
            f"{len(white)} spots are too few to choose among up to {high} domains in {white.shape[1]} dimensions: "
            f"half of them must be more than {needed}",
            where="cluster: n_domains",
            hint="set the number of domains, or a smaller n_domains_range",
        )
    numbers, scores = np.arange(low, high + 1), []
    for _ in range(_CHOICE_SUBSETS):
        seen, left_out = _two_subsets(len(white), rng)
        distances = pairwise_distances(embedding[left_out])
        fits = _mixtures(white[seen], numbers)
        scores.append([np.nan if fit is None else _silhouette(distances, fit.predict(white[left_out])) for fit in fits])
    scores = pd.DataFrame(scores, columns=numbers)
    if scores.isna().all(axis=None):
        raise InputError(
            f"no Gaussian mixture of {low} to {high} domains can be fitted",
            where="cluster: n_domains",
            hint="set n_domains, or choose method leiden",
        )
    mean, error = scores.mean(), scores.sem()
    n_domains = _largest_within_one_error(scores)
    log.info("%d domains, of %d to %d, by the silhouette (best: %d)", n_domains, low, high, mean.idxmax())
    if n_domains == high or n_domains == low > 2:
        log.warning(
            "%d domains are an end of the range %d to %d, which may be too narrow: widen cluster.n_domains_range",
            *(n_domains, low, high),
        )
    curve = pd.DataFrame({"silhouette": mean, "standard_error": error, "chosen": mean.index == n_domains})
    return n_domains, curve.rename_axis("n_domains").reset_index()


def mixture_domains(embedding: np.ndarray, n_domains: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian mixture with one tied covariance, EM started from hierarchical clustering.

    This is the EEE model of mclust (Scrucca et al., R Journal 2016), by which SpaMosaic assigns domains. As in mclust,
    EM starts from a hierarchical clustering: from k-means it loses 0.15 ARI as soon as more domains are asked for than
    there are. A start is Ward's clustering of a seeded subset, of 2000 spots at most, in turn of the whitened embedding
    and of the embedding as it is. Of ten, that one is kept which ends with the highest classification likelihood, by
    which the integrated completed likelihood compares mixtures (Biernacki, Celeux and Govaert, IEEE PAMI 2000): the
    likelihood less the entropy of the posterior. By the likelihood alone, a mixture that merges two domains and splits
    another by slice can be even with one that does not. From such an optimum EM can't return, so two domains are merged
    and a third is split for as long as that gains (Ueda et al., Neural Computation 2000). Time is linear in the number
    of spots.

    Parameters
    ----------
    embedding
        Shape (spots, dimensions), finite.
    n_domains
        Number of domains, at least 1.
    seed
        Seed of the subsets.

    Returns
    -------
    labels, probability
        Domain of each spot and its posterior probability, both of shape (spots,).

    Raises
    ------
    InputError
        If there are too few spots for the model, or EM does not converge or leaves a domain without spots.
    """
    white = _whitened(embedding)
    n_spots, n_dimensions = white.shape
    if n_spots <= n_dimensions + n_domains:
        raise InputError(
            f"{n_spots} spots are too few for a mixture of {n_domains} domains in {n_dimensions} dimensions: "
            f"it needs more than {n_dimensions + n_domains}",
            where="cluster",
            hint="choose method kmeans, or reduce the dimensions",
        )
    rng = np.random.default_rng(seed)
    rows = _sample(n_spots, _COMPARE_ROWS, rng)
    compared = white[rows]
    start_rows = max(min(_START_ROWS, int(_START_SHARE * len(compared))), n_domains)
    fits = []
    for space in (compared, embedding[rows]) * (_STARTS // 2):
        subset = _sample(len(compared), start_rows, rng)
        labels = AgglomerativeClustering(n_domains, linkage="ward").fit_predict(space[subset]) if n_domains > 1 else 0
        start = _start_from(compared[subset], np.broadcast_to(labels, len(subset)))
        fits.append(_fit_mixture(compared, start, _COMPARE_TOLERANCE))
    usable = [fit for fit in fits if not isinstance(fit, str)]
    usable.sort(key=lambda fit: _classification_likelihood(fit, compared), reverse=True)
    outcome = fits[0]
    for fit in [_exchanged(usable[0], compared, rng), *usable] if usable else []:
        outcome = _fit_mixture(white, _parameters(fit), _EM_TOLERANCE)
        if not isinstance(outcome, str):
            break
    if isinstance(outcome, str):
        raise InputError(
            f"the Gaussian mixture of {n_domains} domains failed: {outcome}",
            where="cluster",
            hint="ask for fewer domains, or choose method kmeans or leiden",
        )
    log.info("mixture of %d domains: mean log-likelihood %.4f", n_domains, outcome.lower_bound_)
    posterior = outcome.predict_proba(white)
    return posterior.argmax(axis=1), posterior.max(axis=1)


def kmeans_domains(embedding: np.ndarray, n_domains: int, seed: int) -> np.ndarray:
    """K-means, the best of ten starts; shape (spots,).

    Raises
    ------
    InputError
        If there are fewer distinct spots than domains.
    """
    with warnings.catch_warnings():
        # scikit-learn only warns when it finds fewer clusters than asked for; that is an error here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(n_domains, n_init=10, random_state=seed).fit_predict(embedding)
    n_found = len(np.unique(labels))
    if n_found < n_domains:
        raise InputError(
            f"k-means found {n_found} domains, not {n_domains}: the embedding has too few distinct spots",
            where="cluster: n_domains",
            hint=f"ask for {n_found} domains or fewer",
        )
    return labels


def leiden_domains(embedding: np.ndarray, resolution: float, seed: int) -> np.ndarray:
    """Leiden communities of the graph of shared nearest neighbours, run until stable; shape (spots,).

    Two spots are joined by the Jaccard index of their 15 nearest neighbours, themselves included, where one is among
    the neighbours of the other (PhenoGraph; Levine et al., Cell 2015). Communities maximise modularity (Traag, Waltman
    and van Eck, Scientific Reports 2019), by igraph.

    Raises
    ------
    InputError
        If there are fewer than three spots.
    """
    if len(embedding) < 3:
        raise InputError(f"{len(embedding)} spots are too few for a graph of nearest neighbours", where="cluster")
    n_neighbors = min(_LEIDEN_NEIGHBORS, len(embedding) - 1)
    # A spot is the nearest to itself; of spots that share its place any may stand in for it.
    _, neighbors = nearest(embedding, embedding, n_neighbors + 1)
    ends = np.arange(len(embedding) + 1) * (n_neighbors + 1)
    around = sparse.csr_matrix((np.ones(neighbors.size), neighbors.ravel(), ends), shape=(len(embedding),) * 2)
    shared = (around @ around.T).multiply(around.maximum(around.T)).tocsr()
    shared.data /= 2 * (n_neighbors + 1) - shared.data
    edges = sparse.triu(shared, k=1).tocoo()
    graph = igraph.Graph(len(embedding), np.column_stack([edges.row, edges.col]), edge_attrs={"weight": edges.data})
    # igraph draws from one generator of the whole process: lend it a seeded one.
    igraph.set_random_number_generator(random.Random(seed))
    try:
        communities = graph.community_leiden("modularity", weights="weight", resolution=resolution, n_iterations=-1)
    finally:
        igraph.set_random_number_generator(random)
    return np.asarray(communities.membership)


def _check_n_found(n_found: int, n_spots: int, resolution: float) -> None:
    """Whether Leiden found so few domains that they can be looked at."""
    text = f"Leiden found {n_found} domains in {n_spots} spots with resolution {resolution:g}"
    if n_found > _MOST_DOMAINS:
        raise InputError(
            f"{text}; {_MOST_DOMAINS} are the most that figures and markers can show",
            where="cluster: resolution",
            hint=f"lower resolution, for example to {resolution / 10:g}; if it stays so at low values, the latent "
            "space has no structure: look at the curves of training",
        )
    if n_found > _MANY_DOMAINS:
        log.warning(
            "%s: colours can be told apart up to %d; a lower resolution gives fewer domains", text, _MANY_DOMAINS
        )


def _checked_embedding(embedding: np.ndarray) -> np.ndarray:
    embedding = np.asarray(embedding, dtype=np.float64)
    if embedding.ndim != 2 or 0 in embedding.shape:
        raise InputError(f"an embedding has the shape (spots, dimensions), not {embedding.shape}", where="cluster")
    n_bad = int((~np.isfinite(embedding)).any(axis=1).sum())
    if n_bad:
        raise InputError(
            f"the embedding of {n_bad} of {len(embedding)} spots holds NaN or infinity",
            where="cluster",
            hint="look at the training curves: a loss that became NaN calls for a smaller lr or a larger T",
        )
    return embedding


def _check_n_domains(n_domains: int | None, n_spots: int) -> None:
    if n_domains is None or n_domains < 1:
        raise InputError(
            f"the number of domains must be 1 or more, but it is {n_domains}",
            where="cluster: n_domains",
            hint="set n_domains, or choose method leiden, which needs a resolution instead",
        )
    if n_domains > n_spots:
        raise InputError(
            f"{n_domains} domains were asked for, but there are only {n_spots} spots",
            where="cluster: n_domains",
            hint="ask for fewer domains",
        )


def _whitened(embedding: np.ndarray) -> np.ndarray:
    """Rotate and scale to unit variance in every direction; directions without variance are left out.

    The tied mixture does not change under such a map, but Ward's clustering does: with Euclidean distances it follows
    the directions of largest variance, which are those between domains that are far apart anyway.
    """
    centred = embedding - embedding.mean(axis=0)
    variance, direction = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = variance > _SMALLEST_VARIANCE * variance[-1]
    if variance[-1] <= 0:
        raise InputError(
            "all spots have the same embedding", where="cluster", hint="look at the training curves and at the input"
        )
    if not kept.all():
        log.info("%d of %d dimensions of the embedding have no variance", (~kept).sum(), len(kept))
    return centred @ (direction[:, kept] / np.sqrt(variance[kept]))


def _sample(n_rows: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(n_rows) if n_rows <= limit else np.sort(rng.choice(n_rows, limit, replace=False))


def _two_subsets(n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Two subsets of rows without a row in common, as large as can be and as a start takes; shape (2, rows)."""
    size = min(n_rows // 2, _START_ROWS)
    return rng.permutation(n_rows)[: 2 * size].reshape(2, size)


def _mixtures(white: np.ndarray, numbers: Iterable[int]) -> list[GaussianMixture | None]:
    """A mixture for each number of domains, from cuts of one tree of Ward's; None where EM fails."""
    tree = linkage(white, "ward")
    fits = [
        _fit_mixture(white, _start_from(white, fcluster(tree, number, "maxclust") - 1), _COMPARE_TOLERANCE)
        for number in numbers
    ]
    return [None if isinstance(fit, str) else fit for fit in fits]


def _silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette, NaN where it has no meaning: all spots in one domain, or each in its own."""
    if not 1 < len(np.unique(labels)) < len(labels):
        return np.nan
    return silhouette_score(distances, labels, metric="precomputed")


def _largest_within_one_error(scores: pd.DataFrame) -> int:
    """The largest column whose mean is within one standard error of the best column's; NaN are left out."""
    mean, best = scores.mean(), scores.mean().idxmax()
    error = scores[best].sem() if scores[best].count() > 1 else 0.0
    return int(mean.index[mean >= mean[best] - error].max())


def _exchanged(fit: GaussianMixture, white: np.ndarray, rng: np.random.Generator) -> GaussianMixture:
    """The mixture after every exchange that gains: two domains that overlap are merged and a third is split.

    Exchanges are ranked by EM with a loose tolerance on as many spots as a start takes.
    """
    best = _classification_likelihood(fit, white)
    while len(fit.weights_) > 2:
        seen = white[_sample(len(white), _START_ROWS, rng)]
        posterior = fit.predict_proba(white)
        labels, overlap = posterior.argmax(axis=1), posterior.T @ posterior
        overlap /= np.sqrt(np.outer(overlap.diagonal(), overlap.diagonal()))
        pairs = sorted(combinations(range(len(overlap)), 2), key=lambda pair: -overlap[pair])[:_MERGES]
        tried = []
        for split, members in enumerate(np.flatnonzero(labels == domain) for domain in range(len(overlap))):
            if len(members) < 2:
                continue
            members = members[_sample(len(members), _START_ROWS // 2, rng)]
            halves = AgglomerativeClustering(2, linkage="ward").fit_predict(white[members] @ fit.precisions_cholesky_)
            for kept, freed in pairs:
                if split not in (kept, freed):
                    start = _exchange(fit, white, split, [members[halves == half] for half in (0, 1)], kept, freed)
                    tried.append(_fit_mixture(seen, start, _TRIAL_TOLERANCE))
        tried = [other for other in tried if not isinstance(other, str)]
        tried.sort(key=lambda other: _classification_likelihood(other, seen), reverse=True)
        refits = [_fit_mixture(white, _parameters(other), _COMPARE_TOLERANCE) for other in tried[:_REFITS]]
        gains = [(_classification_likelihood(other, white), other) for other in refits if not isinstance(other, str)]
        reached, other = max(gains, key=itemgetter(0), default=(best, fit))
        if reached < best + _EXCHANGE_GAIN:
            break
        best, fit = reached, other
    return fit


def _parameters(fit: GaussianMixture) -> dict[str, np.ndarray]:
    """To start from."""
    return {"weights": fit.weights_, "means": fit.means_, "precisions": fit.precisions_}


def _exchange(
    fit: GaussianMixture, white: np.ndarray, split: int, halves: Sequence[np.ndarray], kept: int, freed: int
) -> dict[str, np.ndarray]:
    """A start where ``kept`` has the spots of ``freed`` too, which has one half of those of ``split``."""
    weights, means = fit.weights_.copy(), fit.means_.copy()
    means[kept] = np.average(means[[kept, freed]], axis=0, weights=weights[[kept, freed]])
    weights[kept] += weights[freed]
    means[[split, freed]] = [white[rows].mean(axis=0) for rows in halves]
    weights[[split, freed]] = weights[split] * np.array([len(rows) for rows in halves]) / sum(map(len, halves))
    return {"weights": weights, "means": means, "precisions": fit.precisions_}


def _classification_likelihood(fit: GaussianMixture, white: np.ndarray) -> float:
    """Mean over spots of the log-likelihood less the entropy of the posterior."""
    posterior = fit.predict_proba(white)
    return fit.score(white) + float(special.xlogy(posterior, posterior).sum(axis=1).mean())


def _start_from(white: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Weights, means and pooled precision of clusters; none of the labels 0..k-1 is without rows."""
    n_domains = labels.max() + 1
    member = np.eye(n_domains)[labels]
    weights = member.mean(axis=0)
    means = member.T @ white / member.sum(axis=0)[:, None]
    residual = white - means[labels]
    covariance = residual.T @ residual / len(white) + _RIDGE * np.eye(white.shape[1])
    return {"weights": weights, "means": means, "precisions": np.linalg.inv(covariance)}


def _fit_mixture(white: np.ndarray, start: dict[str, np.ndarray], tolerance: float) -> GaussianMixture | str:
    """EM from ``start``; where it fails, the reason in words."""
    model = GaussianMixture(
        len(start["weights"]),
        covariance_type="tied",
        tol=tolerance,
        max_iter=_EM_ITERATIONS,
        reg_covar=_RIDGE,
        **{f"{name}_init": value for name, value in start.items()},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told through converged_
        try:
            labels = model.fit_predict(white)
        except ValueError as error:
            return f"EM broke down ({error})"
    if not model.converged_:
        return f"EM did not converge in {_EM_ITERATIONS} iterations"
    n_empty = model.n_components - len(np.unique(labels))
    return f"EM left {n_empty} of {model.n_components} domains without a spot" if n_empty else model


def _by_decreasing_size(labels: np.ndarray) -> np.ndarray:
    """Number labels from the largest group to the smallest; of equal groups the one that appears first comes first."""
    _, first, group, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(size), dtype=int)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[group]
