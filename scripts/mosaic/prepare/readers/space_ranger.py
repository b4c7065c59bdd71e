"""Space Ranger's results: Visium, also by CytAssist and with proteins, and Visium HD."""

import json
import os

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.config import layouts
from mosaic.config.layouts import Layout
from mosaic.errors import InputError, few
from mosaic.prepare.readers import features, images, positions, tenx
from mosaic.prepare.readers.parts import Asked, Found, Parts, lacking


def visium(asked: Asked) -> Parts:
    """Read a folder of Space Ranger 1 to 4; ``asked.name``: ``raw`` for all spots, instead of those under tissue.

    Returns
    -------
    As ``parts.whole`` says. Coordinates are pixels of the full image, x to the right and y downwards. Micrometres per
    pixel come from the distance between neighbouring spots, which is 100 µm: the diameter of spots in Space Ranger's
    scale factors is not that of the 55 µm that they have.

    Raises
    ------
    InputError
        If a file is missing or damaged, or of another capture area, or lacks the kind's features.
    """
    if asked.name not in ("", "raw", "filtered"):
        problem = f"has no part {asked.name}"
        raise InputError(problem, where=asked.path, hint="after # stands raw or filtered (the default)")
    return _read(layouts.visium(asked.path, asked.name), asked)


def visium_hd(asked: Asked) -> Parts:
    """Read bins or segmented cells of a Visium HD folder; ``asked.name``: see ``layouts.visium_hd``.

    Raises
    ------
    InputError
        If there are no bins of this size, and as ``visium``.
    """
    bins = layouts.hd_bins(asked.path)
    wanted = asked.name or layouts.HD_BIN
    if wanted not in bins:
        raise InputError(
            f"holds no {wanted}; it has {few(list(bins), 9)}",
            where=asked.path,
            hint=f"write one of these after the path, such as {os.path.basename(asked.path)}#{next(iter(bins))}",
        )
    return _read(layouts.visium_hd(asked.path, asked.name), asked)


def visium_contents(path: str) -> list[Found]:
    """Modalities of a Space Ranger folder."""
    return _contents(layouts.visium(path), path, "")


def visium_hd_contents(path: str) -> list[Found]:
    """Modalities of the default bins of a Visium HD folder, or of the first that it has."""
    bins = layouts.hd_bins(path)
    name = "" if layouts.HD_BIN in bins else next(iter(bins))
    found = _contents(layouts.visium_hd(path, name), path, name)
    return [part._replace(told=f"{part.told}; {name or layouts.HD_BIN} of {few(list(bins), 9)}") for part in found]


def _contents(layout: Layout, path: str, name: str) -> list[Found]:
    obs, var = tenx.names(_matrix(layout, path))
    return features.contents_of(var, len(obs), name)


def _matrix(layout: Layout, path: str) -> str:
    if "matrix" not in layout:
        expected = "filtered_feature_bc_matrix.h5 or the folder of that name"
        raise lacking("matrix", path, expected, layouts.listed(os.path.dirname(layout.get("spatial", path))))
    return layout["matrix"]


def _read(layout: Layout, asked: Asked) -> Parts:
    matrix = _matrix(layout, asked.path)
    if asked.kind is None:
        obs, var = tenx.names(matrix)
        found = Parts(adata := ad.AnnData(obs=obs, var=var), adata)
    else:
        found = features.of_kind(tenx.read(matrix, asked.most), asked)
    table, place = _positions(layout, asked)
    positions.placed(found.source, table, matrix, place)
    scales = images.scalefactors(layout["scalefactors"]) if "scalefactors" in layout else {}
    pitch = positions.pitch(table)
    if "microns_per_pixel" in scales:
        found.source.uns["microns_per_unit"] = scales["microns_per_pixel"]
    elif pitch:
        found.source.uns["microns_per_unit"] = positions.VISIUM_PITCH / pitch
    if library := images.library(layout, scales):
        found.source.uns["spatial"] = {asked.slice or os.path.basename(asked.path): library}
    return found


def _positions(layout: Layout, asked: Asked) -> tuple[pd.DataFrame, str]:
    """Positions of the barcodes, and the file that has them."""
    if "cells" in layout:
        return _centres(layout["cells"]), layout["cells"]
    place = asked.positions or layout.get("positions")
    if place is None:
        expected = "spatial/tissue_positions.csv, .parquet or tissue_positions_list.csv"
        spatial = layout.get("spatial", asked.path)
        raise lacking("positions", asked.path, expected, layouts.listed(spatial))
    return positions.read(place), place


def _centres(path: str) -> pd.DataFrame:
    """Centres of segmented cells, in pixels of the full image, by the barcodes of Space Ranger 4.

    Raises
    ------
    InputError
        If the outlines are no polygons with the number of their cell.
    """
    try:
        with open(path, encoding="utf-8") as file:
            outlines = json.load(file)["features"]
        cells = [int(outline["properties"]["cell_id"]) for outline in outlines]
        centres = [_centroid(np.asarray(outline["geometry"]["coordinates"][0], float)) for outline in outlines]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        problem = f"can't be read as outlines of cells ({type(error).__name__}: {error})"
        raise InputError(problem, where=path, hint="check that the folder was copied whole") from error
    names = [f"cellid_{cell:09d}-1" for cell in cells]
    return pd.DataFrame(np.reshape(centres, (-1, 2)), index=names, columns=["x", "y"])


def _centroid(outline: np.ndarray) -> np.ndarray:
    """Centroid of a polygon (points x 2, the first is repeated at the end); without an area, the mean of its points."""
    shifted = outline - outline[0]
    after = np.roll(shifted, -1, axis=0)
    cross = shifted[:, 0] * after[:, 1] - after[:, 0] * shifted[:, 1]
    area = cross.sum() / 2
    if not area:
        return outline.mean(axis=0)
    return outline[0] + ((shifted + after) * cross[:, None]).sum(axis=0) / (6 * area)
