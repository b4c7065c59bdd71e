"""iLISI: how evenly slices mix, over all spots, within shared labels, and of two sets of spots."""

import numpy as np
import pandas as pd
from harmonypy import compute_lisi

from mosaic.matrices import sample_rows

# Minimum number of spots with a label for a slice to count as having it.
_LEAST_SPOTS = 10
# Of each of two sets of spots that are compared: iLISI is slow.
_MOST_SPOTS = 5_000


def ilisi(embedding: np.ndarray, slices: np.ndarray) -> float:
    """Integration LISI: how evenly slices mix around a spot, 0 (separate) to 1 (evenly mixed).

    Median over spots of the local inverse Simpson index of the slices among a spot's 90 nearest (perplexity 30),
    scaled as in scIB (Luecken et al., Nature Methods 2022; index by Korsunsky et al., Nature Methods 2019).

    Parameters
    ----------
    embedding
        Spots x any.
    slices
        Each spot's slice.

    Returns
    -------
    iLISI; NaN if there is one slice only.
    """
    n_slices = len(np.unique(slices))
    if n_slices < 2:
        return np.nan
    perplexity = min(30.0, (len(embedding) - 1) / 3)
    index = compute_lisi(embedding, {"slice": np.asarray(slices, dtype=str)}, ["slice"], perplexity=perplexity)
    return float((np.median(index) - 1) / (n_slices - 1))


def ilisi_between(one: np.ndarray, other: np.ndarray) -> float:
    """Integration LISI of two sets of spots, of as many spots of each: all of the smaller one, 5,000 at most.

    Parameters
    ----------
    one, other
        Their coordinates in one space (spots x any).
    """
    number = min(len(one), len(other), _MOST_SPOTS)
    parts = [part[sample_rows(len(part), number, 0)] for part in (one, other)]
    return ilisi(np.vstack(parts), np.repeat(["one", "other"], number))


def ilisi_within(embedding: np.ndarray, slices: np.ndarray, labels: pd.Series) -> float:
    """Integration LISI within each label, over the slices that have it.

    Slices of different composition cannot mix fully without mixing domains as well. Within a domain they should always
    mix.

    Parameters
    ----------
    embedding, slices
        As for ``ilisi``.
    labels
        Each spot's true domain, missing where unknown.

    Returns
    -------
    Mean over labels that two or more slices have (at least 10 spots each), weighted by spots; NaN without such labels.
    """
    values, weights = [], []
    for label in labels.dropna().unique():
        own = (labels == label).to_numpy()
        names, counts = np.unique(slices[own], return_counts=True)
        own &= np.isin(slices, names[counts >= _LEAST_SPOTS])
        if len(np.unique(slices[own])) > 1:
            values.append(ilisi(embedding[own], slices[own]))
            weights.append(own.sum())
    return float(np.average(values, weights=weights)) if values else np.nan
