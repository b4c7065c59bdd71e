"""Domains by a hidden Markov random field: the search for its best fit."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import KDTree
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mosaic.analyse.alignment import align_domains
from mosaic.analyse.mixture import MixtureSettings, mixture_domains, whitened
from mosaic.analyse.random_field import DEFAULTS, Field, FieldSettings, View, averages, fit_field, n_found
from mosaic.errors import InputError

logger = logging.getLogger(__name__)

# Starts are many, and the field leaves poor ones, so that the search for a better mixture by exchanges is not needed.
_MIXTURE = MixtureSettings(merges=0)

_LATENT = "the latent space"
# Share of the spots in regions of large slices that keep their domain when all spots are fitted; below, a warning.
_LEAST_KEPT = 0.5


class FieldDomains(NamedTuple):
    """Domains by the field.

    Attributes
    ----------
    posterior
        Probability of each domain, shape (spots, domains), float32; every domain is the likeliest of some spot.
    by_latent
        Domains by the mixture of the latent space alone, the first start, in numbers of its own, shape (spots,); None
        where no mixture can be fitted.
    """

    posterior: np.ndarray
    by_latent: np.ndarray | None


def field_domains(
    embedding: np.ndarray,
    views: Sequence[View],
    coordinates: np.ndarray,
    slices: np.ndarray,
    n_domains: int,
    seed: int,
    settings: FieldSettings = DEFAULTS,
) -> FieldDomains:
    """Find domains that see the tissue and what was measured, from a start in the latent space.

    A hidden Markov random field, fitted by mean-field EM (Celeux, Forbes and Peyrard, Pattern Recognition 2003). Each
    modality's features, propagated over its graph, are Gaussian around the mean of the domain, with one covariance for
    all domains and an offset for each slice. The modalities of a spot add their log-likelihoods, so a spot with one
    modality has one term. The prior of a spot's domain follows its neighbours on the tissue, with a strength that the
    pseudo-likelihood estimates in each round, as do Potts models of tissue domains (BayesSpace, Zhao et al., Nature
    Biotechnology 2021; BASS, Li and Zhou, Genome Biology 2022), and opposes domains that follow the slice.

    EM needs to begin near the result. The latent space says which cluster of one modality is which of another, so it
    gives the starts: the mixture of the latent space; that of the latent space aligned by the domains of this mixture;
    that of the latent space averaged over the neighbours on the tissue and theirs, in which a domain of several cell
    types is one (as in CellCharter, Varrone et al., Nature Genetics 2024); and that of the spots with two modalities or
    more, carried to the others. Each is smoothed by a field on the latent space. The field of the highest likelihood is
    kept.

    Parameters
    ----------
    embedding
        Latent coordinates, shape (spots, dimensions), finite.
    views
        What each modality measures: see ``random_field.views_of``.
    coordinates, slices
        Place (spots x 2) and slice (name or number) of each spot.
    n_domains
        Number of domains.
    seed
        Seed of the mixtures, and of the regions of large slices.
    settings
        Where the field differs from what is said above.

    Raises
    ------
    InputError
        If no mixture of so many domains can be fitted.
    """
    slices = np.unique(np.asarray(slices).astype(str), return_inverse=True)[1]
    spots = _regions(coordinates, slices, settings, seed)
    fields, by_latent, faults = _fields_of_starts(
        embedding[spots],
        [view.part(spots) for view in views],
        averages(coordinates[spots], slices[spots], settings),
        slices[spots],
        n_domains,
        seed,
        settings,
    )
    best = max(fields, key=lambda field: field.likelihood, default=None)
    if best is not None and len(spots) < len(embedding):
        in_regions = best.posterior.argmax(axis=1)
        graph = averages(coordinates, slices, settings)
        carried = np.eye(n_domains)[_carried(embedding, spots, in_regions)]
        start = _smoothed(_latent(embedding), carried, graph, slices, settings)
        best = fit_field(views, graph, slices, start, settings=settings)
        kept = float((best.posterior[spots].argmax(axis=1) == in_regions).mean())
        if kept < _LEAST_KEPT:
            logger.warning(
                "all spots together keep %.0f %% of the domains that regions found: don't trust them", 100 * kept
            )
        by_latent = None if by_latent is None else _carried(embedding, spots, by_latent)
    if best is None or n_found(best.posterior) < n_domains:
        faults.append("a domain has no spots")
        raise InputError(
            f"no field of {n_domains} domains can be fitted: {'; '.join(faults)}",
            where="cluster",
            hint="ask for fewer domains, or choose method kmeans or leiden",
        )
    return FieldDomains(best.posterior, by_latent)


def fields_by_number(
    embedding: np.ndarray,
    views: Sequence[View],
    coordinates: np.ndarray,
    slices: np.ndarray,
    numbers: Iterable[int],
    seed: int,
    settings: FieldSettings = DEFAULTS,
) -> tuple[np.ndarray, dict[int, Field | None]]:
    """The field of each number of domains, for a choice among them; parameters as of ``field_domains``.

    Of each number it is the field of the highest objective, as the choice is by objectives.

    Returns
    -------
    The spots that they are of, ascending (in large slices, regions); and the field of each number, None if it can't be
    fitted.
    """
    slices = np.unique(np.asarray(slices).astype(str), return_inverse=True)[1]
    spots = _regions(coordinates, slices, settings, seed)
    graph = averages(coordinates[spots], slices[spots], settings)
    part = [view.part(spots) for view in views]
    fields: dict[int, Field | None] = {}
    for number in numbers:
        logger.info("%d domains", number)
        if number == 1:
            fields[1] = fit_field(part, graph, slices[spots], np.ones((len(spots), 1)), settings=settings)
        else:
            own = _fields_of_starts(embedding[spots], part, graph, slices[spots], number, seed, settings)[0]
            fields[number] = max(own, key=lambda field: field.objective, default=None)
    return spots, fields


def _fields_of_starts(
    embedding: np.ndarray,
    views: Sequence[View],
    graph: sparse.csr_matrix,
    slices: np.ndarray,
    n_domains: int,
    seed: int,
    settings: FieldSettings,
) -> tuple[list[Field], np.ndarray | None, list[str]]:
    """The field from each start, the domains by the latent space alone, and why any of them can't be had."""
    fields: list[Field] = []
    by_latent: np.ndarray | None = None
    faults: list[str] = []
    for name, labels, start in _starts(embedding, views, slices, graph, n_domains, seed, settings, faults):
        if name == _LATENT:
            by_latent = labels
        found = fit_field(views, graph, slices, start, settings=settings)
        fields.append(found)
        told = name, found.likelihood, found.objective, found.strength
        logger.info("start from %s: likelihood %.3f, objective %.3f, strength %.1f", *told)
    return fields, by_latent, faults


def _regions(coordinates: np.ndarray, slices: np.ndarray, settings: FieldSettings, seed: int) -> np.ndarray:
    """The spots that starts are sought in, ascending: all, or round regions of each slice at random places."""
    n_spots = len(slices)
    if n_spots <= settings.most_start_spots:
        return np.arange(n_spots)
    rng, chosen = np.random.default_rng(seed), []
    for number in range(slices.max() + 1):
        own = np.flatnonzero(slices == number)
        size = max(round(len(own) * settings.most_start_spots / n_spots / settings.regions), 1)
        centres = coordinates[own[rng.choice(len(own), min(settings.regions, len(own)), replace=False)]]
        nearest = KDTree(coordinates[own]).query(centres, k=min(size, len(own)))[1]
        chosen.append(own[np.unique(nearest)])
    return np.sort(np.concatenate(chosen))


def _starts(
    embedding: np.ndarray,
    views: Sequence[View],
    slices: np.ndarray,
    graph: sparse.csr_matrix,
    n_domains: int,
    seed: int,
    settings: FieldSettings,
    faults: list[str],
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What a start comes from, its domain of each spot, and its posterior (spots x domains), which sees the tissue.

    Collects in ``faults`` why one can't be had.
    """
    latent = _latent(embedding)

    def smoothed(labels: np.ndarray) -> np.ndarray:
        return _smoothed(latent, np.eye(n_domains)[labels], graph, slices, settings)

    def mixture(name: str, coordinates: np.ndarray) -> np.ndarray | None:
        try:
            return mixture_domains(coordinates, n_domains, seed, _MIXTURE).argmax(axis=1)
        except InputError as error:
            faults.append(f"{name}: {error.problem}")
            logger.warning("no start from %s: %s", name, error.problem)
            return None

    labels = mixture(_LATENT, embedding)
    if labels is not None:
        start = smoothed(labels)
        yield _LATENT, labels, start
        [aligned] = align_domains([(latent.rows, embedding)], slices, start)
        labels = mixture("the aligned latent space", aligned.astype(np.float64))
        if labels is not None:
            yield "the aligned latent space", labels, smoothed(labels)
    labels = mixture("the latent space around each spot", graph @ (graph @ embedding))
    if labels is not None:
        yield "the latent space around each spot", labels, smoothed(labels)
    n_modalities = np.bincount(np.concatenate([view.rows for view in views]), minlength=len(embedding))
    several = np.flatnonzero(n_modalities > 1)
    if 0 < len(several) < len(embedding):
        labels = mixture("spots with several modalities", embedding[several])
        if labels is not None:
            labels = _carried(embedding, several, labels)
            yield "spots with several modalities", labels, smoothed(labels)


def _latent(embedding: np.ndarray) -> View:
    """The latent space as a view of all spots."""
    return View(np.arange(len(embedding)), whitened(embedding).astype(np.float32))


def _smoothed(
    latent: View, start: np.ndarray, graph: sparse.csr_matrix, slices: np.ndarray, settings: FieldSettings
) -> np.ndarray:
    """Posterior of a field on the latent space, from domains that don't see the tissue."""
    return fit_field([latent], graph, slices, start, offsets=False, settings=settings).posterior


def _carried(embedding: np.ndarray, spots: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Domains of all spots from those of some, by linear discriminants in the latent space."""
    if len(np.unique(labels)) < 2:
        return np.full(len(embedding), labels[0])
    white = whitened(embedding)
    return LinearDiscriminantAnalysis().fit(white[spots], labels).predict(white)
