"""CosMx's flat files: counts of cells, and their centres."""

import logging

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.config import layouts
from mosaic.errors import InputError, few
from mosaic.prepare.readers import features, positions, tables
from mosaic.prepare.readers.parts import Asked, Found, Parts, lacking

logger = logging.getLogger(__name__)

# Columns before those of the genes, which versions write in part.
_NAMING = ("fov", "cell_id", "cell", "slide_id", "")


def read(asked: Asked) -> Parts:
    """Read the cells of all fields of view; coordinates are centres in pixels of the whole slide.

    A cell is named ``{fov}_{cell}``. What lies outside cells (cell 0) is left out, and negative probes and system
    controls are set apart. Micrometres per pixel come from the areas of cells, if the metadata has them in both units:
    instruments differ in the pixel.

    Raises
    ------
    InputError
        If a table is missing or damaged.
    """
    layout = layouts.cosmx(asked.path)
    place = asked.positions or layout.get("positions")
    if place is None:
        raise lacking("positions", asked.path, "a file that ends in metadata_file.csv", layouts.listed(asked.path))
    cells, columns, counts = tables.counts(layout["matrix"], names=_n_naming(layout["matrix"]))
    names = _names(cells, layout["matrix"])
    outside = (cells["cell_ID"] == "0").to_numpy()
    if outside.any():
        count = int(counts[outside].sum())
        logger.info("%s: %d counts lie outside cells and are left out", layout["matrix"], count)
    adata = ad.AnnData(counts[~outside], obs=pd.DataFrame(index=names[~outside]), var=features.of_genes(columns))
    found = features.of_kind(Parts(adata, adata, place=layout["matrix"]), asked)
    metadata, microns = _metadata(place)
    positions.placed(found.source, metadata, layout["matrix"], place)
    if microns is not None:
        found.source.uns["microns_per_unit"] = microns
    return found


def contents(path: str) -> list[Found]:
    """The genes of the panel."""
    matrix = layouts.cosmx(path)["matrix"]
    genes = tables.header(matrix)[_n_naming(matrix) :]
    return [Found("rna", "rna", "", f"{len(genes):,} features")]


def _n_naming(path: str) -> int:
    """Number of the columns before those of the genes."""
    named = [name.lower() in _NAMING or name.startswith("Unnamed") for name in tables.header(path)]
    return next((number for number, is_name in enumerate(named) if not is_name), len(named))


def _names(table: pd.DataFrame, where: str) -> pd.Index:
    if not {"fov", "cell_ID"} <= set(table.columns):
        raise InputError(
            f"begins with the columns {few(list(table.columns))}, and fov and cell_ID are expected",
            where=where,
            hint="give the flat files as AtoMx exports them",
        )
    return pd.Index(table["fov"].astype(str) + "_" + table["cell_ID"].astype(str))


def _metadata(path: str) -> tuple[pd.DataFrame, float | None]:
    """Centres by the names of the cells, and micrometres per pixel if the table tells them."""
    with tables.opened(path) as file:
        types = {"fov": str, "cell_ID": str}
        table = pd.read_csv(file, sep=tables.separator(path), encoding="utf-8-sig", low_memory=False, dtype=types)
    names = _names(table, path)
    wanted = ["CenterX_global_px", "CenterY_global_px"]
    if not set(wanted) <= set(table.columns):
        problem = f"has no columns {' and '.join(wanted)}; it has {few(list(table.columns), 8)}"
        raise InputError(problem, where=path, hint="give the flat files as AtoMx exports them")
    places = pd.DataFrame(table[wanted].to_numpy(dtype=float), index=names, columns=["x", "y"])
    microns = None
    if {"Area", "Area.um2"} <= set(table.columns):
        ratio = (table["Area.um2"] / table["Area"]).replace([np.inf, 0], np.nan).median()
        microns = float(np.sqrt(ratio)) if ratio > 0 else None
    return places[~places.index.duplicated()], microns
