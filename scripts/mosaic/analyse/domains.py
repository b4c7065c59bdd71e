"""Tissue domains from an embedding: tissue field, tied-covariance Gaussian mixture, k-means or Leiden."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from mosaic.analyse.leiden import leiden_domains
from mosaic.analyse.mixture import checked_embedding, mixture_domains
from mosaic.analyse.n_domains import choose_by_bend, choose_by_silhouette, split_tree
from mosaic.analyse.random_field import View, views_of
from mosaic.analyse.tissue_field import FieldDomains, field_domains
from mosaic.config.clusterers import CLUSTERERS, OPTIONS
from mosaic.embedding import LATENT
from mosaic.errors import InputError
from mosaic.matrices import numbered_like

logger = logging.getLogger(__name__)

# Colours can be told apart up to the first; above the second, domains are crumbs that no figure or marker can show.
_MANY_DOMAINS = 30

_MOST_DOMAINS = 100


class Clustering(NamedTuple):
    """Domains of the spots.

    Attributes
    ----------
    labels
        Domain of each spot, shape (spots,), integers 0..k-1 from the largest domain to the smallest.
    posterior
        Probability of each domain, shape (spots, domains), rows sum to 1; None where the method has none.
    by_latent
        Domain of each spot by the latent space alone, matched with ``labels`` one to one, shape (spots,); None for
        methods that look at nothing else.
    """

    labels: np.ndarray
    posterior: np.ndarray | None
    by_latent: np.ndarray | None = None

    @property
    def weights(self) -> np.ndarray:
        """Each spot's share in each domain (spots, domains): the posterior, or 1 for the spot's domain."""
        return np.eye(self.labels.max() + 1)[self.labels] if self.posterior is None else self.posterior


def cluster_domains(
    embedding: np.ndarray,
    method: str = "mixture",
    *,
    n_domains: int | None = None,
    resolution: float | None = None,
    coordinates: np.ndarray | None = None,
    slices: np.ndarray | None = None,
    views: Sequence[View] | None = None,
    spatial_weight: float = 0,
    seed: int = 0,
) -> Clustering:
    """Group spots into tissue domains.

    Parameters
    ----------
    embedding
        Embedding of all spots of all slices, shape (spots, dimensions). Computed on in float64.
    method
        ``tissue``: hidden Markov random field on what the modalities measure (see :func:`field_domains`); ``mixture``:
        Gaussian mixture with one covariance for all domains (see :func:`mixture_domains`), the published choice;
        ``kmeans``; ``leiden``: communities of the nearest-neighbour graph. ``CLUSTERERS`` says what each needs.
    n_domains
        Number of domains; required by ``tissue``, ``mixture`` and ``kmeans``.
    resolution
        Leiden's resolution, above 0; required by ``leiden``, which finds the number of domains itself.
    coordinates, slices
        Place (spots x 2) and slice of each spot; required by ways that look at the tissue, and unused by others.
    views
        What each modality measures; required by ``tissue``.
    spatial_weight
        What the tissue weighs beside the latent space, for ``leiden`` (see :func:`leiden_domains`); 0: nothing.
    seed
        Seed of every random choice: one seed, one result.

    Returns
    -------
    Clustering
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
    tissue: list[Any] = []
    if way.views:
        if views is None:
            raise InputError(f"{way.label} needs what the modalities measure", where="cluster", hint="give views")
        tissue.append(views)
    if way.tissue:
        if coordinates is None or slices is None:
            raise InputError(f"{way.label} needs the spots' coordinates and slices", where="cluster")
        tissue += [np.asarray(coordinates, dtype=np.float64), np.asarray(slices)]
    options = {"spatial_weight": spatial_weight}
    for name in set(options) - set(way.options):
        if options.pop(name) != OPTIONS[name]:
            logger.warning("%s is not used: %s does not take it", name, way.label)
    found = FUNCTIONS[method](embedding, *tissue, size, seed, **options)
    by_latent = None
    if isinstance(found, FieldDomains):
        found, by_latent = found
    labels = found.argmax(axis=1) if way.probability else found
    if way.needs == "resolution":
        _check_n_found(way.label, len(np.unique(labels)), len(labels), size)
    numbered = _by_decreasing_size(labels)
    if not way.probability:
        return Clustering(numbered, None)
    _, first = np.unique(numbered, return_index=True)
    return Clustering(
        numbered, found[:, labels[first]], None if by_latent is None else numbered_like(by_latent, numbered)
    )


class Domains(NamedTuple):
    """Domains of a run.

    Attributes
    ----------
    table
        Per spot ``slice``, ``domain`` and, if the method has them, ``probability`` of that domain, and ``by_latent``,
        the domain by the latent space alone.
    weights
        See ``Clustering.weights``.
    curve, tree
        How the number of domains was chosen (``n_domains.Choice.curve``), and how domains split as it grows
        (``n_domains.split_tree``), where the choice itself stands for its number; None if it was given.
    """

    table: pd.DataFrame
    weights: np.ndarray
    curve: pd.DataFrame | None = None
    tree: pd.DataFrame | None = None


def domains_of(embedding: md.MuData, graphs: Mapping[str, ad.AnnData], settings: Mapping, seed: int) -> Domains:
    """Domains of an embedding by the settings of a run.

    Parameters
    ----------
    embedding
        As ``embedding.collect_embeddings`` returns it.
    graphs
        Per modality its graph, as ``graph.build_graph`` returns it; used by ways that look at what it measures.
    settings
        Section ``cluster`` of the config.
    seed
        Seed of every random choice.

    Raises
    ------
    InputError
        See ``cluster_domains``.
    """
    settings, choice, latent = dict(settings), None, embedding.obsm[LATENT]
    candidates = settings.pop("n_domains_range")
    place = {"coordinates": embedding.obsm["spatial"], "slices": embedding.obs["slice"].to_numpy()}
    views = views_of(graphs, embedding.obs_names) if CLUSTERERS[settings["method"]].views else None
    if settings["n_domains"] == "auto":
        if views is None:
            choice = choose_by_silhouette(latent, candidates, seed=seed)
        else:
            choice = choose_by_bend(latent, views, **place, n_domains_range=candidates, seed=seed)
        settings["n_domains"] = choice.n_domains
    found = cluster_domains(latent, **settings, **place, views=views, seed=seed)
    table = embedding.obs[["slice"]].assign(domain=found.labels)
    if found.posterior is not None:
        table["probability"] = found.posterior.max(axis=1)
    if found.by_latent is not None:
        table["by_latent"] = found.by_latent
    if choice is None:
        return Domains(table, found.weights)
    here = found.labels[choice.spots]
    return Domains(table, found.weights, choice.curve, split_tree(choice.labels | {choice.n_domains: here}, here))


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


# By the names in CLUSTERERS. Each takes the embedding, views, and coordinates and slices where CLUSTERERS says so, then
# the number of domains or the resolution, the seed, and further settings by name; and gives labels, or probabilities
# where CLUSTERERS says so.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tissue": field_domains,
    "mixture": mixture_domains,
    "kmeans": kmeans_domains,
    "leiden": leiden_domains,
}
