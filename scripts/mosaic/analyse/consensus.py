"""Consensus of several seeds: one domain per spot, and its confidence."""

import logging
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from mosaic.matrices import numbered_like

logger = logging.getLogger(__name__)

# Jaccard index from which two domains are the same one.
_ALIKE = 0.5


class Consensus(NamedTuple):
    """Domains on which the seeds agree.

    Attributes
    ----------
    spots
        ``slice``, ``domain`` and ``confidence`` of each spot: the mean over the seeds of their confidence in that
        domain, with 0 for a seed that assigned another domain and 1 for a seed without confidence; with one seed, its
        confidence, if every spot has one. ``calibrated``: whether held-out validation contributes to it.
    agreement
        ``seed``, ``other`` and the adjusted Rand index ``ARI`` of their domains, for each pair of seeds.
    support
        Per consensus domain its ``n_spots``; ``n_seeds``, the number of seeds with a domain that shares half of the
        spots that either has (Jaccard index of 0.5 or more); and ``seeds``, their numbers. A domain of one seed alone
        is not to be trusted.
    """

    spots: pd.DataFrame
    agreement: pd.DataFrame
    support: pd.DataFrame


def consensus(domains: Mapping[int, pd.DataFrame]) -> Consensus:
    """Take a vote of the seeds on each spot, after matching the names of their domains.

    The domains of every seed get the names of the seed that agrees best with the others, matched one to one by most
    shared spots. Each spot then gets the domain with the most votes, each worth the seed's probability of its domain (1
    where it has none); ties go to the seed that agrees best (bagged clustering by voting; Dudoit & Fridlyand,
    Bioinformatics 2003). A domain without counterpart gets no vote.

    Parameters
    ----------
    domains
        Per seed ``slice``, ``domain``, ``agreement``, ``confidence`` and, if the clustering has it, ``probability`` of
        each spot, as ``confidence.calibrate`` returns them; the same spots in the same order.
    """
    tables = list(domains.values())
    labels = np.column_stack([table["domain"].to_numpy() for table in tables])
    rows = [(*pair, adjusted_rand_score(labels[:, i], labels[:, j])) for (i, j), pair in _pairs(list(domains))]
    agreement = pd.DataFrame(rows, columns=["seed", "other", "ARI"])
    spots = tables[0][["slice"]].copy()
    calibrated = np.all([table["agreement"].notna() for table in tables], axis=0)
    if len(tables) == 1:
        spots["domain"] = labels[:, 0]
        if tables[0]["confidence"].notna().all():
            spots["confidence"] = tables[0]["confidence"]
            spots["calibrated"] = calibrated
        return Consensus(spots, agreement, _support(spots["domain"].to_numpy(), domains))

    mean = [agreement.loc[(agreement[["seed", "other"]] == seed).any(axis=1), "ARI"].mean() for seed in domains]
    best = int(np.argmax(mean))
    names = np.unique(labels[:, best])
    votes = np.zeros((len(labels), len(names)))
    sure = np.zeros_like(votes)
    for column, table in enumerate(tables):
        renamed = numbered_like(labels[:, column], labels[:, best])
        for number, name in enumerate(names):
            votes[:, number] += (renamed == name) * table.get("probability", 1.0)
            sure[:, number] += (renamed == name) * table["confidence"].fillna(1)
    # So little that it only breaks ties.
    tie = votes + 1e-6 * (labels[:, [best]] == names)
    spots["domain"] = names[tie.argmax(axis=1)]
    spots["confidence"] = np.take_along_axis(sure, tie.argmax(axis=1)[:, None], axis=1).ravel() / len(tables)
    spots["calibrated"] = calibrated
    support = _support(spots["domain"].to_numpy(), domains)
    for row in support[support["n_seeds"] < 2].itertuples():
        logger.warning(
            "consensus domain %d exists in %s alone", row.domain, f"seed {row.seeds}" if row.seeds else "the vote"
        )
    return Consensus(spots, agreement, support)


def _support(consensus: np.ndarray, domains: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Which seeds have a domain like each consensus domain."""
    rows = []
    sizes = pd.Series(consensus).value_counts().sort_index()
    alike = {}
    for seed, table in domains.items():
        shared = pd.crosstab(consensus, table["domain"].to_numpy())
        union = shared.sum(axis=1).to_numpy()[:, None] + shared.sum(axis=0).to_numpy() - shared
        alike[seed] = (shared / union).max(axis=1) >= _ALIKE
    for domain, n_spots in sizes.items():
        seeds = [seed for seed, found in alike.items() if found[domain]]
        rows.append((domain, n_spots, len(seeds), ", ".join(map(str, seeds))))
    return pd.DataFrame(rows, columns=["domain", "n_spots", "n_seeds", "seeds"])


def _pairs(seeds: list[int]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return [((i, j), (seeds[i], seeds[j])) for i, j in combinations(range(len(seeds)), 2)]
