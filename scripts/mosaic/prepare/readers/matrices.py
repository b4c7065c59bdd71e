"""Any matrix with a table of positions: mtx, 10x h5, or text, as Slide-seq, Curio and most repositories have them."""

import os

import anndata as ad
import pandas as pd
from scipy import sparse

from mosaic.config import layouts
from mosaic.errors import InputError
from mosaic.prepare.readers import features, positions, tables, tenx
from mosaic.prepare.readers.parts import NAME_POSITIONS, Asked, Found, Parts, lacking


def read(asked: Asked) -> Parts:
    """Read a folder with one matrix and one table of positions, or a matrix for which the sheet names the table.

    A table in text may have barcodes in rows or in columns: those that are barcodes of the positions.

    Raises
    ------
    InputError
        If a file is missing or damaged, or a barcode has no position.
    """
    layout = layouts.matrix(asked.path)
    place = asked.positions or layout.get("positions")
    if place is None:
        there = layouts.listed(asked.path) or [os.path.basename(asked.path)]
        raise lacking("positions", asked.path, "a table of positions", there, NAME_POSITIONS)
    table = positions.read(place)
    if asked.kind is None:
        found = Parts(
            adata := ad.AnnData(obs=pd.DataFrame(index=_barcodes(layout["matrix"], table, asked.path))), adata
        )
    else:
        found = features.of_kind(_typed(_read(layout["matrix"], table, asked), asked.kind), asked)
    positions.placed(found.source, table, layout["matrix"], place)
    pitch = positions.pitch(table)
    if pitch:
        found.source.uns["microns_per_unit"] = positions.VISIUM_PITCH / pitch
    return found


def contents(path: str) -> list[Found]:
    """Modalities of a matrix."""
    layout = layouts.matrix(path)
    matrix = layout["matrix"]
    if _is_text(matrix):
        found = _read(matrix, positions.read(layout["positions"]) if "positions" in layout else None, Asked(path))
        return [features.guessed(pd.Index(found.source.var["name"]), found.source.n_obs)]
    obs, var = tenx.names(matrix)
    if var["feature_types"].nunique() == 1 and os.path.isdir(matrix):
        return [features.guessed(pd.Index(var["name"]), len(obs))]
    return features.contents_of(var, len(obs))


def _is_text(path: str) -> bool:
    return os.path.isfile(path) and not path.lower().endswith((".h5", ".hdf5")) and not _is_hdf5(path)


def _is_hdf5(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x89HDF"


def _read(matrix: str, table: pd.DataFrame | None, asked: Asked) -> Parts:
    if not _is_text(matrix):
        return tenx.read(matrix, asked.most)
    rows, columns, counts = tables.counts(matrix)
    names = pd.Index(rows.iloc[:, 0].to_numpy(dtype=object))
    if table is not None and _shared(columns, table) > _shared(names, table):
        names, columns, counts = pd.Index(columns), list(names), sparse.csr_matrix(counts.T)
    if pair := positions.columns_of(columns):
        problem = f"holds positions among its counts, {' and '.join(pair)}, which would be read as features"
        raise InputError(
            problem, where=matrix, hint="leave barcodes and counts alone in this table, and put positions apart"
        )
    adata = ad.AnnData(counts, obs=pd.DataFrame(index=names), var=features.of_genes(columns))
    return Parts(adata, adata, place=os.path.basename(matrix))


def _barcodes(matrix: str, table: pd.DataFrame, where: str) -> pd.Index:
    if not _is_text(matrix):
        return tenx.names(matrix)[0].index
    columns = tables.header(matrix)[1:]
    if _shared(columns, table):
        return pd.Index(columns)
    return _read(matrix, table, Asked(where)).source.obs_names


def _shared(names: list[str] | pd.Index, table: pd.DataFrame) -> int:
    return int(pd.Index(names).isin(table.index).sum())


def _typed(parts: Parts, kind: str) -> Parts:
    """The parts with the kind as the type of all features, where the file tells none of them apart."""
    var = parts.source.var
    told = set(var["feature_types"]) & {name for names in features.TYPES.values() for name in names}
    if told <= {"Gene Expression"} and var["feature_types"].nunique() == 1:
        for adata in {id(part): part for part in (parts.source, parts.values)}.values():
            adata.var["feature_types"] = features.TYPES[kind][0]
    return parts
