"""A hidden Markov random field: what modalities measure of the spots, and their neighbours on the tissue."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import linalg, optimize, sparse, special
from sklearn.preprocessing import normalize

from mosaic.matrices import BLOCK_VALUES
from mosaic.spatial import tissue_neighbors, with_propagations

logger = logging.getLogger(__name__)

# As the default encoder; one or three change nothing.
PROPAGATIONS = 2

# Least variance of a feature within domains, as a share of the largest over all; and least number of spots of a domain.
_RIDGE = 1e-6
_LEAST = 1e-9


@dataclass(frozen=True, kw_only=True)
class FieldSettings:
    """How the field is fitted. docs/method.md has what each changes: none by more than the spread over seeds.

    Attributes
    ----------
    neighbors
        Spatial neighbours per spot.
    shrinkage
        Share of the covariance's off-diagonal that is dropped.
    slice_penalty
        How strongly the prior opposes domains that are more frequent in some slices than in others.
    most_strength
        Largest strength of the neighbours.
    sweeps
        Updates of the posterior in an E step, each damped by a half.
    rounds, tolerance
        EM stops when less than this share of the posterior moves, or after so many rounds.
    offset_rounds
        Alternations of means and slice offsets in an M step.
    most_start_spots
        Above this number of spots, starts are sought in regions of the slices of this size together.
    regions
        Number of these regions per slice.
    strength_spots
        The strength of the neighbours is estimated on at most so many spots.
    """

    neighbors: int = 6
    shrinkage: float = 0.3
    slice_penalty: float = 1.0
    most_strength: float = 20.0
    sweeps: int = 10
    rounds: int = 20
    tolerance: float = 1e-3
    offset_rounds: int = 10
    most_start_spots: int = 20_000
    regions: int = 16
    strength_spots: int = 20_000


DEFAULTS = FieldSettings()


class View(NamedTuple):
    """What one modality measures of the spots that have it.

    Attributes
    ----------
    rows
        Places of these spots among all spots, ascending, shape (n,).
    features
        Shape (n, features), float32, about zero.
    """

    rows: np.ndarray
    features: np.ndarray

    def part(self, spots: np.ndarray) -> "View":
        """The view of some spots alone, which are renumbered by their order."""
        _, here, there = np.intersect1d(self.rows, spots, assume_unique=True, return_indices=True)
        return View(there, self.features[here])


def views_of(
    graphs: Mapping[str, ad.AnnData], spots: pd.Index, n_steps: int = PROPAGATIONS, *, centred: bool = True
) -> list[View]:
    """Features of each modality and their propagations over its graph, about zero if ``centred``.

    Parameters
    ----------
    graphs
        Per modality its features (spots x d) and ``obsp["connectivities"]``.
    spots
        Names of the spots, in the order of the embedding; others of the graphs have no place in the views.
    n_steps
        Number of propagations.
    centred
        Whether the mean of each feature is subtracted.
    """
    views = []
    for graph in graphs.values():
        rows = spots.get_indexer(graph.obs_names)
        features = with_propagations(graph.X, graph.obsp["connectivities"], n_steps)
        if (rows < 0).any():
            rows, features = rows[rows >= 0], features[rows >= 0]
        if centred:
            features -= features.mean(axis=0, dtype=np.float64).astype(np.float32)
        order = np.argsort(rows, kind="stable")
        # Slices are stacked in one order in all files, so that this copies nothing.
        views.append(View(rows, features) if (order[1:] > order[:-1]).all() else View(rows[order], features[order]))
    return views


class Field(NamedTuple):
    """A fitted field.

    Attributes
    ----------
    posterior
        Probability of each domain, shape (spots, domains), float32.
    objective
        Mean-field objective per spot, in nats. It lacks the constant of the prior, which grows with the strength, so
        that it compares fits of like strength only.
    likelihood
        Log-likelihood per spot of the views by the mixture of the domains, in nats: what they explain without their
        neighbours, whatever the strength. Of fits to the same views, the larger is the better.
    strength
        Weight of the neighbours.
    """

    posterior: np.ndarray
    objective: float
    likelihood: float
    strength: float


def averages(coordinates: np.ndarray, slices: np.ndarray, settings: FieldSettings = DEFAULTS) -> sparse.csr_matrix:
    """Average over the neighbours of each spot on the tissue, as ``fit_field`` takes it (spots x spots)."""
    return normalize(tissue_neighbors(coordinates, slices, settings.neighbors), norm="l1")


def n_found(posterior: np.ndarray) -> int:
    """Number of domains that are the likeliest of some spot."""
    return len(np.unique(posterior.argmax(axis=1)))


class _Emission:
    """The Gaussian log-likelihood of one view, fitted from moments: a round takes two products with the features."""

    def __init__(self, view: View, slices: np.ndarray, settings: FieldSettings, *, offsets: bool):
        self.view, self.settings, self.offsets = view, settings, offsets
        self.slices = slices[view.rows]
        self.members = sparse.csr_matrix(
            (np.ones(len(view.rows), dtype=np.float32), (self.slices, np.arange(len(view.rows)))),
            shape=(slices.max() + 1, len(view.rows)),
        )
        n_features = view.features.shape[1]
        self.second = np.zeros((n_features, n_features))
        n_rows = max(1, BLOCK_VALUES // n_features)
        for first in range(0, len(view.rows), n_rows):
            block = view.features[first : first + n_rows].astype(np.float64)
            self.second += block.T @ block

        # Of the last fit: domains x features, and features x features.
        self.mean, self.covariance = np.empty((0, n_features)), np.empty((n_features, n_features))
        self.least_variance = max(_RIDGE * self.second.diagonal().max() / max(len(view.rows), 1), _LEAST)

    def fit(self, posterior: np.ndarray) -> tuple[np.ndarray, float]:
        """Log-likelihood of the view's spots in each domain (n, domains), and a constant for all of them together."""
        weight = posterior[self.view.rows]
        sizes = np.asarray(self.members @ weight, dtype=np.float64)  # slices x domains
        sums = self._sums(weight)  # slices x domains x features
        mean, offset = self._centres(sizes, sums)
        n_spots, of_slice = sizes.sum(), sizes.sum(axis=1)
        centres = offset[:, None] + mean
        cross = np.tensordot(sums, centres, axes=([0, 1], [0, 1]))
        squares = np.tensordot(centres * sizes[..., None], centres, axes=([0, 1], [0, 1]))
        scatter = (self.second - cross - cross.T + squares) / n_spots
        diagonal = scatter.diagonal()
        covariance = (1 - self.settings.shrinkage) * scatter
        np.fill_diagonal(covariance, np.maximum(diagonal, self.least_variance))
        self.mean, self.covariance = mean, covariance
        factor = linalg.cho_factor(covariance, lower=True)
        directions = linalg.cho_solve(factor, mean.T)  # features x domains
        level = offset @ directions + 0.5 * (mean.T * directions).sum(axis=0)  # slices x domains
        log = self.view.features @ directions.astype(np.float32)
        log -= level.astype(np.float32)[self.slices]
        cross = sums.sum(axis=1).T @ offset
        about = self.second - cross - cross.T + (offset.T * of_slice) @ offset
        log_determinant = 2 * np.log(factor[0].diagonal()).sum()
        return log, -0.5 * (np.trace(linalg.cho_solve(factor, about)) + n_spots * log_determinant)

    def _sums(self, weight: np.ndarray) -> np.ndarray:
        return np.stack(
            [
                weight[own].T @ self.view.features[own]
                for own in (self.slices == number for number in range(self.members.shape[0]))
            ]
        ).astype(np.float64)

    def _centres(self, sizes: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means of the domains, and offsets of the slices, whose mean is zero."""
        of_slice, of_domain = sizes.sum(axis=1), np.maximum(sizes.sum(axis=0), _LEAST)
        offset = np.zeros((len(sizes), sums.shape[2]))
        if not self.offsets:
            return sums.sum(axis=0) / of_domain[:, None], offset
        there = of_slice > 0
        for _ in range(self.settings.offset_rounds):
            mean = (sums.sum(axis=0) - sizes.T @ offset) / of_domain[:, None]
            offset[there] = (sums[there].sum(axis=1) - sizes[there] @ mean) / of_slice[there, None]
            offset[there] -= offset[there].mean(axis=0)
        return mean, offset


def fit_field(
    views: Sequence[View],
    graph: sparse.csr_matrix,
    slices: np.ndarray,
    start: np.ndarray,
    *,
    offsets: bool = True,
    free: np.ndarray | None = None,
    settings: FieldSettings = DEFAULTS,
) -> Field:
    """Fit a field by mean-field EM from a start. Time and memory are linear in the number of spots.

    EM stops before a domain would lose its last spot, so each domain of the start stays the likeliest of some spot.

    Parameters
    ----------
    views
        What each modality measures.
    graph
        Average over the neighbours on the tissue (spots x spots); rows sum to 1, or to 0.
    slices
        Number of each spot's slice, from 0, shape (spots,).
    start
        Probability of each domain, shape (spots, domains).
    offsets
        Whether each slice has an offset in each view.
    free
        bool (spots), the spots whose domain is sought; others keep their start. None: all spots.
    settings
        See ``FieldSettings``.
    """
    emissions = [_Emission(view, slices, settings, offsets=offsets) for view in views]
    posterior = np.ascontiguousarray(start, dtype=np.float32)
    n_spots = len(posterior)
    members = sparse.csr_matrix((np.ones(n_spots, dtype=np.float32), (slices, np.arange(n_spots))))
    of_slice = np.bincount(slices)
    fixed = None if free is None else np.flatnonzero(~free)
    n_free = n_spots if free is None else max(int(free.sum()), 1)
    sampled = np.linspace(0, n_spots - 1, min(n_spots, settings.strength_spots)).astype(int)
    around = graph @ posterior
    for _ in range(settings.rounds):
        before = posterior
        log, constant = np.zeros_like(posterior), 0.0
        for emission in emissions:
            own, own_constant = emission.fit(posterior)
            log[emission.view.rows] += own
            constant += own_constant
        log_share = np.log(np.maximum(posterior.mean(axis=0, dtype=np.float64), _LEAST))
        expected, observed = np.outer(of_slice, np.exp(log_share)), members @ posterior
        prior = log_share + settings.slice_penalty * np.log((expected + 1) / (observed + 1))
        strength = _strength(posterior[sampled], around[sampled], log_share, settings.most_strength)
        evidence = log + prior.astype(np.float32)[slices]
        for _ in range(settings.sweeps):
            posterior = (posterior + special.softmax(evidence + np.float32(strength) * around, axis=1)) / 2
            if fixed is not None:
                posterior[fixed] = before[fixed]
            around = graph @ posterior
        if n_found(posterior) < n_found(before):
            logger.info("stopped before a domain would lose its last spot")
            posterior, around = before, graph @ before
            break
        if np.abs(posterior - before).sum() / (2 * n_free) < settings.tolerance:
            break
    log += log_share.astype(np.float32)
    likelihood = special.logsumexp(log, axis=1).sum(dtype=np.float64) + constant
    reached = (posterior * log).sum(dtype=np.float64) + constant
    reached += special.entr(posterior).sum(dtype=np.float64) + strength / 2 * np.vdot(posterior, around)
    return Field(posterior, float(reached) / n_spots, float(likelihood) / n_spots, strength)


class FieldModel(NamedTuple):
    """A fitted field without its spots: what assigns those of a new slice.

    Attributes
    ----------
    domains
        Numbers of the domains (domains).
    shares
        Share of the spots in each (domains).
    strength
        See ``Field``.
    centres, means, covariances
        Per view what is subtracted from its features (features), the mean of each domain (domains x features), and the
        covariance of all (features x features).
    """

    domains: np.ndarray
    shares: np.ndarray
    strength: float
    centres: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    covariances: dict[str, np.ndarray]


def field_model(
    views: Mapping[str, View],
    coordinates: np.ndarray,
    slices: np.ndarray,
    labels: np.ndarray,
    *,
    tissue: bool = True,
    settings: FieldSettings = DEFAULTS,
) -> FieldModel:
    """The model of a field from the domains that it gave.

    Parameters
    ----------
    views
        Per name what is measured of the spots that have it, not centred.
    coordinates, slices
        Place (spots x 2) and slice of each spot.
    labels
        Number of each spot's domain.
    tissue
        Whether neighbours on the tissue count and slices have offsets; without, this is the linear discriminant
        analysis of the views, for domains of a clustering that does not look at the tissue.
    settings
        See ``FieldSettings``.
    """
    numbers, own = np.unique(labels, return_inverse=True)
    _, slices = np.unique(np.asarray(slices).astype(str), return_inverse=True)
    centres = {name: view.features.mean(axis=0, dtype=np.float64) for name, view in views.items()}
    about = {name: View(view.rows, (view.features - centres[name]).astype(np.float32)) for name, view in views.items()}
    posterior, strength = np.eye(len(numbers), dtype=np.float32)[own], 0.0
    if tissue:
        once = replace(settings, rounds=1)
        found = fit_field(
            list(about.values()), averages(coordinates, slices, settings), slices, posterior, settings=once
        )
        posterior, strength = found.posterior, found.strength
    emissions = {name: _Emission(view, slices, settings, offsets=tissue) for name, view in about.items()}
    for emission in emissions.values():
        emission.fit(posterior)
    return FieldModel(
        numbers,
        posterior.mean(axis=0, dtype=np.float64),
        strength,
        centres,
        {name: emission.mean for name, emission in emissions.items()},
        {name: emission.covariance for name, emission in emissions.items()},
    )


def assign_domains(
    model: FieldModel, views: Mapping[str, View], coordinates: np.ndarray, settings: FieldSettings = DEFAULTS
) -> np.ndarray:
    """Domains of the spots of one new slice, by the model of a reference and the slice's own tissue.

    The domains keep their means, covariance, shares and strength of the neighbours. The slice has an offset in each
    view, which EM estimates, as each slice of the reference had.

    Parameters
    ----------
    model
        Of the reference.
    views
        Views of the slice, not centred, by their names in the model; each spot has one at least.
    coordinates
        Spots x 2.
    settings
        See ``FieldSettings``.

    Returns
    -------
    Probability of each domain (spots x domains, float64).
    """
    n_spots = len(coordinates)
    graph = averages(coordinates, np.zeros(n_spots, dtype=int), settings)
    about = {name: view.features - model.centres[name] for name, view in views.items()}
    directions = {name: np.linalg.solve(model.covariances[name], model.means[name].T) for name in views}
    levels = {name: 0.5 * (model.means[name].T * directions[name]).sum(axis=0) for name in views}
    offsets = {name: np.zeros(len(model.centres[name])) for name in views}
    posterior = np.tile(model.shares, (n_spots, 1))
    for _ in range(settings.rounds):
        before = posterior
        evidence = np.tile(np.log(np.maximum(model.shares, _LEAST)), (n_spots, 1))
        for name, view in views.items():
            evidence[view.rows] += (about[name] - offsets[name]) @ directions[name] - levels[name]
        if not model.strength:
            return special.softmax(evidence, axis=1)
        for _ in range(settings.sweeps):
            posterior = (posterior + special.softmax(evidence + model.strength * (graph @ posterior), axis=1)) / 2
        for name, view in views.items():
            offsets[name] = (about[name] - posterior[view.rows] @ model.means[name]).mean(axis=0)
        if np.abs(posterior - before).sum() / (2 * n_spots) < settings.tolerance:
            break
    return posterior


def _strength(posterior: np.ndarray, around: np.ndarray, log_share: np.ndarray, most: float) -> float:
    """The strength of the highest pseudo-likelihood."""

    def loss(strength: float) -> float:
        field = log_share + strength * around
        return -float((posterior * field).sum() - special.logsumexp(field, axis=1).sum())

    return float(optimize.minimize_scalar(loss, bounds=(0, most), method="bounded").x)
