"""Stereo-seq's files: gem (text) and gef (HDF5), in square bins or cells."""

import logging
import re

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.errors import InputError, few
from mosaic.prepare.readers import features, hdf5
from mosaic.prepare.readers.parts import Asked, Found, Parts
from mosaic.prepare.readers.tenx import opened

logger = logging.getLogger(__name__)

# Names of the bins, such as bin50: squares of 50 x 50 DNA nanoballs.
_BIN = re.compile(r"bin([1-9]\d*)")
DEFAULT_BIN = "bin50"
CELLS = "cells"

# Micrometres between nanoballs, unless a gef tells another.
_PITCH = 0.5


def read(asked: Asked) -> Parts:
    """Read counts in square bins (``asked.name`` such as ``bin100``, ``bin50`` without a name) or in ``cells``.

    Coordinates are centres of bins or cells, in nanoballs. A gef with bins of size 1 gives bins of any size.

    Raises
    ------
    InputError
        If the file is damaged, or can't give these bins.
    """
    if asked.name not in ("", CELLS) and not _BIN.fullmatch(asked.name):
        problem = f"has no part {asked.name}"
        raise InputError(
            problem, where=asked.path, hint=f"after # stands {CELLS} or a size of bins, such as {DEFAULT_BIN}"
        )
    adata = _gef(asked) if h5py.is_hdf5(asked.path) else _gem(asked)
    return features.of_kind(Parts(adata, adata), asked)


def contents(path: str) -> list[Found]:
    """The genes, in the default bins or in cells."""
    name = ""
    if h5py.is_hdf5(path):
        with hdf5.opened(path, "gef") as file:
            name = "" if "geneExp" in file else CELLS
    return [
        Found(
            "rna", "rna", name, f"bins of 50 x 50 nanoballs; #{CELLS} or #bin100 choose others" if not name else CELLS
        )
    ]


def _made(
    x: np.ndarray, y: np.ndarray, gene: np.ndarray, count: np.ndarray, genes: pd.DataFrame, size: int
) -> ad.AnnData:
    """Counts of bins from those of nanoballs."""
    column, row = ((values // size).astype(np.int64) for values in (x, y))
    low = min(0, int(row.min(initial=0)))  # registered slices may begin below 0
    places, rows = np.unique(column << 32 | (row - low), return_inverse=True)
    counts = sparse.csr_matrix((count, (rows, gene)), shape=(len(places), len(genes)))
    corner = np.column_stack([places >> 32, (places & (2**32 - 1)) + low]) * size
    obs = pd.DataFrame(index=[f"{column}_{row}" for column, row in corner])
    adata = ad.AnnData(counts, obs=obs, var=genes)
    adata.obsm["spatial"] = corner + size / 2
    return adata


def _gem(asked: Asked) -> ad.AnnData:
    with opened(asked.path) as file:
        # nan is a gene of the fly.
        types = {"geneID": "category", "geneName": "category"}
        table = pd.read_csv(file, sep="\t", comment="#", dtype=types, keep_default_na=False, na_values=[""])
    called = {name.lower(): name for name in table.columns}
    count = next((called[name] for name in ("midcount", "midcounts", "umicount") if name in called), None)
    gene = next((called[name] for name in ("geneid", "genename") if name in called), None)
    if count is None or gene is None or not {"x", "y"} <= set(table.columns):
        problem = f"has the columns {few(list(table.columns), 8)}, and geneID, x, y and MIDCount are expected"
        raise InputError(problem, where=asked.path, hint="give the gem that SAW writes")
    genes = table[gene].astype("category").cat
    var = features.of_genes(list(map(str, genes.categories)))
    if "geneName" in table and gene == "geneID":
        named = table.drop_duplicates(gene).set_index(gene)["geneName"].astype(str)
        var["gene_id"] = var["name"]
        var["name"] = named.reindex(genes.categories).to_numpy()
    values = table[count].to_numpy()
    if asked.name != CELLS:
        size = int((asked.name or DEFAULT_BIN).removeprefix("bin"))
        adata = _made(table["x"].to_numpy(), table["y"].to_numpy(), genes.codes.to_numpy(), values, var, size)
    else:
        cell = next((called[name] for name in ("cellid", "label") if name in called), None)
        if cell is None:
            hint = "take bins, or the gem with cells that SAW writes"
            raise InputError("has no column CellID, so no cells", where=asked.path, hint=hint)
        # Cell 0, or none, is what lies outside cells.
        inside = (table[cell].fillna(0) != 0).to_numpy()
        names, rows = np.unique(table[cell].to_numpy()[inside], return_inverse=True)
        shape = (len(names), len(var))
        counts = sparse.csr_matrix((values[inside], (rows, genes.codes.to_numpy()[inside])), shape=shape)
        adata = ad.AnnData(counts, obs=pd.DataFrame(index=names.astype(str)), var=var)
        adata.obsm["spatial"] = table[inside].groupby(cell)[["x", "y"]].mean().loc[names].to_numpy()
    adata.uns["microns_per_unit"] = _PITCH
    return adata


def _gef(asked: Asked) -> ad.AnnData:
    with hdf5.opened(asked.path, "gef") as file:
        wants_cells = asked.name == CELLS
        group = "cellBin" if wants_cells else "geneExp"
        if group not in file:
            there = ", ".join(name for name, own in ((CELLS, "cellBin"), (DEFAULT_BIN, "geneExp")) if own in file)
            problem = f"holds no {asked.name or DEFAULT_BIN}; it can give {there or 'nothing that is known'}"
            raise InputError(problem, where=asked.path, hint="name what it can give after # in the sheet")
        hdf5.check_memory(hdf5.declared_bytes(file[group]), asked.path)
        adata, resolution = _cells(file) if wants_cells else _bins(file, asked)
    adata.uns["microns_per_unit"] = resolution / 1000
    return adata


def _bins(file: h5py.File, asked: Asked) -> tuple[ad.AnnData, float]:
    """Bins of a gef: those that it has, or made of its bins of size 1."""
    wanted = asked.name or DEFAULT_BIN
    stored = wanted if wanted in file["geneExp"] else "bin1"
    if stored not in file["geneExp"]:
        there = few(list(file["geneExp"]), 12)
        raise InputError(f"holds no {wanted}; it has {there}", where=asked.path, hint="name one after # in the sheet")
    group, size = file["geneExp"][stored], int(wanted.removeprefix("bin"))
    expression, gene = group["expression"][:], group["gene"][:]
    code = np.repeat(np.arange(len(gene)), gene["count"])
    if len(code) != len(expression):
        raise InputError("its genes do not fit its counts", where=asked.path, hint="copy or download it again")
    x, y = expression["x"].astype(np.int64), expression["y"].astype(np.int64)
    if stored != "bin1" and ((x % size).any() or (y % size).any()):  # numbers of bins, not places of their corners
        x, y = x * size, y * size
    adata = _made(x, y, code, expression["count"].astype(np.int32), _genes(gene), size)
    return adata, _resolution(group["expression"], file)


def _cells(file: h5py.File) -> tuple[ad.AnnData, float]:
    cell, found, gene = (file["cellBin"][name][:] for name in ("cell", "cellExp", "gene"))
    rows = np.repeat(np.arange(len(cell)), cell["geneCount"])
    column = found["geneID"].astype(np.int64)
    counts = sparse.csr_matrix((found["count"].astype(np.int32), (rows, column)), shape=(len(cell), len(gene)))
    adata = ad.AnnData(counts, obs=pd.DataFrame(index=cell["id"].astype(str)), var=_genes(gene))
    adata.obsm["spatial"] = np.column_stack([cell["x"], cell["y"]]).astype(float)
    return adata, _resolution(file["cellBin"]["cell"], file)


def _genes(table: np.ndarray) -> pd.DataFrame:
    def texts(name: str) -> list[str]:
        return [value.decode("utf-8").strip("\0") for value in table[name]]

    names = table.dtype.names or ()
    called = next(name for name in ("geneName", "gene", "geneID") if name in names)
    var = features.of_genes(texts(called))
    if "geneID" in names and called == "geneName":
        var["gene_id"] = texts("geneID")
    return var


def _resolution(dataset: h5py.Dataset, file: h5py.File) -> float:
    """Nanometres between nanoballs."""
    found = dataset.attrs.get("resolution", file.attrs.get("resolution", 1000 * _PITCH))
    return float(np.asarray(found).ravel()[0]) or 1000 * _PITCH
