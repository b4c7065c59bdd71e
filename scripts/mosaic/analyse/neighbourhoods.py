"""Which domains border on which: enrichment of pairs of domains among neighbouring spots of a slice."""

import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.analyse.conditions import Contrast, compare
from mosaic.spatial import spatial_neighbors

_N_NEIGHBOURS = 6  # those of a hexagonal grid
_N_PERMUTATIONS = 1000
_FEWEST_SPOTS = 10  # of a domain in a slice


def neighbourhood_enrichment(
    coordinates: np.ndarray, domains: np.ndarray, *, n_permutations: int = _N_PERMUTATIONS, seed: int | list[int] = 0
) -> pd.DataFrame:
    """Count neighbouring spots of each pair of domains in a slice, against a random arrangement of the domains.

    The test of squidpy's ``nhood_enrichment`` (Palla et al., Nature Methods 2022): the spots keep their places and
    exchange their domains. The logarithm of the ratio, unlike z, does not grow with the number of spots, so that slices
    can be compared by it.

    Parameters
    ----------
    coordinates
        Spots x 2.
    domains
        Domain of each spot.
    n_permutations
        Number of random arrangements.
    seed
        Of the arrangements.

    Returns
    -------
    Per ``domain`` and ``neighbour``, each pair once: ``n_pairs`` of neighbouring spots, the mean over the arrangements,
    ``expected``, ``z``, and ``log2_ratio`` of observed and expected, with half a pair added to both. Domains of fewer
    than ten spots are left out.
    """
    categories = pd.Categorical(domains).remove_unused_categories()
    names, codes = np.asarray(categories.categories), categories.codes.astype(np.int64)
    near = spatial_neighbors(coordinates, _N_NEIGHBOURS)
    one, other = sparse.triu(near.maximum(near.T), k=1).nonzero()
    random = np.random.default_rng(seed)

    def count(labels: np.ndarray) -> np.ndarray:
        low, high = np.minimum(labels[one], labels[other]), np.maximum(labels[one], labels[other])
        return np.bincount(low * len(names) + high, minlength=len(names) ** 2)

    observed = count(codes)
    total, squares = np.zeros(len(observed)), np.zeros(len(observed))
    for _ in range(n_permutations):
        found = count(random.permutation(codes))
        total += found
        squares += found**2.0
    expected = total / n_permutations
    spread = np.sqrt(np.maximum(squares / n_permutations - expected**2, 0))
    large = np.flatnonzero(np.bincount(codes) >= _FEWEST_SPOTS)
    low, high = (large[places] for places in np.triu_indices(len(large)))
    chosen = low * len(names) + high
    z = np.full(len(chosen), np.nan)
    np.divide(observed[chosen] - expected[chosen], spread[chosen], out=z, where=spread[chosen] > 0)
    return pd.DataFrame(
        {
            "domain": names[low],
            "neighbour": names[high],
            "n_pairs": observed[chosen],
            "expected": expected[chosen],
            "z": z,
            "log2_ratio": np.log2((observed[chosen] + 0.5) / (expected[chosen] + 0.5)),
        }
    )


def by_slice(coordinates: np.ndarray, domains: pd.Series, slices: pd.Series, *, seed: int = 0) -> pd.DataFrame:
    """Enrichment of pairs of domains in each slice.

    Parameters
    ----------
    coordinates
        Spots x 2.
    domains, slices
        Domain and slice of each spot, in the same order.
    seed
        As for ``neighbourhood_enrichment``; each slice has random numbers of its own.

    Returns
    -------
    ``slice``, and what ``neighbourhood_enrichment`` returns.
    """
    tables = []
    for number, name in enumerate(dict.fromkeys(slices)):
        own = (slices == name).to_numpy()
        found = neighbourhood_enrichment(coordinates[own], domains[own], seed=[seed, number])
        found.insert(0, "slice", str(name))
        tables.append(found)
    return pd.concat(tables, ignore_index=True)


def compare_neighbours(table: pd.DataFrame, contrast: Contrast, *, seed: int = 0) -> pd.DataFrame:
    """Compare the enrichment of pairs of domains between two levels of a condition.

    Parameters
    ----------
    table
        As ``by_slice`` returns it.
    contrast, seed
        As for ``conditions.compare``.

    Returns
    -------
    Per ``level``, ``reference``, ``domain`` and ``neighbour`` what ``conditions.compare`` returns of the log2 ratios.
    """
    pairs = table[["domain", "neighbour"]].drop_duplicates().reset_index(drop=True)
    keys = pd.MultiIndex.from_frame(pairs)
    ratios = table.set_index(["slice", "domain", "neighbour"])["log2_ratio"].unstack("slice").reindex(keys).T
    found = compare(ratios.set_axis(range(len(pairs)), axis=1), contrast, seed=seed).reset_index(drop=True)
    contrasted = pairs.assign(level=contrast.level, reference=contrast.reference)
    return pd.concat([contrasted[["level", "reference", "domain", "neighbour"]], found], axis=1)
