"""Read and check users' files."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.config.layouts import listed
from mosaic.config.readers import READERS, known, reader_of
from mosaic.errors import InputError, few, shortened
from mosaic.frame import Frame
from mosaic.prepare.readers import (
    cosmx,
    fragments,
    h5ad,
    matrices,
    merscope,
    space_ranger,
    stereoseq,
    xenium,
    zarr_stores,
)
from mosaic.prepare.readers.features import GENE_IDS, MISSING_WORDS, as_names, of_mixed
from mosaic.prepare.readers.parts import Asked, Functions, Parts, whole
from mosaic.prepare.tissue import frame_of
from mosaic.spatial import astray
from mosaic.spots import as_text, plain_values

logger = logging.getLogger(__name__)

# A user's file, or the same in memory.
Source: TypeAlias = str | Path | ad.AnnData

# By the names in READERS. `parts.whole` makes a reader of a function that reads all of a path.
FUNCTIONS = {
    "visium_hd": whole(space_ranger.visium_hd, space_ranger.visium_hd_contents),
    "visium": whole(space_ranger.visium, space_ranger.visium_contents),
    "xenium": whole(xenium.read, xenium.contents),
    "merscope": whole(merscope.read, merscope.contents),
    "cosmx": whole(cosmx.read, cosmx.contents),
    "stereoseq": whole(stereoseq.read, stereoseq.contents),
    "fragments": whole(fragments.read, fragments.contents),
    "spatialdata": whole(zarr_stores.read_spatialdata, zarr_stores.spatialdata_contents),
    "zarr": whole(zarr_stores.read, zarr_stores.contents),
    "h5mu": Functions(
        h5ad.read_h5mu, h5ad.read_h5mu_obs, h5ad.read_h5mu_var, h5ad.read_h5mu_tissue, h5ad.h5mu_contents
    ),
    "matrix": whole(matrices.read, matrices.contents),
    "h5ad": Functions(h5ad.read, h5ad.read_obs, h5ad.read_var, h5ad.read_tissue, h5ad.contents),
}

# `inspect_slice` checks a sample of the rows of a matrix with more values than this, if the format allows.
_SAMPLE_ABOVE = 5_000_000

# Largest count up to which float32 represents all whole numbers.
_MOST_COUNTS = 2**24

# Of the spots of a slice, this proportion may lie at one place.
_MOST_AT_ONE_PLACE = 0.05

# Names of the column of var with gene symbols.
_SYMBOLS = ("gene_name", "gene_names", "gene_symbol", "gene_symbols", "symbol", "symbols", "feature_name", "SYMBOL")


def read_slice(
    source: Source,
    slice_name: str,
    kind: str,
    *,
    modality: str = "",
    options: Mapping | None = None,
    truth: str | None = None,
    keep_obs: Sequence[str] = (),
) -> ad.AnnData:
    """Read one modality of one slice from a user's file or folder, and check it.

    Parameters
    ----------
    source
        A format of ``READERS``: an h5ad file with raw counts in ``layers["counts"]`` or, without that layer,
        in ``X`` (for kind ``features``: any finite numbers in ``X``) and coordinates in ``obsm["spatial"]``. Or an
        AnnData in memory of this form, which is not changed.
    slice_name
        The slice's name in the sheet.
    kind
        ``rna``, ``protein``, ``epigenome`` or ``features``.
    modality
        The modality's name in the sheet, for files with several.
    options
        What a reader needs besides: see ``design.SampleRow``.
    truth, keep_obs
        Columns of ``obs`` to keep if the file has them: see ``named_columns``.

    Returns
    -------
    AnnData, spots x features, with ``obs_names`` ``{slice}:{barcode}``, ``obs["slice"]``, ``obs["barcode"]``,
    ``obs["in_tissue"]`` (bool; True if the file has no such column), the named columns, ``var["gene_id"]`` if the file
    has such a column, ``obsm["spatial"]`` (spots x 2, the unit of the file) and ``layers["counts"]`` (CSR, float32), or
    for kind ``features`` X (float32). Where a panel has controls, ``uns["controls"]`` has their names and total
    counts; they are no features. Nothing else of the file is kept, because
    libraries would use, for example, a user's ``var["highly_variable"]``. Dense counts are made sparse chunk by chunk.

    Raises
    ------
    InputError
        If the file can't be read, or does not have this form.
    """
    where = _called(source, slice_name)
    if isinstance(source, ad.AnnData):
        parts = of_mixed(Parts(source, source), Asked(where, kind))
    else:
        asked = _asked(source, slice_name, kind, modality, options)
        parts = _functions(asked, options).read(asked)
    adata, faults = _checked(parts, where, slice_name, kind, truth, keep_obs)
    if faults:
        raise faults[0]
    return adata


def inspect_slice(
    path: str | Path,
    slice_name: str,
    kind: str,
    *,
    modality: str = "",
    options: Mapping | None = None,
    truth: str | None = None,
    keep_obs: Sequence[str] = (),
) -> tuple[ad.AnnData | None, list[InputError]]:
    """Find all faults of a slice; check a sample of a large matrix, instead of reading all of it.

    Parameters
    ----------
    path
        What one of ``READERS`` recognises.
    slice_name, kind, modality, options, truth, keep_obs
        See ``read_slice``.

    Returns
    -------
    The AnnData of ``read_slice`` without counts, features and faulty parts (None if the file can't be read), with the
    location of the matrix in ``uns["place"]``, the columns of ``obs`` in ``uns["columns"]`` and the image's pixels and
    the unit of the coordinates in ``uns["image"]`` and ``uns["microns_per_unit"]`` (empty and None if not there); and
    all errors that ``read_slice`` and ``read_tissue`` would raise.
    """
    try:
        asked = _asked(path, slice_name, kind, modality, options)._replace(most=_SAMPLE_ABOVE)
        parts = _functions(asked, options).read(asked)
    except InputError as fault:
        return None, [fault]
    adata, faults = _checked(parts, str(path), slice_name, kind, truth, keep_obs)
    if adata is not None:
        facts: dict[str, Any] = {"place": parts.place, "columns": sorted(map(str, parts.source.obs))}
        try:
            frame = read_tissue(path, slice_name, modality=modality, options=options)
        except InputError as fault:
            faults.append(fault)
            frame = Frame()
        facts["image"] = "" if frame.image is None else f"{frame.image.shape[1]} x {frame.image.shape[0]}"
        facts["microns_per_unit"] = frame.microns_per_unit
        adata = ad.AnnData(obs=adata.obs, var=adata.var, obsm=dict(adata.obsm), uns=facts)
    return adata, faults


def read_columns(
    source: Source,
    slice_name: str,
    truth: str | None,
    keep_obs: Sequence[str],
    *,
    modality: str = "",
    options: Mapping | None = None,
) -> pd.DataFrame:
    """Columns of a user's ``obs`` that the config names and the file has (see ``named_columns``).

    Parameters
    ----------
    source, slice_name, truth, keep_obs, modality, options
        See ``read_slice``.

    Returns
    -------
    DataFrame indexed by spot, ``{slice}:{barcode}``.

    Raises
    ------
    InputError
        If the file can't be read.
    """
    where = _called(source, slice_name)
    if isinstance(source, ad.AnnData):
        obs = source.obs
    else:
        asked = _asked(source, slice_name, None, modality, options)
        obs = _functions(asked, options).read_obs(asked)
    columns = named_columns(obs, truth, keep_obs, where)
    return columns.set_axis(_spot_names(obs.index, slice_name))


def read_features(
    source: Source, slice_name: str, kind: str, *, modality: str = "", options: Mapping | None = None
) -> pd.DataFrame:
    """The features of a user's file, with what else they are called.

    Parameters
    ----------
    source, slice_name, kind, modality, options
        See ``read_slice``.

    Returns
    -------
    DataFrame indexed by name, with ``gene_id`` and ``symbol`` as text, empty where the file has none.

    Raises
    ------
    InputError
        If the file can't be read.
    """
    if isinstance(source, ad.AnnData):
        outline = ad.AnnData(var=source.var)
        var = of_mixed(Parts(outline, outline), Asked(_called(source, slice_name), kind)).source.var
    else:
        asked = _asked(source, slice_name, kind, modality, options)
        var = _functions(asked, options).read_var(asked)
    found = {}
    for name, columns in (("gene_id", GENE_IDS), ("symbol", _SYMBOLS)):
        column = next((column for column in columns if column in var), None)
        found[name] = np.full(len(var), "", dtype=object) if column is None else as_names(var[column])
    return pd.DataFrame(found, index=var.index.astype(str).rename(None))


def read_tissue(source: Source, slice_name: str, *, modality: str = "", options: Mapping | None = None) -> Frame:
    """The tissue image of a user's file and the unit of its coordinates: see ``tissue.frame_of``.

    Parameters
    ----------
    source, slice_name, modality, options
        See ``read_slice``.

    Raises
    ------
    InputError
        If the file or its image can't be read.
    """
    where = _called(source, slice_name)
    if isinstance(source, ad.AnnData):
        uns, coordinates = source.uns, source.obsm.get("spatial", np.empty((0, 2)))
    else:
        asked = _asked(source, slice_name, None, modality, options)
        uns, coordinates = _functions(asked, options).read_tissue(asked)
    places = np.asarray(coordinates)
    if places.ndim != 2 or not len(places) or places.shape[1] < 2 or places.dtype.kind not in "iuf":
        return Frame()  # `read_slice` has the message
    places = places[:, :2].astype(np.float64)
    there = np.isfinite(places).all(axis=1)
    return frame_of(uns, places[there], slice_name, where) if there.any() else Frame()


def _called(source: Source, slice_name: str) -> str:
    """What messages call a user's file or AnnData."""
    return f"the AnnData of slice {slice_name}" if isinstance(source, ad.AnnData) else str(source)


def _asked(path: str | Path, slice_name: str, kind: str | None, modality: str, options: Mapping | None) -> Asked:
    given = {key: value for key, value in (options or {}).items() if key != "format"}
    return Asked(str(path), kind, slice_name, modality, **given)


def _functions(asked: Asked, options: Mapping | None) -> Functions:
    """The reader of a path; raises InputError if there is none, or it does not give what is asked."""
    name = (options or {}).get("format") or reader_of(asked.path)
    if name is None:
        raise _unknown(asked.path)
    reader = READERS[name]
    if not reader.recognises(asked.path):
        problem = f"is not {reader.label}, which column format of the sheet says"
        raise InputError(problem, where=asked.path, hint="leave the column empty, or mend the path")
    if asked.kind is not None and asked.kind not in reader.kinds:
        problem = f"is {reader.label}, which gives {few(reader.kinds)}, not {asked.kind}"
        raise InputError(problem, where=asked.path, hint="change the modality's kind in the config, or the path")
    if asked.name and not reader.named:
        problem = f"is {reader.label}, which has no parts, and the sheet asks for {shortened(asked.name)}"
        raise InputError(problem, where=asked.path, hint="leave out # and what follows")
    if asked.positions and not reader.positions:
        problem = f"is {reader.label}, which has its coordinates itself, and the sheet names {asked.positions} for them"
        hint = (
            'leave column positions empty in this row; other coordinates go into obsm["spatial"] of a file of your own'
        )
        raise InputError(problem, where=asked.path, hint=hint)
    return FUNCTIONS[name]


def _unknown(path: str | Path) -> InputError:
    """The error for a path that no reader recognises."""
    if os.path.isdir(path):
        inside = listed(str(path))
        problem = f"is a folder that is not known: it holds {few(inside, 5) or 'nothing'}"
        hint = f"the path must lead to {known()}; look whether the folder is whole, or one above or below is meant"
        return InputError(problem, where=str(path), hint=hint)
    try:
        with open(path, "rb") as file:
            begin = file.read(8)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        problem = f"can't be opened ({getattr(error, 'strerror', None) or error})"
        hint = "check that the path names a file, that a link leads somewhere, and that you may read it"
        return InputError(problem, where=str(path), hint=hint)
    what = "empty (0 bytes)" if not begin else "a zip archive" if begin[:4] == b"PK\3\4" else "no file that is known"
    problem = f"is {what}, so no reader takes it"
    return InputError(problem, where=str(path), hint=f"the path must lead to {known()}; {h5ad.WRITE_AGAIN}")


def _checked(
    parts: Parts, where: str, slice_name: str, kind: str, truth: str | None, keep_obs: Sequence[str]
) -> tuple[ad.AnnData | None, list[InputError]]:
    """A slice as ``read_slice`` returns it, without faulty parts; and the faults, in the order of the messages."""
    source, faults = parts.source, []
    if 0 in source.shape:
        return None, [InputError(f"is empty ({source.n_obs} spots x {source.n_vars} features)", where=where)]

    def made(make: Callable, *args: Any, **options: Any) -> Any:
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
        matrix = made(count_matrix, parts.values, where, hint=parts.hint, sampled=parts.sampled)

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
        uns={"controls": dict(parts.controls)} if parts.controls else {},
        obs=obs,
        var=_gene_ids(source.var),
        obsm={} if coordinates is None else {"spatial": coordinates},
        layers={} if kind == "features" or matrix is None or parts.sampled else {"counts": matrix},
    )
    return adata, faults


def _spot_names(barcodes: pd.Index, slice_name: str) -> pd.Index:
    return pd.Index(f"{slice_name}:" + pd.Series(barcodes.to_numpy(dtype=str), dtype=object)).rename(None)


def _gene_ids(var: pd.DataFrame) -> pd.DataFrame:
    """Identifiers of the features as ``gene_id``, from the first of ``GENE_IDS`` in var."""
    kept = pd.DataFrame(index=var.index.rename(None))
    for name in GENE_IDS:
        if name in var:
            kept["gene_id"] = as_names(var[name])
            break
    return kept


def _check_names(names: pd.Index, what: str, mend: str, where: str) -> None:
    if not names.is_unique:
        repeated = names[names.duplicated()].unique()
        raise InputError(
            f"{len(repeated)} duplicate {what}{'s' * (len(repeated) > 1)}: {few(repeated)}",
            where=where,
            hint=f"make them unique with {mend}",
        )


def _in_tissue(obs: pd.DataFrame, where: str) -> np.ndarray:
    """Mask of the spots under tissue, from ``in_tissue``: 0/1 or True/False, as numbers or text; all without it."""
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
            f'obs["in_tissue"] holds values other than 0 and 1, in {len(others)} spots: {few(others.unique())}',
            where=where,
            hint="write 1 for spots under tissue and 0 for the others, or drop the column",
        )
    return found.to_numpy(dtype=bool)


def named_columns(obs: pd.DataFrame, truth: str | None, keep_obs: Sequence[str], where: str) -> pd.DataFrame:
    """Columns of a user's ``obs`` that the config names, if they exist.

    Parameters
    ----------
    obs
        Table of the user's file.
    truth
        Column with the true domains. It becomes text; text that means "none" (``nan``, ``NA``, ``none``, empty, ...)
        becomes missing, with a log message.
    keep_obs
        Further columns: numbers and booleans stay, everything else becomes text.
    where
        The file, for messages.

    Returns
    -------
    DataFrame (spots); text as categories. ``attrs["known"]``: names of all columns of ``obs``.
    """
    made = {}
    for name in dict.fromkeys([*([] if truth is None else [truth]), *keep_obs]):
        if name in obs:
            values = (
                _without_missing_words(as_text(obs[name]), name, where) if name == truth else plain_values(obs[name])
            )
            made[name] = pd.Categorical(values) if values.dtype == object else values.array
    columns = pd.DataFrame(made, index=obs.index)
    columns.attrs["known"] = sorted(map(str, obs.columns))
    return columns


def _without_missing_words(text: pd.Series, name: str, where: str) -> pd.Series:
    words = text[text.str.strip().str.lower().isin(MISSING_WORDS).to_numpy(dtype=bool)]
    if len(words):
        shown = ", ".join(f"{word!r} in {count}" for word, count in words.value_counts(sort=False).items())
        logger.warning(
            "%s: obs[%r] has text that means no true domain for %d of %d spots (%s)",
            where,
            name,
            len(words),
            len(text),
            shown,
        )
    return text.where(~text.str.strip().str.lower().isin(MISSING_WORDS).to_numpy(dtype=bool), np.nan)


def _coordinates(source: ad.AnnData, where: str) -> np.ndarray:
    if "spatial" not in source.obsm:
        raise InputError(
            f'no coordinates: obsm["spatial"] is missing (obsm has {few(source.obsm) or "nothing"})',
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
            f'obsm["spatial"] is NaN or infinite for {lost.sum()} spots: {few(source.obs_names[lost])}',
            where=where,
            hint="drop these spots or mend their coordinates",
        )
    extent = np.ptp(coordinates, axis=0).max()
    if extent and not 1e-100 < extent < 1e100:
        raise InputError(
            f'obsm["spatial"] spans {extent:.3g}, and floating point can\'t represent squares of such numbers',
            where=where,
            hint="write it in another unit, such as pixels or micrometres",
        )
    if source.n_obs > 1 and not extent:
        raise InputError(
            'all spots have the same coordinates in obsm["spatial"]',
            where=where,
            hint="the spatial graph needs the position of each spot",
        )
    positions, counts = np.unique(coordinates, axis=0, return_counts=True)
    if counts.max() > max(_MOST_AT_ONE_PLACE * source.n_obs, 10):
        logger.warning(
            "%s: %d of %d spots lie at one place (x %g, y %g): if that stands for an unknown place, drop these spots, "
            "whose neighbours on the tissue would be any",
            where,
            counts.max(),
            source.n_obs,
            *positions[counts.argmax()],
        )
    far = astray(coordinates)
    if far.any():
        logger.warning(
            "%s: %d of %d spots lie far from all others (%s): maps leave them out. Mend their coordinates or drop them",
            where,
            far.sum(),
            len(far),
            few(source.obs_names[far]),
        )
    return coordinates


def feature_matrix(source: ad.AnnData, where: str) -> np.ndarray:
    """X with any finite numbers (spots x features, float32).

    Parameters
    ----------
    source
        As read from the user's file.
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
    with np.errstate(over="ignore"):  # too large for float32: becomes infinite, reported below
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
        What to do if there are no counts; None: the general hint.
    sampled
        Whether ``source`` is a sample of a slice, which may contain only zeros.

    Raises
    ------
    InputError
        If there are no counts, or they are not whole numbers from 0 to 2^24.
    """
    place = 'layers["counts"]' if "counts" in source.layers else "X"
    counts = source.layers.get("counts", source.X)
    mend = hint or 'put the raw counts into layers["counts"] or X; a ready low-dimensional matrix is kind "features"'
    if counts is None:
        raise InputError("no counts: X is missing", where=where, hint=mend)
    given = counts
    with np.errstate(over="ignore"):  # too large for float32: becomes infinite, reported below
        counts = sparse.csr_matrix(counts, dtype=np.float32)
    if not counts.has_canonical_format or not counts.data.all():
        counts = counts.copy()  # what follows would change the matrix of a user's AnnData
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
    largest = given.max() if values.size else 0  # as given, because float32 may have rounded it down
    if largest > _MOST_COUNTS:
        found = counts.tocoo()
        at = found.data.argmax()
        raise InputError(
            f"{place} holds counts above {_MOST_COUNTS:,}, which float32 rounds: {largest:,.0f} of "
            f"{shortened(str(source.var_names[found.col[at]]))} in {shortened(str(source.obs_names[found.row[at]]))}",
            where=where,
            hint="check that these are counts of molecules in spots; sums and intensities: divide them by a constant "
            "and round, or drop the feature",
        )
    counts.eliminate_zeros()
    if counts.nnz == 0 and not sampled:
        raise InputError(f"no counts: {place} holds only zeros", where=where, hint=mend)
    return counts
