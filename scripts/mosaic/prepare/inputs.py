"""All files of a sample sheet: their content, all faults, and the obs columns that the config names."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence

import anndata as ad
import pandas as pd

from mosaic.errors import InputError, few
from mosaic.prepare.feature_names import match_features, with_names
from mosaic.prepare.pairing import compare
from mosaic.prepare.read import inspect_slice, read_columns, read_features
from mosaic.spots import annotation, no_column, spread_column

logger = logging.getLogger(__name__)


def annotate(rows: Iterable[Sequence], truth: str | None, keep_obs: Sequence[str]) -> pd.DataFrame:
    """Collect the obs columns that the config names, over all spots of all files.

    Parameters
    ----------
    rows
        The sample sheet: slice, modality, path and, where there are any, options (see ``design.SampleRow``).
    truth, keep_obs
        See ``spots.named_columns``.

    Returns
    -------
    DataFrame indexed by spot, with every named column. A column of mixed types becomes text, missing numbers are NaN,
    and a spot with several modalities has the value of the first.

    Raises
    ------
    InputError
        If a file can't be read, or no file has a column.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for slice_name, modality, path, *options in rows:
        asked = {"modality": modality, "options": options[0] if options else None}
        tables.setdefault(modality, []).append(read_columns(path, slice_name, truth, keep_obs, **asked))
    spots = pd.Index([spot for own in tables.values() for table in own for spot in table.index]).unique()
    parts = {f"{name} {number}": table for name, own in tables.items() for number, table in enumerate(own)}
    names = _named(truth, keep_obs)
    known = {name for table in parts.values() for name in table.attrs["known"]}
    if lacking := [no_column(name, known) for name in names if name not in known]:
        raise lacking[0] if len(lacking) == 1 else InputError.of_all(lacking, "the files of the sheet")
    columns = {name: spread_column(annotation(parts, spots, name), spots) for name in names}
    if truth is not None:
        _tell_spellings(columns[truth], truth)
    return pd.DataFrame(columns, index=spots)


def _tell_spellings(column: pd.Series, name: str) -> None:
    """Warn of true domains that seem to be one in several spellings: with other capitals or blanks, or 1 and 1.0."""
    found: dict[str, list[str]] = {}
    for label in map(str, column.dropna().unique()):
        found.setdefault(re.sub(r"^(-?\d+)\.0$", r"\1", " ".join(label.split()).casefold()), []).append(label)
    several = [" and ".join(map(repr, spellings)) for spellings in found.values() if len(spellings) > 1]
    if several:
        logger.warning(
            "obs[%r] has domains that differ in capitals, blanks or .0 alone: %s. They count as different: spell them "
            "alike in all files",
            name,
            few(several, 10),
        )


def survey(
    rows: Sequence[Sequence], kinds: Mapping[str, str], truth: str | None, keep_obs: Sequence[str]
) -> pd.DataFrame:
    """Check all files of a sample sheet: names, columns, coordinates, shared names, and values if that is fast.

    Parameters
    ----------
    rows
        See ``annotate``.
    kinds
        Per modality its kind.
    truth, keep_obs
        See ``spots.named_columns``.

    Returns
    -------
    DataFrame with a row per slice and modality: ``slice``, ``modality``, ``path``, ``spots``, ``features``,
    ``values_in`` (where the file stores counts or features), ``in_tissue`` (spots), ``spatial`` (width and height of
    the tissue in the unit of the file), ``um_per_unit`` (micrometres in that unit, if the file tells), ``image``
    (pixels of the tissue image that figures show) and, if ``truth`` is set, ``truth`` (spots with a true domain).

    Raises
    ------
    InputError
        Lists all faults of all files and of their comparison; warnings are logged.
    """
    table, faults, known = [], [], set()
    comparable: dict[tuple[str, str], ad.AnnData] = {}
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    for slice_name, modality, path, *options in rows:
        asked = {"modality": modality, "options": options[0] if options else None}
        adata, own = inspect_slice(path, slice_name, kinds[modality], truth=truth, keep_obs=keep_obs, **asked)
        faults += own
        logger.info("%s: %d faults", path, len(own))
        if adata is None:
            continue
        known |= set(adata.uns["columns"])
        if "spatial" in adata.obsm:
            comparable[slice_name, modality] = _under_tissue(adata)
            if kinds[modality] in ("rna", "protein"):
                called = read_features(path, slice_name, kinds[modality], **asked)
                tables.setdefault(modality, {})[slice_name] = called
        if not own:
            extent = adata.obsm["spatial"].max(axis=0) - adata.obsm["spatial"].min(axis=0)
            labelled = int(adata.obs[truth].notna().sum()) if truth in adata.obs else 0
            facts = {
                "slice": slice_name,
                "modality": modality,
                "path": path,
                "spots": adata.n_obs,
                "features": adata.n_vars,
                "values_in": adata.uns["place"],
                "in_tissue": int(adata.obs["in_tissue"].sum()),
                "spatial": " x ".join(f"{length:.6g}" for length in extent),
                "um_per_unit": adata.uns["microns_per_unit"],
                "image": adata.uns["image"],
            }
            table.append(facts | ({} if truth is None else {"truth": labelled}))
    faults += [no_column(name, known) for name in _named(truth, keep_obs) if name not in known]
    for modality, called in tables.items():
        if len(called) > 1:
            renamed = match_features(called, modality).renamed
            for name in called:
                comparable[name, modality] = with_names(comparable[name, modality], renamed)
    if comparable:
        shared = compare(comparable)
        for warning in shared.warnings:
            logger.warning("%s", warning)
        faults += shared.faults
    if faults:
        raise InputError.of_all(faults, "the files of the sheet")
    return pd.DataFrame(table)


def _under_tissue(adata: ad.AnnData) -> ad.AnnData:
    """The spots under tissue."""
    return adata[adata.obs["in_tissue"].to_numpy()] if "in_tissue" in adata.obs else adata


def _named(truth: str | None, keep_obs: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*([] if truth is None else [truth]), *keep_obs]))
