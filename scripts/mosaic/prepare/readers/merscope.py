"""MERSCOPE's tables: counts of cells, and their centres."""

import anndata as ad
import pandas as pd

from mosaic.config import layouts
from mosaic.prepare.readers import features, positions, tables
from mosaic.prepare.readers.parts import Asked, Found, Parts, lacking


def read(asked: Asked) -> Parts:
    """Read the cells of a folder; coordinates are centres in micrometres. ``Blank-`` features are set apart.

    Raises
    ------
    InputError
        If a table is missing or damaged.
    """
    layout = layouts.merscope(asked.path)
    place = asked.positions or layout.get("positions")
    if place is None:
        raise lacking("positions", asked.path, "cell_metadata.csv", layouts.listed(asked.path))
    cells, genes, counts = tables.counts(layout["matrix"])
    obs = pd.DataFrame(index=pd.Index(cells.iloc[:, 0].to_numpy(dtype=object)))
    adata = ad.AnnData(counts, obs=obs, var=features.of_genes(genes))
    found = features.of_kind(Parts(adata, adata, place=layout["matrix"]), asked)
    positions.placed(found.source, positions.read(place), layout["matrix"], place)
    found.source.uns["microns_per_unit"] = 1.0
    return found


def contents(path: str) -> list[Found]:
    """The genes of the panel."""
    genes = tables.header(layouts.merscope(path)["matrix"])[1:]
    return [Found("rna", "rna", "", f"{len(genes):,} features")]
