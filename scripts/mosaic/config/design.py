"""The design of the experiment: the modalities of each slice."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from types import MappingProxyType
from typing import NamedTuple

from mosaic.errors import InputError


class SampleRow(NamedTuple):
    """One modality of one slice.

    Attributes
    ----------
    slice, modality
        Their names.
    path
        The file or folder that holds it, as the workflow opens it.
    options
        What a reader needs besides, where it is not the default: ``format`` (a name in ``READERS``), ``name`` (what
        stands after ``#`` in the sheet), ``positions`` (a table of positions), ``peaks`` (a BED file), ``bin_size``.
    """

    slice: str
    modality: str
    path: str
    options: Mapping[str, str | int] = MappingProxyType({})


class SampleSheet(tuple[SampleRow, ...]):
    """The rows of a sample sheet, and queries on its design.

    Attributes
    ----------
    columns
        Further columns of the sheet: per name the text of each slice that has one.
    """

    columns: dict[str, dict[str, str]]

    def __new__(cls, rows: Iterable[SampleRow] = (), columns: Mapping[str, Mapping[str, str]] | None = None):
        """The rows, with the further columns as an attribute.

        Parameters
        ----------
        rows
            Rows of the sample sheet.
        columns
            Further columns of the sheet: per name the text of each slice that has one.
        """
        sheet = super().__new__(cls, rows)
        sheet.columns = {name: dict(values) for name, values in (columns or {}).items()}
        return sheet

    @property
    def slices(self) -> list[str]:
        """Slices in the order of the sheet."""
        return list(dict.fromkeys(row.slice for row in self))

    @property
    def modalities(self) -> list[str]:
        """Modalities in the order of the sheet."""
        return list(dict.fromkeys(row.modality for row in self))

    def slices_of(self, modality: str) -> list[str]:
        """Slices that have a modality."""
        return [name for name in self.slices if any(row[:2] == (name, modality) for row in self)]

    def modalities_of(self, slice_name: str) -> list[str]:
        """Modalities of a slice."""
        return [name for name in self.modalities if any(row[:2] == (slice_name, name) for row in self)]

    @property
    def bridges(self) -> list[str]:
        """Slices with two or more modalities."""
        return [name for name in self.slices if len(self.modalities_of(name)) > 1]

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Pairs (slice, modality) without data."""
        return [(s, m) for s in self.slices for m in self.modalities if m not in self.modalities_of(s)]

    def mnn_pairs(self, modality: str) -> list[tuple[str, str]]:
        """Pairs of slices to link by mutual nearest neighbours: those with a bridge slice, or all without a bridge."""
        pairs = list(combinations(self.slices_of(modality), 2))
        bridged = [pair for pair in pairs if set(pair) & set(self.bridges)]
        return bridged if set(self.slices_of(modality)) & set(self.bridges) else pairs

    def imputed_from(self, slice_name: str, modality: str, method: str) -> list[tuple[str, str]]:
        """Slices and modalities with the counts that an imputation needs.

        Parameters
        ----------
        slice_name, modality
            What is imputed.
        method
            ``nearest`` takes the counts of the missing modality alone; ``matching`` also those of each modality of the
            slice, there and in the slices with the missing modality.
        """
        donors = self.slices_of(modality)
        rows = [(name, modality) for name in donors]
        if method == "matching":
            for source in self.modalities_of(slice_name):
                rows += [(name, source) for name in self.slices_of(source) if name in {slice_name, *donors}]
        return rows

    def drop(self, slice_name: str, modality: str) -> "SampleSheet":
        """The design without one modality of one slice."""
        return SampleSheet(row for row in self if row[:2] != (slice_name, modality))

    def folds(self, n_stripes: int) -> list[tuple[str, str, int]]:
        """Folds of held-out validation: slice, modality, and 0 for the whole slice or the number of a stripe, from 1.

        A fold hides the whole slice if the other slices still link all modalities and one of them has a source modality
        of the imputation.
        """
        found = []
        for slice_name in self.bridges:
            for modality in self.modalities_of(slice_name):
                rest = self.drop(slice_name, modality)
                sources = set(rest.modalities_of(slice_name))
                bridged = any(sources & set(rest.modalities_of(name)) for name in rest.slices_of(modality))
                whole = bridged and not list(design_faults(rest, ""))
                found += [(slice_name, modality, part) for part in ([0] if whole else range(1, n_stripes + 1))]
        return found

    def row(self, slice_name: str, modality: str) -> SampleRow:
        """The row of one modality of one slice; raises InputError if the slice lacks the modality."""
        for row in self:
            if row[:2] == (slice_name, modality):
                return row
        hint = f"it measured {', '.join(self.modalities_of(slice_name))}"
        raise InputError(f"slice {slice_name} did not measure {modality}", where="the sheet", hint=hint)

    def path(self, slice_name: str, modality: str) -> str:
        """The file or folder of one modality of one slice; raises InputError if the slice lacks the modality."""
        return self.row(slice_name, modality).path


def design_faults(sheet: SampleSheet, path: str) -> Iterator[InputError]:
    """Faults of a design: modalities that no chain of bridge slices links cannot be aligned.

    Parameters
    ----------
    sheet
        The design.
    path
        Path of the sample sheet, for messages.
    """
    groups = [{name} for name in sheet.modalities]
    for bridge in sheet.bridges:
        joined = set(sheet.modalities_of(bridge))
        groups = [group for group in groups if not group & joined] + [
            joined.union(*(group for group in groups if group & joined))
        ]
    for first, second in combinations(groups, 2):
        yield InputError(
            f"no chain of bridge slices joins {' and '.join(sorted(first))} to {' and '.join(sorted(second))}",
            where=path,
            hint="add a slice that measured one of each, or run them separately",
        )
