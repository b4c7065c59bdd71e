"""Matrices of h5ad files in blocks of rows, so that memory does not grow with the matrix."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
from scipy import sparse

from mosaic.matrices import BLOCK_VALUES

Matrix = Any  # np.ndarray or sparse.csr_matrix


def block_slices(n_rows: int, n_columns: int) -> list[slice]:
    """The rows of a matrix in blocks of at most ``BLOCK_VALUES`` values; one block if there are no rows."""
    size = max(1, BLOCK_VALUES // max(n_columns, 1))
    return [slice(start, min(start + size, n_rows)) for start in range(0, max(n_rows, 1), size)]


def read_blocks(path: str | Path, *keys: str) -> Iterator[ad.AnnData]:
    """Read an h5ad block by block.

    Parameters
    ----------
    path
        The file.
    keys
        What to read of its matrices: ``X`` or ``layers/{name}``; what the file has not is left out.

    Yields
    ------
    AnnData of some rows, with ``obs``, ``var`` and these matrices.
    """
    with h5py.File(path) as file:
        obs, var = (ad.io.read_elem(file[key]) for key in ("obs", "var"))
        there = {key: _element(file[key]) for key in keys if key in file}
        for rows in block_slices(len(obs), len(var)):
            found = {key.removeprefix("layers/"): element[rows] for key, element in there.items()}
            yield ad.AnnData(found.pop("X", None), obs=obs.iloc[rows], var=var, layers=found)


def stacked_blocks(
    sources: Sequence[tuple[str | Path, str]],
    places: np.ndarray,
    columns: Sequence[np.ndarray],
    n_columns: int,
) -> Iterator[Matrix]:
    """Rows of the matrices of several files, one below the other, block by block.

    Parameters
    ----------
    sources
        Per matrix its file and its key, ``X`` or ``layers/{name}``.
    places
        Of each row its source and its row there (rows x 2).
    columns
        Per source the column that each of its columns has in the result; -1: none.
    n_columns
        Number of columns of the result; where a source lacks one, its rows are zero.

    Yields
    ------
    Blocks of rows, of one type: sparse, unless all sources are dense.
    """
    with ExitStack() as files:
        elements = [_element(files.enter_context(h5py.File(path))[key]) for path, key in sources]
        dtype = np.result_type(*(element.dtype for element in elements))
        dense = all(isinstance(element, h5py.Dataset) for element in elements)
        for block in block_slices(len(places), n_columns):
            source, rows = places[block].T
            parts, members = [], []
            for number in np.unique(source):
                own = np.flatnonzero(source == number)
                part = _rows(elements[number], rows[own])
                part = _moved(part if dense else sparse.csr_matrix(part), columns[number], n_columns)
                parts.append(part.astype(dtype, copy=False))
                members.append(own)
            if not parts:
                empty = np.zeros((0, n_columns), dtype=dtype)
                yield empty if dense else sparse.csr_matrix(empty)
                continue
            stacked = parts[0] if len(parts) == 1 else np.vstack(parts) if dense else sparse.vstack(parts, format="csr")
            order = np.argsort(np.concatenate(members))
            yield stacked if (np.diff(order) == 1).all() else stacked[order]


def append_block(group: h5py.Group, name: str, block: Matrix, most_values: int, **options: Any) -> None:
    """Write the first rows of a matrix, or append further ones.

    Parameters
    ----------
    group, name
        Where to, in an open file.
    block
        The rows; of all blocks of a matrix of one type.
    most_values
        How many values the whole matrix stores at most; decides how wide the pointers of a sparse one are.
    options
        Of the HDF5 data sets.
    """
    if name not in group:
        if isinstance(block, np.ndarray):
            options["maxshape"] = (None, *block.shape[1:])
        elif most_values > np.iinfo(np.int32).max:
            options["indptr_dtype"] = np.int64
        ad.io.write_elem(group, name, block, dataset_kwargs=options)
    elif isinstance(block, np.ndarray):
        element = group[name]
        element.resize(len(element) + len(block), axis=0)
        element[len(element) - len(block) :] = block
    else:
        ad.io.sparse_dataset(group[name], should_cache_indptr=False).append(block)


def n_values(sources: Iterable[tuple[str | Path, str]]) -> int:
    """How many values the matrices of files store, together."""
    total = 0
    for path, key in sources:
        with h5py.File(path) as file:
            element = file[key]
            total += element.size if isinstance(element, h5py.Dataset) else element["data"].size
    return total


def _element(element: h5py.Dataset | h5py.Group) -> Any:
    """What gives rows of a matrix in a file."""
    return element if isinstance(element, h5py.Dataset) else ad.io.sparse_dataset(element)


def _rows(element: Any, rows: np.ndarray) -> Matrix:
    """Rows in any order."""
    if (np.diff(rows) == 1).all():
        return element[slice(rows[0], rows[-1] + 1)]
    order = np.argsort(rows)  # HDF5 reads ascending rows alone
    return element[rows[order]][np.argsort(order)]


def _moved(matrix: Matrix, columns: np.ndarray, n_columns: int) -> Matrix:
    """The matrix with its columns at other places, and zeros in those that it lacks."""
    if matrix.shape[1] == n_columns and np.array_equal(columns, np.arange(n_columns)):
        return matrix
    if isinstance(matrix, np.ndarray):
        moved = np.zeros((len(matrix), n_columns), dtype=matrix.dtype)
        moved[:, columns[columns >= 0]] = matrix[:, columns >= 0]
        return moved
    found = columns[matrix.indices]
    kept = found >= 0
    ends = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    moved = sparse.csr_matrix((matrix.data[kept], found[kept], ends), shape=(matrix.shape[0], n_columns))
    moved.sort_indices()
    return moved
