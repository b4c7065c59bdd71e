"""Tissue domains from an embedding: tied-covariance Gaussian mixture, k-means or Leiden."""

import logging
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from mosaic.analyse.leiden import leiden_domains
from mosaic.analyse.mixture import mixture_domains
from mosaic.config.clusterers import CLUSTERERS, OPTIONS
from mosaic.errors import InputError

logger = logging.getLogger(__name__)

# Colours can be told apart up to the first; above the second, domains are crumbs that no figure or marker can show.
_MANY_DOMAINS = 30

_MOST_DOMAINS = 100


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
    method: str = "mixture",
    *,
    n_domains: int | None = None,
    resolution: float | None = None,
    coordinates: np.ndarray | None = None,
    slices: np.ndarray | None = None,
    spatial_weight: float = 0,
    seed: int = 0,
) -> DomainLabels:
    """Group spots into tissue domains.

    Parameters
    ----------
    embedding
        Embedding of all spots of all slices, shape (spots, dimensions). Computed on in float64.
    method
        ``mixture``: Gaussian mixture with one covariance for all domains (see :func:`mixture_domains`), the published
        choice; ``kmeans``; ``leiden``: communities of the nearest-neighbour graph. ``CLUSTERERS`` says what each needs.
    n_domains
        Number of domains; required by ``mixture`` and ``kmeans``.
    resolution
        Leiden's resolution, above 0; required by ``leiden``, which finds the number of domains itself.
    coordinates, slices
        Place (spots x 2) and slice of each spot; required by ways that look at the tissue, and unused by others.
    spatial_weight
        What the tissue weighs beside the latent space, for ``leiden`` (see :func:`leiden_domains`); 0: nothing.
    seed
        Seed of every random choice: one seed, one result.

    Returns
    -------
    DomainLabels
        Labels ordered by decreasing size, and posterior probabilities where the method has them.

    Raises
    ------
    InputError
        If a needed setting is missing or out of range, the embedding holds NaN or infinity, more domains are asked for
        than there are spots, the method cannot find that many, or one that goes by a resolution finds more than 100.
        No method ever stands in for another.
    """
    embedding = checked_embedding(embedding)
    if method not in CLUSTERERS:
        raise InputError(
            f"unknown clustering method '{method}'",
            where="cluster: method",
            hint=f"choose one of: {', '.join(CLUSTERERS)}",
        )
    way = CLUSTERERS[method]
    if way.needs == "n_domains":
        _check_n_domains(n_domains, len(embedding))
    elif resolution is None or resolution <= 0:
        raise InputError(
            f"{way.label} needs a resolution above 0, but it is {resolution}",
            where="cluster: resolution",
            hint="set resolution, for example 1.0; higher values give more domains",
        )
    given: dict[str, Any] = {"n_domains": n_domains, "resolution": resolution}
    size = given.pop(way.needs)
    for name, value in given.items():
        if value is not None:
            logger.warning("%s = %s is not used: %s goes by %s", name, value, way.label, way.needs)
    tissue: tuple[np.ndarray, ...] = ()
    if way.tissue:
        if coordinates is None or slices is None:
            raise InputError(f"{way.label} needs the spots' coordinates and slices", where="cluster")
        tissue = (np.asarray(coordinates, dtype=np.float64), np.asarray(slices))
    options = {"spatial_weight": spatial_weight}
    for name in set(options) - set(way.options):
        if options.pop(name) != OPTIONS[name]:
            logger.warning("%s is not used: %s does not take it", name, way.label)
    found = FUNCTIONS[method](embedding, *tissue, size, seed, **options)
    labels, probability = found if way.probability else (found, None)
    if way.needs == "resolution":
        _check_n_found(way.label, len(np.unique(labels)), len(labels), size)
    return DomainLabels(_by_decreasing_size(labels), probability)


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


def _check_n_found(label: str, n_found: int, n_spots: int, resolution: float) -> None:
    """Whether a way that chooses the number of domains found so few that they can be looked at."""
    text = f"{label} found {n_found} domains in {n_spots} spots with resolution {resolution:g}"
    if n_found > _MOST_DOMAINS:
        raise InputError(
            f"{text}; {_MOST_DOMAINS} are the most that figures and markers can show",
            where="cluster: resolution",
            hint=f"lower resolution, for example to {resolution / 10:g}; if it stays so at low values, the latent "
            "space has no structure: look at the curves of training",
        )
    if n_found > _MANY_DOMAINS:
        logger.warning(
            "%s: colours can be told apart up to %d; a lower resolution gives fewer domains", text, _MANY_DOMAINS
        )


def _by_decreasing_size(labels: np.ndarray) -> np.ndarray:
    """Number labels from the largest group to the smallest; of equal groups the one that appears first comes first."""
    _, first, group, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(size), dtype=int)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[group]


# By the names in CLUSTERERS. Each takes the embedding, coordinates and slices where it looks at the tissue, then the
# number of domains or the resolution, and the seed, and by name its options; and gives labels, and probabilities where
# CLUSTERERS says so.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mixture": mixture_domains,
    "kmeans": kmeans_domains,
    "leiden": leiden_domains,
}
