"""Where instruments and their software leave files: what of a folder is read, told by names alone.

A layout is a function of a path and the name after ``#`` in the sheet. It returns the files of a folder by their role,
such as ``matrix`` and ``positions``; it is empty if the folder is another's. A role is missing if its file is.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator

Layout = dict[str, str]

# Tables of positions, by what their names contain.
_POSITIONS = re.compile(r"position|location|coord|spatial", flags=re.IGNORECASE)
_TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
_TISSUE_POSITIONS = ("tissue_positions.parquet", "tissue_positions.csv", "tissue_positions_list.csv")


def listed(folder: str) -> list[str]:
    """Names in a folder, sorted, without hidden ones; none where it can't be read."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return []


def only(folder: str, pattern: str) -> str | None:
    """The path of the only thing in a folder whose whole name matches a pattern; None where there are none or more."""
    found = [name for name in listed(folder) if re.fullmatch(pattern, name)]
    return os.path.join(folder, found[0]) if len(found) == 1 else None


def _roles(**files: str | None) -> Layout:
    return {role: path for role, path in files.items() if path}


def _first(folder: str, names: Iterable[str]) -> str | None:
    return next((path for name in names if os.path.exists(path := os.path.join(folder, name))), None)


def _tissue_positions(folder: str) -> str | None:
    return _first(folder, _TISSUE_POSITIONS) or only(folder, r".*tissue_positions(_list)?\.(csv|parquet)(\.gz)?")


def positions(folder: str) -> str | None:
    """The table of positions in a folder, or in its folder ``spatial``; None where there are none, or several."""
    own = _tissue_positions(os.path.join(folder, "spatial")) or _tissue_positions(folder)
    if own:
        return own
    found = [name for name in listed(folder) if name.lower().endswith(_TABLES) and _POSITIONS.search(name)]
    return os.path.join(folder, found[0]) if len(found) == 1 else None


def _outs(path: str) -> Iterator[str]:
    """A folder, and the one in it where Space Ranger leaves its results."""
    yield path
    yield os.path.join(path, "outs")


def visium(path: str, name: str = "") -> Layout:
    """Space Ranger 1 to 4: a matrix (h5 or mtx), and folder ``spatial``; ``name``: ``filtered`` or ``raw``."""
    for root in _outs(path):
        spatial = os.path.join(root, "spatial")
        matrix = next(
            filter(None, (_bc_matrix(root, state) for state in ([name] if name else ["filtered", "raw"]))), None
        )
        places = _tissue_positions(spatial) if os.path.isdir(spatial) else None
        there = matrix or _bc_matrix(root, "filtered") or _bc_matrix(root, "raw")
        # Others disguise their positions as Space Ranger's: without its matrix, it is only what has no other.
        unfinished = places and not fragments(root) and "matrix" not in _matrix_of(root)
        if os.path.isdir(spatial) and (there or unfinished):
            return _roles(
                matrix=matrix,
                positions=places,
                scalefactors=only(spatial, r".*scalefactors_json\.json"),
                hires=only(spatial, r".*tissue_hires_image\.png"),
                lowres=only(spatial, r".*tissue_lowres_image\.png"),
                spatial=spatial,
            )
    return {}


def _bc_matrix(root: str, state: str) -> str | None:
    names = (f"{state}_feature_bc_matrix.h5", f"{state}_feature_bc_matrix")
    return _first(root, names) or only(root, rf".*{re.escape(state)}_feature_bc_matrix\.h5")


def hd_bins(path: str) -> dict[str, str]:
    """Of a Visium HD folder, its folders by the names that a sheet may give: ``square_008um``, ``segmented``."""
    for root in _outs(path):
        binned = os.path.join(root, "binned_outputs")
        here = binned if os.path.isdir(binned) else root
        found = {name: os.path.join(here, name) for name in listed(here) if re.fullmatch(r"square_\d+um", name)}
        if os.path.isdir(cells := os.path.join(root, "segmented_outputs")):
            found["segmented"] = cells
        if found:
            return found
    return {}


# The bins that Space Ranger recommends for analyses.
HD_BIN = "square_008um"


def visium_hd(path: str, name: str = "") -> Layout:
    """Visium HD: bins of a size (``square_016um``), or ``segmented`` cells; without a name, bins of 8 µm."""
    bins = hd_bins(path)
    chosen = bins.get(name or HD_BIN)
    if chosen is None:
        return _roles(bins=path) if bins else {}
    if chosen is bins.get("segmented"):
        spatial = os.path.join(chosen, "spatial")
        return _roles(
            matrix=_first(chosen, ("filtered_feature_cell_matrix.h5", "filtered_feature_cell_matrix")),
            cells=_first(chosen, ("cell_segmentations.geojson", "graphclust_annotated_cell_segmentations.geojson")),
            scalefactors=_first(spatial, ("scalefactors_json.json",)),
            hires=_first(spatial, ("tissue_hires_image.png",)),
            lowres=_first(spatial, ("tissue_lowres_image.png",)),
            bins=path,
        )
    return visium(chosen) | {"bins": path}


def xenium(path: str, name: str = "") -> Layout:
    """Xenium: ``cell_feature_matrix`` (h5 or folder of mtx) and ``cells`` (parquet or csv)."""
    matrix = _first(path, ("cell_feature_matrix.h5", "cell_feature_matrix"))
    if not (matrix or os.path.isfile(os.path.join(path, "experiment.xenium"))):
        return {}
    return _roles(matrix=matrix, positions=_first(path, ("cells.parquet", "cells.csv.gz", "cells.csv")), folder=path)


def merscope(path: str, name: str = "") -> Layout:
    """MERSCOPE: ``cell_by_gene`` and ``cell_metadata``, both csv."""
    matrix = only(path, r".*cell_by_gene.*\.csv(\.gz)?")
    return _roles(matrix=matrix, positions=only(path, r".*cell_metadata.*\.csv(\.gz)?"), folder=path) if matrix else {}


def cosmx(path: str, name: str = "") -> Layout:
    """CosMx flat files: ``exprMat_file`` and ``metadata_file``, both csv."""
    for folder in (path, *(os.path.join(path, inner) for inner in listed(path))):
        if matrix := only(folder, r".*exprMat_file\.csv(\.gz)?"):
            return _roles(matrix=matrix, positions=only(folder, r".*metadata_file\.csv(\.gz)?"), folder=path)
    return {}


def fragments(path: str, name: str = "") -> Layout:
    """Fragments of one library, and positions of its barcodes."""
    if os.path.isfile(path):
        return _roles(fragments=path)
    found = only(path, r".*fragments\.(tsv|bed)(\.gz)?")
    return _roles(fragments=found, positions=positions(path), folder=path) if found else {}


def matrix(path: str, name: str = "") -> Layout:
    """Any matrix (folder of mtx, 10x h5, table), and positions of its barcodes."""
    if os.path.isfile(path):
        return _roles(matrix=path)
    found = _matrix_of(path)
    # One table alone may be anything.
    return found if "positions" in found or mtx(found.get("matrix", "")) else {}


def _matrix_of(path: str) -> Layout:
    places = positions(path)
    if mtx(path):
        return _roles(matrix=path, positions=places, folder=path)
    inner = [name for name in listed(path) if mtx(os.path.join(path, name))]
    tables = [
        name
        for name in listed(path)
        if name.lower().endswith((".h5", *_TABLES))
        and os.path.join(path, name) != places
        and not _POSITIONS.search(name)
    ]
    chosen = inner or tables
    if len(chosen) != 1:
        return {}
    return _roles(matrix=os.path.join(path, chosen[0]), positions=places, folder=path)


def mtx(folder: str) -> Layout:
    """The files of a matrix in mtx: ``matrix``, ``barcodes``, ``features`` (or genes); none unless all are there."""
    files = {
        "matrix": only(folder, r".*\.mtx(\.gz)?"),
        "barcodes": only(folder, r".*barcodes\.tsv(\.gz)?"),
        "features": only(folder, r".*(features|genes)\.tsv(\.gz)?"),
    }
    return _roles(**files) if all(files.values()) else {}


def zarr(path: str, name: str = "") -> Layout:
    """An AnnData as zarr."""
    return _roles(store=path) if zarr_attributes(path).get("encoding-type") == "anndata" else {}


def tables(path: str) -> dict[str, str]:
    """Tables of a SpatialData as zarr, by name."""
    for folder in ("tables", "table"):
        above = os.path.join(path, folder)
        found = {name: os.path.join(above, name) for name in listed(above)}
        found = {name: table for name, table in found.items() if zarr(table)}
        if found:
            return found
    return {}


def spatialdata(path: str, name: str = "") -> Layout:
    """A SpatialData as zarr; ``name``: a table's, a region's, or ``table/region``."""
    found = tables(path)
    table = name.partition("/")[0]
    chosen = found.get(table) or (next(iter(found.values())) if len(found) == 1 else None)
    return _roles(store=path, table=chosen) if found else {}


def zarr_attributes(path: str) -> dict:
    """Attributes of a group in zarr, of version 2 or 3; none where it is none."""
    for name, inner in (("zarr.json", "attributes"), (".zattrs", None)):
        try:
            with open(os.path.join(path, name), encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            continue
        found = found.get(inner) if inner and isinstance(found, dict) else found
        return found if isinstance(found, dict) else {}
    return {}
