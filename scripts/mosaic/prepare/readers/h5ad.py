"""h5ad: one AnnData, whole or, of a large matrix, a sample."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.errors import InputError, few, shortened
from mosaic.prepare.readers.parts import Parts

WRITE_AGAIN = "write the file again with anndata's write_h5ad and check that it was copied whole"

# Values of a dense matrix that are read at once.
_CHUNK_VALUES = 50_000_000

# Bytes of a short string in memory; a file says 16.
_STRING_BYTES = 80

# Of a matrix that is sampled, so many rows are read from begin, middle and end.
_SAMPLED = 100

# Kinds of numpy types that counts and features may have: boolean, integer, unsigned, floating.
_NUMBERS = "biuf"

_IN_RAW = (
    "the file has .raw, which is not read; if it holds the counts, "
    'adata.layers["counts"] = adata.raw[:, adata.var_names].X and write_h5ad put them where they are found'
)


def read(path: str, *, counted: bool, most: int | None = None) -> Parts:
    """Read names, coordinates, and counts or features; of a matrix of more than ``most`` values, a sample.

    Parameters
    ----------
    path
        The file.
    counted
        Whether the modality has counts: they are in ``layers["counts"]`` or, without that layer, in ``X``. Else its
        features are in ``X``.
    most
        Largest number of stored values that is read whole; None: any.

    Raises
    ------
    InputError
        If the file can't be read, or declares what can't be.
    """
    with _opened(path) as file:
        return _needed_parts(file, path, counted=counted, most=most)


def read_obs(path: str) -> pd.DataFrame:
    """Read ``obs`` alone; InputError if the file can't be read."""
    with _opened(path) as file:
        _check_memory(_declared_bytes(_table(file, "obs", path)), path)
        return ad.io.read_elem(file["obs"])


def read_var(path: str) -> pd.DataFrame:
    """Read ``var`` alone; InputError if the file can't be read."""
    with _opened(path) as file:
        _check_memory(_declared_bytes(_table(file, "var", path)), path)
        return ad.io.read_elem(file["var"])


def read_tissue(path: str) -> tuple[dict, np.ndarray]:
    """Read the parts of ``uns`` that ``tissue.frame_of`` takes, and the coordinates (spots x 2).

    Of the images of a library only the one in the highest resolution.

    Raises
    ------
    InputError
        If the file can't be read.
    """
    with _opened(path) as file:
        found = {}
        libraries = file.get("uns/spatial")
        for name, library in libraries.items() if isinstance(libraries, h5py.Group) else ():
            images = library.get("images") if isinstance(library, h5py.Group) else None
            known = images if isinstance(images, h5py.Group) else {}
            best = [key for key in ("hires", "lowres") if key in known][:1]
            there = isinstance(library, h5py.Group) and "scalefactors" in library
            parts = [*(known[key] for key in best), *([library["scalefactors"]] if there else [])]
            _check_memory(sum(map(_declared_bytes, parts)), path)
            factors = ad.io.read_elem(library["scalefactors"]) if there else {}
            found[name] = {"images": {key: ad.io.read_elem(known[key]) for key in best}, "scalefactors": factors}
        uns = {"spatial": found}
        if isinstance(file.get("uns/microns_per_unit"), h5py.Dataset):
            uns["microns_per_unit"] = ad.io.read_elem(file["uns/microns_per_unit"])
        places = file.get("obsm/spatial")
        if not isinstance(places, h5py.Dataset):
            return uns, np.empty((0, 2))
        _check_memory(_declared_bytes(places), path)
        return uns, ad.io.read_elem(places)


@contextmanager
def _opened(path: str) -> Iterator[h5py.File]:
    """A user's file; what can be wrong with it as a file is told in words."""
    try:
        with h5py.File(path) as file:
            _check_own(file, path)
            _check_format(file, path)
            yield file
    except InputError:
        raise
    except Exception as error:  # h5py and anndata raise about anything on a damaged file
        if "unable to lock file" in str(error):
            raise InputError(
                "is locked: another program has it open to write, or the file system knows no locks",
                where=path,
                hint="close it there, a notebook perhaps, and run again; if nothing has it open, "
                "set HDF5_USE_FILE_LOCKING=FALSE in the environment",
            ) from error
        problem = f"can't be read as h5ad ({type(error).__name__}: {shortened(str(error), 300)})"
        raise InputError(problem, where=path, hint=WRITE_AGAIN) from error


def _check_own(file: h5py.File, where: str) -> None:
    """Whether the file holds all that it names: HDF5 would read any other file, and it would go into the results."""

    def linked(name: str, link: object) -> str | None:
        return name if isinstance(link, h5py.ExternalLink) else None

    def stored(name: str, thing: h5py.Dataset | h5py.Group) -> str | None:
        return name if isinstance(thing, h5py.Dataset) and (thing.external or thing.is_virtual) else None

    if name := file.visititems_links(linked) or file.visititems(stored):
        raise InputError(
            f"{shortened(name)} lies in another file, which is not read",
            where=where,
            hint="if you trust it, read this file with anndata and write a copy with write_h5ad, which holds it all",
        )


def _check_format(file: h5py.File, where: str) -> None:
    """HDF5 files that others mean by a slice, and what to make of them."""
    if isinstance(file.get("mod"), h5py.Group):
        names = list(file["mod"]) or ["rna"]
        raise InputError(
            f"is a MuData with {few(names)}, not an AnnData of one modality",
            where=where,
            hint=f"write each modality to a file of its own, mudata.read_h5mu(path)[{names[0]!r}].write_h5ad(...), "
            "with a row of the sheet for each",
        )
    if "obs" not in file and "var" not in file:
        groups = [file, *(group for group in file.values() if isinstance(group, h5py.Group))]
        if any({"barcodes", "data", "indices", "indptr"} <= set(group) for group in groups):
            raise InputError(
                "is a 10x h5 file, not an h5ad",
                where=where,
                hint='read it with scanpy.read_10x_h5, put coordinates into obsm["spatial"] (scanpy.read_visium reads '
                "both from Space Ranger's folder), and write it with write_h5ad",
            )


def _table(file: h5py.File, name: str, where: str) -> h5py.Group:
    table = file.get(name)
    index = table.attrs.get("_index") if isinstance(table, h5py.Group) else None
    if not isinstance(index, str) or index not in table:
        raise InputError(f"holds no table {name} with an index of names", where=where, hint=WRITE_AGAIN)
    return table


def _needed_parts(file: h5py.File, where: str, *, counted: bool, most: int | None = None) -> Parts:
    """Read names, coordinates, and counts or features; of a matrix of more than ``most`` values, a sample.

    What the file declares is compared with itself and with memory before anything large is read: a few bytes can
    declare terabytes.
    """
    tables = [_table(file, name, where) for name in ("obs", "var")]
    places = file.get("obsm", {})
    # Where there are no coordinates, the message names what is there.
    known = [key for key in places if key == "spatial" or "spatial" not in places]
    place = "layers/counts" if counted and "layers/counts" in file else "X"
    stored = file.get(place)
    sampled = most is not None and stored is not None and _n_values(stored) > most
    whole = [*tables, *([places["spatial"]] if "spatial" in places else [])]
    if isinstance(stored, h5py.Group) and not sampled:
        whole.append(stored)
    _check_memory(sum(map(_declared_bytes, whole)), where)
    obs, var = (ad.io.read_elem(table) for table in tables)
    if isinstance(places.get("spatial"), h5py.Dataset) and places["spatial"].shape[:1] != (len(obs),):
        problem = f'obsm["spatial"] has shape {places["spatial"].shape}, but there are {len(obs)} spots in obs'
        raise InputError(problem, where=where, hint="it must be numbers, spots x 2")
    coordinates = {key: ad.io.read_elem(places[key]) if key == "spatial" else np.zeros((len(obs), 1)) for key in known}
    rows: np.ndarray | slice = slice(None)
    columns: np.ndarray | slice = slice(None)
    matrix = None
    if stored is not None:
        _check_matrix(stored, (len(obs), len(var)), place, where)
        if not counted:  # dense as it is, and as float32
            _check_memory(len(obs) * len(var) * 12, where)
        if sampled:
            rows, columns, matrix = _sample(stored)
        else:
            matrix = _read_matrix(stored, in_chunks=counted)
    values = ad.AnnData(
        matrix if place == "X" else None,
        obs=obs[[]].iloc[rows],
        var=var[[]].iloc[columns],
        layers={} if place == "X" else {"counts": matrix},
    )
    source = ad.AnnData(obs=obs, var=var, obsm=coordinates)
    hint = _IN_RAW if place == "X" and "raw/X" in file else None
    return Parts(source, values, sampled, place, hint)


def _n_values(stored: h5py.Dataset | h5py.Group) -> int:
    values = stored.get("data") if isinstance(stored, h5py.Group) else stored
    return (values.size or 0) if isinstance(values, h5py.Dataset) else 0


def _sample(stored: h5py.Dataset | h5py.Group) -> tuple[np.ndarray | slice, np.ndarray | slice, sparse.spmatrix]:
    """Rows from the begin, the middle and the end of a matrix (columns, where it is stored by columns)."""
    backed = ad.io.sparse_dataset(stored) if isinstance(stored, h5py.Group) else stored
    by_columns = getattr(backed, "format", "csr") == "csc"
    length = backed.shape[int(by_columns)]
    starts = dict.fromkeys(max(0, min(start, length - _SAMPLED)) for start in (0, length // 2, length))
    blocks = [slice(start, min(start + _SAMPLED, length)) for start in starts]
    chosen = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
    if by_columns:
        return slice(None), chosen, sparse.hstack([backed[:, block] for block in blocks], format="csr")
    return chosen, slice(None), sparse.vstack([sparse.csr_matrix(backed[block]) for block in blocks], format="csr")


def _declared_bytes(stored: h5py.Dataset | h5py.Group) -> int:
    """Memory that a dataset, or all of a group, says it needs."""
    if isinstance(stored, h5py.Group):
        return sum(map(_declared_bytes, stored.values()))
    return (stored.size or 0) * (_STRING_BYTES if h5py.check_string_dtype(stored.dtype) else stored.dtype.itemsize)


def _check_memory(needed: int, where: str) -> None:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise InputError(
            f"needs {needed / 1e9:,.0f} GB of memory, and this machine has {there / 1e9:,.0f}",
            where=where,
            hint="check the shapes in the file; counts belong to the kinds rna, protein and epigenome, which keep them "
            "sparse, and kind features is for a few columns",
        )


def _check_matrix(stored: h5py.Dataset | h5py.Group, expected: tuple[int, int], place: str, where: str) -> None:
    """Whether a matrix is stored as numbers, spots x features."""
    if isinstance(stored, h5py.Group):
        values = stored.get("data")
        shape = stored.attrs.get("shape", stored.attrs.get("h5sparse_shape"))  # the latter before anndata 0.7
        shape = None if shape is None else tuple(int(length) for length in shape)
    else:
        values, shape = stored, stored.shape
    if not isinstance(values, h5py.Dataset) or shape is None:
        raise InputError(f"{place} is no matrix", where=where, hint=WRITE_AGAIN)
    if shape != expected:
        problem = (
            f"{place} has shape {shape}, but there are {expected[0]} spots in obs and {expected[1]} features in var"
        )
        raise InputError(problem, where=where, hint=WRITE_AGAIN)
    if values.dtype.kind not in _NUMBERS:
        hint = "it must hold plain numbers, spots x features"
        raise InputError(f"{place} holds {values.dtype}, which is no type of number here", where=where, hint=hint)


def _read_matrix(stored: h5py.Dataset | h5py.Group, *, in_chunks: bool) -> np.ndarray | sparse.spmatrix:
    """A matrix of an h5ad file; ``in_chunks``: if dense there and larger than a chunk, it becomes sparse by chunks."""
    if isinstance(stored, h5py.Group):
        matrix = ad.io.read_elem(stored)
        # A wrong index would be taken for a place in memory that is another's.
        matrix.check_format(full_check=True)
        return matrix
    if not in_chunks or stored.size <= _CHUNK_VALUES:
        return ad.io.read_elem(stored)
    n_rows = max(1, _CHUNK_VALUES // stored.shape[1])
    starts = range(0, stored.shape[0], n_rows)
    return sparse.vstack([sparse.csr_matrix(stored[start : start + n_rows]) for start in starts], format="csr")
