"""Read the sample sheet, and find the faults of its rows."""

import csv
import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from mosaic.config.design import SampleRow, SampleSheet
from mosaic.config.layouts import listed
from mosaic.config.readers import READERS, known, reader_of
from mosaic.config.schema import _Validator, hint_of, plain_name, shown
from mosaic.errors import InputError, few


def read_sheet(
    path: str, schema: Mapping, modalities: Mapping, made: Collection[str] | None
) -> tuple[SampleSheet, list[InputError]]:
    """Read a sample sheet.

    Parameters
    ----------
    path
        Of the TSV file.
    schema
        JSON Schema of a row.
    modalities
        Of the config; empty if the config has none.
    made
        Paths that the workflow generates, which need not exist; None: no path need exist.

    Returns
    -------
    The sheet, and all faults that were found, each with its line. With a fault of the table itself the sheet is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        problem = f"the sheet can't be read ({getattr(error, 'strerror', None) or error})"
        hint = "set slices to the sheet's path, relative to the working directory; the sheet is TSV in UTF-8"
        return SampleSheet(), [InputError(problem, where=f"config key slices, {shown(path)}", hint=hint)]
    table, faults = [], []
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            continue
        try:
            # Line by line, so that an unclosed quote does not swallow further lines.
            cells = next(csv.reader([line], delimiter="\t", strict=True), [])
        except csv.Error as error:
            hint = "cells are separated by tabs alone; a quote that opens one must close it"
            faults.append(InputError(f"can't be read ({error})", where=f"{path}, line {number}", hint=hint))
            continue
        if any(cells):
            table.append((number, cells))
    if faults:
        return SampleSheet(), faults
    if not table:
        hint = "its first line is: slice, modality, path, by tabs"
        return SampleSheet(), [InputError("the sheet is empty", where=path, hint=hint)]
    columns = table[0][1]
    faults = list(_header_faults(columns, schema, where=f"{path}, line {table[0][0]}"))
    if not faults and len(table) == 1:
        faults = [InputError("the sheet has no rows", where=path, hint="write one row per slice and modality")]
    if faults:
        return SampleSheet(), faults
    rows = []
    first_seen: dict[tuple[str, ...], int] = {}
    first_path: dict[tuple[str, str], tuple[int, SampleRow, str]] = {}
    further: dict[str, dict[str, tuple[int, str]]] = {name: {} for name in columns if name not in schema["properties"]}
    for number, cells in table[1:]:
        where = f"{path}, line {number}"
        if len(cells) != len(columns):
            hint = f"separate exactly {len(columns)} cells by tabs; a line that is a comment begins with #"
            count = f"{len(cells)} cell" + "s" * (len(cells) > 1)
            faults.append(InputError(f"{count} instead of {len(columns)}", where=where, hint=hint))
            continue
        values = dict(zip(columns, cells, strict=True))
        faults += row_faults(values, schema, modalities, where)
        row, more = _row_of(values, path, made, where)
        faults += more
        if row[:2] in first_seen:
            problem = f"{row.modality} of slice {row.slice} is there already, in line {first_seen[row[:2]]}"
            faults.append(InputError(problem, where=where, hint="one row per slice and modality"))
        first_seen.setdefault(row[:2], number)
        if row.path:
            # Whatever its spelling, and through links.
            place = _file(row.path), str(row.options.get("name", ""))
            first, other, spelled = first_path.setdefault(place, (number, row, values["path"]))
            if first != number and not _may_share(row, other):
                problem = f"{plain_name(values['path'])} is the same file as in line {first}"
                problem += f", {plain_name(spelled)}" if spelled != values["path"] else ""
                hint = "each modality of each slice has its own file, or its own name after # in a file of several"
                faults.append(InputError(problem, where=where, hint=hint))
        for name, told in further.items():
            if values[name]:
                first, value = told.setdefault(row.slice, (number, values[name]))
                if value != values[name]:
                    problem = (
                        f"{name} of slice {row.slice} is {shown(values[name])}, and {shown(value)} in line {first}"
                    )
                    hint = "a further column describes the slice: give all its rows one value, or leave cells empty"
                    faults.append(InputError(problem, where=where, hint=hint))
        rows.append(row)
    described = {name: {key: value for key, (_, value) in told.items()} for name, told in further.items()}
    return SampleSheet(rows, described), faults


def row_faults(values: Mapping[str, str], schema: Mapping, modalities: Mapping, where: str) -> Iterator[InputError]:
    """Faults of a single row: values that the schema does not allow, or a modality that the config lacks."""
    errors = list(_Validator(schema).iter_errors(values))
    for wrong in errors:
        column = wrong.path[0]
        hint = schema["properties"].get(column, schema["additionalProperties"])["description"]
        yield InputError(f"{column} {shown(values[column])} is not valid", where=where, hint=hint)
    if not errors and modalities and values["modality"] not in modalities:
        close = difflib.get_close_matches(values["modality"], map(str, modalities), n=1)
        hint = f"did you mean {close[0]}?" if close else "declare it, with its kind, under modalities in the config"
        yield InputError(f"modality {values['modality']!r} is not in the config", where=where, hint=hint)


def _header_faults(columns: list[str], schema: Mapping, where: str) -> Iterator[InputError]:
    """Faults of a sheet's first line; only the first kind found."""
    if not set(schema["required"]) <= set(columns) or len(set(columns)) < len(columns):
        shown = ", ".join(plain_name(name) or "(no name)" for name in columns[:10]) + ", …" * (len(columns) > 10)
        hint = "they must be slice, modality and path, once each, separated by tabs; others may follow, once each"
        yield InputError(f"the columns are {shown}", where=where, hint=hint)
        return
    for name in columns:
        if name not in schema["properties"] and name.lower() in schema["properties"]:
            hint = f"write {name.lower()}, which is read; or give a column that describes the slices another name"
            yield InputError(f"column {plain_name(name)} would only describe the slices", where=where, hint=hint)
        elif not _Validator(schema["propertyNames"]).is_valid(name):
            yield InputError(
                f"column {plain_name(name) or '(no name)'} is not valid",
                where=where,
                hint=hint_of(schema["propertyNames"]),
            )


def _row_of(
    values: Mapping[str, str], sheet: str, made: Collection[str] | None, where: str
) -> tuple[SampleRow, list[InputError]]:
    """A row with its paths as the workflow opens them, and their faults; ``made`` None: none is looked for."""
    text, name = values["path"], ""
    path, faults = _located(text, sheet, where)
    if not os.path.lexists(path) and "#" in text:
        text, _, name = text.rpartition("#")
        path, faults = _located(text, sheet, where)
    options: dict[str, str] = {"name": name} if name else {}
    if values.get("format", "auto") not in ("", "auto"):
        options["format"] = values["format"]
    if made is not None and path and path not in made and not faults:
        faults += _path_faults(path, values["path"], options.get("format"), where)
    if values.get("positions"):
        options["positions"], found = _located(values["positions"], sheet, where)
        faults += found
        if made is not None and not os.path.isfile(options["positions"]):
            problem = f"the table of positions {plain_name(values['positions'])} is not there"
            hint = f"give its path, relative to {Path.cwd()} or to the sheet"
            faults.append(InputError(problem, where=where, hint=hint))
    return SampleRow(values["slice"], values["modality"], path, options), faults


def _located(text: str, sheet: str, where: str) -> tuple[str, list[InputError]]:
    """A path as the workflow opens it: ``~`` is the home, and what is only beside the sheet is found there."""
    path = os.path.expanduser(text)
    beside = os.path.normpath(os.path.join(os.path.dirname(sheet), path))
    if not path or os.path.isabs(path) or not os.path.lexists(beside) or _file(beside) == _file(path):
        return path, []
    if not os.path.lexists(path):
        return beside, []
    problem = f"{plain_name(text)} is there twice, in {Path.cwd()} and beside the sheet"
    return path, [InputError(problem, where=where, hint=f"write {plain_name('./' + path)} as a whole path, from /")]


def _path_faults(path: str, spelled: str, given: str | None, where: str) -> Iterator[InputError]:
    """Faults of a path that can be told without reading it: what a file holds is seen when it is read."""
    if os.path.isdir(path):
        if given is None and reader_of(path) is None:
            inside = listed(path)
            problem = f"{plain_name(spelled)} is a folder that is not known: "
            problem += f"it holds {few([plain_name(name) for name in inside], 5)}" if inside else "it is empty"
            hint = f"give the path of {known()}; look whether the folder is whole, or one above or below is meant"
            yield InputError(problem, where=where, hint=hint)
    elif not os.path.isfile(path):
        hint = f"give the path of {known()}, relative to {Path.cwd()} or to the sheet"
        yield InputError(f"{plain_name(spelled)} is not there", where=where, hint=hint)


def _may_share(row: SampleRow, other: SampleRow) -> bool:
    """Whether two rows may name one path: of several modalities for one slice, or of several slices."""
    name = row.options.get("format") or reader_of(row.path)
    reader = None if name is None else READERS.get(str(name))
    if reader is None or row[:2] == other[:2]:
        return False
    return reader.slices if row.slice != other.slice else reader.several


def _file(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a NUL, a loop of links
        return path
