"""Gaussian mixture with one covariance for all domains (mclust EEE)."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
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

# Added to the within-domain covariance, in units of the embedding's variance (1 after whitening).
_RIDGE = 1e-6

# Relative variance below which a direction is float32 rounding, not signal.
_SMALLEST_VARIANCE = 1e-10


@dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """How a mixture is sought. EM often converges to a poor local optimum: 1 in 10 starts, on some data 9 in 10.

    Attributes
    ----------
    starts
        Number of starts, half on the whitened embedding.
    start_rows
        Maximum number of rows for Ward's clustering, whose memory and time are quadratic (as in R's mclust).
    start_share
        With few spots, the proportion that each start uses, so that starts differ.
    compare_rows, compare_tolerance
        Starts are compared on at most this many rows and with a loose tolerance; only the best is fitted to
        convergence.
    merges
        Number of pairs of domains, those that overlap most, whose merger an exchange tries; 0: no exchanges.
    trial_tolerance, refits, gain
        Exchanges are ranked by EM with a looser tolerance; the best are fitted again, and one must gain this much in
        likelihood per spot.
    tolerance, iterations
        EM stops when the mean log-likelihood per spot gains less than the tolerance, and fails after so many
        iterations.
    """

    starts: int = 10
    start_rows: int = 2000
    start_share: float = 0.8
    compare_rows: int = 20_000
    compare_tolerance: float = 1e-3
    merges: int = 5
    trial_tolerance: float = 1e-2
    refits: int = 3
    gain: float = 1e-3
    tolerance: float = 1e-5
    iterations: int = 1000


DEFAULTS = MixtureSettings()


def mixture_domains(
    embedding: np.ndarray, n_domains: int, seed: int, settings: MixtureSettings = DEFAULTS
) -> np.ndarray:
    """Gaussian mixture with one tied covariance, EM started from hierarchical clustering.

    This is the EEE model of mclust (Scrucca et al., R Journal 2016), which SpaMosaic uses for domains. As in mclust,
    EM starts from a hierarchical clustering: from k-means it loses 0.15 ARI if ``n_domains`` exceeds the true number. A
    start is Ward's clustering of a seeded subset of at most 2000 spots, alternately of the whitened and of the original
    embedding. Of ten starts, the one with the highest classification likelihood is kept: the likelihood minus the
    entropy of the posterior, as in the integrated completed likelihood (Biernacki, Celeux and Govaert, IEEE PAMI 2000).
    By the likelihood alone, a mixture that merges two domains and splits another by slice can tie with the correct one.
    EM cannot leave such an optimum, so two domains are merged and a third is split while that improves the mixture
    (Ueda et al., Neural Computation 2000). Time is linear in the number of spots.

    Parameters
    ----------
    embedding
        Shape (spots, dimensions), finite.
    n_domains
        Number of domains, at least 1.
    seed
        Seed of the subsets.
    settings
        Where the search differs from what is said above.

    Returns
    -------
    Probability of each domain, shape (spots, domains); every domain is the likeliest of some spot.

    Raises
    ------
    InputError
        If the model needs more spots, EM does not converge, or a domain has no spots.
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
    rows = sample_rows(n_spots, settings.compare_rows, rng)
    compared = white[rows]
    start_rows = max(min(settings.start_rows, int(settings.start_share * len(compared))), n_domains)
    fits = []
    for space in (compared, embedding[rows]) * (settings.starts // 2):
        subset = sample_rows(len(compared), start_rows, rng)
        labels = AgglomerativeClustering(n_domains, linkage="ward").fit_predict(space[subset]) if n_domains > 1 else 0
        start = start_from(compared[subset], np.broadcast_to(labels, len(subset)))
        fits.append(fit_mixture(compared, start, settings.compare_tolerance, settings.iterations))
    usable = [fit for fit in fits if not isinstance(fit, str)]
    usable.sort(key=lambda fit: _classification_likelihood(fit, compared), reverse=True)
    outcome = fits[0]
    for fit in [_exchanged(usable[0], compared, rng, settings), *usable] if usable else []:
        outcome = fit_mixture(white, _parameters(fit), settings.tolerance, settings.iterations)
        if not isinstance(outcome, str):
            break
    if isinstance(outcome, str):
        raise InputError(
            f"the Gaussian mixture of {n_domains} domains failed: {outcome}",
            where="cluster",
            hint="ask for fewer domains, or choose method kmeans or leiden",
        )
    logger.info("mixture of %d domains: mean log-likelihood %.4f", n_domains, outcome.lower_bound_)
    return outcome.predict_proba(white)


def checked_embedding(embedding: np.ndarray) -> np.ndarray:
    """The embedding in double precision (spots x dimensions); InputError where it is no matrix of finite numbers."""
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


def whitened(embedding: np.ndarray) -> np.ndarray:
    """Rotate and scale to unit variance in every direction; drops directions without variance.

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


def _exchanged(
    fit: GaussianMixture, white: np.ndarray, rng: np.random.Generator, settings: MixtureSettings = DEFAULTS
) -> GaussianMixture:
    """Improve a mixture by exchanges: merge two overlapping domains and split a third, while that gains.

    Exchanges are ranked by EM with a loose tolerance on ``start_rows`` spots.
    """
    best = _classification_likelihood(fit, white)
    while len(fit.weights_) > 2:
        seen = white[sample_rows(len(white), settings.start_rows, rng)]
        posterior = fit.predict_proba(white)
        labels, overlap = posterior.argmax(axis=1), posterior.T @ posterior
        overlap /= np.sqrt(np.outer(overlap.diagonal(), overlap.diagonal()))
        pairs = sorted(combinations(range(len(overlap)), 2), key=lambda pair: -overlap[pair])[: settings.merges]
        tried = []
        for split, members in enumerate(np.flatnonzero(labels == domain) for domain in range(len(overlap))):
            if len(members) < 2:
                continue
            members = members[sample_rows(len(members), settings.start_rows // 2, rng)]
            halves = AgglomerativeClustering(2, linkage="ward").fit_predict(white[members] @ fit.precisions_cholesky_)
            for kept, freed in pairs:
                if split not in (kept, freed):
                    start = _exchange(fit, white, split, [members[halves == half] for half in (0, 1)], kept, freed)
                    tried.append(fit_mixture(seen, start, settings.trial_tolerance, settings.iterations))
        tried = [other for other in tried if not isinstance(other, str)]
        tried.sort(key=lambda other: _classification_likelihood(other, seen), reverse=True)
        refits = [
            fit_mixture(white, _parameters(other), settings.compare_tolerance, settings.iterations)
            for other in tried[: settings.refits]
        ]
        gains = [(_classification_likelihood(other, white), other) for other in refits if not isinstance(other, str)]
        reached, other = max(gains, key=itemgetter(0), default=(best, fit))
        if reached < best + settings.gain:
            break
        best, fit = reached, other
    return fit


def _parameters(fit: GaussianMixture) -> dict[str, np.ndarray]:
    """Start parameters of EM."""
    return {"weights": fit.weights_, "means": fit.means_, "precisions": fit.precisions_}


def _exchange(
    fit: GaussianMixture, white: np.ndarray, split: int, halves: Sequence[np.ndarray], kept: int, freed: int
) -> dict[str, np.ndarray]:
    """A start in which ``kept`` also has the spots of ``freed``, and ``freed`` gets one half of those of ``split``."""
    weights, means = fit.weights_.copy(), fit.means_.copy()
    means[kept] = np.average(means[[kept, freed]], axis=0, weights=weights[[kept, freed]])
    weights[kept] += weights[freed]
    means[[split, freed]] = [white[rows].mean(axis=0) for rows in halves]
    weights[[split, freed]] = weights[split] * np.array([len(rows) for rows in halves]) / sum(map(len, halves))
    return {"weights": weights, "means": means, "precisions": fit.precisions_}


def _classification_likelihood(fit: GaussianMixture, white: np.ndarray) -> float:
    """Mean over spots of the log-likelihood minus the entropy of the posterior."""
    posterior = fit.predict_proba(white)
    return fit.score(white) + float(special.xlogy(posterior, posterior).sum(axis=1).mean())


def start_from(white: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Weights, means and pooled precision of clusters; every label 0..k-1 has rows."""
    n_domains = labels.max() + 1
    member = np.eye(n_domains)[labels]
    weights = member.mean(axis=0)
    means = member.T @ white / member.sum(axis=0)[:, None]
    residual = white - means[labels]
    covariance = residual.T @ residual / len(white) + _RIDGE * np.eye(white.shape[1])
    return {"weights": weights, "means": means, "precisions": np.linalg.inv(covariance)}


def fit_mixture(
    white: np.ndarray, start: dict[str, np.ndarray], tolerance: float, iterations: int = DEFAULTS.iterations
) -> GaussianMixture | str:
    """Run EM from ``start``; return the reason as text if it fails."""
    model = GaussianMixture(
        len(start["weights"]),
        covariance_type="tied",
        tol=tolerance,
        max_iter=iterations,
        reg_covar=_RIDGE,
        **{f"{name}_init": value for name, value in start.items()},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported by converged_
        try:
            labels = model.fit_predict(white)
        except ValueError as error:
            return f"EM broke down ({error})"
    if not model.converged_:
        return f"EM did not converge in {iterations} iterations"
    n_empty = model.n_components - len(np.unique(labels))
    return f"EM left {n_empty} of {model.n_components} domains without a spot" if n_empty else model
