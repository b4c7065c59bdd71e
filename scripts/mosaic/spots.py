"""Reading and writing slices, the identity of a spot, and the pairing of a slice's modalities.

A spot is named ``{slice}:{barcode}``, which is unique over a run: barcodes alone repeat between slices.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

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

# Kinds of numpy types that counts and features may have: boolean, integer, unsigned, floating.
_NUMBERS = "biuf"

_WRITE_AGAIN = "write the file again with anndata's write_h5ad and check that it was copied whole"

# Where every method's embedding.h5mu keeps its latent space, of each modality and of the run.
LATENT = "X_latent"

# What MuData 0.4 will do anyway: a MuData's obs is what was put there, not a copy of its modalities' obs.
md.set_options(pull_on_update=False)


def read_slice(path: str | Path, slice_name: str, kind: str) -> ad.AnnData:
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

    Returns
    -------
    AnnData, spots x features, with ``obs_names`` ``{slice}:{barcode}``, ``obs["slice"]``, ``obs["barcode"]``,
    ``obsm["spatial"]`` (spots x 2, the unit of the file) and ``layers["counts"]`` (CSR, float32), or for kind
    ``features`` X (float32). Nothing else of the file is read, and dense counts are made sparse chunk by chunk.

    Raises
    ------
    InputError
        If the file can't be read or any of the above does not hold.
    """
    where, counted = str(path), kind != "features"
    _check_file(path, where)
    try:
        source = _needed_parts(path, counted, where)
    except InputError:
        raise
    except Exception as error:  # h5py and anndata raise about anything on a damaged file
        problem = f"can't be read as h5ad ({type(error).__name__}: {_short(str(error), 300)})"
        raise InputError(problem, where=where, hint=_WRITE_AGAIN) from error
    if 0 in source.shape:
        raise InputError(f"is empty ({source.n_obs} spots x {source.n_vars} features)", where=where)
    _check_names(source, where)
    coordinates = _coordinates(source, where)
    matrix = count_matrix(source, where) if counted else feature_matrix(source, where)

    if "slice" in source.obs and (source.obs["slice"].astype(str) != slice_name).any():
        logger.warning('%s: obs["slice"] is replaced by the name in the sheet, %s', where, slice_name)
    obs = source.obs.copy()
    obs["barcode"] = source.obs_names.to_numpy(dtype=str)
    obs["slice"] = pd.Categorical([slice_name] * source.n_obs)
    obs.index = f"{slice_name}:" + obs["barcode"].astype(str).to_numpy(dtype=object)
    obs.index.name = None
    _check_columns(obs, "obs", where)
    _check_columns(source.var, "var", where)
    return ad.AnnData(
        None if counted else matrix,
        obs=obs,
        var=source.var.copy(),
        obsm={"spatial": coordinates},
        layers={"counts": matrix} if counted else {},
    )


def _check_file(path: str | Path, where: str) -> None:
    """What can be said of a file before it is opened as HDF5, whose own messages are hard to read."""
    try:
        with open(path, "rb") as file:
            begin = file.read(4)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        problem = f"can't be opened ({getattr(error, 'strerror', None) or error})"
        hint = "check that the path names a file, that a link leads somewhere, and that you may read it"
        raise InputError(problem, where=where, hint=hint) from error
    if not h5py.is_hdf5(path):
        what = "is empty (0 bytes)" if not begin else "is a zip archive" if begin == b"PK\3\4" else "is no HDF5 file"
        raise InputError(f"{what}, so it can't be read as h5ad", where=where, hint=_WRITE_AGAIN)


def _needed_parts(path: str | Path, counted: bool, where: str) -> ad.AnnData:
    """Of a user's file what the workflow needs: names, coordinates, and counts or features.

    What the file declares is compared with itself and with memory before anything large is read: a few bytes can
    declare terabytes.
    """
    with h5py.File(path) as file:
        for name in ("obs", "var"):
            table = file.get(name)
            index = table.attrs.get("_index") if isinstance(table, h5py.Group) else None
            if not isinstance(index, str) or index not in table:
                raise InputError(f"holds no table {name} with an index of names", where=where, hint=_WRITE_AGAIN)
        places = file.get("obsm", {})
        # Where there are no coordinates, the message names what is there.
        known = [key for key in places if key == "spatial" or "spatial" not in places]
        from_layer = counted and "layers/counts" in file
        place = "layers/counts" if from_layer else "X"
        stored = file.get(place)
        whole = [file["obs"], file["var"], *([places["spatial"]] if "spatial" in places else [])]
        if isinstance(stored, h5py.Group):
            whole.append(stored)
        _check_memory(sum(map(_declared_bytes, whole)), where)
        obs, var = ad.io.read_elem(file["obs"]), ad.io.read_elem(file["var"])
        if isinstance(places.get("spatial"), h5py.Dataset) and places["spatial"].shape[:1] != (len(obs),):
            problem = f'obsm["spatial"] has shape {places["spatial"].shape}, but there are {len(obs)} spots in obs'
            raise InputError(problem, where=where, hint="it must be numbers, spots x 2")
        matrix = None
        if stored is not None:
            _check_matrix(stored, (len(obs), len(var)), place, where)
            if not counted:  # dense as it is, and as float32
                _check_memory(len(obs) * len(var) * 12, where)
            matrix = _read_matrix(stored, in_chunks=counted)
        return ad.AnnData(
            None if from_layer else matrix,
            obs=obs,
            var=var,
            obsm={key: ad.io.read_elem(places[key]) if key == "spatial" else np.zeros((len(obs), 1)) for key in known},
            layers={"counts": matrix} if from_layer else None,
        )


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


def _check_names(source: ad.AnnData, where: str) -> None:
    for names, what, mend in (
        (source.obs_names, "barcode", "obs_names_make_unique(), or drop the repeated spots"),
        (source.var_names, "feature name", "var_names_make_unique(), or use identifiers as var_names"),
    ):
        if not names.is_unique:
            repeated = names[names.duplicated()].unique()
            raise InputError(
                f"{len(repeated)} duplicate {what}{'s' * (len(repeated) > 1)}: {_few(repeated)}",
                where=where,
                hint=f"make them unique with {mend}",
            )


def _check_columns(table: pd.DataFrame, what: str, where: str) -> None:
    """Whether columns can be written to HDF5, which takes their names for paths: ``/a`` would leave the table."""
    names = list(map(str, table.columns))
    parts = {name: name.split("/") for name in names if "/" in name}
    astray = [name for name, path in parts.items() if path[0] in names or {"", "."} & set(path)]
    if astray:
        raise InputError(
            f"{what} has columns whose names HDF5 takes for other places in a file: {_few(astray)}",
            where=where,
            hint="write these names without slashes",
        )


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


def count_matrix(source: ad.AnnData, where: str) -> sparse.csr_matrix:
    """Raw counts from ``layers["counts"]`` or, without that layer, from X (spots x features, CSR, float32).

    Parameters
    ----------
    source, where
        See ``feature_matrix``.

    Raises
    ------
    InputError
        If there are none, or they are not whole numbers from 0.
    """
    place = 'layers["counts"]' if "counts" in source.layers else "X"
    counts = source.layers.get("counts", source.X)
    mend = 'put the raw counts into layers["counts"] or X; a ready low-dimensional matrix is kind "features"'
    if counts is None:
        raise InputError("no counts: X is missing", where=where, hint=mend)
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
    counts.eliminate_zeros()
    if counts.nnz == 0:
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
    Series of str (spots), missing where no modality has a value.

    Raises
    ------
    InputError
        If no modality has the column.
    """
    found = [table[column].dropna().astype(str) for table in obs.values() if column in table]
    if not found:
        known = sorted({name for table in obs.values() for name in table} - {"slice", "barcode"})
        raise InputError(
            f"no file has obs[{column!r}]; columns there are: {_few(known, 20) or 'none'}",
            where="config key truth",
            hint="name the column with the true domains, or set truth to null",
        )
    values = pd.concat(found)
    return values[~values.index.duplicated()].reindex(spots)


def truth(paths: Sequence[str | Path], spots: pd.Index, column: str | None) -> pd.Series | None:
    """The true domains of a run's spots, from the files of its stacked modalities.

    Parameters
    ----------
    paths
        Files with ``obs``, as ``reduce_modality`` makes them.
    spots, column
        As for ``annotation``; a column of None means that there is no truth, and gives None.
    """
    return annotation({str(path): read(path).obs for path in paths}, spots, column) if column else None


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
