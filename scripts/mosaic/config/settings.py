"""Check the configuration and the sample sheet as a whole, and fill in the defaults."""

import copy
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mosaic.config.defaults import COUNTING, KIND_DEFAULTS, PUBLISHED, PUBLISHED_KINDS
from mosaic.config.design import SampleSheet
from mosaic.config.domain_names import read_names
from mosaic.config.faults import run_faults
from mosaic.config.sample_sheet import read_sheet, row_faults
from mosaic.config.schema import (
    _Validator,
    innermost,
    key_of,
    schema_faults,
    shown,
    with_defaults,
    with_nulls,
)
from mosaic.errors import InputError
from mosaic.manifest import read_manifest

# The folder of the JSON Schemas: a link in the repository, a copy in an installed package.
SCHEMAS = Path(__file__).with_name("schemas")

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
            faults += row_faults(values, sheet_schema, modalities, where=row.path)
    elif not isinstance(sheet_path, str):
        sheet = SampleSheet()
    else:
        there = config.get("check_files", True)
        sheet, sheet_faults = read_sheet(sheet_path, sheet_schema, modalities, made if there else None)
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
        if onto:
            complete["graph"] = with_new_slices(complete["graph"], sheet.slices)
        # As of modalities: what the sheet does not use is no fault.
        unused = set(modalities) - set(sheet.modalities)
        pairs, qc_schema = complete["spatial"]["pairs"], config_schema["properties"]["qc"]["additionalProperties"]
        complete["spatial"]["pairs"] = [pair for pair in pairs if not unused & {text.split(":")[0] for text in pair}]
        faults += run_faults(
            complete,
            sheet,
            str(sheet_path),
            reference=read_manifest(config["reference"])["slices"] if onto else None,
            defaults=with_defaults({}, config_schema) | {"qc": with_defaults({}, qc_schema)},
            with_conda=with_conda,
        )
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
    if isinstance(qc, Mapping):
        known = trained["qc"]
        given = {name: {**known.get(name, {}), **new} if isinstance(new, Mapping) else new for name, new in qc.items()}
        qc = {**known, **given}
    own["qc"] = qc
    return {**config, **own}, faults


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


def with_new_slices(graph: Mapping[str, Any], slices: Iterable[str]) -> dict[str, Any]:
    """Section ``graph`` of a reference for slices that are mapped onto it.

    Parameters
    ----------
    graph
        The section.
    slices
        Names of the new slices: where the reference's have a number of neighbours, or a radius, each, these have the
        median.
    """
    filled = dict(graph)
    for key in ("intra_knns", "radius"):
        given = graph[key]
        if isinstance(given, Mapping):
            middle = sorted(given.values())[len(given) // 2]
            filled[key] = {**dict.fromkeys(slices, middle), **given}
    return filled


def unused_modalities(config: Mapping, sheet: SampleSheet) -> list[str]:
    """Modalities that the config declares and the sheet does not use."""
    return [name for name in config.get("modalities", {}) if name not in sheet.modalities]
