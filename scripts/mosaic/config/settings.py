"""Check the configuration and the sample sheet as a whole, and fill in the defaults."""

import copy
import csv
import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from mosaic.config.clusterers import CLUSTERERS, NEEDS, OPTIONS, going_by, taking
from mosaic.config.defaults import ALLOWED, COUNTING, KIND_DEFAULTS, PUBLISHED, PUBLISHED_KINDS
from mosaic.config.design import SampleRow, SampleSheet, design_faults
from mosaic.config.domain_names import read_names
from mosaic.config.encoders import ENCODERS, impossible
from mosaic.config.layouts import listed
from mosaic.config.methods import BASELINES, unsupported_reason
from mosaic.config.readers import READERS, known, reader_of
from mosaic.config.schema import (
    _Validator,
    hint_of,
    innermost,
    key_of,
    plain_name,
    schema_faults,
    shown,
    with_defaults,
    with_nulls,
)
from mosaic.errors import InputError, few
from mosaic.manifest import read_manifest

# The folder of the JSON Schemas: a link in the repository, a copy in an installed package.
SCHEMAS = Path(__file__).with_name("schemas")

# Columns of `obs` that the workflow writes, besides `result_columns`; anndata stores an index as `_index`.
OWN_COLUMNS = ("slice", "barcode", "in_tissue", "modalities", "mosaic_domain", "_index")

# Sections that a run that maps slices onto a reference has from there.
OF_REFERENCE = ("modalities", "recipe", "graph", "encoder", "train", "cluster", "domains", "impute", "methods", "seeds")

# Moved or renamed keys, as section.key. The old name keeps working for one release, with a warning.
RENAMED = {
    "graph.K": "encoder.K",
    "train.n_hidden": "encoder.n_hidden",
    "train.n_latent": "encoder.n_latent",
    "train.dropout": "encoder.dropout",
    "graph.smooth_search": "graph.mnn_on_smoothed",
    "graph.weigh_pairs": "graph.weight_mnn",
}


def renamed_keys(config: Mapping) -> dict[str, str]:
    """Old names of keys in a config, with the new ones."""
    return {old: new for old, new in RENAMED.items() if _has(config, old)}


def with_new_names(config: Mapping) -> tuple[Mapping, list[InputError]]:
    """The config with new names for old ones, and a fault for each key given under both names."""
    found = renamed_keys(config)
    faults = [
        InputError(f"is now {new}, and both are given", where=key_of(old), hint=f"keep {new} alone")
        for old, new in found.items()
        if _has(config, new)
    ]
    if not found:
        return config, faults
    changed = copy.deepcopy(dict(config))
    for old, new in found.items():
        (section, key), (new_section, new_key) = old.split("."), new.split(".")
        value = changed[section].pop(key)
        # A section that is no mapping is reported elsewhere.
        if isinstance(changed.setdefault(new_section, {}), dict):
            changed[new_section].setdefault(new_key, value)
    return changed, faults


def _has(config: Mapping, dotted: str) -> bool:
    section, key = dotted.split(".")
    return isinstance(config.get(section), Mapping) and key in config[section]


def _with_old_names(schema: Mapping) -> Mapping:
    """The schema with the old names added."""
    schema = copy.deepcopy(schema)
    sections = schema["properties"]
    for old, new in RENAMED.items():
        (section, key), (new_section, new_key) = old.split("."), new.split(".")
        sections[section]["properties"][key] = sections[new_section]["properties"][new_key]
    return schema


def from_command_line(given: Mapping, schema: Mapping) -> dict:
    """Values of ``--config key=value``, typed as in a config file.

    Snakemake leaves everything in lists and mappings as text: ``seeds=[1,2]`` becomes ``["1", "2"]``. If the schema
    requires a number, true or false, the text is read as YAML; null becomes null.

    Parameters
    ----------
    given
        As Snakemake parsed the command line.
    schema
        JSON Schema of the config.
    """
    read: Any = with_nulls(given)
    for error in innermost(_Validator(_with_old_names(schema)).iter_errors(read)):
        if error.validator == "type" and isinstance(error.instance, str):
            try:
                value = yaml.safe_load(error.instance)
            except yaml.YAMLError:
                continue
            if isinstance(value, bool | int | float):
                *above, last = error.absolute_path
                place = read
                for key in above:
                    place = place[key]
                place[last] = value
    return read


def load(
    config: Mapping,
    config_schema: Mapping,
    sheet_schema: Mapping,
    *,
    made: Collection[str] = (),
    with_conda: bool = True,
    sheet: SampleSheet | None = None,
) -> tuple[dict, SampleSheet]:
    """Check the configuration and the sheet it names, and complete them.

    Parameters
    ----------
    config
        As the user wrote it; old names of keys are accepted, see ``RENAMED``.
    config_schema, sheet_schema
        JSON Schemas (2020-12) of the config and of a row of the sheet.
    made
        Paths that the workflow generates, which need not exist.
    with_conda
        Whether conda makes the environments of the rules; if not, the config names an interpreter for a baseline.
    sheet
        The design of slices in memory, instead of the file that the config names.

    Returns
    -------
    The configuration with every default filled in, and the sheet.

    Raises
    ------
    InputError
        With all faults of both, each with its file, key or line, and a hint.
    """
    config, faults = with_new_names(config)
    onto = config.get("reference") is not None
    if onto:
        config, more = with_reference(config)
        if more:
            raise InputError.of_all(faults + more, "the configuration")
    faults += schema_faults(config, config_schema)
    sheet_path = config.get("slices", config_schema["properties"]["slices"]["default"])
    declared = config.get("modalities")
    modalities: Mapping = declared if isinstance(declared, Mapping) else {}
    if sheet is not None:
        sheet_path = "the slices"
        for row in sheet:
            values = {"slice": row.slice, "modality": row.modality, "path": "in memory"}
            faults += _row_faults(values, sheet_schema, modalities, where=row.path)
    elif not isinstance(sheet_path, str):
        sheet = SampleSheet()
    else:
        there = config.get("check_files", True)
        sheet, sheet_faults = _read_sheet(sheet_path, sheet_schema, modalities, made if there else None)
        faults += sheet_faults
    for name in sorted(set(config.get("qc", {})) - set(modalities)) if not faults else ():
        hint = f"the modalities are {', '.join(modalities)}"
        faults.append(InputError("is no modality of the config", where=key_of("qc", name), hint=hint))
    if not faults:
        complete = _complete(config, config_schema, sheet)
        naming = complete["domains"]
        schema_of_names = config_schema["properties"]["domains"]["properties"]["names"]
        naming["names"], name_faults = read_names(naming["names"], schema_of_names["anyOf"][1]["additionalProperties"])
        faults += name_faults
        sheet = _with_counting(sheet, complete["modalities"])
        faults += _config_faults(complete, sheet)
        if onto:
            faults += _mapping_faults(complete, sheet, str(sheet_path))
        else:
            faults += _training_faults(complete, with_defaults({}, config_schema)["encoder"], sheet)
            faults += design_faults(sheet, sheet_path)
        faults += _column_faults(complete, sheet)
        faults += _condition_faults(complete, sheet)
        # As of modalities: what the sheet does not use is no fault.
        unused = set(modalities) - set(sheet.modalities)
        pairs = complete["spatial"]["pairs"]
        complete["spatial"]["pairs"] = [pair for pair in pairs if not unused & {text.split(":")[0] for text in pair}]
        faults += _pair_faults(complete, sheet)
        faults += _method_faults(complete, sheet, with_conda=with_conda)
        faults += _export_faults(complete, sheet, with_conda=with_conda)
    if faults:
        raise InputError.of_all(faults, "the configuration")
    return complete, sheet


def with_reference(config: Mapping) -> tuple[dict, list[InputError]]:
    """The config of a run that maps slices onto a reference, with the settings of the reference; and its faults.

    Parameters
    ----------
    config
        As the user wrote it, with ``reference``.
    """
    path = config["reference"]
    if not isinstance(path, str):
        return dict(config), [InputError(f"{shown(path)} is no path", where=key_of("reference"), hint="give its path")]
    where = key_of("reference")
    faults = [
        InputError("comes from the reference", where=key_of(name), hint="leave it out, or leave reference out")
        for name in OF_REFERENCE
        if name in config
    ]
    try:
        told = read_manifest(path)
    except InputError as error:
        return dict(config), [*faults, InputError(error.problem, where=f"{where}, {shown(path)}", hint=error.hint)]
    trained = told["config"]
    checks = config.get("checks", {})
    if isinstance(checks, Mapping) and checks.get("imputation"):
        problem = "a run that maps slices trains nothing, so that nothing can be hidden from it"
        faults.append(InputError(problem, where=key_of("checks", "imputation"), hint="leave it out"))
    export = config.get("export", {})
    if isinstance(export, Mapping) and export.get("reference"):
        problem = "slices that were mapped are no reference"
        faults.append(InputError(problem, where=key_of("export", "reference"), hint="leave it out"))
    own: dict[str, Any] = {name: copy.deepcopy(trained[name]) for name in OF_REFERENCE if name in trained}
    own |= {"seeds": [told["seed"]], "methods": ["spamosaic"], "domains": {}}
    if isinstance(checks, Mapping):
        own["checks"] = {**checks, "imputation": False}
    qc = config.get("qc", {})
    own["qc"] = {**trained["qc"], **qc} if isinstance(qc, Mapping) else qc
    return {**config, **own}, faults


def _mapping_faults(config: dict, sheet: SampleSheet, where: str) -> Iterator[InputError]:
    """Slices that bear the name of one of the reference; slices get numbers of neighbours like those there."""
    known = read_manifest(config["reference"])["slices"]
    for name in sheet.slices:
        if name in known:
            problem = f"slice {name} is in the reference, too"
            yield InputError(problem, where=where, hint="give the new slice another name: spots are named by it")
    if config["mapping"]["fine_tune"] and not sheet.bridges:
        problem = "no slice of the sheet has two modalities, so that nothing tunes the encoders"
        yield InputError(problem, where=key_of("mapping", "fine_tune"), hint="set it to false")
    for key in ("intra_knns", "radius"):
        given = config["graph"][key]
        if isinstance(given, Mapping):
            middle = sorted(given.values())[len(given) // 2]
            config["graph"][key] = {**dict.fromkeys(sheet.slices, middle), **given}


def _read_sheet(
    path: str, schema: Mapping, modalities: Mapping, made: Collection[str] | None
) -> tuple[SampleSheet, list[InputError]]:
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
        faults += _row_faults(values, schema, modalities, where)
        row, row_faults = _row_of(values, path, made, where)
        faults += row_faults
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


def _row_faults(values: Mapping[str, str], schema: Mapping, modalities: Mapping, where: str) -> Iterator[InputError]:
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
        if not _Validator(schema["propertyNames"]).is_valid(name):
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


def _complete(config: Mapping, schema: Mapping, sheet: SampleSheet) -> dict:
    """Fill in the defaults: of the schema, of the recipe, and of each modality's kind. Modalities as in the sheet."""
    published = config.get("recipe") == "published"
    if published:
        config = {**config, **{name: values | config.get(name, {}) for name, values in PUBLISHED.items()}}
    complete = with_defaults(config, schema)
    modalities = {}
    for name in sheet.modalities:
        given = complete["modalities"][name]
        kind = given["kind"]
        modalities[name] = KIND_DEFAULTS[kind] | (PUBLISHED_KINDS.get(kind, {}) if published else {}) | given
    complete["modalities"] = modalities
    qc_schema = schema["properties"]["qc"]["additionalProperties"]
    complete["qc"] = {name: with_defaults(complete["qc"].get(name, {}), qc_schema) for name in modalities}
    return complete


def _with_counting(sheet: SampleSheet, modalities: Mapping) -> SampleSheet:
    """The sheet with what a reader of fragments needs of the config."""
    rows = []
    for row in sheet:
        given = {key: modalities[row.modality].get(key) for key in COUNTING}
        found = {key: value for key, value in given.items() if value is not None}
        rows.append(row._replace(options={**row.options, **found}) if found else row)
    return SampleSheet(rows, sheet.columns)


def _config_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    for name, modality in config["modalities"].items():
        if name.removesuffix("_imputed") != name and name.removesuffix("_imputed") in config["modalities"]:
            yield InputError(
                f"is what the imputed counts of {name.removesuffix('_imputed')} are called in the result",
                where=key_of("modalities", name),
                hint="give this modality another name",
            )
        for key, allowed in ALLOWED[modality["kind"]].items():
            if modality[key] not in allowed:
                yield InputError(
                    f"{modality[key]!r} does not go with kind {modality['kind']}",
                    where=key_of("modalities", name, key),
                    hint=f"one of: {', '.join(sorted(allowed))}",
                )
        if modality["reduction"] == "lsi" and modality["normalization"] == "none":
            yield InputError(
                "lsi scales and takes logarithms itself, and normalization is none",
                where=key_of("modalities", name, "reduction"),
                hint="leave normalization out, or set reduction to pca",
            )
        wrong = modality["kind"] == "rna" and (modality["reduction"], modality["normalization"]) != ("pca", "log")
        if modality["features"] == "union" and wrong:
            found = f"here {modality['normalization']} and {modality['reduction']}"
            yield InputError(
                f"union goes with normalization log (of rna) and reduction pca, {found}",
                where=key_of("modalities", name, "features"),
                hint="leave it out, or leave out normalization and reduction",
            )
        for key in COUNTING:
            if modality.get(key) is not None and modality["kind"] != "epigenome":
                problem = f"fragments of chromatin alone are counted by it, and the kind is {modality['kind']}"
                yield InputError(problem, where=key_of("modalities", name, key), hint="leave it out")
        if modality.get("peaks") and config["check_files"] and not os.path.isfile(modality["peaks"]):
            problem = f"{shown(modality['peaks'])} is not there"
            hint = f"give the path of a BED file, relative to {Path.cwd()}"
            yield InputError(problem, where=key_of("modalities", name, "peaks"), hint=hint)
        if "drop_first" in modality and modality["kind"] != "epigenome":
            yield InputError(
                f"only chromatin's first component follows depth, and the kind is {modality['kind']}",
                where=key_of("modalities", name, "drop_first"),
                hint="leave it out",
            )
        unlogged = modality["normalization"] == "none" and modality["n_top_features"] is not None
        if modality["feature_selection"] == "seurat" and unlogged:
            yield InputError(
                "seurat selects features on log-normalised values, and normalization is none",
                where=key_of("modalities", name, "feature_selection"),
                hint="set feature_selection to seurat_v3 or all",
            )
    knns = config["graph"]["intra_knns"]
    if isinstance(knns, Mapping) and config["reference"] is None:
        for name in sorted(set(knns) ^ set(sheet.slices), key=str):
            problem = "is no slice of the sheet" if name in knns else "is missing"
            hint = f"one number for all slices, or one for each of {', '.join(sheet.slices)}"
            if str(name) in sheet.slices and name in knns:
                problem, hint = "is no text, as names of slices are", f"write it in quotes: '{name}'"
            yield InputError(problem, where=key_of("graph", "intra_knns", name), hint=hint)
    given = config["um_per_unit"]
    for name in sorted(set(given) - set(sheet.slices), key=str) if isinstance(given, Mapping) else ():
        hint = f"one number for all slices, or one for each of some, by its name in quotes: {', '.join(sheet.slices)}"
        yield InputError("is no slice of the sheet", where=key_of("um_per_unit", name), hint=hint)
    cluster = config["cluster"]
    wanted = CLUSTERERS[cluster["method"]].needs
    for name, begin in NEEDS.items():
        if name == wanted and cluster[name] is None:
            problem = f"is missing, and {cluster['method']} needs it"
            yield InputError(problem, where=key_of("cluster", name), hint=begin)
        if name != wanted and cluster[name] is not None:
            yield InputError(
                f"{cluster[name]} is for {going_by(name)}; {cluster['method']} goes by {wanted}",
                where=key_of("cluster", name),
                hint="leave it out, or set it to null",
            )
    for name, nothing in OPTIONS.items():
        if cluster[name] != nothing and name not in CLUSTERERS[cluster["method"]].options:
            yield InputError(
                f"{cluster[name]} is for {taking(name)}, and {cluster['method']} would not use it",
                where=key_of("cluster", name),
                hint=f"leave it out, or set it to {nothing}",
            )
    low, high = cluster["n_domains_range"]
    if low >= high:
        yield InputError(
            f"{low} is not below {high}",
            where=key_of("cluster", "n_domains_range"),
            hint="first the smallest number, then the largest, such as [2, 15]",
        )


def _training_faults(config: Mapping, encoder_defaults: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Settings that the chosen encoder or the chosen losses would ignore, and losses that this design does not have."""
    encoder, train = config["encoder"], config["train"]
    architecture = ENCODERS[encoder["net"]]
    for key, default in encoder_defaults.items():
        if key not in ("net", *architecture.settings) and encoder[key] != default:
            nets = ", ".join(net for net, other in ENCODERS.items() if key in other.settings)
            problem = f"{encoder['net']} does not take it"
            yield InputError(problem, where=key_of("encoder", key), hint=f"leave it out; it is for {nets}")
    if fault := impossible(encoder["net"], K=encoder["K"], n_hidden=encoder["n_hidden"]):
        key, problem, hint = fault
        yield InputError(problem, where=key_of("encoder", key), hint=hint)
    if train["w_rec_g"] and "reconstruction" not in train["losses"]:
        yield InputError(
            f"{train['w_rec_g']:g} is a share of the reconstruction, which is no loss of this run",
            where=key_of("train", "w_rec_g"),
            hint="leave it out, or add reconstruction to train.losses",
        )
    queries = [name for name in sheet.slices if name not in sheet.bridges]
    has = {"contrastive": bool(sheet.bridges), "reconstruction": train["reconstruct"] == "all" or bool(queries)}
    if not any(has[name] for name in train["losses"]):
        yield InputError(
            "nothing would be minimised: contrastive needs a bridge slice, and with reconstruct: queries "
            "reconstruction needs a slice that is none",
            where=key_of("train", "losses"),
            hint="add a loss that the slices of the sheet have, or set reconstruct to all",
        )


def result_columns(config: Mapping) -> list[str]:
    """Columns of ``obs`` that each method and seed of a run adds to the result."""
    methods, seeds = config["methods"], config["seeds"]
    columns = [f"domain_{method}_{seed}" for method in methods for seed in seeds]
    return columns + [f"{name}_{method}" for name in ("consensus", "confidence") for method in methods]


def _column_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Columns of the users' that would take the place of the workflow's own, or that HDF5 can't hold by their name."""
    own = [*OWN_COLUMNS, *result_columns(config)]
    named = [("truth", config["truth"]), *((f"keep_obs.{i}", name) for i, name in enumerate(config["keep_obs"]))]
    taken = {*own, *(name for _, name in named)}
    for key, name in named:
        if name is None:
            continue
        parts = name.split("/")
        above = ["/".join(parts[:end]) for end in range(1, len(parts))]
        if name in own:
            yield InputError(
                f"{shown(name)} is a column of the workflow's own",
                where=key_of(key),
                hint=f"rename the column in the files; these names are taken: {', '.join(own)}",
            )
        elif {"", "."} & set(parts) or taken & set(above):
            yield InputError(
                f"HDF5 takes {shown(name)} for another place in a file",
                where=key_of(key),
                hint="rename the column in the files, without slashes",
            )
    for name in sheet.columns:
        others = [key for key, other in named if other == name]
        if name in own or others:
            problem = "is a column of the workflow's own" if name in own else f"is named by {' and '.join(others)}, too"
            hint = "give this column another name"
            yield InputError(problem, where=f"{config['slices']}, column {name}", hint=hint)


def _condition_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Columns and levels that the sheet lacks, and covariates that a replicate has several of."""
    own = config["conditions"]
    column = own["column"]
    if column is None:
        for name in ("reference", "donor", "covariates"):
            if own[name]:
                hint = "set conditions.column, the column of the sheet whose levels are compared, or leave this out"
                yield InputError("nothing is compared", where=key_of("conditions", name), hint=hint)
        return
    named = [
        ("column", column),
        ("donor", own["donor"]),
        *((f"covariates.{i}", c) for i, c in enumerate(own["covariates"])),
    ]
    known = f"its further columns are: {', '.join(sheet.columns) or 'none'}"
    unknown = [(key, name) for key, name in named if name is not None and name not in sheet.columns]
    for key, name in unknown:
        yield InputError(f"{config['slices']} has no column {shown(name)}", where=key_of("conditions", key), hint=known)
    if unknown:
        return
    levels = sheet.columns[column]
    if own["reference"] is not None and own["reference"] not in levels.values():
        hint = f"the levels are {', '.join(dict.fromkeys(levels.values()))}"
        problem = f"{shown(own['reference'])} is no level of {column}"
        yield InputError(problem, where=key_of("conditions", "reference"), hint=hint)
    donors = sheet.columns[own["donor"]] if own["donor"] else {}
    for number, name in enumerate(own["covariates"]):
        values: dict[tuple[str, str], set[str]] = {}
        for slice_name, level in levels.items():
            told = sheet.columns[name].get(slice_name, "")
            values.setdefault((donors.get(slice_name, slice_name), level), set()).add(told)
        for (donor, level), several in values.items():
            if len(several) > 1:
                yield InputError(
                    f"{name} differs between the slices of {donor} that are {level}, whose counts are summed",
                    where=key_of("conditions", "covariates", number),
                    hint="leave the column out, or leave conditions.donor out so that each slice is a replicate",
                )


def _pair_faults(config: Mapping, sheet: SampleSheet) -> Iterator[InputError]:
    """Pairs of features of which no slice has both modalities."""
    for number, pair in enumerate(config["spatial"]["pairs"]):
        where, ends = key_of("spatial", "pairs", number), [feature.split(":", 1)[0] for feature in pair]
        counted = [name for name in sheet.modalities if config["modalities"][name]["kind"] != "features"]
        unknown = [name for name in ends if name not in counted]
        if unknown:
            hint = f"modalities with counts are {', '.join(counted) or 'none'}"
            yield InputError(f"{unknown[0]} is no modality with counts", where=where, hint=hint)
        elif ends[0] == ends[1]:
            yield InputError("both features are of one modality", where=where, hint="name features of two modalities")
        elif not set(sheet.slices_of(ends[0])) & set(sheet.slices_of(ends[1])):
            hint = "name modalities that a bridge slice measured both"
            yield InputError(f"no slice has both {ends[0]} and {ends[1]}", where=where, hint=hint)


def _method_faults(config: Mapping, sheet: SampleSheet, *, with_conda: bool) -> Iterator[InputError]:
    """Baselines that can't integrate this design, or that nothing can run."""
    kinds = {name: modality["kind"] for name, modality in config["modalities"].items()}
    for method in config["methods"]:
        if reason := unsupported_reason(method, sheet, kinds):
            hint = "leave it out, or change the sheet"
            yield InputError(f"{method} can't integrate these slices: {reason}", where=key_of("methods"), hint=hint)
    exports = ["spatialdata"] if config["export"]["spatialdata"] else []
    for method, python in config["interpreters"].items():
        if method in (*config["methods"], *exports) and not os.access(python, os.X_OK):
            made = "make .venv-spatialdata" if method in exports else "make baselines"
            hint = f"make it with `{made}`, or name another Python, relative to {Path.cwd()}"
            yield InputError(f"{shown(python)} is no program", where=key_of("interpreters", method), hint=hint)
    for method in config["methods"]:
        if (
            method in BASELINES
            and BASELINES[method].separate
            and not with_conda
            and method not in config["interpreters"]
        ):
            folder = f".venv-{BASELINES[method].env}"
            yield InputError(
                f"{method} needs an environment of its own, and neither conda nor an interpreter is given",
                where=key_of("methods"),
                hint=f"make it with `make {folder}` (`make baselines` makes all) and set interpreters: "
                f"{{{method}: {folder}/bin/python}}, or run with --sdm conda",
            )


def _export_faults(config: Mapping, sheet: SampleSheet, *, with_conda: bool) -> Iterator[InputError]:
    """Exports that nothing can run, or whose names would be one to a file system without upper and lower case."""
    if not config["export"]["spatialdata"]:
        return
    where = key_of("export", "spatialdata")
    if not with_conda and "spatialdata" not in config["interpreters"]:
        yield InputError(
            "needs an environment of its own, and neither conda nor an interpreter is given",
            where=where,
            hint="make it with `make .venv-spatialdata` and set interpreters: {spatialdata: "
            ".venv-spatialdata/bin/python}, or run with --sdm conda",
        )
    for names in (sheet.slices, sheet.modalities):
        for first, second in combinations(names, 2):
            if first.lower() == second.lower():
                problem = f"SpatialData can't hold {first} and {second}, which differ in upper and lower case alone"
                yield InputError(problem, where=where, hint="rename one of them in the sheet")


def unused_modalities(config: Mapping, sheet: SampleSheet) -> list[str]:
    """Modalities that the config declares and the sheet does not use."""
    return [name for name in config.get("modalities", {}) if name not in sheet.modalities]
