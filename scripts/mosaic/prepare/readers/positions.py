"""Tables of positions, by barcode: of Space Ranger in all versions, Xenium, MERSCOPE, and written by hand."""

import logging
from collections.abc import Iterable

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.errors import InputError, few
from mosaic.prepare.readers.tenx import opened

logger = logging.getLogger(__name__)

# Space Ranger's columns; those of version 1 have no header.
_VISIUM = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]

# Names of columns, in lower case, as instruments and tools write them.
_BARCODES = (
    "barcode",
    "barcodes",
    "cell_id",
    "cellid",
    "cell",
    "cell_barcode",
    "spot",
    "spot_id",
    "bead",
    "bc",
    "index",
)
_X = (
    *("pxl_col_in_fullres", "x", "x_centroid", "center_x", "xcoord", "x_coord", "xcoords", "x_position", "x_um"),
    *("centerx_global_px", "coord_x", "imagecol", "sdimx", "spatial_1", "spatial1", "array_col", "col", "column"),
)
_Y = (
    *("pxl_row_in_fullres", "y", "y_centroid", "center_y", "ycoord", "y_coord", "ycoords", "y_position", "y_um"),
    *("centery_global_px", "coord_y", "imagerow", "sdimy", "spatial_2", "spatial2", "array_row", "row", "row"),
)

# Distance between neighbouring spots of Visium, from centre to centre, in micrometres.
VISIUM_PITCH = 100


def read(path: str) -> pd.DataFrame:
    """Read a table of positions.

    Parameters
    ----------
    path
        A parquet file, or text with commas or tabs, with a header or as Space Ranger 1 writes it; gzip or not.

    Returns
    -------
    DataFrame indexed by barcode with ``x`` and ``y`` (y downwards where it is an image's), and ``in_tissue``,
    ``array_row`` and ``array_col`` if the table has them.

    Raises
    ------
    InputError
        If the columns can't be told, or a position is no number.
    """
    table = _parquet(path) if path.endswith(".parquet") else _text(path)
    if isinstance(table.index, pd.Index) and table.index.name and table.index.name.lower() in _BARCODES:
        table = table.reset_index()
    called = {str(name).lower(): name for name in table.columns}
    barcode = next((called[name] for name in _BARCODES if name in called), None)
    pair = columns_of(table.columns)
    if barcode is None and len(table.columns) and table.iloc[:, 0].is_unique:
        barcode = table.columns[0]
    if barcode is None or pair is None:
        raise InputError(
            f"has the columns {few(list(table.columns), 8)}: no barcodes, x and y among them",
            where=path,
            hint="name the columns barcode, x and y in the first line",
        )
    x, y = pair
    numbers = table[[x, y]].apply(pd.to_numeric, errors="coerce")
    if wrong := int(numbers.isna().any(axis=1).sum()):
        at = table[barcode][numbers.isna().any(axis=1)]
        problem = f"has no numbers in {x} and {y} for {wrong} of {len(table)} barcodes: {few(at.astype(str))}"
        raise InputError(problem, where=path, hint="drop these lines, or mend them")
    # Older versions of Xenium's software write text as bytes.
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in table[barcode]]
    found = pd.DataFrame({"x": numbers[x].to_numpy(float), "y": numbers[y].to_numpy(float)}, index=names)
    for name in ("in_tissue", "array_row", "array_col"):
        if name in called:
            values = pd.to_numeric(table[called[name]], errors="coerce")
            # R writes TRUE and FALSE.
            words = name == "in_tissue" and values.isna().any()
            found[name] = (table[called[name]] if words else values).to_numpy()
    if not found.index.is_unique:
        repeated = found.index[found.index.duplicated()].unique()
        hint = "one line per barcode; a table of several slices must be split"
        raise InputError(f"has {len(repeated)} barcodes twice or more: {few(repeated)}", where=path, hint=hint)
    return found


def columns_of(names: Iterable[str]) -> tuple[str, str] | None:
    """Names of the columns that are x and y; None where there are none."""
    called = {str(name).lower(): name for name in names}
    return next(((called[x], called[y]) for x, y in zip(_X, _Y, strict=True) if x in called and y in called), None)


def _parquet(path: str) -> pd.DataFrame:
    from pyarrow import parquet  # large, and few files need it

    return parquet.read_table(path).to_pandas()


def _text(path: str) -> pd.DataFrame:
    with opened(path) as file:
        first = file.readline().decode("utf-8-sig").rstrip("\r\n")
    if not first:
        raise InputError("is empty", where=path, hint="copy or download it again")
    separator = max("\t,; ", key=first.count)
    cells = first.split(separator)
    headed = not all(_is_number(cell) for cell in cells[1:])
    names = None if headed else {6: _VISIUM, 3: ["barcode", "x", "y"]}.get(len(cells))
    if not headed and names is None:
        problem = f"has {len(cells)} columns and no header; without one, 3 (barcode, x, y) or Space Ranger's 6 are read"
        raise InputError(problem, where=path, hint="name the columns barcode, x and y in the first line")
    with opened(path) as file:
        # As text: barcodes may look like numbers.
        table = pd.read_csv(
            file, sep=separator, header=0 if headed else None, names=names, encoding="utf-8-sig", dtype=str
        )
    if isinstance(table.index, pd.RangeIndex):
        return table
    # One name less than columns: the first column is the barcodes', as R writes it.
    return table.rename_axis("barcode").reset_index()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def without_number(names: pd.Index, where: str) -> pd.Index:
    """Barcodes without the number behind them, by which 10x Genomics' software tells libraries apart.

    Raises
    ------
    InputError
        If barcodes differ in this number alone: they would become one.
    """
    bare = names.str.replace(r"-\d+$", "", regex=True)
    if not bare.is_unique:
        same = names[bare == bare[bare.duplicated()][0]]
        raise InputError(
            f"has barcodes that differ in the number behind them alone, {few(same)}; those of the positions have none",
            where=where,
            hint="it holds several libraries: split it by this number into one for each slice, or write the number "
            "behind the barcodes of the positions, too",
        )
    return bare


def placed(adata: ad.AnnData, table: pd.DataFrame, where: str, table_path: str) -> None:
    """Give the spots of a matrix their positions by barcode, in ``obsm["spatial"]``, and what else the table has.

    Parameters
    ----------
    adata
        Spots x features; changed in place.
    table
        As ``read`` returns it.
    where, table_path
        The matrix and the table, for messages.

    Raises
    ------
    InputError
        If a barcode has no position.
    """
    names = adata.obs_names
    found = table.index.get_indexer(names)
    if (found < 0).all():
        bare = table.index.str.replace(r"-\d+$", "", regex=True)
        if bare.is_unique and names.str.replace(r"-\d+$", "", regex=True).isin(bare).any():
            found = bare.get_indexer(without_number(names, where))
            if (found >= 0).any():
                logger.info(
                    "%s: its barcodes and those of %s are paired without the number behind them", where, table_path
                )
    lost = found < 0
    if lost.any():
        raise InputError(
            f"{lost.sum():,} of {len(names):,} barcodes have no position in {table_path}: "
            f"{few(names[lost])}, where the table has {few(table.index)}",
            where=where,
            hint="the table must be of the same slice: that of another capture area has other barcodes",
        )
    table = table.iloc[found]
    adata.obsm["spatial"] = table[["x", "y"]].to_numpy()
    for name in table.columns.difference(["x", "y"]):
        adata.obs[name] = table[name].to_numpy()


def pitch(table: pd.DataFrame) -> float | None:
    """Distance between neighbouring spots of a row of Visium's array, in the table's unit; None where it is none.

    Neighbours in a row are two columns apart: an even and an odd row alternate.
    """
    if not {"array_row", "array_col"} <= set(table.columns):
        return None
    if table[["array_row", "array_col"]].isna().any(axis=None):
        return None
    table = table.astype({"array_row": int, "array_col": int})
    if ((table["array_row"] + table["array_col"]) % 2).any():
        return None
    ordered = table.sort_values(["array_row", "array_col"])
    following = ordered.shift(-1)
    beside = (following["array_row"] == ordered["array_row"]) & (following["array_col"] == ordered["array_col"] + 2)
    steps = np.hypot(following["x"] - ordered["x"], following["y"] - ordered["y"])[beside]
    return float(steps.median()) if len(steps) and steps.median() > 0 else None
