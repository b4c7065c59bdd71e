"""h5ad and h5mu: an AnnData, whole or, of a large matrix, a sample; a modality of a MuData."""

import os
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.errors import InputError, few
from mosaic.prepare.readers import hdf5
from mosaic.prepare.readers.features import guessed, of_mixed
from mosaic.prepare.readers.parts import Asked, Found, Parts

WRITE_AGAIN = "write the file again with anndata's write_h5ad and check that it was copied whole"

# Values of a dense matrix that are read at once.
_CHUNK_VALUES = 50_000_000

# Of a matrix that is sampled, so many rows are read from begin, middle and end.
_SAMPLED = 100

# Kinds of numpy types that counts and features may have: boolean, integer, unsigned, floating.
_NUMBERS = "biuf"

_IN_RAW = (
    "the file has .raw, which is not read; if it holds the counts, "
    'adata.layers["counts"] = adata.raw[:, adata.var_names].X and write_h5ad put them where they are found'
)


def read(asked: Asked) -> Parts:
    """Read names, coordinates, and counts or features; of a matrix of more than ``most`` values, a sample.

    Parameters
    ----------
    asked
        The file. Counts are in ``layers["counts"]`` or, without that layer, in ``X``; features of kind ``features`` are
        in ``X``. Of features of several types (``var["feature_types"]``), those of the kind are read.

    Raises
    ------
    InputError
        If the file can't be read, declares what can't be, or has no features of the kind.
    """
    with hdf5.opened(asked.path, "h5ad", WRITE_AGAIN) as file:
        return of_mixed(_needed_parts(file, asked.path, counted=asked.counted, most=asked.most), asked)


def read_obs(asked: Asked) -> pd.DataFrame:
    """Read ``obs`` alone; InputError if the file can't be read."""
    with hdf5.opened(asked.path, "h5ad", WRITE_AGAIN) as file:
        hdf5.check_memory(hdf5.declared_bytes(_table(file, "obs", asked.path)), asked.path)
        return ad.io.read_elem(file["obs"])


def read_var(asked: Asked) -> pd.DataFrame:
    """Read ``var`` alone; InputError if the file can't be read."""
    with hdf5.opened(asked.path, "h5ad", WRITE_AGAIN) as file:
        return _read_var(file, asked)


def read_tissue(asked: Asked) -> tuple[dict, np.ndarray]:
    """Read the parts of ``uns`` that ``tissue.frame_of`` takes, and the coordinates (spots x 2).

    Of the images of a library only the one in the highest resolution.

    Raises
    ------
    InputError
        If the file can't be read.
    """
    with hdf5.opened(asked.path, "h5ad", WRITE_AGAIN) as file:
        return _read_tissue(file, asked.path)


def contents(path: str) -> list[Found]:
    """What the file seems to hold, by its number of features and their names."""
    with hdf5.opened(path, "h5ad", WRITE_AGAIN) as file:
        var = ad.io.read_elem(_table(file, "var", path))
        n_spots = len(ad.io.read_elem(_table(file, "obs", path)))
    return [guessed(var.index, n_spots)]


def read_h5mu(asked: Asked) -> Parts:
    """Read one modality of a MuData: that after ``#`` or, without a name, that with the modality's name in the sheet.

    Coordinates and columns of ``obs`` that only the whole MuData has are those of its spots.

    Raises
    ------
    InputError
        If there is no such modality, and as ``read``.
    """
    with hdf5.opened(asked.path, "h5mu", WRITE_AGAIN) as file:
        group = _modality(file, asked)
        found = _needed_parts(
            group, f"{asked.path}#{asked.name or asked.modality}", counted=asked.counted, most=asked.most
        )
        _shared(file, found.source, asked)
        return of_mixed(found, asked)


def read_h5mu_obs(asked: Asked) -> pd.DataFrame:
    """Read ``obs`` of a modality, with the columns of the whole MuData; InputError as ``read_h5mu``."""
    with hdf5.opened(asked.path, "h5mu", WRITE_AGAIN) as file:
        table = _table(_modality(file, asked), "obs", asked.path)
        hdf5.check_memory(hdf5.declared_bytes(table), asked.path)
        source = ad.AnnData(obs=ad.io.read_elem(table))
        _shared(file, source, asked)
        return source.obs


def h5mu_contents(path: str) -> list[Found]:
    """The modalities of a MuData."""
    with hdf5.opened(path, "h5mu", WRITE_AGAIN) as file:
        found = []
        for name, group in file["mod"].items():
            obs, var = (ad.io.read_elem(_table(group, table, path)) for table in ("obs", "var"))
            found.append(guessed(var.index, len(obs), name))
        return found


def read_h5mu_var(asked: Asked) -> pd.DataFrame:
    """Read ``var`` of a modality alone; InputError as ``read_h5mu``."""
    with hdf5.opened(asked.path, "h5mu", WRITE_AGAIN) as file:
        return _read_var(_modality(file, asked), asked)


def read_h5mu_tissue(asked: Asked) -> tuple[dict, np.ndarray]:
    """What ``read_tissue`` reads, of a modality or, where it has none of it, of the whole MuData."""
    with hdf5.opened(asked.path, "h5mu", WRITE_AGAIN) as file:
        group = _modality(file, asked)
        whole, own = _read_tissue(file, asked.path)[0], _read_tissue(group, asked.path)
        source = ad.AnnData(obs=ad.io.read_elem(_table(group, "obs", asked.path)), obsm={})
        _shared(file, source, asked)
        places = own[1] if len(own[1]) else source.obsm.get("spatial", own[1])
        return whole | own[0], places


def _read_var(file: h5py.Group, asked: Asked) -> pd.DataFrame:
    table = _table(file, "var", asked.path)
    hdf5.check_memory(hdf5.declared_bytes(table), asked.path)
    source = ad.AnnData(var=ad.io.read_elem(table))
    return of_mixed(Parts(source, source), asked).source.var


def _read_tissue(file: h5py.Group, where: str) -> tuple[dict, np.ndarray]:
    found: dict[str, Any] = {}
    libraries = file.get("uns/spatial")
    for name, library in libraries.items() if isinstance(libraries, h5py.Group) else ():
        images = library.get("images") if isinstance(library, h5py.Group) else None
        known = images if isinstance(images, h5py.Group) else {}
        best = [key for key in ("hires", "lowres") if key in known][:1]
        there = isinstance(library, h5py.Group) and "scalefactors" in library
        parts = [*(known[key] for key in best), *([library["scalefactors"]] if there else [])]
        hdf5.check_memory(sum(map(hdf5.declared_bytes, parts)), where)
        factors = ad.io.read_elem(library["scalefactors"]) if there else {}
        found[name] = {"images": {key: ad.io.read_elem(known[key]) for key in best}, "scalefactors": factors}
    uns: dict[str, Any] = {"spatial": found} if found else {}
    if isinstance(file.get("uns/microns_per_unit"), h5py.Dataset):
        uns["microns_per_unit"] = ad.io.read_elem(file["uns/microns_per_unit"])
    places = file.get("obsm/spatial")
    if places is None:
        return uns, np.empty((0, 2))
    hdf5.check_memory(hdf5.declared_bytes(places), where)
    return uns, np.asarray(ad.io.read_elem(places))


def _modality(file: h5py.File, asked: Asked) -> h5py.Group:
    there = file.get("mod")
    names = list(there) if isinstance(there, h5py.Group) else []
    wanted = asked.name or asked.modality
    if wanted not in names:
        raise InputError(
            f"has the modalities {few(names, 9) or '(none)'}, and none is named {wanted}",
            where=asked.path,
            hint=f"name one in the sheet, such as {os.path.basename(asked.path)}#{names[0] if names else 'rna'}",
        )
    return there[wanted]


def _shared(file: h5py.File, source: ad.AnnData, asked: Asked) -> None:
    """Give the spots of a modality what only the whole MuData has of them: coordinates, columns of ``obs``."""
    places = file.get(f"obsmap/{asked.name or asked.modality}")
    if not isinstance(places, h5py.Dataset):
        return
    # Per spot of the MuData its number in the modality, from 1; 0: it is not there.
    numbers = places[:].astype(np.int64).ravel()
    rows = np.flatnonzero(numbers)
    order = rows[np.argsort(numbers[rows])]
    if len(order) != source.n_obs:
        return
    obs = ad.io.read_elem(_table(file, "obs", asked.path))
    for column in obs.columns.difference(source.obs.columns):
        source.obs[column] = obs[column].iloc[order].array
    if "spatial" not in source.obsm and isinstance(file.get("obsm/spatial"), h5py.Dataset):
        hdf5.check_memory(hdf5.declared_bytes(file["obsm/spatial"]), asked.path)
        if file["obsm/spatial"].shape[0] == len(obs):
            source.obsm["spatial"] = file["obsm/spatial"][:][order]


def _table(file: h5py.File, name: str, where: str) -> h5py.Group:
    table = file.get(name)
    index = table.attrs.get("_index") if isinstance(table, h5py.Group) else None
    if not isinstance(index, str) or index not in table:
        raise InputError(f"holds no table {name} with an index of names", where=where, hint=WRITE_AGAIN)
    return table


def _needed_parts(file: h5py.File, where: str, *, counted: bool, most: int | None = None) -> Parts:
    """Read names, coordinates, and counts or features; of a matrix of more than ``most`` values, a sample.

    What the file declares is compared with itself and with memory before anything large is read: a few bytes can
    declare terabytes.
    """
    tables = [_table(file, name, where) for name in ("obs", "var")]
    places = file.get("obsm", {})
    # Where there are no coordinates, the message names what is there.
    known = [key for key in places if key == "spatial" or "spatial" not in places]
    place = "layers/counts" if counted and "layers/counts" in file else "X"
    stored = file.get(place)
    sampled = most is not None and stored is not None and _n_values(stored) > most
    whole = [*tables, *([places["spatial"]] if "spatial" in places else [])]
    if isinstance(stored, h5py.Group) and not sampled:
        whole.append(stored)
    hdf5.check_memory(sum(map(hdf5.declared_bytes, whole)), where)
    obs, var = (ad.io.read_elem(table) for table in tables)
    if isinstance(places.get("spatial"), h5py.Dataset) and places["spatial"].shape[:1] != (len(obs),):
        problem = f'obsm["spatial"] has shape {places["spatial"].shape}, but there are {len(obs)} spots in obs'
        raise InputError(problem, where=where, hint="it must be numbers, spots x 2")
    coordinates = {key: ad.io.read_elem(places[key]) if key == "spatial" else np.zeros((len(obs), 1)) for key in known}
    rows: np.ndarray | slice = slice(None)
    columns: np.ndarray | slice = slice(None)
    matrix = None
    if stored is not None:
        _check_matrix(stored, (len(obs), len(var)), place, where)
        if not counted:  # dense as it is, and as float32
            hdf5.check_memory(len(obs) * len(var) * 12, where)
        if sampled:
            rows, columns, matrix = _sample(stored)
        else:
            matrix = _read_matrix(stored, in_chunks=counted)
    values = ad.AnnData(
        matrix if place == "X" else None,
        obs=obs[[]].iloc[rows],
        var=var[[]].iloc[columns],
        layers={} if place == "X" else {"counts": matrix},
    )
    source = ad.AnnData(obs=obs, var=var, obsm=coordinates)
    hint = _IN_RAW if place == "X" and "raw/X" in file else None
    return Parts(source, values, sampled, place, hint)


def _n_values(stored: h5py.Dataset | h5py.Group) -> int:
    values = stored.get("data") if isinstance(stored, h5py.Group) else stored
    return (values.size or 0) if isinstance(values, h5py.Dataset) else 0


def _sample(stored: h5py.Dataset | h5py.Group) -> tuple[np.ndarray | slice, np.ndarray | slice, sparse.spmatrix]:
    """Rows from the begin, the middle and the end of a matrix (columns, where it is stored by columns)."""
    backed = ad.io.sparse_dataset(stored) if isinstance(stored, h5py.Group) else stored
    by_columns = getattr(backed, "format", "csr") == "csc"
    length = backed.shape[int(by_columns)]
    starts = dict.fromkeys(max(0, min(start, length - _SAMPLED)) for start in (0, length // 2, length))
    blocks = [slice(start, min(start + _SAMPLED, length)) for start in starts]
    chosen = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
    if by_columns:
        return slice(None), chosen, sparse.hstack([backed[:, block] for block in blocks], format="csr")
    return chosen, slice(None), sparse.vstack([sparse.csr_matrix(backed[block]) for block in blocks], format="csr")


def _check_matrix(stored: h5py.Dataset | h5py.Group, expected: tuple[int, int], place: str, where: str) -> None:
    """Whether a matrix is stored as numbers, spots x features."""
    if isinstance(stored, h5py.Group):
        values = stored.get("data")
        shape = stored.attrs.get("shape", stored.attrs.get("h5sparse_shape"))  # the latter before anndata 0.7
        shape = None if shape is None else tuple(int(length) for length in shape)
    else:
        values, shape = stored, stored.shape
    if not isinstance(values, h5py.Dataset) or shape is None:
        raise InputError(f"{place} is no matrix", where=where, hint=WRITE_AGAIN)
    if shape != expected:
        problem = (
            f"{place} has shape {shape}, but there are {expected[0]} spots in obs and {expected[1]} features in var"
        )
        raise InputError(problem, where=where, hint=WRITE_AGAIN)
    if values.dtype.kind not in _NUMBERS:
        hint = "it must hold plain numbers, spots x features"
        raise InputError(f"{place} holds {values.dtype}, which is no type of number here", where=where, hint=hint)


def _read_matrix(stored: h5py.Dataset | h5py.Group, *, in_chunks: bool) -> np.ndarray | sparse.spmatrix:
    """A matrix of an h5ad file; ``in_chunks``: if dense there and larger than a chunk, it becomes sparse by chunks."""
    if isinstance(stored, h5py.Group):
        matrix = ad.io.read_elem(stored)
        # A wrong index would be taken for a place in memory that is another's.
        matrix.check_format(full_check=True)
        return matrix
    if not in_chunks or stored.size <= _CHUNK_VALUES:
        return ad.io.read_elem(stored)
    n_rows = max(1, _CHUNK_VALUES // stored.shape[1])
    starts = range(0, stored.shape[0], n_rows)
    return sparse.vstack([sparse.csr_matrix(stored[start : start + n_rows]) for start in starts], format="csr")
