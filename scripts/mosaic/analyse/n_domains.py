"""Choice of the number of domains, by the silhouette of mixtures."""

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import pairwise_distances, silhouette_score
from sklearn.mixture import GaussianMixture

from mosaic.analyse.mixture import DEFAULTS, MixtureSettings, checked_embedding, fit_mixture, start_from, whitened
from mosaic.errors import InputError
from mosaic.matrices import sample_rows

logger = logging.getLogger(__name__)

# Number of pairs of subsets: a mixture is fitted to one and judged on the other.
SUBSETS = 8


def choose_n_domains(
    embedding: np.ndarray,
    n_domains_range: Sequence[int] = (2, 15),
    *,
    seed: int = 0,
    settings: MixtureSettings = DEFAULTS,
) -> tuple[int, pd.DataFrame]:
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
    n_domains, curve
        The choice, and a table with a row per number and the columns ``n_domains``, ``silhouette`` (mean over the
        subsets, -1..1), ``standard_error`` (of that mean) and ``chosen`` (true in one row).

    Raises
    ------
    InputError
        If the range is invalid, its upper end needs more spots, the embedding holds NaN or infinity, or no
        mixture of the range can be fitted.
    """
    embedding = checked_embedding(embedding)
    low, high = n_domains_range
    if not 2 <= low < high:
        raise InputError(
            f"the range of the number of domains is {low} to {high}",
            where="cluster: n_domains_range",
            hint="write the smallest, 2 or more, and a larger one, for example [2, 15]",
        )
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
    for _ in range(SUBSETS):
        seen, left_out = two_subsets(len(white), rng, settings.start_rows)
        distances = pairwise_distances(embedding[left_out])
        fits = mixtures(white[seen], numbers, settings)
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
    if n_domains == high or n_domains == low > 2:
        logger.warning(
            "%d domains are an end of the range %d to %d, which may be too narrow: widen cluster.n_domains_range",
            *(n_domains, low, high),
        )
    curve = pd.DataFrame({"silhouette": mean, "standard_error": error, "chosen": mean.index == n_domains})
    return n_domains, curve.rename_axis("n_domains").reset_index()


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
