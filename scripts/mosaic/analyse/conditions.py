"""Compare slices of two conditions: their replicates, permutation tests, and the composition of the domains."""

from collections.abc import Iterable, Mapping
from math import comb
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

# Of each level. With one, the difference of two levels can't be told from that of two replicates.
LEAST_REPLICATES = 2
_RESAMPLES = 9999  # permutations, where there are more
_PSEUDOCOUNT = 0.5
_COMPARED = ["n_level", "n_reference", "mean_level", "mean_reference", "difference", "p_value"]


class Contrast(NamedTuple):
    """A level of a condition, the reference that it is compared with, and the replicates of both.

    Attributes
    ----------
    level, reference
        The two levels.
    slices
        ``replicate`` (the donor, or the slice itself) and ``level`` of each slice that is compared.
    paired
        Whether each replicate has slices of both levels, so that levels are compared within replicates.
    left_out
        Replicates that have one level alone, where others have both.
    """

    level: str
    reference: str
    slices: pd.DataFrame
    paired: bool
    left_out: list[str]

    @property
    def n_replicates(self) -> tuple[int, int]:
        """Number of replicates of the level and of the reference."""
        count = self.slices.groupby("level")["replicate"].nunique()
        return int(count.get(self.level, 0)), int(count.get(self.reference, 0))

    @property
    def enough(self) -> bool:
        """Whether both levels have ``LEAST_REPLICATES``."""
        return min(self.n_replicates) >= LEAST_REPLICATES

    @property
    def note(self) -> str:
        """What to know of the design: the smallest p-value that permutation allows, or why nothing is tested."""
        first, second = self.n_replicates
        text = (
            f"{first} donors with both {self.level} and {self.reference}"
            if self.paired
            else f"{first} of {self.level}, {second} of {self.reference}"
        )
        if self.enough:
            text += f": no p-value of a permutation can be below {smallest_p(first, second, self.paired):.2g}."
        else:
            text += (
                f": not tested, as each needs {LEAST_REPLICATES} replicates. The spots of a slice are no replicates."
            )
        if self.left_out:
            text += f" Left out, with one of the two alone: {', '.join(self.left_out)}."
        return text


def contrasts(
    levels: Mapping[str, str], donors: Mapping[str, str] | None = None, reference: str | None = None
) -> list[Contrast]:
    """Pair each level of a condition with the reference.

    Where donors have slices of both levels, these donors are compared with themselves, and the others are left out.
    Otherwise donors are independent replicates; without donors, slices are.

    Parameters
    ----------
    levels
        Level of each slice; slices without one are left out.
    donors
        Donor of each slice; a slice without one is a replicate of its own.
    reference
        The level to compare with; default: that of the first slice.
    """
    donors = donors or {}
    # A slice may bear the name of a donor that it is not of.
    own = {name: f"slice {name}" if name in donors.values() else name for name in levels} | dict(donors)
    table = pd.DataFrame(
        {"replicate": [own[name] for name in levels], "level": list(levels.values())}, index=list(levels)
    )
    names = list(dict.fromkeys(levels.values()))
    reference = names[0] if reference is None else reference
    found = []
    for level in (name for name in names if name != reference):
        slices = table[table["level"].isin([level, reference])]
        both = slices.groupby("replicate")["level"].nunique() == 2
        paired = bool(both.any())
        left_out = sorted(both.index[~both]) if paired else []
        found.append(
            Contrast(level, reference, slices[~slices["replicate"].isin(left_out)], paired=paired, left_out=left_out)
        )
    return found


def smallest_p(first: int, second: int, paired: bool) -> float:
    """Smallest two-sided p-value that permuting so many replicates allows."""
    n_permutations = 2**first if paired else comb(first + second, first)
    return min(2 / min(n_permutations, _RESAMPLES + 1), 1.0)


def compare(values: pd.DataFrame, contrast: Contrast, *, seed: int = 0) -> pd.DataFrame:
    """Compare values of slices between two levels, by permutation of the replicates.

    The values of a replicate are the means over its slices of a level. Replicates keep their values and exchange their
    levels; in a paired design each exchanges its own two. Permutations are all, or 9,999 at random.

    Parameters
    ----------
    values
        Slices x quantities; missing where a slice has none.
    contrast
        As ``contrasts`` gives it; slices that it does not name are left out.
    seed
        Of random permutations.

    Returns
    -------
    Per quantity ``n_level`` and ``n_reference``, the replicates that have a value; ``mean_level`` and
    ``mean_reference``, and their ``difference``; ``p_value``, two-sided, and ``p_adj`` (Benjamini and Hochberg 1995,
    over the quantities), missing where a level has fewer than ``LEAST_REPLICATES``.
    """
    keys = contrast.slices.loc[contrast.slices.index.intersection(values.index)]
    means = values.loc[keys.index].groupby([keys["level"], keys["replicate"]]).mean()
    first, second = (
        means.xs(name) if name in means.index.get_level_values(0) else means.iloc[:0].droplevel(0)
        for name in (contrast.level, contrast.reference)
    )
    rows = []
    for quantity in values:
        one, other = first[quantity].dropna(), second[quantity].dropna()
        if contrast.paired:
            shared = one.index.intersection(other.index)
            one, other = one[shared], other[shared]
        p_value = np.nan
        if min(len(one), len(other)) >= LEAST_REPLICATES:
            p_value = stats.permutation_test(
                (one.to_numpy(), other.to_numpy()),
                lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
                permutation_type="samples" if contrast.paired else "independent",
                vectorized=True,
                n_resamples=_RESAMPLES,
                rng=np.random.default_rng(seed),
            ).pvalue
        rows.append((quantity, len(one), len(other), one.mean(), other.mean(), one.mean() - other.mean(), p_value))
    table = pd.DataFrame(rows, columns=["quantity", *_COMPARED])
    tested = table["p_value"].notna()
    table["p_adj"] = np.nan
    if tested.any():
        table.loc[tested, "p_adj"] = stats.false_discovery_control(table.loc[tested, "p_value"])
    return table.set_index("quantity")


def centred_log_ratios(domains: pd.DataFrame) -> pd.DataFrame:
    """Composition of slices on a scale without closure (Aitchison, Journal of the Royal Statistical Society B 1982).

    Parameters
    ----------
    domains
        ``slice`` and ``domain`` of each spot.

    Returns
    -------
    Slices x domains: logarithm of the number of spots, with half a spot added, minus its mean over the domains.
    """
    logs = np.log(_counts(domains) + _PSEUDOCOUNT)
    return logs.sub(logs.mean(axis=1), axis=0)


def shares(domains: pd.DataFrame, levels: Mapping[str, str]) -> pd.DataFrame:
    """Composition of each slice that has a level.

    Parameters
    ----------
    domains
        ``slice`` and ``domain`` of each spot.
    levels
        Level of each slice; slices without one are left out.

    Returns
    -------
    Per ``slice`` and ``domain``: ``level``, ``n_spots``, ``share`` of the slice's spots, and ``clr``, the centred log
    ratio.
    """
    counts = _counts(domains)
    table = counts.stack().rename("n_spots").reset_index()
    table.insert(1, "level", table["slice"].map(levels))
    table["share"] = counts.div(counts.sum(axis=1), axis=0).stack().to_numpy()
    table["clr"] = centred_log_ratios(domains).stack().to_numpy()
    return table[table["level"].notna()].reset_index(drop=True)


def _counts(domains: pd.DataFrame) -> pd.DataFrame:
    """Number of spots (slices x domains)."""
    table = pd.crosstab(domains["slice"], domains["domain"])
    # A categorical order stays, its index does not.
    return table.set_axis(table.columns.astype(str).rename("domain"), axis=1)


def compare_composition(domains: pd.DataFrame, contrast: Contrast, *, seed: int = 0) -> pd.DataFrame:
    """Compare the proportions of the domains between two levels of a condition.

    Parameters
    ----------
    domains
        ``slice`` and ``domain`` of each spot.
    contrast, seed
        As for ``compare``.

    Returns
    -------
    Per ``domain``, ``level`` and ``reference`` what ``compare`` returns of the centred log ratios.
    """
    table = compare(centred_log_ratios(domains), contrast, seed=seed).rename_axis("domain").reset_index()
    table.insert(0, "level", contrast.level)
    table.insert(1, "reference", contrast.reference)
    return table


def described(contrasts: Iterable[Contrast]) -> pd.DataFrame:
    """Contrasts as a table: levels, number of replicates, whether they are ``paired``, and a ``note``."""
    rows = [(own.level, own.reference, *own.n_replicates, own.paired, own.note) for own in contrasts]
    return pd.DataFrame(rows, columns=["level", "reference", "n_level", "n_reference", "paired", "note"])
