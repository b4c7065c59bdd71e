"""Whether the name of a feature means the same in all slices.

Slices of one tissue agree on which features are high and which low, whatever the donor or the chemistry. A slice whose
features bear each other's names, or names of another annotation, does not; batch correction can hide that from every
later number.
"""

from collections.abc import Mapping
from itertools import combinations

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.errors import InputError

# With fewer features, interchanged names agree by chance too often (one in 150 passes with 20).
_LEAST_FEATURES = 20
# From GOOD on a slice agrees with the others; below BAD its names most likely mean other features. Measured
# (docs/interpreting.md): honest data 0.64 and more, interchanged names 0.41 and less.
GOOD, BAD = 0.55, 0.25
# Of the table of agreements.
COLUMNS = ["modality", "slice", "agreement", "n_features"]


def profile(adata: ad.AnnData) -> pd.DataFrame:
    """Total counts of each feature in two random halves of a slice's spots.

    Parameters
    ----------
    adata
        Spots x features with ``layers["counts"]``.

    Returns
    -------
    DataFrame (features, repeated names dropped) with columns ``first`` and ``second``.
    """
    counts = adata.layers["counts"]
    first = np.random.default_rng(0).permutation(adata.n_obs) % 2 == 0
    halves = {name: counts[rows].sum(axis=0) for name, rows in (("first", first), ("second", ~first))}
    frame = pd.DataFrame({name: np.asarray(total).ravel() for name, total in halves.items()}, index=adata.var_names)
    return frame[~frame.index.duplicated()]


def agreements(profiles: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """How far each slice of a modality agrees with the others on which features are high and which low.

    For two slices: the correlation of their features' totals (log1p), corrected for the noise of few counts by the
    correlation between the two halves of each slice (Spearman, American Journal of Psychology 1904). For a slice: the
    median over the others, the upper one of an even number, so that one odd slice of three lowers its own value alone.

    Parameters
    ----------
    profiles
        (slice, modality) to what ``profile`` returns.

    Returns
    -------
    DataFrame with ``modality``, ``slice``, ``agreement`` (at most 1; NaN if it cannot be judged) and ``n_features``,
    the fewest that the slice shares with another; a row per slice of each modality of several slices. A pair of slices
    with fewer than 20 shared features with counts, or without any signal in its halves, is not judged.
    """
    rows = []
    for modality in dict.fromkeys(modality for _, modality in profiles):
        own = {name: frame for (name, other), frame in profiles.items() if other == modality}
        if len(own) < 2:
            continue
        values = pd.DataFrame(np.nan, index=own, columns=own)
        shared = pd.DataFrame(0, index=own, columns=own)
        for one, other in combinations(own, 2):
            value, number = _agreement(own[one], own[other])
            values.loc[one, other] = values.loc[other, one] = value
            shared.loc[one, other] = shared.loc[other, one] = number
        for name in own:
            judged = values[name].drop(name).dropna()
            value = float(judged.quantile(interpolation="higher")) if len(judged) else np.nan
            rows.append((modality, name, value, int(shared[name].drop(name).min())))
    return pd.DataFrame(rows, columns=COLUMNS)


def warnings(table: pd.DataFrame) -> list[InputError]:
    """A warning for each slice that agrees too little, worst first.

    Parameters
    ----------
    table
        As ``agreements`` returns it.
    """
    few = table[table["agreement"] < GOOD].sort_values("agreement")
    return [
        InputError(
            f"other features are high and low than in the other slices (agreement {row.agreement:.2f}; slices of one "
            f"tissue have {GOOD} and more)",
            where=f"{row.modality} of slice {row.slice}",
            hint="check that the names of its features and the columns of its matrix are in the same order, and that "
            "all files use one annotation",
        )
        for row in few.itertuples()
    ]


def _agreement(one: pd.DataFrame, other: pd.DataFrame) -> tuple[float, int]:
    """Agreement of two slices (NaN if not judged), and the number of shared features with counts."""
    shared = one.index.intersection(other.index)
    one, other = one.loc[shared], other.loc[shared]
    seen = (one.sum(axis=1) + other.sum(axis=1) > 0).to_numpy()
    if seen.sum() < _LEAST_FEATURES:
        return np.nan, int(seen.sum())
    one, other = one[seen], other[seen]
    halves = [_correlation(frame["first"], frame["second"]) for frame in (one, other)]
    if not min(halves) > 0:
        return np.nan, int(seen.sum())
    # Of halves to that of the whole slice (Spearman-Brown).
    reliability = np.prod([2 * half / (1 + half) for half in halves])
    raw = _correlation(one.sum(axis=1), other.sum(axis=1))
    return float(min(raw / np.sqrt(reliability), 1)), int(seen.sum())


def _correlation(one: pd.Series, other: pd.Series) -> float:
    """Of log1p of two columns of totals; NaN, without a warning, if one is constant."""
    return float(np.log1p(pd.concat([one, other], axis=1)).corr().iloc[0, 1])
