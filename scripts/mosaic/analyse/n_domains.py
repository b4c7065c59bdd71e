"""Choice of the number of domains: by the bend of the field's objective, or by the silhouette of mixtures."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import pairwise_distances, silhouette_score
from sklearn.mixture import GaussianMixture

from mosaic.analyse.mixture import DEFAULTS, MixtureSettings, checked_embedding, fit_mixture, start_from, whitened
from mosaic.analyse.random_field import View
from mosaic.analyse.tissue_field import fields_by_number
from mosaic.errors import InputError
from mosaic.matrices import sample_rows

logger = logging.getLogger(__name__)

# Number of pairs of subsets: a mixture is fitted to one and judged on the other.
SUBSETS = 8


class Choice(NamedTuple):
    """A choice of the number of domains.

    Attributes
    ----------
    n_domains
        The number.
    curve
        The criterion, a row per number: ``n_domains``, the criterion's columns, and ``chosen`` (true in one row).
    spots
        Places of the spots that ``labels`` are of, shape (n,).
    labels
        Their domains by number of domains, each of shape (n,); numbers that can't be fitted are missing.
    """

    n_domains: int
    curve: pd.DataFrame
    spots: np.ndarray
    labels: dict[int, np.ndarray]


def choose_by_bend(
    embedding: np.ndarray,
    views: Sequence[View],
    coordinates: np.ndarray,
    slices: np.ndarray,
    n_domains_range: Sequence[int] = (2, 15),
    *,
    seed: int = 0,
) -> Choice:
    """Choose the number of domains at the largest bend of the tissue field's objective.

    The objective rises with further domains: fast while tissue is told apart, slowly once domains are cut in pieces,
    whose borders follow no tissue and cost agreement of neighbours. The bend is the gain of the last domain less that
    of a further one, as in the choice of the number of populations by Evanno et al. (Molecular Ecology 2005).
    Information criteria choose too many: they count spots as independent, but propagated features tell the same of
    neighbours. docs/measurements.md compares criteria.

    Parameters
    ----------
    embedding, views, coordinates, slices
        As for ``tissue_field.field_domains``.
    n_domains_range
        Smallest and largest number to choose from, both included.
    seed
        Seed of the fields.

    Returns
    -------
    Choice, with ``objective`` (nats per spot) and ``bend`` in its curve.

    Raises
    ------
    InputError
        If the range is invalid, or no three successive fields can be fitted.
    """
    low, high = _checked_range(n_domains_range)
    spots, fields = fields_by_number(embedding, views, coordinates, slices, range(low - 1, high + 2), seed)
    objective = pd.Series({number: np.nan if field is None else field.objective for number, field in fields.items()})
    one, two = fields.get(1), fields.get(2)
    if one is not None and two is not None:
        # A single domain agrees with its neighbours at any strength: it gets that of two.
        objective[1] += (two.strength - one.strength) / 2
    gain = objective.diff()
    bend = (gain - gain.shift(-1)).loc[low:high]
    if bend.isna().all():
        raise InputError(
            f"no fields of {low} to {high} domains can be fitted",
            where="cluster: n_domains",
            hint="set n_domains, or choose method leiden",
        )
    n_domains = int(bend.idxmax())
    logger.info("%d domains, of %d to %d, by the bend of the objective", n_domains, low, high)
    _warn_of_end(n_domains, low, high)
    curve = pd.DataFrame({"objective": objective.loc[low:high], "bend": bend, "chosen": bend.index == n_domains})
    labels = {
        n: field.posterior.argmax(axis=1) for n, field in fields.items() if low <= n <= high and field is not None
    }
    return Choice(n_domains, curve.rename_axis("n_domains").reset_index(), spots, labels)


def choose_by_silhouette(
    embedding: np.ndarray,
    n_domains_range: Sequence[int] = (2, 15),
    *,
    seed: int = 0,
    settings: MixtureSettings = DEFAULTS,
) -> Choice:
    """Choose the number of domains by the silhouette of left-out spots.

    The tied mixture is fitted to eight seeded subsets, each half of the spots and 2000 at most. It then labels as many
    other spots, and the silhouette (Rousseeuw, Journal of Computational and Applied Mathematics 1987) measures how
    well its domains are separated in the embedding. The choice is the largest number whose mean is within one standard
    error of the best (the rule of Breiman et al., Classification and Regression Trees, 1984): among equivalent numbers,
    one domain too many costs less than one too few. docs/measurements.md compares it with other criteria.

    Parameters
    ----------
    embedding
        Shape (spots, dimensions). Above 20,000 spots, a seeded sample of that size is used.
    n_domains_range
        Smallest and largest number to choose from, both included.
    seed
        Seed of the subsets.
    settings
        Of the mixtures: sizes of sample and subsets, tolerance and iterations.

    Returns
    -------
    Choice, with ``silhouette`` (mean over the subsets, -1..1) and ``standard_error`` (of that mean) in its curve; its
    labels are of the spots of one subset.

    Raises
    ------
    InputError
        If the range is invalid, its upper end needs more spots, the embedding holds NaN or infinity, or no
        mixture of the range can be fitted.
    """
    embedding = checked_embedding(embedding)
    low, high = _checked_range(n_domains_range)
    rng = np.random.default_rng(seed)
    sample = sample_rows(len(embedding), settings.compare_rows, rng)
    if len(sample) < len(embedding):
        logger.info("choosing the number of domains on a sample of %d of %d spots", len(sample), len(embedding))
    embedding = embedding[sample]
    white = whitened(embedding)
    needed = white.shape[1] + high
    if len(white) // 2 <= needed:
        raise InputError(
            f"{len(white)} spots are too few to choose among up to {high} domains in {white.shape[1]} dimensions: "
            f"half of them must be more than {needed}",
            where="cluster: n_domains",
            hint="set the number of domains, or a smaller n_domains_range",
        )
    numbers, scores = np.arange(low, high + 1), []
    labels: dict[int, np.ndarray] = {}
    for subset in range(SUBSETS):
        seen, left_out = two_subsets(len(white), rng, settings.start_rows)
        distances = pairwise_distances(embedding[left_out])
        fits = mixtures(white[seen], numbers, settings)
        if subset == 0:
            spots = sample[seen]
            labels = {int(n): fit.predict(white[seen]) for n, fit in zip(numbers, fits, strict=True) if fit is not None}
        scores.append([np.nan if fit is None else silhouette(distances, fit.predict(white[left_out])) for fit in fits])
    scores = pd.DataFrame(scores, columns=numbers)
    if scores.isna().all(axis=None):
        raise InputError(
            f"no Gaussian mixture of {low} to {high} domains can be fitted",
            where="cluster: n_domains",
            hint="set n_domains, or choose method leiden",
        )
    mean, error = scores.mean(), scores.sem()
    n_domains = largest_within_one_error(scores)
    logger.info("%d domains, of %d to %d, by the silhouette (best: %d)", n_domains, low, high, mean.idxmax())
    _warn_of_end(n_domains, low, high)
    curve = pd.DataFrame({"silhouette": mean, "standard_error": error, "chosen": mean.index == n_domains})
    return Choice(n_domains, curve.rename_axis("n_domains").reset_index(), spots, labels)


def split_tree(labels: Mapping[int, np.ndarray], domains: np.ndarray) -> pd.DataFrame:
    """How the domains of each number come from those of the number before, as clustree shows it.

    Source: Zappia and Oshlack, GigaScience 2018.

    Parameters
    ----------
    labels
        Domain of each spot by number of domains, each of shape (n,).
    domains
        Domain of each spot in the result, shape (n,).

    Returns
    -------
    A row per ``n_domains``, its ``domain``, and ``parent``, the domain of the next smaller number (missing for the
    smallest) with which it shares spots: ``n_spots``, their number; ``like``, the domain of the result that shares the
    most spots with ``domain``; and ``alike``, the proportion of the domain's spots that lie in it.
    """
    rows, before = [], None
    for number in sorted(labels):
        shared = pd.crosstab(labels[number], domains)
        like, alike = shared.idxmax(axis=1), shared.max(axis=1) / shared.sum(axis=1)
        parents = np.full(len(domains), -1) if before is None else before
        pairs = pd.DataFrame({"domain": labels[number], "parent": parents}).value_counts().sort_index()
        rows += [
            (number, domain, None if parent < 0 else parent, n_spots, like[domain], alike[domain])
            for (domain, parent), n_spots in pairs.items()
        ]
        before = labels[number]
    tree = pd.DataFrame(rows, columns=["n_domains", "domain", "parent", "n_spots", "like", "alike"])
    return tree.astype({"parent": "Int64"})


def _checked_range(n_domains_range: Sequence[int]) -> tuple[int, int]:
    low, high = n_domains_range
    if not 2 <= low < high:
        raise InputError(
            f"the range of the number of domains is {low} to {high}",
            where="cluster: n_domains_range",
            hint="write the smallest, 2 or more, and a larger one, for example [2, 15]",
        )
    return low, high


def _warn_of_end(n_domains: int, low: int, high: int) -> None:
    if n_domains == high or n_domains == low > 2:
        logger.warning(
            "%d domains are an end of the range %d to %d, which may be too narrow: widen cluster.n_domains_range",
            *(n_domains, low, high),
        )


def two_subsets(n_rows: int, rng: np.random.Generator, most: int = DEFAULTS.start_rows) -> np.ndarray:
    """Two disjoint subsets of rows, each at most half of them and at most ``most``; shape (2, rows)."""
    size = min(n_rows // 2, most)
    return rng.permutation(n_rows)[: 2 * size].reshape(2, size)


def mixtures(
    white: np.ndarray, numbers: Iterable[int], settings: MixtureSettings = DEFAULTS
) -> list[GaussianMixture | None]:
    """A mixture for each number of domains, from cuts of one Ward tree; None if EM fails."""
    tree = linkage(white, "ward")
    starts = [start_from(white, fcluster(tree, number, "maxclust") - 1) for number in numbers]
    fits = [fit_mixture(white, start, settings.compare_tolerance, settings.iterations) for start in starts]
    return [None if isinstance(fit, str) else fit for fit in fits]


def silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette; NaN if undefined: all spots in one domain, or each in a separate one."""
    if not 1 < len(np.unique(labels)) < len(labels):
        return np.nan
    return silhouette_score(distances, labels, metric="precomputed")


def largest_within_one_error(scores: pd.DataFrame) -> int:
    """The largest column whose mean is within one standard error of the best column's; ignores NaN."""
    mean, best = scores.mean(), scores.mean().idxmax()
    error = scores[best].sem() if scores[best].count() > 1 else 0.0
    return int(mean.index[mean >= mean[best] - error].max())
