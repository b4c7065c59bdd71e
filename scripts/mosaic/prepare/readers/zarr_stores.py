"""Zarr: an AnnData, or the tables of a SpatialData."""

import os
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import zarr

from mosaic.config import layouts
from mosaic.errors import InputError, few
from mosaic.prepare.readers import features
from mosaic.prepare.readers.parts import Asked, Found, Parts


def read(asked: Asked) -> Parts:
    """Read an AnnData: counts in ``layers["counts"]`` or X, coordinates in ``obsm["spatial"]``.

    Where the features are of several types (``var["feature_types"]``), those of the kind are read.

    Raises
    ------
    InputError
        If chunks of the matrix are missing, or it has no features of the kind.
    """
    return _parts(zarr.open_group(asked.path, mode="r"), asked, asked.path)


def contents(path: str) -> list[Found]:
    """Modalities of an AnnData."""
    return _contents(path)


def read_spatialdata(asked: Asked) -> Parts:
    """Read a table of a SpatialData, and of a table of several slices the rows of one.

    ``asked.name`` is a table, a region, or ``table/region``. Without a name, the table is the only one or that with the
    modality's name, and the region the only one or that with the slice's name. Coordinates are in
    ``obsm["spatial"]`` or, without it, the centres of the region's circles.

    Raises
    ------
    InputError
        If the table or the region can't be told, and as ``read``.
    """
    path = _table(asked)
    group = zarr.open_group(path, mode="r")
    found = _parts(group, asked, path)
    uns = group.get("uns/spatialdata_attrs")
    attributes = {} if uns is None else ad.io.read_elem(uns)
    key = attributes.get("region_key")
    region = str(np.atleast_1d(attributes.get("region", ""))[0])
    if key is not None and key in found.source.obs:
        regions = found.source.obs[key].astype(str)
        region = _region(asked, list(regions.unique()))
        own = (regions == region).to_numpy()
        if not own.all():
            source = found.source[own].copy()
            values = source if found.values is found.source else found.values[own].copy()
            found = found._replace(source=source, values=values)
    if "spatial" not in found.source.obsm and region:
        instances = found.source.obs.get(attributes.get("instance_key"))
        found.source.obsm["spatial"] = _centres(asked.path, region, instances)
    return found


def spatialdata_contents(path: str) -> list[Found]:
    """Modalities of the tables of a SpatialData, for each of its slices."""
    found = []
    tables = layouts.tables(path)
    for name, table in tables.items():
        group = zarr.open_group(table, mode="r")
        uns = group.get("uns/spatialdata_attrs")
        regions: Any = [] if uns is None else np.atleast_1d(ad.io.read_elem(uns).get("region", []))
        own = _contents(table, name)
        # A table's generic name is no modality's.
        own = [part._replace(name=name) if len(tables) > 1 and part.modality != name else part for part in own]
        if len(regions) < 2:
            found += own
        else:
            for region in map(str, regions):
                named = f"{name}/{region}" if len(tables) > 1 else region
                found += [part._replace(name=named, slice=region) for part in own]
    return found


def _contents(path: str, called: str = "") -> list[Found]:
    group = zarr.open_group(path, mode="r")
    obs, var = (ad.io.read_elem(group[table]) for table in ("obs", "var"))
    if "feature_types" in var and (found := features.contents_of(var, len(obs))):
        return found
    return [features.guessed(var.index, len(obs), "" if called == "table" else called)]


def _parts(group: Any, asked: Asked, where: str) -> Parts:
    for table in ("obs", "var"):
        index = group[table].attrs["_index"]
        _check_whole(group[table][index], f"{table}/{index}", where)
    obs, var = (ad.io.read_elem(group[table]) for table in ("obs", "var"))
    place = "layers/counts" if asked.counted and "layers/counts" in group else "X"
    source = ad.AnnData(obs=obs, var=var)
    if "obsm/spatial" in group:
        _check_whole(group["obsm/spatial"], "obsm/spatial", where)
        source.obsm["spatial"] = np.asarray(ad.io.read_elem(group["obsm/spatial"]))
    if asked.kind is None or place not in group:
        return Parts(source, source, place=place)
    if isinstance(group[place], zarr.Group):
        for part in ("data", "indices", "indptr"):
            _check_whole(group[place][part], f"{place}/{part}", where)
    matrix = ad.io.read_elem(group[place])
    values = ad.AnnData(matrix, obs=obs[[]], var=var[[]])
    hint = "the store has raw, which is not read" if place == "X" and "raw/X" in group else None
    return features.of_mixed(Parts(source, values, place=place, hint=hint), asked)


def _check_whole(array: zarr.Array, name: str, where: str) -> None:
    """Whether all chunks of an array are there that can't be all zeros: a missing one would be read as zeros."""
    if array.nchunks_initialized < array.nchunks:
        raise InputError(
            f"{name} has {array.nchunks_initialized:,} of {array.nchunks:,} chunks",
            where=where,
            hint="the store was not copied or downloaded whole: do it again",
        )


def _table(asked: Asked) -> str:
    tables = layouts.tables(asked.path)
    chosen = [name for name in (asked.name.partition("/")[0], asked.modality) if name in tables]
    if chosen or len(tables) == 1:
        return tables[chosen[0]] if chosen else next(iter(tables.values()))
    raise InputError(
        f"has the tables {few(list(tables), 9)}, and none is named {asked.name or asked.modality}",
        where=asked.path,
        hint=f"name one in the sheet, such as {os.path.basename(asked.path)}#{next(iter(tables))}",
    )


def _region(asked: Asked, regions: list[str]) -> str:
    table, _, named = asked.name.partition("/")
    for name in (named, table, asked.slice):
        if name in regions:
            return name
    if len(regions) == 1 and not named:
        return regions[0]
    raise InputError(
        f"its table has the slices {few(regions, 9)}, and none is named {named or asked.slice}",
        where=asked.path,
        hint=f"name one in the sheet, such as {os.path.basename(asked.path)}#{regions[0]}",
    )


def _centres(path: str, region: str, instances: pd.Series | None) -> np.ndarray:
    """Centres of a region's circles (spots x 2), in the order of the table."""
    from pyarrow import parquet  # large, and few stores need it

    shapes = os.path.join(path, "shapes", region, "shapes.parquet")
    hint = 'put the coordinates into obsm["spatial"] of the table'
    if not os.path.isfile(shapes):
        raise InputError(f'its table has no obsm["spatial"], and there are no shapes {region}', where=path, hint=hint)
    table = parquet.read_table(shapes).to_pandas()
    points = table["geometry"].to_numpy()
    # Well-known binary of a point: byte order, type 1, x, y.
    if not all(len(point) == 21 and point[:5] == b"\x01\x01\0\0\0" for point in points):
        raise InputError(f"the shapes {region} are no circles, and only these have centres here", where=path, hint=hint)
    centres = np.array([np.frombuffer(point, "<f8", offset=5) for point in points]).reshape(-1, 2)
    found = pd.Index(table.index if instances is None else instances)
    places = pd.Index(table.index).get_indexer(found)
    if (places < 0).any() or (instances is None and len(centres) != len(found)):
        raise InputError(f"{(places < 0).sum()} spots have no circle among the shapes {region}", where=path, hint=hint)
    return centres[places]
