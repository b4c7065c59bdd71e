"""Tissue domains from an embedding: tied-covariance Gaussian mixture, k-means or Leiden."""

import logging
import warnings
from typing import Literal, NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from mosaic.analyse.leiden import _check_n_found, leiden_domains
from mosaic.analyse.mixture import mixture_domains
from mosaic.errors import InputError

logger = logging.getLogger(__name__)

Method = Literal["mixture", "kmeans", "leiden"]


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
    embedding = checked_embedding(embedding)
    if method == "leiden":
        if resolution is None or resolution <= 0:
            raise InputError(
                f"Leiden needs a resolution above 0, but it is {resolution}",
                where="cluster: resolution",
                hint="set resolution, for example 1.0; higher values give more domains",
            )
        if n_domains is not None:
            logger.warning(
                "n_domains = %s is not used: Leiden finds the number of domains from the resolution", n_domains
            )
        labels, probability = leiden_domains(embedding, resolution, seed), None
        _check_n_found(len(np.unique(labels)), len(labels), resolution)
    elif method in ("mixture", "kmeans"):
        n_domains = _checked_n_domains(n_domains, len(embedding))
        if resolution is not None:
            logger.warning("resolution = %s is not used: only Leiden has one", resolution)
        if method == "mixture":
            labels, probability = mixture_domains(embedding, n_domains, seed)
        else:
            labels, probability = kmeans_domains(embedding, n_domains, seed), None
    else:
        raise InputError(
            f"unknown clustering method '{method}'", where="cluster: method", hint="choose mixture, kmeans or leiden"
        )
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


def _checked_n_domains(n_domains: int | None, n_spots: int) -> int:
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
    return n_domains


def _by_decreasing_size(labels: np.ndarray) -> np.ndarray:
    """Number labels from the largest group to the smallest; of equal groups the one that appears first comes first."""
    _, first, group, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(size), dtype=int)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[group]
