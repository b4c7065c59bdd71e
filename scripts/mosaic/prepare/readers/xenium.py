"""Xenium's folders: counts of cells, also with proteins."""

import logging

import anndata as ad
import numpy as np

from mosaic.config import layouts
from mosaic.config.layouts import Layout
from mosaic.errors import InputError
from mosaic.prepare.readers import features, positions, tenx
from mosaic.prepare.readers.parts import Asked, Found, Parts, lacking

logger = logging.getLogger(__name__)

# Intensities of proteins are rounded to whole numbers if their typical value is so large that this loses nothing.
_LEAST_INTENSITY = 10


def read(asked: Asked) -> Parts:
    """Read the cells of a folder; coordinates are centres in micrometres.

    Negative controls and codewords without a gene are set apart. Proteins are mean intensities; they are rounded.

    Raises
    ------
    InputError
        If a file is missing or damaged, or lacks the kind's features.
    """
    layout = layouts.xenium(asked.path)
    matrix = _matrix(layout, asked.path)
    place = asked.positions or layout.get("positions")
    if place is None:
        raise lacking("positions", asked.path, "cells.parquet or cells.csv.gz", layouts.listed(asked.path))
    if asked.kind is None:
        obs, var = tenx.names(matrix)
        found = Parts(adata := ad.AnnData(obs=obs, var=var), adata)
    else:
        found = features.of_kind(tenx.read(matrix, asked.most), asked)
    if asked.kind == "protein":
        _round(found, asked.path)
    positions.placed(found.source, positions.read(place), matrix, place)
    found.source.uns["microns_per_unit"] = 1.0
    return found


def contents(path: str) -> list[Found]:
    """Modalities of a folder."""
    obs, var = tenx.names(_matrix(layouts.xenium(path), path))
    return features.contents_of(var, len(obs))


def _matrix(layout: Layout, path: str) -> str:
    if "matrix" not in layout:
        raise lacking("matrix", path, "cell_feature_matrix.h5 or the folder of that name", layouts.listed(path))
    return layout["matrix"]


def _round(parts: Parts, where: str) -> None:
    """Round intensities in place, unless they are so small that this would change them."""
    values = parts.values.X.data
    rounded = np.round(values)
    if (values == rounded).all():
        return
    typical = float(np.median(values[values > 0])) if (values > 0).any() else 0.0
    if typical < _LEAST_INTENSITY:
        raise InputError(
            f"its proteins are intensities of typically {typical:.3g}, which are no counts",
            where=where,
            hint="multiply and round them, and write an h5ad; or take the protein's row out of the sheet",
        )
    logger.info("%s: intensities of proteins, typically %.3g, are rounded to whole numbers", where, typical)
    parts.values.X.data = rounded
