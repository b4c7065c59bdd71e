"""How evenly slices mix in a space: iLISI, over all spots and within the labels that slices share."""

import numpy as np
import pandas as pd
from harmonypy import compute_lisi

# Spots of a label that a slice has at least to count among those that share it.
_LEAST_SPOTS = 10


def ilisi(embedding: np.ndarray, slices: np.ndarray) -> float:
    """Integration LISI: how evenly slices mix around a spot, 0 (one slice alone) to 1 (all alike).

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
    NaN where there is one slice only.
    """
    n_slices = len(np.unique(slices))
    if n_slices < 2:
        return np.nan
    perplexity = min(30.0, (len(embedding) - 1) / 3)
    index = compute_lisi(embedding, {"slice": np.asarray(slices, dtype=str)}, ["slice"], perplexity=perplexity)
    return float((np.median(index) - 1) / (n_slices - 1))


def ilisi_within(embedding: np.ndarray, slices: np.ndarray, labels: pd.Series) -> float:
    """Integration LISI among the spots of each label, over the slices that have it: mixing that a correct answer has.

    Slices of unlike composition mix fully only where domains are mixed up, too. Within a domain they should mix in any
    case.

    Parameters
    ----------
    embedding, slices
        As for ``ilisi``.
    labels
        Each spot's true domain, missing where unknown.

    Returns
    -------
    Mean over labels that two slices or more have (at least 10 spots each), by number of spots; NaN where none is.
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
