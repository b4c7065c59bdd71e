"""Read the tables that rules write, with names always as text, and the names and colours of domains."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mosaic.errors import InputError


def read_table(path: str | Path, spots: pd.Index | None = None, *, index: str = "spot") -> pd.DataFrame:
    """Read a TSV that a rule wrote, with names always as text.

    Parameters
    ----------
    path
        The table.
    spots
        The spots to return, in this order; None: all.
    index
        The column with the names.

    Raises
    ------
    InputError
        If the table is damaged or lacks one of the spots.
    """
    hint = "delete this file and run again: the workflow will rebuild it"
    dtype = dict.fromkeys((index, "slice", "name"), str)
    try:
        table = pd.read_csv(path, sep="\t", index_col=index, dtype=dtype, keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise InputError(f"is damaged ({error})", where=str(path), hint=hint) from error
    table.index = table.index.fillna("")  # a name may be empty
    if spots is None:
        return table
    lacking = spots[~spots.isin(table.index)]
    if len(lacking):
        raise InputError(f"is damaged: it lacks {len(lacking)} of {len(spots)} spots", where=str(path), hint=hint)
    return table.loc[spots]


# Columns of names, which may look like numbers, in tables whose rows are no spots.
_NAMES = {"slice", "domain", "neighbour", "level", "reference", "replicate", "feature", "note"}
_NAMES |= {"first", "first_modality", "second", "second_modality"}


def read_rows(path: str | Path) -> pd.DataFrame:
    """Read a TSV that a rule wrote whose rows are no spots, with names as text and numbers, or NA, as numbers."""
    columns = pd.read_csv(path, sep="\t", nrows=0).columns
    dtype = {name: str for name in columns if name in _NAMES}
    missing = {name: ["", "NA"] for name in columns if name not in _NAMES}
    return pd.read_csv(path, sep="\t", dtype=dtype, keep_default_na=False, na_values=missing)


class DomainLabels(NamedTuple):
    """How a run's domains are called and coloured.

    Attributes
    ----------
    names
        Name of each domain by its number as text, in the order of the numbers.
    colours
        Colour of each domain by its name, in the same order.
    """

    names: dict[str, str]
    colours: dict[str, str]

    def of(self, domains: pd.Series) -> pd.Series:
        """Names in place of numbers."""
        return domains.astype(str).map(self.names)

    def ordered(self, domains: pd.Series) -> pd.Series:
        """Names in place of numbers, as categories in the order of the numbers."""
        return self.of(domains).astype(pd.CategoricalDtype(list(self.names.values())))

    @property
    def given(self) -> bool:
        """Whether any domain has a name other than its number."""
        return any(number != name for number, name in self.names.items())


def read_labels(path: str | Path) -> DomainLabels:
    """Read the output of rule ``name_domains``."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    names = dict(zip(table["domain"], table["name"], strict=True))
    return DomainLabels(names, dict(zip(table["name"], table["colour"], strict=True)))
