"""What the workflow reads: how a path is recognised, which kinds of modality it gives, and which of its files are read.

The functions that read are in ``prepare/readers/``; docs/adding_a_reader.md has the steps.
"""

import gzip
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mosaic.config import layouts
from mosaic.config.defaults import KIND_DEFAULTS
from mosaic.config.layouts import Layout

# Kinds that are counted.
_COUNTED = ("rna", "protein", "epigenome")


class Reader(NamedTuple):
    """A format of files, or of folders.

    Attributes
    ----------
    label
        What messages call it, with its article.
    recognises
        Whether a path is of this format, by its content: in a moment, and False where it can't be opened.
    kinds
        Kinds of modality that it gives.
    layout
        Of a format of folders: from the path, and the name after ``#`` in the sheet, to the files that are read.
    named
        Whether the sheet may choose a part of a path, by a name after ``#``.
    several
        Whether one path has several modalities, each a row of the sheet.
    slices
        Whether one path has several slices.
    positions
        Whether it takes a table of positions that the sheet names.
    """

    label: str
    recognises: Callable[[str], bool]
    kinds: tuple[str, ...] = tuple(KIND_DEFAULTS)
    layout: Callable[[str, str], Layout] | None = None
    named: bool = False
    several: bool = False
    slices: bool = False
    positions: bool = False


def reader_of(path: str | os.PathLike) -> str | None:
    """The name of the first reader that recognises a path; None where none does."""
    return next((name for name, reader in READERS.items() if reader.recognises(os.fspath(path))), None)


def known() -> str:
    """What the workflow reads, as a list in words."""
    *others, last = [reader.label for reader in READERS.values()]
    return f"{', '.join(others)} or {last}" if others else last


def source_files(path: str, options: Mapping) -> list[str]:
    """Files that are read for a row of the sheet, so that Snakemake sees their changes; of a file, itself.

    Parameters
    ----------
    path
        The row's path.
    options
        Its options: see ``design.SampleRow``.
    """
    found = [path]
    if os.path.isdir(path):
        name = options.get("format") or reader_of(path)
        layout = READERS[name].layout if name else None
        found = _files((layout and layout(path, options.get("name", ""))) or {"folder": path}, path)
    return found + [options[role] for role in ("positions", "peaks") if options.get(role)]


def _files(layout: Layout, path: str) -> list[str]:
    """The files of a layout; of a folder of mtx the three, of a zarr all. The path itself if there are none."""
    found = []
    for role, file in layout.items():
        if os.path.isfile(file):
            found.append(file)
        elif role == "matrix":
            found += layouts.mtx(file).values()
        elif (role == "store" and "table" not in layout) or role == "table":
            found += (os.path.join(at, name) for at, _, names in os.walk(file) for name in names)
    return sorted(found) or [path]


def _begin(path: str, most: int) -> bytes:
    """The first bytes of a file, unpacked if they are gzip; none where it can't be read."""
    try:
        with open(path, "rb") as file:
            begin = file.read(most)
        if begin[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                return file.read(most)
        return begin
    except (OSError, ValueError, EOFError):  # ValueError: a NUL in the path
        return b""


def _is_hdf5(path: str) -> bool:
    """Whether the signature of HDF5 is where it may be: at 0, 512, 1024, ..., after a block of another program's."""
    try:
        with open(path, "rb") as file:
            size, place = os.fstat(file.fileno()).st_size, 0
            while place < size:
                file.seek(place)
                if file.read(8) == b"\x89HDF\r\n\x1a\n":
                    return True
                place = 2 * place or 512
    except (OSError, ValueError):  # ValueError: a NUL in the path
        pass
    return False


def _holds(path: str, *groups: str) -> bool:
    """Whether an HDF5 file has one of these groups; False for a damaged one."""
    if not _is_hdf5(path):
        return False
    import h5py  # Snakemake parses with this module, where h5py may be missing: only a job asks what a file holds

    try:
        with h5py.File(path) as file:
            return any(isinstance(file.get(name), h5py.Group) for name in groups)
    except Exception:  # h5py raises about anything on a damaged file; its reader tells what
        return False


def _is_h5mu(path: str) -> bool:
    """Whether a file is a MuData: it says so before its HDF5, or has a group of modalities."""
    return _is_hdf5(path) and (_begin(path, 6) == b"MuData" or _holds(path, "mod"))


def _is_tenx(path: str) -> bool:
    """Whether a file is a matrix of Space Ranger or Cell Ranger; before version 3, it is a group for each genome."""
    if _holds(path, "matrix/features"):
        return True
    if not _is_hdf5(path) or _holds(path, "obs", "var", "mod", "geneExp", "cellBin"):
        return False
    import h5py

    try:
        with h5py.File(path) as file:
            groups = [group for group in file.values() if isinstance(group, h5py.Group)]
            return any({"barcodes", "data", "indices", "indptr"} <= set(group) for group in groups)
    except Exception:
        return False


def _is_fragments(path: str) -> bool:
    """Whether a file's first line that is no comment is a fragment: chromosome, begin, end, barcode, count."""
    lines = [line for line in _begin(path, 65536).decode("utf-8", "replace").splitlines() if not line.startswith("#")]
    cells = lines[0].split("\t") if lines else []
    return len(cells) >= 4 and all(cell.isascii() and cell.isdigit() for cell in cells[1:3])


def _is_gem(path: str) -> bool:
    """Whether a file begins as a gem of Stereo-seq, after its comments."""
    lines = [line for line in _begin(path, 65536).decode("utf-8", "replace").splitlines() if not line.startswith("#")]
    cells = lines[0].split("\t") if lines else []
    return {"x", "y"} <= set(cells) and bool({"MIDCount", "MIDCounts", "UMICount"} & set(cells))


def _is_stereoseq(path: str) -> bool:
    return _is_gem(path) or _holds(path, "geneExp", "cellBin")


def _is_fragments_of(path: str) -> bool:
    found = layouts.fragments(path).get("fragments")
    return found is not None and _is_fragments(found)


def _is_matrix(path: str) -> bool:
    return bool(layouts.matrix(path)) if os.path.isdir(path) else _is_tenx(path) or _is_table(path)


def _is_table(path: str) -> bool:
    """Whether a file is a table in text with three columns or more, or a matrix in mtx."""
    begin = _begin(path, 65536)
    if not begin or b"\0" in begin:
        return False
    first = begin.splitlines()[0]
    return begin.startswith(b"%%MatrixMarket") or max(first.count(b"\t"), first.count(b",")) >= 2


# The first that recognises a path reads it: those of particular names before those of any matrix, and h5ad, which takes
# any HDF5, at the end.
READERS = {
    "visium_hd": Reader(
        "a Visium HD folder",
        lambda path: bool(layouts.hd_bins(path)),
        _COUNTED,
        layouts.visium_hd,
        named=True,
        several=True,
        positions=True,
    ),
    "visium": Reader(
        "a Space Ranger folder",
        lambda path: bool(layouts.visium(path)),
        _COUNTED,
        layouts.visium,
        named=True,
        several=True,
        positions=True,
    ),
    "xenium": Reader(
        "a Xenium folder",
        lambda path: bool(layouts.xenium(path)),
        ("rna", "protein"),
        layouts.xenium,
        several=True,
        positions=True,
    ),
    "merscope": Reader(
        "a MERSCOPE folder", lambda path: bool(layouts.merscope(path)), ("rna",), layouts.merscope, positions=True
    ),
    "cosmx": Reader(
        "a folder of CosMx flat files", lambda path: bool(layouts.cosmx(path)), ("rna",), layouts.cosmx, positions=True
    ),
    "stereoseq": Reader("a Stereo-seq file (gem or gef)", _is_stereoseq, ("rna",), named=True),
    "fragments": Reader(
        "fragments with positions", _is_fragments_of, ("epigenome",), layouts.fragments, positions=True
    ),
    "spatialdata": Reader(
        "a SpatialData (zarr)",
        lambda path: bool(layouts.tables(path)),
        layout=layouts.spatialdata,
        named=True,
        several=True,
        slices=True,
    ),
    "zarr": Reader("an AnnData as zarr", lambda path: bool(layouts.zarr(path)), layout=layouts.zarr, several=True),
    "h5mu": Reader("an h5mu file", _is_h5mu, named=True, several=True),
    "matrix": Reader(
        "a matrix (mtx, 10x h5, text) with positions",
        _is_matrix,
        _COUNTED,
        layouts.matrix,
        several=True,
        positions=True,
    ),
    "h5ad": Reader("an h5ad file", _is_hdf5),
}
