"""Reading and writing slices, the identity of a spot, and the pairing of a slice's modalities.

A spot is named ``{slice}:{barcode}``, which is unique over a run: barcodes alone repeat between slices.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.errors import InputError
from mosaic.files import whole_file
from mosaic.places import astray

logger = logging.getLogger(__name__)

# Values of a dense matrix that are read at once.
_CHUNK_VALUES = 50_000_000

# Bytes of a short string in memory; a file says 16.
_STRING_BYTES = 80

# Of a matrix with more values than these, `inspect_slice` looks at so many rows from begin, middle and end.
_SAMPLE_ABOVE = 5_000_000
_SAMPLED = 100

# What HDF5 files begin with, but for those with a block of another program's before.
_HDF5 = b"\x89HDF\r\n\x1a\n"

# Above, float32 leaves out whole numbers.
_MOST_COUNTS = 2**24

# Columns of var with identifiers, as Space Ranger, scanpy, CELLxGENE and others call them.
_GENE_IDS = ("gene_id", "gene_ids", "feature_id", "feature_ids", "ensembl_id")

# Text that means that there is no true domain, in lower case.
_MISSING_WORDS = ("", "nan", "na", "n/a", "<na>", "none", "null")

# Kinds of numpy types that counts and features may have: boolean, integer, unsigned, floating.
_NUMBERS = "biuf"

_WRITE_AGAIN = "write the file again with anndata's write_h5ad and check that it was copied whole"
_IN_RAW = (
    "the file has .raw, which is not read; if it holds the counts, "
    'adata.layers["counts"] = adata.raw[:, adata.var_names].X and write_h5ad put them where they are found'
)

# Where every method's embedding.h5mu keeps its latent space, of each modality and of the run.
LATENT = "X_latent"

# What MuData 0.4 will do anyway: a MuData's obs is what was put there, not a copy of its modalities' obs.
md.set_options(pull_on_update=False)


def read_slice(
    path: str | Path, slice_name: str, kind: str, *, truth: str | None = None, keep_obs: Sequence[str] = ()
) -> ad.AnnData:
    """Read one modality of one slice as a user wrote it, and check it.

    Parameters
    ----------
    path
        An h5ad file with raw counts in ``layers["counts"]`` or, without that layer, in ``X`` (for kind
        ``features``: any finite numbers in ``X``) and coordinates in ``obsm["spatial"]``.
    slice_name
        The slice's name in the sheet.
    kind
        ``rna``, ``protein``, ``epigenome`` or ``features``.
    truth, keep_obs
        Columns of ``obs`` to keep, where they are there: see ``named_columns``.

    Returns
    -------
    AnnData, spots x features, with ``obs_names`` ``{slice}:{barcode}``, ``obs["slice"]``, ``obs["barcode"]``,
    ``obs["in_tissue"]`` (bool; True where the file does not say), the columns named, ``var["gene_id"]`` where the file
    has such a column, ``obsm["spatial"]`` (spots x 2, the unit of the file) and ``layers["counts"]`` (CSR, float32), or
    for kind ``features`` X (float32). Nothing else of the file goes on: a library that finds a user's
    ``var["highly_variable"]`` uses it. Dense counts are made sparse chunk by chunk.

    Raises
    ------
    InputError
        If the file can't be read or any of the above does not hold.
    """
    with _opened(path) as file:
        parts = _needed_parts(file, str(path), counted=kind != "features")
    adata, faults = _checked(parts, str(path), slice_name, kind, truth, keep_obs)
    if faults:
        raise faults[0]
    return adata


def inspect_slice(
    path: str | Path, slice_name: str, kind: str, *, truth: str | None = None, keep_obs: Sequence[str] = ()
) -> tuple[ad.AnnData | None, list[InputError]]:
    """Find all faults of a slice without reading all of a large matrix: of such a one, a sample is looked at.

    Parameters
    ----------
    path, slice_name, kind, truth, keep_obs
        See ``read_slice``.

    Returns
    -------
    The AnnData of ``read_slice`` without counts and features, as far as its parts have no fault (None where the file
    can't be read); ``uns["place"]`` says where its matrix lies, ``uns["columns"]`` what columns ``obs`` has. And the
    errors that ``read_slice`` would raise in turn.
    """
    try:
        with _opened(path) as file:
            parts = _needed_parts(file, str(path), counted=kind != "features", most=_SAMPLE_ABOVE)
    except InputError as fault:
        return None, [fault]
    adata, faults = _checked(parts, str(path), slice_name, kind, truth, keep_obs)
    if adata is not None:
        facts = {"place": parts.place, "columns": sorted(map(str, parts.source.obs))}
        adata = ad.AnnData(obs=adata.obs, var=adata.var, obsm=dict(adata.obsm), uns=facts)
    return adata, faults


def read_columns(path: str | Path, slice_name: str, truth: str | None, keep_obs: Sequence[str]) -> pd.DataFrame:
    """The columns of a user's ``obs`` that the config names, as far as they are there (see ``named_columns``).

    Parameters
    ----------
    path, slice_name, truth, keep_obs
        See ``read_slice``.

    Returns
    -------
    DataFrame indexed by spot, ``{slice}:{barcode}``.

    Raises
    ------
    InputError
        If the file can't be read.
    """
    with _opened(path) as file:
        _check_memory(_declared_bytes(_table(file, "obs", str(path))), str(path))
        obs = ad.io.read_elem(file["obs"])
    columns = named_columns(obs, truth, keep_obs, str(path))
    return columns.set_axis(_spot_names(obs.index, slice_name))


@contextmanager
def _opened(path: str | Path) -> Iterator[h5py.File]:
    """A user's file; what can be wrong with it as a file is told in words."""
    where = str(path)
    _check_file(path, where)
    try:
        with h5py.File(path) as file:
            _check_format(file, where)
            yield file
    except InputError:
        raise
    except Exception as error:  # h5py and anndata raise about anything on a damaged file
        if "unable to lock file" in str(error):
            raise InputError(
                "is locked: another program has it open to write, or the file system knows no locks",
                where=where,
                hint="close it there, a notebook perhaps, and run again; if nothing has it open, "
                "set HDF5_USE_FILE_LOCKING=FALSE in the environment",
            ) from error
        problem = f"can't be read as h5ad ({type(error).__name__}: {_short(str(error), 300)})"
        raise InputError(problem, where=where, hint=_WRITE_AGAIN) from error


def _check_file(path: str | Path, where: str) -> None:
    """What can be said of a file before it is opened as HDF5, whose own messages are hard to read."""
    try:
        with open(path, "rb") as file:
            begin = file.read(8)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        problem = f"can't be opened ({getattr(error, 'strerror', None) or error})"
        hint = "check that the path names a file, that a link leads somewhere, and that you may read it"
        raise InputError(problem, where=where, hint=hint) from error
    if begin != _HDF5 and not h5py.is_hdf5(path):
        what = (
            "is empty (0 bytes)" if not begin else "is a zip archive" if begin[:4] == b"PK\3\4" else "is no HDF5 file"
        )
        raise InputError(f"{what}, so it can't be read as h5ad", where=where, hint=_WRITE_AGAIN)


def _check_format(file: h5py.File, where: str) -> None:
    """HDF5 files that others mean by a slice, and what to make of them."""
    if isinstance(file.get("mod"), h5py.Group):
        names = list(file["mod"]) or ["rna"]
        raise InputError(
            f"is a MuData with {_few(names)}, not an AnnData of one modality",
            where=where,
            hint=f"write each modality to a file of its own, mudata.read_h5mu(path)[{names[0]!r}].write_h5ad(...), "
            "with a row of the sheet for each",
        )
    if "obs" not in file and "var" not in file:
        groups = [file, *(group for group in file.values() if isinstance(group, h5py.Group))]
        if any({"barcodes", "data", "indices", "indptr"} <= set(group) for group in groups):
            raise InputError(
                "is a 10x h5 file, not an h5ad",
                where=where,
                hint='read it with scanpy.read_10x_h5, put coordinates into obsm["spatial"] (scanpy.read_visium reads '
                "both from Space Ranger's folder), and write it with write_h5ad",
            )


def _table(file: h5py.File, name: str, where: str) -> h5py.Group:
    table = file.get(name)
    index = table.attrs.get("_index") if isinstance(table, h5py.Group) else None
    if not isinstance(index, str) or index not in table:
        raise InputError(f"holds no table {name} with an index of names", where=where, hint=_WRITE_AGAIN)
    return table


class _Parts(NamedTuple):
    """What the workflow needs of a user's file.

    Attributes
    ----------
    source
        Names, columns and coordinates.
    values
        The matrix with its names; some rows or columns of it where it is sampled.
    sampled
        Whether it is.
    place
        Where the matrix lies in the file.
    in_raw
        Whether the file has ``raw``, which the workflow does not read.
    """

    source: ad.AnnData
    values: ad.AnnData
    sampled: bool
    place: str
    in_raw: bool


def _needed_parts(file: h5py.File, where: str, *, counted: bool, most: int | None = None) -> _Parts:
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
    _check_memory(sum(map(_declared_bytes, whole)), where)
    obs, var = (ad.io.read_elem(table) for table in tables)
    if isinstance(places.get("spatial"), h5py.Dataset) and places["spatial"].shape[:1] != (len(obs),):
        problem = f'obsm["spatial"] has shape {places["spatial"].shape}, but there are {len(obs)} spots in obs'
        raise InputError(problem, where=where, hint="it must be numbers, spots x 2")
    coordinates = {key: ad.io.read_elem(places[key]) if key == "spatial" else np.zeros((len(obs), 1)) for key in known}
    rows, columns, matrix = slice(None), slice(None), None
    if stored is not None:
        _check_matrix(stored, (len(obs), len(var)), place, where)
        if not counted:  # dense as it is, and as float32
            _check_memory(len(obs) * len(var) * 12, where)
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
    return _Parts(source, values, sampled, place, "raw/X" in file)


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


def _checked(
    parts: _Parts, where: str, slice_name: str, kind: str, truth: str | None, keep_obs: Sequence[str]
) -> tuple[ad.AnnData | None, list[InputError]]:
    """A slice as ``read_slice`` gives it, without what has a fault; and the faults, in the order they are told."""
    source, faults = parts.source, []
    if 0 in source.shape:
        return None, [InputError(f"is empty ({source.n_obs} spots x {source.n_vars} features)", where=where)]

    def made(make: Callable, *args: object, **options: object) -> object:
        try:
            return make(*args, **options)
        except InputError as fault:
            faults.append(fault)
            return None

    made(_check_names, source.obs_names, "barcode", "obs_names_make_unique(), or drop the repeated spots", where)
    made(
        _check_names,
        source.var_names,
        "feature name",
        "var_names_make_unique(), or use identifiers as var_names",
        where,
    )
    coordinates = made(_coordinates, source, where)
    tissue = made(_in_tissue, source.obs, where)
    columns = made(named_columns, source.obs, truth, keep_obs, where)
    if kind == "features":
        matrix = made(feature_matrix, parts.values, where)
    else:
        hint = _IN_RAW if parts.in_raw and parts.place == "X" else None
        matrix = made(count_matrix, parts.values, where, hint=hint, sampled=parts.sampled)

    if "slice" in source.obs and (source.obs["slice"].astype(str) != slice_name).any():
        logger.warning('%s: obs["slice"] is replaced by the name in the sheet, %s', where, slice_name)
    obs = pd.DataFrame(
        {"slice": pd.Categorical([slice_name] * source.n_obs), "barcode": source.obs_names.to_numpy(dtype=str)},
        index=_spot_names(source.obs_names, slice_name),
    )
    if tissue is not None:
        obs["in_tissue"] = tissue
    for name in () if columns is None else columns:
        obs[name] = columns[name].array
    adata = ad.AnnData(
        matrix if kind == "features" and not parts.sampled else None,
        obs=obs,
        var=_gene_ids(source.var),
        obsm={} if coordinates is None else {"spatial": coordinates},
        layers={} if kind == "features" or matrix is None or parts.sampled else {"counts": matrix},
    )
    return adata, faults


def _spot_names(barcodes: pd.Index, slice_name: str) -> pd.Index:
    return pd.Index(f"{slice_name}:" + pd.Series(barcodes.to_numpy(dtype=str), dtype=object)).rename(None)


def _gene_ids(var: pd.DataFrame) -> pd.DataFrame:
    """Identifiers of the features as ``gene_id``, from the first column that instruments and libraries call so."""
    kept = pd.DataFrame(index=var.index.rename(None))
    for name in _GENE_IDS:
        if name in var:
            kept["gene_id"] = var[name].astype(str).to_numpy(dtype=object)
            break
    return kept


def _declared_bytes(stored: h5py.Dataset | h5py.Group) -> int:
    """Memory that a dataset, or all of a group, says it needs."""
    if isinstance(stored, h5py.Group):
        return sum(map(_declared_bytes, stored.values()))
    return (stored.size or 0) * (_STRING_BYTES if h5py.check_string_dtype(stored.dtype) else stored.dtype.itemsize)


def _check_memory(needed: int, where: str) -> None:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise InputError(
            f"needs {needed / 1e9:,.0f} GB of memory, and this machine has {there / 1e9:,.0f}",
            where=where,
            hint="check the shapes in the file; counts belong to the kinds rna, protein and epigenome, which keep them "
            "sparse, and kind features is for a few columns",
        )


def _check_matrix(stored: h5py.Dataset | h5py.Group, expected: tuple[int, int], place: str, where: str) -> None:
    """Whether a matrix is stored as numbers, spots x features."""
    if isinstance(stored, h5py.Group):
        values = stored.get("data")
        shape = stored.attrs.get("shape", stored.attrs.get("h5sparse_shape"))  # the latter before anndata 0.7
        shape = None if shape is None else tuple(int(length) for length in shape)
    else:
        values, shape = stored, stored.shape
    if not isinstance(values, h5py.Dataset) or shape is None:
        raise InputError(f"{place} is no matrix", where=where, hint=_WRITE_AGAIN)
    if shape != expected:
        problem = (
            f"{place} has shape {shape}, but there are {expected[0]} spots in obs and {expected[1]} features in var"
        )
        raise InputError(problem, where=where, hint=_WRITE_AGAIN)
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


def _check_names(names: pd.Index, what: str, mend: str, where: str) -> None:
    if not names.is_unique:
        repeated = names[names.duplicated()].unique()
        raise InputError(
            f"{len(repeated)} duplicate {what}{'s' * (len(repeated) > 1)}: {_few(repeated)}",
            where=where,
            hint=f"make them unique with {mend}",
        )


def _in_tissue(obs: pd.DataFrame, where: str) -> np.ndarray:
    """Which spots lie under tissue by ``in_tissue``: 0 and 1, or True and False, as numbers or text; all without it."""
    if "in_tissue" not in obs:
        return np.ones(len(obs), dtype=bool)
    column = obs["in_tissue"]
    if column.isna().any():
        raise InputError(
            f'obs["in_tissue"] is missing for {column.isna().sum()} of {len(column)} spots',
            where=where,
            hint="write 1 for spots under tissue and 0 for the others, or drop the column",
        )
    words = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
    found = column.astype(str).str.strip().str.lower().map(words)
    if found.isna().any():
        others = column[found.isna().to_numpy()].astype(str)
        raise InputError(
            f'obs["in_tissue"] holds values other than 0 and 1, in {len(others)} spots: {_few(others.unique())}',
            where=where,
            hint="write 1 for spots under tissue and 0 for the others, or drop the column",
        )
    return found.to_numpy(dtype=bool)


def named_columns(obs: pd.DataFrame, truth: str | None, keep_obs: Sequence[str], where: str) -> pd.DataFrame:
    """The columns of a user's ``obs`` that the config names, as far as they are there.

    Parameters
    ----------
    obs
        As the user wrote it.
    truth
        The column with the true domains: becomes text, and what says that there is none (``nan``, ``NA``, ``none``, an
        empty text, ...) is missing, which is logged.
    keep_obs
        Further columns: numbers stay numbers, yes and no stay so, and all else becomes text.
    where
        Its file, for messages.

    Returns
    -------
    DataFrame (spots); text as categories. ``attrs["known"]``: the names of all columns.
    """
    made = {}
    for name in dict.fromkeys([*([] if truth is None else [truth]), *keep_obs]):
        if name in obs:
            values = _without_missing_words(_as_text(obs[name]), name, where) if name == truth else _plain(obs[name])
            made[name] = pd.Categorical(values) if values.dtype == object else values.array
    columns = pd.DataFrame(made, index=obs.index)
    columns.attrs["known"] = sorted(map(str, obs.columns))
    return columns


def _as_text(values: pd.Series) -> pd.Series:
    """Values as text, whole numbers without a decimal point; what is missing stays so."""
    known = values.notna().to_numpy()
    text = np.full(len(values), np.nan, dtype=object)
    text[known] = [
        str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)
        for value in values[known]
    ]
    return pd.Series(text, index=values.index, dtype=object)


def _plain(values: pd.Series) -> pd.Series:
    """Booleans (nullable where some are missing), numbers (NaN where missing), or text."""
    if pd.api.types.is_bool_dtype(values.dtype) and not isinstance(values.dtype, pd.CategoricalDtype):
        return values.astype("boolean" if values.isna().any() else bool)
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_complex_dtype(values.dtype):
        return values.astype(float) if values.isna().any() else pd.Series(values.to_numpy(), index=values.index)
    return _as_text(values)


def _without_missing_words(text: pd.Series, name: str, where: str) -> pd.Series:
    words = text[text.str.strip().str.lower().isin(_MISSING_WORDS).to_numpy(dtype=bool)]
    if len(words):
        shown = ", ".join(f"{word!r} in {count}" for word, count in words.value_counts(sort=False).items())
        logger.warning(
            "%s: obs[%r] says of %d of %d spots that they have no true domain (%s)",
            where,
            name,
            len(words),
            len(text),
            shown,
        )
    return text.where(~text.str.strip().str.lower().isin(_MISSING_WORDS).to_numpy(dtype=bool), np.nan)


def joined_column(parts: Sequence[pd.Series], name: str) -> pd.Series:
    """One column of several tables of ``obs``, below each other: of one type, whatever types the tables have.

    Parameters
    ----------
    parts
        The column of each table that has it.
    name
        Its name, for messages.

    Returns
    -------
    Series (spots of all tables) of booleans, numbers, or text (object) if the tables differ, which is logged.
    """
    parts = [_plain(part) for part in parts]
    types = {part.dtype.kind: part.dtype for part in parts if part.notna().any()}
    kinds = {"text" if kind == "O" else "yes or no" if kind == "b" else "numbers" for kind in types}
    if len(kinds) > 1:
        logger.warning("obs[%r] is %s in some files: all of it becomes text", name, " and ".join(sorted(kinds)))
    if len(kinds) > 1 or kinds == {"text"}:
        return pd.concat(map(_as_text, parts))
    parts = [part for part in parts if part.notna().any()] or parts
    joined = pd.concat(parts)
    return joined.astype("boolean") if joined.dtype == object else joined


def _coordinates(source: ad.AnnData, where: str) -> np.ndarray:
    if "spatial" not in source.obsm:
        raise InputError(
            f'no coordinates: obsm["spatial"] is missing (obsm has {_few(source.obsm) or "nothing"})',
            where=where,
            hint='put each spot\'s x and y into obsm["spatial"]; any unit will do',
        )
    coordinates = np.asarray(source.obsm["spatial"])
    if coordinates.ndim != 2 or coordinates.shape[1] < 2 or coordinates.dtype.kind not in "iuf":
        raise InputError(
            f'obsm["spatial"] has shape {coordinates.shape} and type {coordinates.dtype}',
            where=where,
            hint="it must be numbers, spots x 2",
        )
    if coordinates.shape[1] > 2:
        logger.warning('%s: only the first two of %d columns of obsm["spatial"] are used', where, coordinates.shape[1])
    coordinates = coordinates[:, :2].astype(np.float64)
    lost = ~np.isfinite(coordinates).all(axis=1)
    if lost.any():
        raise InputError(
            f'obsm["spatial"] is NaN or infinite for {lost.sum()} spots: {_few(source.obs_names[lost])}',
            where=where,
            hint="drop these spots or mend their coordinates",
        )
    extent = np.ptp(coordinates, axis=0).max()
    if extent and not 1e-100 < extent < 1e100:
        raise InputError(
            f'obsm["spatial"] spans {extent:.3g}, and squares of such numbers can\'t be told apart',
            where=where,
            hint="write it in another unit, such as pixels or micrometres",
        )
    if source.n_obs > 1 and not extent:
        raise InputError(
            'all spots have the same coordinates in obsm["spatial"]',
            where=where,
            hint="the spatial graph needs each spot's own place",
        )
    far = astray(coordinates)
    if far.any():
        logger.warning(
            "%s: %d of %d spots lie far from all others (%s): maps leave them out. Mend their coordinates or drop them",
            where,
            far.sum(),
            len(far),
            _few(source.obs_names[far]),
        )
    return coordinates


def feature_matrix(source: ad.AnnData, where: str) -> np.ndarray:
    """X of any finite numbers (spots x features, float32).

    Parameters
    ----------
    source
        As a user gives it.
    where
        Its file or name, for messages.

    Raises
    ------
    InputError
        If X is missing, or not finite.
    """
    if source.X is None:
        raise InputError("X is missing", where=where, hint="kind 'features' takes its ready features from X")
    matrix = source.X.toarray() if sparse.issparse(source.X) else np.asarray(source.X)
    with np.errstate(over="ignore"):  # what float32 can't hold is infinite, and told
        matrix = matrix.astype(np.float32)
    if not np.isfinite(matrix).all():
        problem = "X holds NaN or infinite values, or some beyond 3e38"
        raise InputError(problem, where=where, hint="drop or fill these values")
    return matrix


def count_matrix(
    source: ad.AnnData, where: str, *, hint: str | None = None, sampled: bool = False
) -> sparse.csr_matrix:
    """Raw counts from ``layers["counts"]`` or, without that layer, from X (spots x features, CSR, float32).

    Parameters
    ----------
    source, where
        See ``feature_matrix``.
    hint
        What to do if there are none, where more is known than that.
    sampled
        Whether ``source`` is a part of a slice, which may hold only zeros.

    Raises
    ------
    InputError
        If there are none, or they are not whole numbers from 0 to 2^24, which float32 holds.
    """
    place = 'layers["counts"]' if "counts" in source.layers else "X"
    counts = source.layers.get("counts", source.X)
    mend = hint or 'put the raw counts into layers["counts"] or X; a ready low-dimensional matrix is kind "features"'
    if counts is None:
        raise InputError("no counts: X is missing", where=where, hint=mend)
    given = counts
    with np.errstate(over="ignore"):  # what float32 can't hold is infinite, and told
        counts = sparse.csr_matrix(counts, dtype=np.float32)
    counts.sum_duplicates()
    values = counts.data
    if not np.isfinite(values).all():
        raise InputError(f"{place} holds NaN or infinite values, or some beyond 3e38", where=where, hint=mend)
    if (values < 0).any():
        raise InputError(f"{place} holds negative values, so these are no counts", where=where, hint=mend)
    if (values != np.round(values)).any():
        raise InputError(
            f"{place} holds values that are no whole numbers, so these are no counts", where=where, hint=mend
        )
    largest = given.max() if values.size else 0  # as given, since float32 may have rounded it down
    if largest > _MOST_COUNTS:
        found = counts.tocoo()
        at = found.data.argmax()
        raise InputError(
            f"{place} holds counts above {_MOST_COUNTS:,}, which float32 rounds: {largest:,.0f} of "
            f"{_short(str(source.var_names[found.col[at]]))} in {_short(str(source.obs_names[found.row[at]]))}",
            where=where,
            hint="check that these are counts of molecules in spots; sums and intensities: divide them by a constant "
            "and round, or drop the feature",
        )
    counts.eliminate_zeros()
    if counts.nnz == 0 and not sampled:
        raise InputError(f"no counts: {place} holds only zeros", where=where, hint=mend)
    return counts


def _few(names: Sequence, most: int = 3) -> str:
    """The first names, for a message."""
    names = [_short(str(name)) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _short(text: str, most: int = 60) -> str:
    """The beginning and the end of a text that is longer than ``most``."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"


def read(path: str | Path, *, layers: bool = True) -> ad.AnnData | md.MuData:
    """Read a file that a rule wrote: ``.h5ad`` as AnnData, ``.h5mu`` as MuData.

    Parameters
    ----------
    path
        The file.
    layers
        Whether to read the layers of an AnnData.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    try:
        if Path(path).suffix == ".h5mu":
            return md.read_h5mu(path)
        if layers:
            return ad.read_h5ad(path)
        with h5py.File(path) as file:
            return ad.AnnData(**{key: ad.io.read_elem(file[key]) for key in file if key != "layers"})
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"is damaged ({type(error).__name__}: {error})",
            where=str(path),
            hint="delete this file and run again: the workflow makes it anew",
        ) from error


def read_slices(paths: Sequence[str | Path]) -> dict[str, list[ad.AnnData]]:
    """Read files that rules named ``{slice}.{modality}.h5ad``, as lists per modality."""
    slices = {}
    for path in map(Path, paths):
        slices.setdefault(path.name.split(".")[1], []).append(read(path))
    return slices


def read_table(path: str | Path, spots: pd.Index | None = None, *, index: str = "spot") -> pd.DataFrame:
    """Read a TSV that a rule wrote, with whole numbers and words as they are, and names as text whatever they are.

    Parameters
    ----------
    path
        The table.
    spots
        The spots wanted, in this order; None: all that are there.
    index
        The column of the names.

    Raises
    ------
    InputError
        If the table is damaged or lacks one of the spots.
    """
    hint = "delete this file and run again: the workflow makes it anew"
    try:
        table = pd.read_csv(path, sep="\t", index_col=index, dtype={index: str}, keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise InputError(f"is damaged ({error})", where=str(path), hint=hint) from error
    table.index = table.index.fillna("")  # a name may be empty
    if spots is None:
        return table
    lacking = spots[~spots.isin(table.index)]
    if len(lacking):
        raise InputError(f"is damaged: it lacks {len(lacking)} of {len(spots)} spots", where=str(path), hint=hint)
    return table.loc[spots]


def write(data: ad.AnnData | md.MuData, path: str | Path) -> None:
    """Write ``.h5ad`` or ``.h5mu`` atomically."""
    with whole_file(path) as unfinished:
        if isinstance(data, md.MuData):
            data.write_h5mu(unfinished, compression="lzf")
        else:
            data.write_h5ad(unfinished, compression="lzf")


def stack(slices: Iterable[ad.AnnData], modality: str) -> ad.AnnData:
    """Stack the slices of one modality over their shared features, in the order given.

    Slices that come from a generator are in memory no longer than they must be.

    Raises
    ------
    InputError
        If the slices share no feature.
    """
    slices = list(slices)
    shared = slices[0].var_names
    for adata in slices[1:]:
        shared = shared[shared.isin(adata.var_names)]
    if shared.empty:
        examples = "; ".join(f"{adata.obs['slice'].iloc[0]} has {_few(adata.var_names)}" for adata in slices)
        raise InputError(
            f"the slices share no features: {examples}",
            where=f"modality {modality}",
            hint="use the same identifiers (symbols or Ensembl ids; one set of peaks) in all slices",
        )
    for adata in slices:
        if adata.n_vars > len(shared):
            logger.info(
                "%s: %d of %d features of %s are not in every slice and are left out",
                modality,
                adata.n_vars - len(shared),
                adata.n_vars,
                adata.obs["slice"].iloc[0],
            )
    names = [adata.obs["slice"].iloc[0] for adata in slices]
    # Only what must be cut is copied.
    parts = [adata if adata.var_names.equals(shared) else adata[:, shared] for adata in slices]
    stacked = ad.concat(parts, merge="first")
    stacked.obs["slice"] = pd.Categorical(stacked.obs["slice"], names)
    # Those that a slice lacks are missing there; joined by anndata, they would be gone.
    for name in dict.fromkeys(name for adata in slices for name in adata.obs if name not in ("slice", "barcode")):
        column = joined_column([adata.obs[name] for adata in slices if name in adata.obs], name)
        stacked.obs[name] = spread_column(column, stacked.obs_names)
    return stacked


def slice_names(obs: pd.DataFrame) -> list[str]:
    """Names of the slices of a stacked ``obs``, in order of appearance."""
    return [str(name) for name in pd.unique(obs["slice"])]


def union(obs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All spots of a run, slice by slice, each once however many modalities measured it.

    Parameters
    ----------
    obs
        Per modality the ``obs`` of its stacked slices.

    Returns
    -------
    DataFrame indexed by spot, with ``slice`` (categorical), ``barcode`` and ``modalities``, the names of the
    modalities that measured the spot, joined by ``+``.
    """
    rows = pd.concat([table[["slice", "barcode"]].assign(modalities=name) for name, table in obs.items()])
    rows["slice"] = rows["slice"].astype(str)
    slices = sorted(rows["slice"].unique())
    spots = rows.groupby(level=0, sort=False).agg({"slice": "first", "barcode": "first", "modalities": "+".join})
    spots["slice"] = pd.Categorical(spots["slice"], slices)
    spots = spots.sort_values("slice", kind="stable")
    spots.index.name = None
    return spots


def spread_column(column: pd.Series, spots: pd.Index) -> pd.Series:
    """A column over the spots wanted, missing where it has none; text as categories."""
    column = _over(column, spots)
    return column.astype("category") if column.dtype == object else column


def _over(column: pd.Series, spots: pd.Index) -> pd.Series:
    # A bool that is missing would make the column one of objects.
    lacking = column.dtype == bool and not spots.isin(column.index).all()
    return (column.astype("boolean") if lacking else column).reindex(spots)


def annotation(obs: Mapping[str, pd.DataFrame], spots: pd.Index, column: str) -> pd.Series:
    """One column of the users' ``obs``, for all spots of a run, from the first modality that has a value.

    Parameters
    ----------
    obs
        Per modality the ``obs`` of its stacked slices.
    spots
        Names of the spots wanted.
    column
        The column.

    Returns
    -------
    Series (spots) as of ``joined_column``, missing where no modality has a value.

    Raises
    ------
    InputError
        If no modality has the column.
    """
    found = [table[column] for table in obs.values() if column in table]
    if not found:
        raise no_column(column, {name for table in obs.values() for name in table} - {"slice", "barcode", "in_tissue"})
    values = joined_column(found, column).dropna()
    first = values[~values.index.duplicated()]
    differ = values[values.index.duplicated()]
    differ = int((differ != first.loc[differ.index]).sum())
    if differ:
        logger.warning("obs[%r] differs between the modalities of %d spots: the first one's is taken", column, differ)
    return _over(first, spots)


def no_column(column: str, known: Iterable[str]) -> InputError:
    """That no file has a column that the config names."""
    return InputError(
        f"no file has obs[{column!r}]; columns there are: {_few(sorted(known), 20) or 'none'}",
        where="config keys truth and keep_obs",
        hint="name columns of obs as the files have them; truth is null where the true domains are not known",
    )


def truth(path: str | Path | None, spots: pd.Index, column: str | None) -> pd.Series | None:
    """The true domains of a run's spots.

    Parameters
    ----------
    path
        What rule ``annotate`` wrote.
    spots
        Names of the spots wanted.
    column
        The column of the true domains; None means that there are none, and gives None.

    Returns
    -------
    Series of str (spots), missing where a spot has no true domain.
    """
    return read(path).obs[column].astype(object).reindex(spots) if column else None


def paired(obs: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Pair the modalities of every bridge slice by barcode.

    Parameters
    ----------
    obs
        Per modality the ``obs`` of its stacked slices.

    Returns
    -------
    For every slice with two modalities or more, a DataFrame indexed by spot with one column per modality of the
    slice: the spot's row in that modality, or -1 where it was not measured. Only spots with two modalities or more.

    Raises
    ------
    InputError
        If two modalities of one slice share no barcode.
    """
    pairs = {}
    for slice_name in sorted({str(name) for table in obs.values() for name in table["slice"].unique()}):
        rows = {
            modality: pd.Series(np.flatnonzero(members), index=table.index[members], name=modality)
            for modality, table in obs.items()
            if (members := (table["slice"] == slice_name).to_numpy()).any()
        }
        for first, second in combinations(rows, 2):
            if not rows[first].index.isin(rows[second].index).any():
                raise InputError(
                    f"{first} and {second} share no barcode: {_few(rows[first].index)} against "
                    f"{_few(rows[second].index)}",
                    where=f"slice {slice_name}",
                    hint="the modalities of a slice are paired by obs_names: spell the barcodes alike",
                )
        if len(rows) > 1:
            table = pd.concat(rows.values(), axis=1).fillna(-1).astype(int)
            pairs[slice_name] = table[(table >= 0).sum(axis=1) > 1].sort_index()
    return pairs


def collect_embeddings(graphs: Mapping[str, ad.AnnData], latent: Mapping[str, np.ndarray]) -> md.MuData:
    """Gather the modalities' latent spaces into what every method writes as ``embedding.h5mu``.

    Parameters
    ----------
    graphs
        Per modality an AnnData with ``obs["slice"]`` and ``obsm["spatial"]``.
    latent
        Per modality its spots' coordinates (spots x n_latent).

    Returns
    -------
    MuData over all spots, slice by slice. ``obsm["X_latent"]`` of a modality holds its own coordinates; that of the
    whole, the mean over the modalities that measured the spot. ``obs`` is that of ``union``; ``obsm["spatial"]`` are
    the coordinates on the tissue.
    """
    spots = union({name: graph.obs for name, graph in graphs.items()})
    width = next(iter(latent.values())).shape[1]
    total, count = np.zeros((len(spots), width)), np.zeros(len(spots))
    spatial = np.full((len(spots), 2), np.nan)
    modalities = {}
    for name, graph in graphs.items():
        where = spots.index.get_indexer(graph.obs_names)
        total[where] += latent[name]
        count[where] += 1
        spatial[where] = graph.obsm["spatial"]
        obsm = {LATENT: latent[name].astype(np.float32), "spatial": graph.obsm["spatial"]}
        modalities[name] = ad.AnnData(obs=graph.obs[["slice", "barcode"]], obsm=obsm)
    mdata = md.MuData(modalities)
    mdata = mdata[spots.index].copy()
    mdata.obs = spots
    mdata.obsm[LATENT] = (total / count[:, None]).astype(np.float32)
    mdata.obsm["spatial"] = spatial
    return mdata
