"""Domains by a Gaussian mixture with one covariance for all."""

import logging
import warnings
from collections.abc import Sequence
from itertools import combinations
from operator import itemgetter

import numpy as np
from scipy import special
from sklearn.cluster import AgglomerativeClustering
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from mosaic.errors import InputError
from mosaic.matrices import sample_rows

logger = logging.getLogger(__name__)

# Ward's clustering needs memory and time quadratic in its rows, so it sees at most this many (as in R's mclust).
START_ROWS = 2000

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
COMPARE_ROWS = 20_000

COMPARE_TOLERANCE = 1e-3

# EM stops when the mean log-likelihood of a spot gains less than this.
_EM_TOLERANCE = 1e-5

_EM_ITERATIONS = 1000

# On top of the within-domain covariance, in units of the embedding's variance (which whitening makes 1).
_RIDGE = 1e-6

# A direction whose variance is this far below the largest is float32 rounding, not signal.
_SMALLEST_VARIANCE = 1e-10


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
    white = whitened(embedding)
    n_spots, n_dimensions = white.shape
    if n_spots <= n_dimensions + n_domains:
        raise InputError(
            f"{n_spots} spots are too few for a mixture of {n_domains} domains in {n_dimensions} dimensions: "
            f"it needs more than {n_dimensions + n_domains}",
            where="cluster",
            hint="choose method kmeans, or reduce the dimensions",
        )
    rng = np.random.default_rng(seed)
    rows = sample_rows(n_spots, COMPARE_ROWS, rng)
    compared = white[rows]
    start_rows = max(min(START_ROWS, int(_START_SHARE * len(compared))), n_domains)
    fits = []
    for space in (compared, embedding[rows]) * (_STARTS // 2):
        subset = sample_rows(len(compared), start_rows, rng)
        labels = AgglomerativeClustering(n_domains, linkage="ward").fit_predict(space[subset]) if n_domains > 1 else 0
        start = start_from(compared[subset], np.broadcast_to(labels, len(subset)))
        fits.append(fit_mixture(compared, start, COMPARE_TOLERANCE))
    usable = [fit for fit in fits if not isinstance(fit, str)]
    usable.sort(key=lambda fit: _classification_likelihood(fit, compared), reverse=True)
    outcome = fits[0]
    for fit in [_exchanged(usable[0], compared, rng), *usable] if usable else []:
        outcome = fit_mixture(white, _parameters(fit), _EM_TOLERANCE)
        if not isinstance(outcome, str):
            break
    if isinstance(outcome, str):
        raise InputError(
            f"the Gaussian mixture of {n_domains} domains failed: {outcome}",
            where="cluster",
            hint="ask for fewer domains, or choose method kmeans or leiden",
        )
    logger.info("mixture of %d domains: mean log-likelihood %.4f", n_domains, outcome.lower_bound_)
    posterior = outcome.predict_proba(white)
    return posterior.argmax(axis=1), posterior.max(axis=1)


def whitened(embedding: np.ndarray) -> np.ndarray:
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
        logger.info("%d of %d dimensions of the embedding have no variance", (~kept).sum(), len(kept))
    return centred @ (direction[:, kept] / np.sqrt(variance[kept]))


def _exchanged(fit: GaussianMixture, white: np.ndarray, rng: np.random.Generator) -> GaussianMixture:
    """The mixture after every exchange that gains: two domains that overlap are merged and a third is split.

    Exchanges are ranked by EM with a loose tolerance on as many spots as a start takes.
    """
    best = _classification_likelihood(fit, white)
    while len(fit.weights_) > 2:
        seen = white[sample_rows(len(white), START_ROWS, rng)]
        posterior = fit.predict_proba(white)
        labels, overlap = posterior.argmax(axis=1), posterior.T @ posterior
        overlap /= np.sqrt(np.outer(overlap.diagonal(), overlap.diagonal()))
        pairs = sorted(combinations(range(len(overlap)), 2), key=lambda pair: -overlap[pair])[:_MERGES]
        tried = []
        for split, members in enumerate(np.flatnonzero(labels == domain) for domain in range(len(overlap))):
            if len(members) < 2:
                continue
            members = members[sample_rows(len(members), START_ROWS // 2, rng)]
            halves = AgglomerativeClustering(2, linkage="ward").fit_predict(white[members] @ fit.precisions_cholesky_)
            for kept, freed in pairs:
                if split not in (kept, freed):
                    start = _exchange(fit, white, split, [members[halves == half] for half in (0, 1)], kept, freed)
                    tried.append(fit_mixture(seen, start, _TRIAL_TOLERANCE))
        tried = [other for other in tried if not isinstance(other, str)]
        tried.sort(key=lambda other: _classification_likelihood(other, seen), reverse=True)
        refits = [fit_mixture(white, _parameters(other), COMPARE_TOLERANCE) for other in tried[:_REFITS]]
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


def start_from(white: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Weights, means and pooled precision of clusters; none of the labels 0..k-1 is without rows."""
    n_domains = labels.max() + 1
    member = np.eye(n_domains)[labels]
    weights = member.mean(axis=0)
    means = member.T @ white / member.sum(axis=0)[:, None]
    residual = white - means[labels]
    covariance = residual.T @ residual / len(white) + _RIDGE * np.eye(white.shape[1])
    return {"weights": weights, "means": means, "precisions": np.linalg.inv(covariance)}


def fit_mixture(white: np.ndarray, start: dict[str, np.ndarray], tolerance: float) -> GaussianMixture | str:
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
