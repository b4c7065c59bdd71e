"""Fragments of chromatin (ATAC, CUT&Tag) with positions of their barcodes, counted in peaks or in bins."""

import logging
import os
from collections.abc import Iterator

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.config import layouts
from mosaic.errors import InputError, few
from mosaic.prepare.readers import positions
from mosaic.prepare.readers.parts import NAME_POSITIONS, Asked, Found, lacking
from mosaic.prepare.readers.tenx import opened

logger = logging.getLogger(__name__)

# Fragments that are in memory at once.
_CHUNK = 5_000_000

_COLUMNS = ["chromosome", "begin", "end", "barcode"]


def read(asked: Asked) -> ad.AnnData:
    """Count the fragments of the barcodes that have a position.

    A fragment counts once in a peak or bin that holds one or both of its ends, which are where the transposase cut
    (paired insertion counting: Miao and Kim, Nature Methods 2024). Bins of ``asked.bin_size`` base pairs begin at the
    chromosome's begin and reach to its last fragment, so that those of different slices have the same names. Barcodes
    without a fragment stay, with no counts.

    Raises
    ------
    InputError
        If a file is missing or damaged, no barcode has a position, or no fragment lies in a peak.
    """
    layout = layouts.fragments(asked.path)
    place = asked.positions or layout.get("positions")
    if place is None:
        there = layouts.listed(asked.path) or [os.path.basename(asked.path)]
        raise lacking("positions", asked.path, "a table of positions", there, NAME_POSITIONS)
    table = positions.read(place)
    obs = pd.DataFrame(index=table.index)
    if asked.kind is None:
        adata = ad.AnnData(obs=obs)
    else:
        counts, names = _counted(layout["fragments"], table.index, asked, place)
        adata = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=names))
    positions.placed(adata, table, layout["fragments"], place)
    pitch = positions.pitch(table)
    if pitch:
        adata.uns["microns_per_unit"] = positions.VISIUM_PITCH / pitch
    return adata


def contents(path: str) -> list[Found]:
    """The modality of the fragments."""
    layout = layouts.fragments(path)
    spots = f"{len(positions.read(layout['positions'])):,} spots" if "positions" in layout else "no positions found"
    return [Found("atac", "epigenome", "", f"{spots}; set peaks or bin_size of the modality in the config")]


def _counted(path: str, barcodes: pd.Index, asked: Asked, place: str) -> tuple[sparse.csr_matrix, list[str]]:
    """Counts (barcodes x features), and the names of the features."""
    peaks = None if asked.peaks is None else _Peaks(asked.peaks)
    bins = _Bins(asked.bin_size)
    whose = _Whose(barcodes, path)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    total = own = 0
    for chunk in _chunks(path):
        rows = whose.rows(chunk["barcode"])
        total, own = total + len(chunk), own + int((rows >= 0).sum())
        chunk, rows = chunk[rows >= 0], rows[rows >= 0]
        columns = (peaks or bins).columns(chunk)
        ends = [np.column_stack([rows, column])[column >= 0] for column in columns.T]
        # An end in the feature of the other end counts no second time.
        ends[1] = ends[1][(columns[:, 0] != columns[:, 1])[columns[:, 1] >= 0]]
        both = np.concatenate(ends)
        found.append((both[:, 0], both[:, 1]))
    if not own:
        raise InputError(
            f"none of its {total:,} fragments has a barcode of {place}: {few(whose.first)}, where the table has "
            f"{few(barcodes)}",
            where=path,
            hint="the table must be of the same slice, with barcodes spelt as in the fragments",
        )
    names = (peaks or bins).names()
    matrix = sparse.csr_matrix((len(barcodes), len(names)), dtype=np.float32)
    for rows, columns in found:
        placed = bins.placed(columns) if peaks is None else columns
        matrix += sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, placed)), shape=matrix.shape)
    logger.info("%s: %d of %d fragments have a barcode with a position", path, own, total)
    if peaks is not None and not matrix.nnz:
        problem = (
            f"no fragment lies in a peak of {asked.peaks}: its chromosomes are {few(list(peaks.chromosomes))}, and "
        )
        problem += f"those of the fragments {few(list(peaks.others))}"
        raise InputError(problem, where=path, hint="spell the chromosomes alike, and take peaks of the same genome")
    return matrix, names


def _chunks(path: str) -> Iterator[pd.DataFrame]:
    types = {"chromosome": "category", "begin": np.int64, "end": np.int64, "barcode": "category"}
    with opened(path) as file:
        chunks = pd.read_csv(
            file, sep="\t", header=None, comment="#", usecols=range(4), names=_COLUMNS, dtype=types, chunksize=_CHUNK
        )
        for chunk in chunks:
            if (chunk["end"] <= chunk["begin"]).any() or (chunk["begin"] < 0).any():
                raise InputError("has fragments that end before they begin", where=path, hint="copy it again")
            yield chunk


class _Whose:
    """Numbers of the spots of fragments, by barcode, with or without the number behind it."""

    def __init__(self, barcodes: pd.Index, path: str):
        self.barcodes, self.bare, self.path = barcodes, None, path
        self.first: list[str] = []

    def rows(self, names: pd.Series) -> np.ndarray:
        called = pd.Index(names.cat.categories.astype(str))
        self.first = self.first or list(called[:3])
        if self.bare is None and not called.isin(self.barcodes).any():
            bare = self.barcodes.str.replace(r"-\d+$", "", regex=True)
            if bare.is_unique and called.str.replace(r"-\d+$", "", regex=True).isin(bare).any():
                self.bare = bare
        if self.bare is None:
            numbers = self.barcodes.get_indexer(called)
        else:
            numbers = self.bare.get_indexer(positions.without_number(called, self.path))
        return numbers[names.cat.codes.to_numpy()]


class _Peaks:
    """Peaks of a BED file, in its order."""

    def __init__(self, path: str):
        self.others: set[str] = set()
        try:
            with opened(path) as file:
                table = pd.read_csv(file, sep="\t", header=None, comment="#", usecols=range(3), names=_COLUMNS[:3])
            table = table[~table["chromosome"].astype(str).str.startswith(("track", "browser"))]
            table = table.astype({"chromosome": str, "begin": np.int64, "end": np.int64})
        except (OSError, ValueError) as error:
            problem = f"can't be read as BED ({type(error).__name__}: {error})"
            raise InputError(
                problem, where=path, hint="it needs chromosome, begin and end, separated by tabs"
            ) from error
        self.table = table.reset_index(drop=True)
        self.chromosomes: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for name, own in self.table.groupby("chromosome", sort=False):
            own = own.sort_values("begin")
            begins, ends = own["begin"].to_numpy(), own["end"].to_numpy()
            if (begins[1:] < ends[:-1]).any() or (ends <= begins).any():
                hint = "merge them, with bedtools merge for example: a fragment is counted in one peak"
                raise InputError(f"has peaks of {name} that overlap, or are empty", where=path, hint=hint)
            self.chromosomes[str(name)] = begins, ends, own.index.to_numpy()

    def columns(self, chunk: pd.DataFrame) -> np.ndarray:
        """Peaks of the ends of fragments (fragments x 2), -1 where there is none."""
        found = np.full((len(chunk), 2), -1)
        codes = chunk["chromosome"].cat.codes.to_numpy()
        cuts = np.column_stack([chunk["begin"], chunk["end"] - 1])
        for code, name in enumerate(chunk["chromosome"].cat.categories):
            if name not in self.chromosomes:
                self.others.add(str(name))
                continue
            begins, ends, numbers = self.chromosomes[name]
            own = codes == code
            at = np.searchsorted(begins, cuts[own], side="right") - 1
            inside = (at >= 0) & (cuts[own] < ends[at])
            found[own] = np.where(inside, numbers[at], -1)
        return found

    def names(self) -> list[str]:
        table = self.table
        text = table["chromosome"] + ":" + table["begin"].astype(str) + "-" + table["end"].astype(str)
        return text.tolist()


class _Bins:
    """Bins of the genome, numbered by chromosome, of which the lengths are known at the end alone."""

    # No chromosome has as many base pairs, and so no more bins.
    _MOST = 2**40

    def __init__(self, size: int):
        self.size = size
        self.chromosomes: dict[str, int] = {}
        self.last: dict[int, int] = {}

    def columns(self, chunk: pd.DataFrame) -> np.ndarray:
        """Numbers of the bins of the ends of fragments (fragments x 2), for ``placed``."""
        called = chunk["chromosome"].cat.categories
        present = chunk["chromosome"].cat.remove_unused_categories().cat.categories
        for name in present:
            self.chromosomes.setdefault(str(name), len(self.chromosomes))
        numbers = np.array([self.chromosomes.get(str(name), -1) for name in called])
        chromosome = numbers[chunk["chromosome"].cat.codes.to_numpy()]
        bins = np.column_stack([chunk["begin"], chunk["end"] - 1]) // self.size
        for number in np.unique(chromosome):
            self.last[number] = max(self.last.get(number, 0), int(bins[chromosome == number].max()))
        return chromosome[:, None] * self._MOST + bins

    def placed(self, columns: np.ndarray) -> np.ndarray:
        """Columns of numbers that ``columns`` returned, once all fragments are seen."""
        lengths = [self.last[number] + 1 for number in range(len(self.chromosomes))]
        begins = np.concatenate([[0], np.cumsum(lengths)])
        return begins[columns // self._MOST] + columns % self._MOST

    def names(self) -> list[str]:
        size = self.size
        return [
            f"{name}:{place * size}-{(place + 1) * size}"
            for name, number in self.chromosomes.items()
            for place in range(self.last[number] + 1)
        ]
