"""Compare the files of a run: barcodes and coordinates of the modalities of a slice, features of the slices.

The workflow pairs modalities by barcode and stacks slices by feature name. Mismatched files, or files that spell their
names differently, would still give a result, from the names that happen to agree. This module detects such files from
names and coordinates alone.
"""

import hashlib
import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from mosaic.errors import InputError
from mosaic.spatial import astray, median_spot_distance

logger = logging.getLogger(__name__)

# Shared proportion of the names of the smaller file below which to warn, and to fail.
WARN_BELOW = 0.8
REFUSE_BELOW = 0.1

# In units of the distance between spots: two positions of one spot up to the first distance are the same position,
# rounded or re-registered; beyond the second they differ. Then the proportion of spots that may have two positions.
_SAME = 0.5
_APART = 1.0
_FEW_APART = 0.01

# A file of another slice fits better if it shares this much more of the smaller file's spots.
_BETTER = 0.05

# Transformations of a coordinate frame: matrix and name.
_TURNS = (
    (((1, 0), (0, 1)), ""),
    (((0, 1), (1, 0)), "x and y exchanged"),
    (((-1, 0), (0, 1)), "x mirrored"),
    (((1, 0), (0, -1)), "y mirrored"),
    (((-1, 0), (0, -1)), "turned by 180°"),
    (((0, -1), (1, 0)), "turned by 90°"),
    (((0, 1), (-1, 0)), "turned by -90°"),
    (((0, -1), (-1, 0)), "x and y exchanged and both mirrored"),
)


class Comparison(NamedTuple):
    """Result of comparing the files of a run.

    Attributes
    ----------
    spots
        Per slice and pair of its modalities a row: ``slice``, ``first``, ``second``, ``shared`` (barcodes in both),
        ``smaller`` (barcodes of the smaller file), and ``apart``, the median distance between the two positions of a
        spot, in units of the distance between spots (NaN if no barcode is shared).
    features
        Per modality of several slices a row: ``modality``, ``shared`` (features in all slices) and ``smallest``
        (features of the smallest file).
    faults
        Errors that stop the run.
    warnings
        Differences that may be intended.
    """

    spots: pd.DataFrame
    features: pd.DataFrame
    faults: list[InputError]
    warnings: list[InputError]


class _Part(NamedTuple):
    """Unique barcodes of one modality of one slice, and their positions."""

    names: pd.Index
    places: np.ndarray
    pitch: float


def fingerprint(adata: ad.AnnData) -> str:
    """A digest of barcodes, features and counts (X, where there are none): the same for the same data alone.

    Parameters
    ----------
    adata
        One modality of one slice, with ``obs["barcode"]``.
    """
    values = sparse.csr_matrix(adata.layers.get("counts", adata.X))
    names = [
        pd.util.hash_array(own.to_numpy(dtype=object)) for own in (adata.obs["barcode"].astype(str), adata.var_names)
    ]
    found = hashlib.blake2b()
    for part in (*names, values.indptr, values.indices, values.data):
        found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()


def compare(
    slices: Mapping[tuple[str, str], ad.AnnData], fingerprints: Mapping[tuple[str, str], str] | None = None
) -> Comparison:
    """Compare barcodes and positions of the modalities of each slice, and features of the slices of each modality.

    Parameters
    ----------
    slices
        (slice, modality) to an AnnData with coordinates (spots x 2) in ``obsm["spatial"]``, and barcodes in
        ``obs["barcode"]`` or, without that column, in ``obs_names``. X and layers are ignored.
    fingerprints
        Those of the same AnnData, by which data that are there twice are told; None: they are not looked for.
    """
    spots, spot_faults, spot_warnings = _compare_spots(slices)
    features, feature_faults, feature_warnings = _compare_features(slices)
    faults = [*_repeated(fingerprints or {}), *spot_faults, *feature_faults]
    return Comparison(spots, features, faults, spot_warnings + feature_warnings)


def _repeated(fingerprints: Mapping[tuple[str, str], str]) -> Iterator[InputError]:
    """Data that are there twice, under the names of two slices or modalities."""
    first: dict[str, tuple[str, str]] = {}
    for (name, modality), found in fingerprints.items():
        other, same = first.setdefault(found, (name, modality))
        if (other, same) != (name, modality):
            yield InputError(
                f"holds the very same barcodes, features and values as {same} of {other}",
                where=f"{modality} of slice {name}",
                hint="its path leads to a copy of that file, or to the same part of it: check both rows of the sheet",
            )


def report(found: Comparison, what: str = "what the files share") -> None:
    """Log the warnings of a comparison, and raise its faults.

    Raises
    ------
    InputError
        If there are faults: the only one, or all of them.
    """
    for warning in found.warnings:
        logger.warning("%s", warning)
    if found.faults:
        raise found.faults[0] if len(found.faults) == 1 else InputError.of_all(found.faults, what)


def _compare_spots(slices: Mapping[tuple[str, str], ad.AnnData]) -> tuple[pd.DataFrame, list, list]:
    parts = {key: _part(adata) for key, adata in slices.items()}
    # How well each file fits each file of another modality.
    fits = pd.DataFrame(np.nan, pd.MultiIndex.from_tuples(parts), pd.MultiIndex.from_tuples(parts))
    for left, right in combinations(parts, 2):
        if left[1] != right[1]:
            fits.loc[left, right] = fits.loc[right, left] = _fit(parts[left], parts[right])
    rows = []
    warnings: list[InputError] = []
    exchanged = _exchanged(fits)
    faults = [InputError(problem, where=f"slice {name}", hint=hint) for name, (problem, hint) in exchanged.items()]
    for (name, first), (same, second) in combinations(parts, 2):
        if name != same:
            continue
        one, other = parts[name, first], parts[name, second]
        shared, smaller = len(one.names.intersection(other.names)), min(len(one.names), len(other.names))
        apart = _apart(one, other)
        row = {"slice": name, "first": first, "second": second, "shared": shared, "smaller": smaller}
        rows.append(row | {"apart": float(np.median(apart)) if shared else np.nan})
        if name in exchanged:
            continue
        pair = fits.xs(first, level=1).xs(second, level=1, axis=1)
        told = [_few_barcodes(one, other, first, second, shared, smaller)]
        if shared >= REFUSE_BELOW * smaller:
            told.append(_two_places(one, other, first, second, apart) or _beside(pair, name, first, second))
        for fatal, problem, hint in filter(None, told):
            if fatal:
                hint = _where_it_fits(pair, name, first, second) or hint
            (faults if fatal else warnings).append(InputError(problem, where=f"slice {name}", hint=hint))
    return pd.DataFrame(rows, columns=["slice", "first", "second", "shared", "smaller", "apart"]), faults, warnings


def _part(adata: ad.AnnData) -> _Part:
    names = pd.Index(adata.obs.get("barcode", adata.obs_names), dtype=str)
    once = ~names.duplicated()
    places = np.asarray(adata.obsm["spatial"], dtype=float)[once, :2]
    return _Part(names[once], places, median_spot_distance(places[~astray(places)]))


def _apart(one: _Part, other: _Part) -> np.ndarray:
    """Distances between the two positions of each shared spot, in units of the distance between spots."""
    rows = other.names.get_indexer(one.names)
    distances = np.linalg.norm(one.places[rows >= 0] - other.places[rows[rows >= 0]], axis=1)
    return distances / min(one.pitch, other.pitch)


def _fit(one: _Part, other: _Part) -> float:
    """Proportion of the smaller file's spots at the same position in the other; 2 if both have the same spots."""
    numbers = len(one.names), len(other.names)
    alike = int((_apart(one, other) <= _SAME).sum())
    return 2.0 if alike == max(numbers) else alike / max(min(numbers), 1)


def _exchanged(fits: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Problem and hint for each slice whose file appears exchanged with that of another slice."""
    told: dict[str, tuple[str, str]] = {}
    for modality in fits.index.unique(1):
        own = fits.xs(modality, level=1)
        # Mean fit to the other modalities of each slice that has some.
        whole = own.T.groupby(level=0, sort=False).mean().T
        names = [name for name in whole.index if name in whole and not np.isnan(whole.loc[name, name])]
        square = whole.loc[names, names].to_numpy()
        rows, columns = linear_sum_assignment(square, maximize=True)
        moved = rows != columns
        if not moved.any() or (square[rows, columns] - np.diag(square) < _BETTER)[moved].any():
            continue
        for name, better in zip(np.array(names)[rows[moved]], np.array(names)[columns[moved]], strict=True):
            others = {each: " and ".join(fits.loc[each].index.drop(modality)) for each in (name, better)}
            problem = (
                f"{modality} of {name} shares {_share(whole.loc[name, name])} of the spots, barcode and place, with "
                f"{others[name]} of {name}, and {_share(whole.loc[name, better])} with {others[better]} of {better}"
            )
            hint = f"files of {name} and {better} look exchanged: check the sheet, or the order of the lists"
            told.setdefault(name, (problem, hint))
    return told


def _share(fit: float) -> str:
    return "all" if fit > 1 else f"{fit:.1%}"


def _beside(fits: pd.DataFrame, name: str, first: str, second: str) -> tuple[bool, str, str] | None:
    """A warning if a file of a slice that lacks one of the two modalities fits better by barcodes."""
    own = fits.loc[name, name]
    for modality, other, candidates in (
        (first, second, fits[name].drop(fits.columns, errors="ignore")),
        (second, first, fits.loc[name].drop(fits.index, errors="ignore")),
    ):
        if len(candidates) and min(candidates.max(), 1) >= max(own + _BETTER, 1 - _BETTER):
            better = candidates.idxmax()
            problem = (
                f"{first} and {second} share {_share(own)} of their spots, barcode and place; {modality} of {better} "
                f"and {other} of {name} share {_share(candidates.max())}"
            )
            return False, problem, f"check that the files of {modality} in {name} and {better} are not exchanged"
    return None


def _where_it_fits(fits: pd.DataFrame, name: str, first: str, second: str) -> str | None:
    """A hint if the matching file of one of the two modalities is listed under another slice."""
    found = [(fits.loc[other], first, second, other) for other in fits.index.drop(name)]
    found += [(fits[other], second, first, other) for other in fits.columns.drop(name)]
    for candidate, modality, kept, other in found:
        # A file that fits several slices is no evidence: its barcodes repeat.
        if candidate[name] >= max(*candidate.drop(name), fits.loc[name, name], 0.5) + _BETTER:
            return (
                f"{modality} of {other} and {kept} of {name} share {_share(candidate[name])} of their spots, barcode "
                f"and place: check whether the files of {modality} in {name} and {other} are exchanged"
            )
    return None


def _few_barcodes(
    one: _Part, other: _Part, first: str, second: str, shared: int, smaller: int
) -> tuple[bool, str, str] | None:
    """The problem if two modalities of a slice share few barcodes; None otherwise."""
    if shared >= WARN_BELOW * smaller:
        return None
    alone = one.names.difference(other.names, sort=False), other.names.difference(one.names, sort=False)
    problem = (
        f"{first} and {second} share {shared:,} of {smaller:,} barcodes ({shared / smaller:.0%}): {first} alone has "
        f"{_examples(alone[0])}; {second} alone has {_examples(alone[1])}"
    )
    hint = _spelling(*alone, first, second) or (
        "the modalities of a slice are paired by obs_names: spell the barcodes alike; or, if the files hold different "
        "spots, look at what quality control drops"
    )
    return shared < REFUSE_BELOW * smaller, problem, hint


def _two_places(one: _Part, other: _Part, first: str, second: str, apart: np.ndarray) -> tuple[bool, str, str] | None:
    """The problem if the positions of two modalities of a slice differ; None otherwise."""
    far = apart > _APART
    if far.sum() > _FEW_APART * len(far):
        seen = f"by {np.median(apart):.3g} times the distance between neighbouring spots in the median"
        problem = f"the same barcodes lie at other places in {first} and {second}, {seen}"
        frame = _frame(one, other)
        if frame:
            problem += f": {second} has the places of {first}, {frame}"
        hint = f"give the spots the same coordinates in both files, such as those of {first}, by barcode"
        return True, problem, hint
    if far.any():
        names = one.names[one.names.isin(other.names)][far]
        problem = f"{far.sum()} of {len(far)} spots lie at other places in {first} and {second}: {_examples(names)}"
        return False, problem, f"mend or drop these spots; maps show them where {second} has them"
    if apart.max(initial=0) > _SAME:
        problem = (
            f"the same barcodes lie at slightly other places in {first} and {second}, by up to {apart.max():.2g} times "
            "the distance between neighbouring spots"
        )
        return False, problem, f"if that is no registration, give both files the same coordinates; maps show {second}"
    return None


def _frame(one: _Part, other: _Part) -> str | None:
    """The transformation from ``one`` to ``other``: unit, rotation, reflection or shift; None if none fits."""
    rows = other.names.get_indexer(one.names)
    source, target = one.places[rows >= 0], other.places[rows[rows >= 0]]
    kept = ~(astray(source) | astray(target))
    if kept.sum() < 4:
        return None
    source, target = source[kept], target[kept]
    design = np.column_stack([source, np.ones(len(source))])
    near = np.ones(len(source), dtype=bool)
    for _ in range(5):
        solution = np.linalg.lstsq(design[near], target[near], rcond=None)[0]
        residual = np.linalg.norm(design @ solution - target, axis=1)
        near = residual <= max(3 * np.median(residual), _SAME * other.pitch)
    if (residual <= _SAME * other.pitch).mean() < WARN_BELOW:
        return None
    linear, shift = solution[:2].T, solution[2]
    factor = np.sqrt(abs(np.linalg.det(linear)))
    if factor == 0:
        return None
    said = [] if abs(factor - 1) < 0.02 else [f"in another unit, {factor:.4g} times as large"]
    for turn, name in _TURNS:
        if np.abs(linear / factor - turn).max() < 0.02:
            said += [name] if name else []
            break
    else:
        columns = np.linalg.norm(linear, axis=0)
        if abs(columns[0] / columns[1] - 1) < 0.02:
            said.append(f"turned by {np.degrees(np.arctan2(linear[1, 0], linear[0, 0])):.3g}°")
        else:
            said.append("turned or stretched" if abs(linear[0, 1]) > 0.02 * factor else "stretched along one axis")
    shift = np.where(np.abs(shift) < _SAME * other.pitch, 0, shift)
    return " and ".join(said) or f"shifted by {shift[0]:.4g} in x and {shift[1]:.4g} in y"


def _compare_features(slices: Mapping[tuple[str, str], ad.AnnData]) -> tuple[pd.DataFrame, list, list]:
    rows = []
    faults: list[InputError] = []
    warnings: list[InputError] = []
    for modality in dict.fromkeys(modality for _, modality in slices):
        names = {name: adata.var_names.unique() for (name, other), adata in slices.items() if other == modality}
        if len(names) < 2:
            continue
        common = _in_all(names.values())
        shared, smallest = len(common), min(map(len, names.values()))
        rows.append({"modality": modality, "shared": shared, "smallest": smallest})
        if shared >= WARN_BELOW * smallest:
            continue
        # The single slice with a different spelling, if there is one, and another slice to compare.
        without = {name: len(_in_all(own for other, own in names.items() if other != name)) for name in names}
        odd = max(without, key=without.__getitem__) if len(names) > 2 else [*names][1]
        other = next(name for name in names if name != odd)
        alone = {name: own[~own.isin(common)] for name, own in names.items()}
        blamed = len(names) > 2 and without[odd] >= max(WARN_BELOW * smallest, 2 * shared)
        shown = (other, odd) if blamed else [*names][:3]
        problem = (
            f"the slices share {shared:,} of {smallest:,} features ({shared / smallest:.0%})"
            + (f", and without {odd} {without[odd]:,}" if blamed else "")
            + f"; not in all are {'; '.join(f'in {name} {_examples(alone[name])}' for name in shown)}"
        )
        hint = (
            _spelling(alone[other], alone[odd], other, odd)
            or _in_column(slices[other, modality].var, names[odd], other, odd)
            or _in_column(slices[odd, modality].var, names[other], odd, other)
            or "use the same identifiers (symbols or Ensembl ids; one set of peaks) in all slices; features that a "
            "slice lacks are left out of all"
        )
        fault = InputError(problem, where=f"modality {modality}", hint=hint)
        (faults if shared < REFUSE_BELOW * smallest else warnings).append(fault)
    return pd.DataFrame(rows, columns=["modality", "shared", "smallest"]), faults, warnings


def _in_all(names) -> pd.Index:
    first, *others = names
    for other in others:
        first = first[first.isin(other)]
    return first


def _spelling(one: pd.Index, other: pd.Index, first: Hashable, second: Hashable) -> str | None:
    """A hint if one of a few known spelling differences explains the mismatch."""
    if one.empty or other.empty:
        return None
    ends = [_ends(names) for names in (one, other)]
    extra = []
    for owner, (begin, end), (others_begin, others_end) in (
        (first, ends[0], ends[1]),
        (second, ends[1], ends[0]),
    ):
        if not others_begin.endswith(begin):
            extra.append(f"{begin.removesuffix(others_begin)!r} off the beginning of the names of {owner}")
        if not others_end.startswith(end):
            extra.append(f"{end.removeprefix(others_end)!r} off the end of the names of {owner}")
    for change, mend in (
        (lambda name, _: name.casefold(), "they differ in upper and lower case alone: spell them alike"),
        (lambda name, ends: name[len(ends[0]) : len(name) - len(ends[1])], f"take {' and '.join(extra)}"),
        (
            lambda name, _: name.rpartition(".")[0] or name,
            "they differ in what follows the last dot alone: take it off",
        ),
    ):
        changed = [{change(name, own) for name in names} for names, own in zip((one, other), ends, strict=True)]
        if len(changed[0] & changed[1]) >= WARN_BELOW * min(len(one), len(other)):
            return mend
    return None


def _in_column(var: pd.DataFrame, names: pd.Index, owner: str, other: str) -> str | None:
    """A hint if a column of one slice's ``var`` contains the names of another slice."""
    for column in var.select_dtypes(["object", "string", "category"]):
        if len(names.intersection(var[column].astype(str))) >= WARN_BELOW * min(len(names), len(var)):
            return (
                f"var[{column!r}] of {owner} has the names of {other}: make these its var_names, or those of all slices"
            )
    return None


def _ends(names: pd.Index) -> tuple[str, str]:
    """Common prefix and suffix of all names."""
    begin = _beginning(names)
    return begin, _beginning([name[len(begin) :][::-1] for name in names])[::-1]


def _beginning(names: Sequence[str]) -> str:
    low, high = min(names), max(names)
    return low[: next((place for place, letter in enumerate(low) if letter != high[place]), len(low))]


def _examples(names: Sequence[str], most: int = 3) -> str:
    """The first names, for a message."""
    shown = [name if len(name) <= 40 else f"{name[:20]}…{name[-20:]}" for name in names[:most]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "") if shown else "none"
