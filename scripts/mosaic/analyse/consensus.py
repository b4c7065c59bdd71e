"""Consensus of several seeds: one domain per spot, and its confidence."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from mosaic.matrices import match_labels


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
    """

    spots: pd.DataFrame
    agreement: pd.DataFrame


def consensus(domains: Mapping[int, pd.DataFrame]) -> Consensus:
    """Take a vote of the seeds on each spot, after matching the names of their domains.

    The domains of every seed get the names of the seed that agrees best with the others, matched one to one by most
    shared spots. Each spot then gets the domain of most seeds; ties go to the seed that agrees best (bagged clustering
    by voting; Dudoit & Fridlyand, Bioinformatics 2003). A domain without counterpart gets no vote.

    Parameters
    ----------
    domains
        Per seed ``slice``, ``domain``, ``agreement`` and ``confidence`` of each spot, as ``confidence.calibrate``
        returns them; the same spots in the same order.
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
        return Consensus(spots, agreement)

    mean = [agreement.loc[(agreement[["seed", "other"]] == seed).any(axis=1), "ARI"].mean() for seed in domains]
    best = int(np.argmax(mean))
    names = np.unique(labels[:, best])
    votes = np.zeros((len(labels), len(names)))
    sure = np.zeros_like(votes)
    for column, table in enumerate(tables):
        renamed = _renamed(labels[:, column], labels[:, best])
        for number, name in enumerate(names):
            votes[:, number] += renamed == name
            sure[:, number] += (renamed == name) * table["confidence"].fillna(1)
    # Less than a vote: it only breaks ties.
    tie = votes + 0.5 * (labels[:, [best]] == names)
    spots["domain"] = names[tie.argmax(axis=1)]
    spots["confidence"] = np.take_along_axis(sure, tie.argmax(axis=1)[:, None], axis=1).ravel() / len(tables)
    spots["calibrated"] = calibrated
    return Consensus(spots, agreement)


def _pairs(seeds: list[int]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return [((i, j), (seeds[i], seeds[j])) for i, j in combinations(range(len(seeds)), 2)]


def _renamed(labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Labels with the names of the reference, one to one, by most shared spots; -1 without counterpart."""
    names = match_labels(pd.crosstab(labels, reference))
    return pd.Series(labels).map(names).fillna(-1).to_numpy().astype(int)
