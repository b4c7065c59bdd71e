"""The explorer: a folder with a page that a browser opens without a server, and the data that the page draws.

Every file of data is a script that hands one text to the page, because a page opened from a disk may load scripts and
nothing else. A text is JSON, or bytes as base64 of zlib. A column is a byte per spot, and the columns that fit into
about a megabyte share a file, so that the page loads little at the start and a feature when it is asked for.
"""

import base64
import io
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from mosaic.blocks import block_slices, read_blocks, stacked_blocks
from mosaic.errors import InputError, few
from mosaic.figures.style import natural, palette
from mosaic.files import atomic_write
from mosaic.frame import Frame
from mosaic.spatial import astray, median_spot_distance
from mosaic.store import read_outline

# Codes of a column: 0 to 254 are values, and 255 is a missing one.
MISSING = 255
_LEVELS = 254
_FILE_BYTES = 1_000_000
# A position is a number of 14 bits on the tissue and of 12 bits in the UMAP: finer than any screen shows of a slice.
_TISSUE_BITS, _UMAP_BITS = 14, 12
_UNPLACED = 65535
_IMAGE_SIDE = 1400  # pixels
# A column's range ends here, so that one extreme spot does not leave all others one colour.
_CLIP = 0.999
# A panel of at most so many features is shown whole.
SMALL_PANEL = 500
_SCALES = {"log": "log of counts per 10,000", "clr": "centred log ratio", "none": "value"}
# Values of a modality that are in memory at once: of many spots, some features at a time.
_GROUP_VALUES = 200_000_000
_QUALITY = {"total_counts": "total counts", "n_features": "features", "mito_percent": "mitochondrial counts (%)"}


class Spots(NamedTuple):
    """The spots of a run, in any order.

    Attributes
    ----------
    slices
        Name of each spot's slice.
    barcodes
        Barcode of each spot.
    coordinates
        Spots x 2, in the unit of each slice.
    umap
        Spots x 2.
    """

    slices: np.ndarray
    barcodes: np.ndarray
    coordinates: np.ndarray
    umap: np.ndarray


class Column(NamedTuple):
    """What the page can colour spots by, besides features.

    Attributes
    ----------
    key
        Its name in addresses, unique over the columns.
    label, group
        How the page calls it, and under which heading.
    values
        Numbers, or labels of any type; in the order of the spots. Missing ones are missing in the page.
    colours
        Colour of each label, in the order of the legend; None: the page gives them colours, in natural order.
    """

    key: str
    label: str
    group: str
    values: pd.Series
    colours: Mapping[str, str] | None = None


class Slice(NamedTuple):
    """What is told of a slice.

    Attributes
    ----------
    note
        A text below its name.
    frame
        Its tissue image and the unit of its coordinates.
    """

    note: str = ""
    frame: Frame = Frame()


class Part(NamedTuple):
    """Values of features in some spots.

    Attributes
    ----------
    rows
        Numbers of the spots.
    values
        Spots x features, sparse or dense.
    features
        Names of the columns of ``values``.
    imputed
        Whether they were imputed; otherwise measured.
    """

    rows: np.ndarray
    values: np.ndarray | sparse.spmatrix
    features: pd.Index
    imputed: bool


class Panel(NamedTuple):
    """The features of a modality.

    Attributes
    ----------
    modality, scale
        Its name, and the scale of its values in words.
    features
        Names of the features to show.
    parts
        From names of features to their values, and maybe those of others; a spot without a value is missing. Asked for
        some features after the other, so that memory does not grow with the spots.
    scores
        ``pearson_log`` and ``better_than_mean`` of held-out validation, by feature; None: the run has none.
    """

    modality: str
    scale: str
    features: Sequence[str]
    parts: Callable[[Sequence[str]], Sequence[Part]]
    scores: pd.DataFrame | None = None


def shown_features(
    available: pd.Index, kind: str, selected: Iterable[str], markers: Sequence[pd.Index], asked: Sequence[str] | str
) -> list[str]:
    """Choose the features of a modality that the explorer has: all of a small panel, of others those worth a look.

    Parameters
    ----------
    available
        Names of the features that a slice has.
    kind
        Kind of the modality.
    selected
        Features that the integration used; taken for kind ``rna``, where they are the highly variable ones.
    markers
        Markers of the domains; none for kind ``features``.
    asked
        Config key ``explorer.features``: further names, or ``all``.

    Returns
    -------
    Names in natural order.
    """
    wanted = set(available)
    if asked != "all" and len(available) > SMALL_PANEL:
        wanted &= {*(selected if kind == "rna" else ()), *(name for own in markers for name in own), *asked}
    return sorted(wanted, key=natural)


def check_asked(asked: Sequence[str] | str, available: Mapping[str, pd.Index]) -> None:
    """Raise InputError if ``explorer.features`` names a feature that no modality of ``available`` has."""
    known = set().union(*available.values())
    if asked != "all" and (strange := [name for name in asked if name not in known]):
        raise InputError(
            f"no modality has {few(strange)}",
            where="config key explorer.features",
            hint="spell features as the files do; case matters",
        )


def imputed_counts(slices: Iterable[ad.AnnData]) -> Iterator[ad.AnnData]:
    """Imputed counts, or features, in the place of measured ones, to be shown on the same scale.

    Left out are spots that have none, and slices that measured all features (with ``features: union``).
    """
    for imputed in slices:
        if imputed.n_vars:
            counts = sparse.csr_matrix(imputed.layers["imputed"])
            adata = ad.AnnData(counts, obs=imputed.obs, var=imputed.var, layers={"counts": counts})
            # Ready features may be negative.
            yield adata[np.asarray(abs(counts).sum(axis=1)).ravel() > 0].copy()


def slice_readers(
    paths: Sequence[str | Path],
    key: str,
    on_scale: Callable[[ad.AnnData], ad.AnnData],
    measured: Sequence[str | Path] = (),
) -> list[Callable[[], Iterable[ad.AnnData]]]:
    """Of each file of a slice a function that reads it block by block, as ``panel`` takes it.

    Parameters
    ----------
    paths
        The files.
    key
        Of the matrix to show: ``X``, ``layers/counts`` or ``layers/imputed``.
    on_scale
        Puts counts on the scale that is shown.
    measured
        For imputed counts, the files of measured ones, of the same names where a slice has both: its imputed features
        (with ``features: union``) are put on the scale together with those that it measured.
    """
    own = {Path(path).name: path for path in measured}
    means = cache(_mean_counts)  # each file is read once for it

    def read(path: str | Path) -> Iterator[ad.AnnData]:
        beside = own.get(Path(path).name) if key == "layers/imputed" else None
        if beside is not None:
            return _scaled_beside(path, beside, [other for other in measured if other != beside], means, on_scale)
        found = read_blocks(path, key)
        return map(on_scale, imputed_counts(found) if key == "layers/imputed" else found)

    return [partial(read, path) for path in paths]


def _mean_counts(path: str | Path) -> pd.Series:
    """Mean counts of each feature in a spot of a slice."""
    outline = read_outline(path)
    sums = [np.ravel(own.layers["counts"].sum(axis=0)) for own in read_blocks(path, "layers/counts")]
    return pd.Series(np.sum(sums, axis=0) / outline.n_obs, outline.var_names)


def _scaled_beside(
    path: str | Path,
    beside: str | Path,
    others: Iterable[str | Path],
    means: Callable[[str | Path], pd.Series],
    on_scale: Callable[[ad.AnnData], ad.AnnData],
) -> Iterator[ad.AnnData]:
    """Imputed features of a slice on the scale of all its features; by themselves, they would share all its depth.

    Imputed counts have the depth of the slices that measured the features, so the slice's own take that depth, too.
    Left out are spots that quality control left without measured counts.
    """
    outline, names = read_outline(beside), read_outline(path).var_names
    if names.empty:
        return
    ratios, ours = [], means(beside)
    for theirs in map(means, others):
        if theirs.index.isin(names).any():
            shared = ours.index.intersection(theirs.index)
            ratios.append(theirs[shared].sum() / ours[shared].sum())
    for imputed in read_blocks(path, "layers/imputed"):
        rows = outline.obs_names.get_indexer(imputed.obs_names)
        imputed, rows = imputed[rows >= 0], rows[rows >= 0]
        for some in block_slices(len(rows), len(names) + outline.n_vars):
            places = np.column_stack([np.zeros_like(rows[some]), rows[some]])
            columns = [np.arange(outline.n_vars)]
            counts = stacked_blocks([(beside, "layers/counts")], places, columns, outline.n_vars)
            parts = [sparse.csr_matrix(own) * np.mean(ratios) for own in counts]
            whole = sparse.hstack([imputed[some].layers["imputed"], sparse.vstack(parts)], format="csr")
            var = pd.DataFrame(index=names.append(outline.var_names))
            adata = ad.AnnData(whole, obs=imputed.obs.iloc[some], var=var, layers={"counts": whole})
            yield on_scale(adata)[:, : len(names)].copy()


def held_out_scores(paths: Sequence[str | Path]) -> pd.DataFrame | None:
    """``pearson_log`` and ``better_than_mean`` by feature, from files of imputed counts; None: the run has none."""
    found = [read_outline(path).var for path in paths]
    scores = [var[["pearson_log", "better_than_mean"]] for var in found if "pearson_log" in var and len(var)]
    return scores[-1] if scores else None


def panel(
    modality: str,
    scale: str,
    features: Sequence[str],
    spots: pd.Index,
    measured: Sequence[Callable[[], Iterable[ad.AnnData]]],
    imputed: Sequence[Callable[[], Iterable[ad.AnnData]]],
    scores: pd.DataFrame | None = None,
) -> Panel:
    """Gather the features of a modality over its slices.

    Parameters
    ----------
    modality, scale
        Its name, and its normalisation: ``log``, ``clr`` or ``none``.
    features
        Names of the features to show.
    spots
        Names of all spots of the run.
    measured, imputed
        Of each slice a function that reads it, with X on that scale, some spots after the other.
    scores
        See ``Panel``.
    """

    def parts(features: Sequence[str]) -> list[Part]:
        sources = [(read, False) for read in measured] + [(read, True) for read in imputed]
        return [part for read, is_imputed in sources if (part := _part(read(), features, spots, is_imputed))]

    return Panel(modality, _SCALES[scale], features, parts, scores)


def _part(blocks: Iterable[ad.AnnData], features: Sequence[str], spots: pd.Index, imputed: bool) -> Part | None:
    """The features of a slice from blocks of its spots; None if there are none."""
    rows, values, names = [], [], pd.Index([])
    for adata in blocks:
        kept = adata.var_names.isin(features)
        rows.append(spots.get_indexer(adata.obs_names))
        values.append(sparse.csc_matrix(adata.X[:, kept]))
        names = adata.var_names[kept]
    if not rows:
        return None
    return Part(np.concatenate(rows), sparse.vstack(values, format="csc"), names, imputed)


def columns(
    run: ad.AnnData,
    methods: Sequence[str],
    seeds: Sequence[int],
    truth: str | None,
    quality: Mapping[str, pd.DataFrame],
) -> list[Column]:
    """List what to colour by, besides features: the domains of all runs, what users gave, and quality control.

    Parameters
    ----------
    run
        ``obs`` of integrated.h5mu, with domains as categories, and ``uns`` with their ``{column}_colors``.
    methods, seeds
        Those of the run.
    truth
        Column of ``obs`` with the true domains; None: unknown.
    quality
        Per modality ``total_counts``, ``n_features`` and ``mito_percent`` of its spots, or none of these.
    """
    obs = run.obs
    found = {"domain": ("mosaic_domain", "Domain")}
    if len(methods) * len(seeds) > 1:
        runs = [(method, seed) for method in methods for seed in seeds]
        found |= {f"domain_{m}_{s}": (f"domain_{m}_{s}", f"Domain of {m}, seed {s}") for m, s in runs}
    found |= {f"consensus_{method}": (f"consensus_{method}", f"Consensus of {method}") for method in methods}
    result = []
    for key, (name, label) in found.items():
        colours = dict(zip(obs[name].cat.categories, map(str, run.uns[f"{name}_colors"]), strict=True))
        result.append(Column(key, label, "Domains", obs[name], colours))
    for number, method in enumerate(name for name in methods if f"confidence_{name}" in obs):
        key = f"confidence_{method}" if number else "confidence"
        result.append(Column(key, f"Confidence of {method}", "Domains", obs[f"confidence_{method}"]))
    if truth is not None:
        result.append(Column("truth", f"{truth} (truth)", "Domains", obs[truth], palette(obs[truth])))
    result.append(Column("slice", "Slice", "Slices", obs["slice"], palette(obs["slice"])))
    result.append(Column("modalities", "Measured modalities", "Slices", obs["modalities"], palette(obs["modalities"])))
    ours = {"slice", "barcode", "modalities", "mosaic_domain", truth}
    ours |= {f"{word}_{method}" for method in methods for word in ("consensus", "confidence")}
    ours |= {f"domain_{method}_{seed}" for method in methods for seed in seeds}
    result += [Column(f"obs.{name}", str(name), "Given", obs[name]) for name in obs if name not in ours]
    for modality, table in quality.items():
        for name in ("total_counts", "n_features", "mito_percent"):
            if name in table and table[name].notna().any():
                values = pd.to_numeric(table[name].reindex(obs.index))
                result.append(Column(f"{name}.{modality}", f"{modality}: {_QUALITY[name]}", "Quality control", values))
    return result


def write(
    folder: str | Path,
    page: Iterable[str | Path],
    run: ad.AnnData,
    columns: Sequence[Column],
    panels: Iterable[Panel],
    slices: Mapping[str, Slice],
) -> None:
    """Write the explorer.

    Parameters
    ----------
    folder
        Where to; made if it is not there.
    page
        The files of the page, which are copied.
    run
        The spots: ``slice`` and ``barcode`` in ``obs``, ``spatial`` and ``X_umap`` in ``obsm``.
    columns
        What to colour by; the page opens with the first, whose labels its legend can hide, and weakens spots by the
        column ``confidence`` if there is one.
    panels
        The modalities, one at a time in memory if this is a generator.
    slices
        What is told of each slice, in the order of the page.
    """
    folder = Path(folder)
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    spots = Spots(
        run.obs["slice"].astype(str).to_numpy(),
        run.obs["barcode"].astype(str).to_numpy(),
        np.asarray(run.obsm["spatial"], dtype=float),
        np.asarray(run.obsm["X_umap"], dtype=float),
    )
    layout = _Layout.of(spots, list(slices))
    _hand_over(data / "spots.js", "spots", _packed(layout.positions(spots)))
    barcodes = json.dumps(spots.barcodes[layout.order].tolist())
    _hand_over(data / "barcodes.js", "barcodes", _packed(barcodes.encode()))
    for number, (name, own) in enumerate(slices.items()):
        if own.frame.image is not None:
            picture = _picture(own.frame.image, (own.frame.width, own.frame.height), *layout.squares[name])
            _hand_over(data / f"image.{number}.js", f"image.{number}", picture)
    files = _Files(data, layout)
    told = {
        "n": len(layout.order),
        "perFile": files.per_file,
        "slices": [layout.told(spots, name, own) for name, own in slices.items()],
        "columns": [_column(files, column) for column in columns],
        "panels": [_panel(files, panel, spots, list(slices)) for panel in panels],
    }
    files.close()
    _hand_over(data / "run.js", "run", told)
    for path in map(Path, page):
        shutil.copyfile(path, folder / path.name)


class _Layout:
    """Order of the spots in the files: slice by slice, and near spots together, which packs well."""

    def __init__(self, order: np.ndarray, squares: dict[str, tuple[np.ndarray, float]], placed: np.ndarray):
        self.order = order
        self.squares = squares
        self.placed = placed
        self.place_of = np.empty(len(order), dtype=np.int64)
        self.place_of[order] = np.arange(len(order))

    @classmethod
    def of(cls, spots: Spots, names: Sequence[str]) -> "_Layout":
        order, squares, placed = [], {}, np.zeros(len(spots.slices), dtype=bool)
        for name in names:
            rows = np.flatnonzero(spots.slices == name)
            own = spots.coordinates[rows]
            near = ~astray(own)
            squares[name] = _square(own[near], median_spot_distance(own[near]))
            placed[rows] = near
            order.append(rows[np.argsort(_z_order(_scaled(own, *squares[name], _TISSUE_BITS)), kind="stable")])
        return cls(np.concatenate(order), squares, placed)

    def positions(self, spots: Spots) -> bytes:
        """Steps from spot to spot on the tissue, and places in the UMAP: of each axis the high bytes, then the low."""
        tissue = np.empty((len(self.order), 2), dtype=np.uint16)
        names = spots.slices[self.order]
        coordinates = spots.coordinates[self.order]
        for name, square in self.squares.items():
            rows = names == name
            tissue[rows] = _scaled(coordinates[rows], *square, _TISSUE_BITS)
        tissue[~self.placed[self.order]] = _UNPLACED
        steps = np.diff(tissue, axis=0, prepend=np.zeros((1, 2), dtype=np.uint16))
        umap = spots.umap[self.order]
        projected = _scaled(umap, *_square(umap, np.ptp(umap, axis=0).max() / 40), _UMAP_BITS)
        # Small negative steps have high bytes of 255 and small positive ones of 0: zigzag makes both 0.
        zigzag = (steps << 1) ^ (steps.astype(np.int16) >> 15).astype(np.uint16)
        return b"".join(_bytes_of(axis) for axis in (*zigzag.T, *projected.T))

    def told(self, spots: Spots, name: str, own: Slice) -> dict[str, Any]:
        """What the page needs to know of a slice."""
        rows = spots.slices == name
        centre, half = self.squares[name]
        placed = spots.coordinates[rows & self.placed]
        return {
            "name": name,
            "n": int(rows.sum()),
            "centre": centre.tolist(),
            "half": half,
            "pitch": median_spot_distance(placed) / half,
            "extent": ((placed.max(axis=0) - placed.min(axis=0)) / half).tolist(),
            "unplaced": int((rows & ~self.placed).sum()),
            "umPerUnit": own.frame.microns_per_unit,
            "note": own.note,
            "hasImage": own.frame.image is not None,
        }


class _Files:
    """Writes columns of bytes into files, several to a file."""

    def __init__(self, folder: Path, layout: _Layout):
        self._folder = folder
        self._layout = layout
        self.per_file = max(_FILE_BYTES // len(layout.order), 1)
        self._waiting: list[bytes] = []
        self._n_columns = 0

    def add(self, codes: np.ndarray) -> int:
        """Write a column (spots, in the order of ``Spots``); its number."""
        self._waiting.append(codes[self._layout.order].astype(np.uint8).tobytes())
        self._n_columns += 1
        if len(self._waiting) == self.per_file:
            self.close()
        return self._n_columns - 1

    def close(self) -> None:
        """Write what waits."""
        if self._waiting:
            number = (self._n_columns - 1) // self.per_file
            _hand_over(self._folder / f"columns.{number}.js", f"columns.{number}", _packed(b"".join(self._waiting)))
            self._waiting = []


def _column(files: _Files, column: Column) -> dict[str, Any]:
    told: dict[str, Any] = {"key": column.key, "label": column.label, "group": column.group}
    if pd.api.types.is_numeric_dtype(column.values.dtype) and not pd.api.types.is_bool_dtype(column.values.dtype):
        codes, span = quantise(column.values.to_numpy(dtype=float, na_value=np.nan))
        return told | {"at": files.add(codes), "span": span}
    labels = column.values.astype(object).where(column.values.notna(), None)
    known = pd.Series([None if label is None else str(label) for label in labels], dtype=object)
    names = sorted(known.dropna().unique(), key=natural)
    if column.colours is not None:
        names = [name for name in column.colours if name in set(names)]
    others: list[str] = []
    if len(names) > _LEVELS:
        frequent = known.value_counts().index[: _LEVELS - 1]
        names, others = [name for name in names if name in set(frequent)], [n for n in names if n not in set(frequent)]
    code_of = {name: number for number, name in enumerate(names)} | dict.fromkeys(others, len(names))
    codes = known.map(code_of).fillna(MISSING).to_numpy(dtype=np.uint8)
    return told | {
        "at": files.add(codes),
        "labels": [*names, *([f"{len(others):,} others"] if others else [])],
        "colours": None if column.colours is None else [column.colours[name] for name in names],
    }


def _panel(files: _Files, panel: Panel, spots: Spots, names: Sequence[str]) -> dict[str, Any]:
    told: list[dict[str, Any]] = []
    whole: list[str | None] = [None] * len(names)
    size = max(_GROUP_VALUES // len(spots.slices), 1)
    for start in range(0, len(panel.features), size):
        group = panel.features[start : start + size]
        # What was measured takes the place of what was imputed.
        parts = [
            (part, sparse.csc_matrix(part.values), part.features.get_indexer(group), set(spots.slices[part.rows]))
            for part in sorted(panel.parts(group), key=lambda part: not part.imputed)
        ]
        whole = _sources(parts, names)
        told += [
            _feature(files, name, [(*each[:2], each[2][number], each[3]) for each in parts], spots, names, panel.scores)
            for number, name in enumerate(group)
        ]
    return {"modality": panel.modality, "scale": panel.scale, "sources": whole, "features": told}


def _sources(parts: Iterable[tuple[Part, Any, Any, set[str]]], names: Sequence[str]) -> list[str | None]:
    """Whether each slice was measured or imputed; None: neither."""
    found: dict[str, str | None] = dict.fromkeys(names)
    for part, _, _, own in parts:
        found |= dict.fromkeys(own, "imputed" if part.imputed else "measured")
    return list(found.values())


def _feature(
    files: _Files,
    name: str,
    parts: Sequence[tuple[Part, sparse.csc_matrix, int, set[str]]],
    spots: Spots,
    names: Sequence[str],
    scores: pd.DataFrame | None,
) -> dict[str, Any]:
    """Write the values of a feature, which is one column of each part, or -1; what the page needs to know of it."""
    codes = np.full(len(spots.slices), MISSING, dtype=np.uint8)
    told: dict[str, Any] = {"name": name}
    there = [each for each in parts if each[2] >= 0]
    for source in ("imputed", "measured"):
        own = [
            (part.rows, values[:, [column]].toarray().ravel())
            for part, values, column, _ in there
            if part.imputed == (source == "imputed")
        ]
        if own:
            rows, values = (np.concatenate(arrays) for arrays in zip(*own, strict=True))
            codes[rows], told[source] = quantise(values)
    if _sources(there, names) != _sources(parts, names):
        told["sources"] = _sources(there, names)
    told["at"] = files.add(codes)
    if scores is not None and name in scores.index:
        pearson = float(scores.at[name, "pearson_log"])
        told["pearson"] = None if np.isnan(pearson) else round(pearson, 3)
        told["trusted"] = bool(scores.at[name, "better_than_mean"])
    return told


def quantise(values: np.ndarray) -> tuple[np.ndarray, list]:
    """Numbers as codes of a byte.

    Parameters
    ----------
    values
        Numbers, NaN where missing.

    Returns
    -------
    Codes 0 to 254 in equal steps, 255 where missing; and the values of code 0 and of code 254, with whether larger
    values have code 254, too.
    """
    known = np.isfinite(values)
    codes = np.full(len(values), MISSING, dtype=np.uint8)
    if not known.any():
        return codes, [0.0, 0.0, False]
    low, top = values[known].min(), values[known].max()
    high = np.quantile(values[known], _CLIP, method="higher")
    high = high if high > low else top
    step = (high - low) / _LEVELS or 1.0
    codes[known] = np.clip(np.rint((values[known] - low) / step), 0, _LEVELS)
    return codes, [float(f"{low:.6g}"), float(f"{high:.6g}"), bool(top > high)]


def _picture(pixels: np.ndarray, size: tuple[float, float], centre: np.ndarray, half: float) -> str:
    """The square of an image of this size that the panel shows, white beyond the image, as a JPEG in base64."""
    image = Image.fromarray(pixels)
    scale = np.divide(image.size, size)  # pixels per unit of the coordinates
    (left, top), (right, bottom) = ([round(at) for at in corner * scale] for corner in (centre - half, centre + half))
    square = Image.new("RGB", (right - left, bottom - top), "white")
    square.paste(image, (-left, -top))
    square = square.resize((min(_IMAGE_SIDE, max(square.size)),) * 2, Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    square.save(packed, format="jpeg", quality=80)
    return base64.b64encode(packed.getvalue()).decode("ascii")


def _square(positions: np.ndarray, margin: float) -> tuple[np.ndarray, float]:
    """Centre and half the side of the square around positions."""
    low, high = positions.min(axis=0) - margin, positions.max(axis=0) + margin
    return (low + high) / 2, float((high - low).max() / 2) or 1.0


def _scaled(positions: np.ndarray, centre: np.ndarray, half: float, bits: int) -> np.ndarray:
    """Positions as whole numbers of so many bits, over the square."""
    most = 2**bits - 1
    share = ((positions - centre) / half + 1) / 2
    return np.clip(np.rint(share * most), 0, most).astype(np.uint16)


def _z_order(positions: np.ndarray) -> np.ndarray:
    """Morton code of positions (spots x 2): the bits of both axes by turns."""
    spread = positions.astype(np.uint64)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        spread = (spread | (spread << np.uint64(shift))) & np.uint64(mask)
    return spread[:, 0] | (spread[:, 1] << np.uint64(1))


def _bytes_of(numbers: np.ndarray) -> bytes:
    return (numbers >> 8).astype(np.uint8).tobytes() + (numbers & 255).astype(np.uint8).tobytes()


def _packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw, 6)).decode()


def _hand_over(path: Path, name: str, content: Any) -> None:
    """Write a script that hands ``content`` to the page under ``name``; no text of a user's can end it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    with atomic_write(path) as unfinished:
        unfinished.write_text(f'explorerData("{name}",{text});\n', encoding="ascii")
