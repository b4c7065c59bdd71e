"""A matrix as 10x Genomics' software writes it: an h5 file, or a folder of mtx."""

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import io, sparse

from mosaic.config.layouts import mtx
from mosaic.errors import InputError
from mosaic.prepare.readers import hdf5
from mosaic.prepare.readers.parts import Parts, lacking

# Of a matrix that is sampled, so many barcodes are read from begin, middle and end.
_SAMPLED = 100


def read(path: str, most: int | None = None) -> Parts:
    """Counts of all feature types, barcodes x features.

    Parameters
    ----------
    path
        An h5 file, or a folder with matrix, barcodes and features (or genes).
    most
        See ``Asked``: of a larger h5 file, some barcodes are read.

    Returns
    -------
    Parts whose ``source.var`` has ``name``, ``feature_types``, ``gene_id`` and, if the panel tells it,
    ``isotype_control``.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    return _folder(path) if os.path.isdir(path) else _h5(path, most)


def names(path: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Barcodes (as an empty table) and features alone."""
    if os.path.isdir(path):
        files = _files(path)
        return pd.DataFrame(index=_lines(files["barcodes"])[0]), _features(files["features"])
    with hdf5.opened(path, "a 10x h5 file") as file:
        group = _group(file, path)
        return _h5_names(group, path)


def _h5(path: str, most: int | None) -> Parts:
    with hdf5.opened(path, "a 10x h5 file") as file:
        group = _group(file, path)
        hdf5.check_memory(hdf5.declared_bytes(group), path)
        obs, var = _h5_names(group, path)
        shape = (len(obs), len(var))
        declared = tuple(int(length) for length in group["shape"][:])[::-1]
        if declared != shape:
            problem = (
                f"declares {declared[0]:,} barcodes x {declared[1]:,} features, and holds {shape[0]:,} x {shape[1]:,}"
            )
            raise InputError(problem, where=path, hint="the file is damaged: copy or download it again")
        ends = group["indptr"][:].astype(np.int64)
        if len(ends) != shape[0] + 1 or ends[0] or (np.diff(ends) < 0).any() or ends[-1] != group["data"].shape[0]:
            raise InputError(
                "the rows of its matrix do not fit its values", where=path, hint="copy or download it again"
            )
        sampled = most is not None and ends[-1] > most
        if not sampled:
            adata = ad.AnnData(_rows(group, ends, 0, shape[0], shape[1]), obs=obs, var=var)
            return Parts(adata, adata, place="matrix")
        starts = dict.fromkeys(max(0, min(start, shape[0] - _SAMPLED)) for start in (0, shape[0] // 2, shape[0]))
        blocks = [(start, min(start + _SAMPLED, shape[0])) for start in starts]
        counts = sparse.vstack([_rows(group, ends, *block, shape[1]) for block in blocks], format="csr")
        chosen = np.concatenate([np.arange(*block) for block in blocks])
        return Parts(ad.AnnData(obs=obs, var=var), ad.AnnData(counts, obs=obs.iloc[chosen], var=var), True, "matrix")


def _rows(group: h5py.Group, ends: np.ndarray, first: int, last: int, n_columns: int) -> sparse.csr_matrix:
    """Barcodes of a matrix, with indices of 32 bits: those of the file would take twice the memory."""
    begin, end = int(ends[first]), int(ends[last])
    indices = group["indices"].astype("i4")[begin:end]
    pointers = ends[first : last + 1] - begin
    if end - begin < 2**31:
        pointers = pointers.astype(np.int32)
    counts = sparse.csr_matrix((group["data"][begin:end], indices, pointers), shape=(last - first, n_columns))
    # A wrong index would be taken for a place in memory that is another's.
    counts.check_format(full_check=True)
    return counts


def _group(file: h5py.File, path: str) -> h5py.Group:
    """The group of the matrix; before version 3 it is named after the genome."""
    groups = [group for group in file.values() if isinstance(group, h5py.Group)]
    found = [group for group in groups if {"barcodes", "data", "indices", "indptr", "shape"} <= set(group)]
    if len(found) != 1:
        problem = f"holds {len(found)} matrices, and one is expected"
        raise InputError(
            problem, where=path, hint="give a file of one genome, as Space Ranger or Cell Ranger writes it"
        )
    return found[0]


def _h5_names(group: h5py.Group, path: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    def texts(values: h5py.Dataset) -> np.ndarray:
        return np.array([value.decode("utf-8") for value in values[:]], dtype=object)

    obs = pd.DataFrame(index=pd.Index(texts(group["barcodes"]), dtype=object))
    if "features" not in group:
        return obs, _table(texts(group["genes"]), texts(group["gene_names"]), "Gene Expression")
    features = group["features"]
    var = _table(*(texts(features[name]) for name in ("id", "name", "feature_type")))
    if isinstance(features.get("isotype_control"), h5py.Dataset):
        var["isotype_control"] = texts(features["isotype_control"])
    return obs, var


def _table(identifiers: np.ndarray, called: np.ndarray, types: np.ndarray | str) -> pd.DataFrame:
    """Features by their number: names may be repeated."""
    columns = {"gene_id": identifiers, "name": called, "feature_types": types}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(called)).astype(str))


def _files(path: str) -> dict[str, str]:
    files = mtx(path)
    if not files:
        raise lacking("matrix", path, "matrix.mtx.gz, barcodes.tsv.gz and features.tsv.gz", sorted(os.listdir(path)))
    return files


def _folder(path: str) -> Parts:
    files = _files(path)
    obs, var = pd.DataFrame(index=_lines(files["barcodes"])[0]), _features(files["features"])
    with opened(files["matrix"]) as file:
        counts = io.mmread(file)
    counts = sparse.csr_matrix(counts.T)
    if counts.shape != (len(obs), len(var)):
        if counts.shape[::-1] != (len(obs), len(var)) or len(obs) == len(var):
            problem = f"the matrix is {counts.shape[1]:,} x {counts.shape[0]:,}, and there are {len(var):,} features "
            problem += f"and {len(obs):,} barcodes"
            raise InputError(problem, where=path, hint="the three files must be of one matrix: copy them again")
        counts = sparse.csr_matrix(counts.T)
    adata = ad.AnnData(counts, obs=obs, var=var)
    return Parts(adata, adata, place="matrix.mtx")


def _features(path: str) -> pd.DataFrame:
    """Identifier, name and type of each feature; a table of names alone is one of genes."""
    table = _lines(path)
    columns = [table[number].to_numpy(dtype=object) for number in range(table.shape[1])]
    names = columns[min(1, len(columns) - 1)]
    return _table(columns[0], names, columns[2] if len(columns) > 2 else "Gene Expression")


def _lines(path: str) -> pd.DataFrame:
    with opened(path) as file:
        return pd.read_csv(file, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)


@contextmanager
def opened(path: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """A file that may be packed by gzip, whatever its name says."""
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            with gzip.open(raw) as file:
                yield file
        else:
            yield raw
