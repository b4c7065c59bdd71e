"""The configuration and the sheet of slices: checked as a whole, completed with defaults, asked about the design."""

import copy
import csv
import difflib
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from mosaic.config.methods import PEERS, cannot
from mosaic.errors import InputError

# Defaults of a modality by its kind.
KIND_DEFAULTS = {
    "rna": {
        "normalization": "log",
        "feature_selection": "seurat",
        "n_top_features": 2000,
        "scale": False,
        "reduction": "pca",
        "n_comps": 50,
        "batch_correction": "auto",
    },
    "protein": {
        "normalization": "clr",
        "feature_selection": "all",
        "n_top_features": None,
        "scale": False,
        "reduction": "pca",
        "n_comps": 50,
        "batch_correction": "auto",
    },
    "epigenome": {
        "normalization": "tfidf",
        "feature_selection": "prevalence",
        "n_top_features": 50_000,
        "scale": False,
        "reduction": "lsi",
        "n_comps": 50,
        "drop_first": "before_zscore",
        "batch_correction": "auto",
    },
    "features": {
        "normalization": "none",
        "feature_selection": "all",
        "n_top_features": None,
        "scale": False,
        "reduction": "none",
        "n_comps": 50,
        "batch_correction": "none",
    },
}

# What recipe `published` puts in place of this workflow's defaults: those above, by kind, and the schema's, by section.
# docs/method.md says what each choice is worth.
PUBLISHED_HARMONY = {"harmony": {"lamb": 1.0, "max_iter": 10}}
PUBLISHED_KINDS = {
    "rna": {"n_top_features": 5000, "batch_correction": PUBLISHED_HARMONY},
    "protein": {"batch_correction": PUBLISHED_HARMONY},
    "epigenome": {
        "feature_selection": "seurat_v3",
        "drop_first": "after_zscore",
        "batch_correction": PUBLISHED_HARMONY,
    },
}
PUBLISHED = {
    "graph": {"symmetric": False, "weigh_pairs": False},
    "train": {"reconstruct": "queries"},
    "impute": {"method": "nearest", "n_neighbors": 10},
}

# Keys of `graph` that act when features travel over the graph; the others act when it is built.
PROPAGATION = ("K", "w_g", "symmetric")

# Columns that the workflow itself has in `obs`, beside `result_columns`; anndata keeps an index as `_index`.
OWN_COLUMNS = ("slice", "barcode", "in_tissue", "modalities", "mosaic_domain", "_index")

# What makes sense together, by kind.
_ALLOWED = {
    "rna": {"normalization": {"log", "none"}, "reduction": {"pca", "lsi"}},
    "protein": {"normalization": {"clr", "log", "none"}, "reduction": {"pca"}},
    "epigenome": {"normalization": {"tfidf"}, "reduction": {"lsi"}},
    "features": {"normalization": {"none"}, "reduction": {"none"}, "feature_selection": {"all"}},
}
# What a JSON Schema calls the kinds of values, in words.
_TYPES = {
    "object": "a mapping, as in {key: value}",
    "array": "a list, as in [a, b]",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "null": "null",
}


# JSON knows neither NaN nor infinity, and takes 5.0 for an integer; YAML has the former, and a slice has no 5.0 spots.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                (isinstance(value, int) and not isinstance(value, bool))
                or (isinstance(value, float) and math.isfinite(value))
            ),
        }
    ),
)


class Row(NamedTuple):
    """One modality of one slice."""

    slice: str
    modality: str
    path: str


class Sheet(tuple[Row, ...]):
    """The rows of a sheet, and what they say of the design.

    Parameters
    ----------
    rows
        Of the sheet.
    columns
        The sheet's further columns: per name the text of each slice that has one.
    """

    columns: dict[str, dict[str, str]]

    def __new__(cls, rows: Iterable[Row] = (), columns: Mapping[str, Mapping[str, str]] | None = None):
        """The rows, with what the further columns say beside them."""
        sheet = super().__new__(cls, rows)
        sheet.columns = {name: dict(values) for name, values in (columns or {}).items()}
        return sheet

    @property
    def slices(self) -> list[str]:
        """Slices in the order of the sheet."""
        return list(dict.fromkeys(row.slice for row in self))

    @property
    def modalities(self) -> list[str]:
        """Modalities in the order of the sheet."""
        return list(dict.fromkeys(row.modality for row in self))

    def slices_of(self, modality: str) -> list[str]:
        """Slices that measured a modality."""
        return [name for name in self.slices if any(row[:2] == (name, modality) for row in self)]

    def modalities_of(self, slice_name: str) -> list[str]:
        """Modalities that a slice measured."""
        return [name for name in self.modalities if any(row[:2] == (slice_name, name) for row in self)]

    @property
    def bridges(self) -> list[str]:
        """Slices with two modalities or more."""
        return [name for name in self.slices if len(self.modalities_of(name)) > 1]

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Pairs (slice, modality) that were not measured."""
        return [(s, m) for s in self.slices for m in self.modalities if m not in self.modalities_of(s)]

    def linked(self, modality: str) -> list[tuple[str, str]]:
        """Pairs of slices to link by expression: those with a bridge slice in them, or all where there is no bridge."""
        pairs = list(combinations(self.slices_of(modality), 2))
        bridged = [pair for pair in pairs if set(pair) & set(self.bridges)]
        return bridged if set(self.slices_of(modality)) & set(self.bridges) else pairs

    def without(self, slice_name: str, modality: str) -> "Sheet":
        """The design without one modality of one slice."""
        return Sheet(row for row in self if row[:2] != (slice_name, modality))

    def folds(self, n_stripes: int) -> list[tuple[str, str, int]]:
        """What the self-check hides in turn: slice, modality, and 0 for the whole slice or a stripe's number from 1.

        The whole of it where the other slices still join all modalities and one of them measured what it is imputed
        from.
        """
        found = []
        for slice_name in self.bridges:
            for modality in self.modalities_of(slice_name):
                rest = self.without(slice_name, modality)
                sources = set(rest.modalities_of(slice_name))
                bridged = any(sources & set(rest.modalities_of(name)) for name in rest.slices_of(modality))
                whole = bridged and not list(design_faults(rest, ""))
                found += [(slice_name, modality, part) for part in ([0] if whole else range(1, n_stripes + 1))]
        return found

    def path(self, slice_name: str, modality: str) -> str:
        """The file of one modality of one slice; raises InputError if it did not measure the modality."""
        for row in self:
            if row[:2] == (slice_name, modality):
                return row.path
        hint = f"it measured {', '.join(self.modalities_of(slice_name))}"
        raise InputError(f"slice {slice_name} did not measure {modality}", where="the sheet", hint=hint)


def read_yaml(path: str | Path) -> object:
    """What a YAML or JSON file holds.

    Parameters
    ----------
    path
        The file, in UTF-8.

    Raises
    ------
    InputError
        If the file can't be read, is neither, or gives a key twice, of which YAML would take the last.
    """
    where = os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        hint = "run Snakemake in the folder that holds config/, or name a config by --configfile; it is YAML in UTF-8"
        problem = f"can't be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(problem, where=where, hint=hint) from error
    try:
        json.loads(text)
        text = text.expandtabs()  # which JSON allows and YAML does not
    except ValueError:
        pass
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        faults = [] if node is None else list(_repeated_keys(node, where, set()))
        content = None if node is None or faults else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        problem = " ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
        hint = (
            "look there and above for a bracket or quote left open, and for indentation, which is of spaces, not tabs; "
            "put text with special characters in quotes"
        )
        raise InputError(f"is no YAML ({problem or error})", where=place, hint=hint) from error
    if faults:
        raise InputError.of_all(faults, where)
    return content


def _repeated_keys(node: yaml.Node, where: str, seen: set[yaml.Node], above: str = "") -> Iterator[InputError]:
    if node in seen:  # by another name, an alias
        return
    seen.add(node)
    if isinstance(node, yaml.SequenceNode):
        for number, inner in enumerate(node.value):
            yield from _repeated_keys(inner, where, seen, f"{above}{number}.")
    elif isinstance(node, yaml.MappingNode):
        lines = {}
        for key, inner in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            line = key.start_mark.line + 1
            if (key.tag, name) in lines and name != "?":
                yield InputError(
                    f"is there already, in line {lines[key.tag, name]}; the first would be lost",
                    where=f"{where}, line {line}, key {above}{name}",
                    hint="write the key once, with all that belongs to it",
                )
            lines.setdefault((key.tag, name), line)
            yield from _repeated_keys(inner, where, seen, f"{above}{name}.")


def from_command_line(given: Mapping, schema: Mapping) -> dict:
    """What ``--config key=value`` gives, as a config file would give it.

    Snakemake leaves all that stands in lists and mappings text: ``seeds=[1,2]`` gives ``["1", "2"]``. Where the schema
    wants a number, true or false there, it is read as YAML; null is null.

    Parameters
    ----------
    given
        What Snakemake made of the command line.
    schema
        JSON Schema of the config.
    """
    read = _nulls(given)
    for error in _innermost(_Validator(schema).iter_errors(read)):
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


def _nulls(given: object) -> object:
    if isinstance(given, Mapping):
        return {key: _nulls(value) for key, value in given.items()}
    if isinstance(given, list):
        return [_nulls(value) for value in given]
    return None if given in ("null", "~") else given


def _innermost(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    for error in errors:
        yield from _innermost(error.context) if error.context else [error]


def load(
    config: Mapping,
    config_schema: Mapping,
    sheet_schema: Mapping,
    *,
    made: Collection[str] = (),
    with_conda: bool = True,
) -> tuple[dict, Sheet]:
    """Check the configuration and the sheet it names, and complete them.

    Parameters
    ----------
    config
        As the user wrote it.
    config_schema, sheet_schema
        JSON Schemas (2020-12) of the config and of a row of the sheet.
    made
        Paths that the workflow makes itself, so that they need not exist.
    with_conda
        Whether conda makes the environments of the rules; if not, a peer needs an interpreter that the config names.

    Returns
    -------
    The configuration with every default filled in, and the sheet.

    Raises
    ------
    InputError
        That lists all faults of both, each with its file, key or line, and a hint.
    """
    faults = list(_schema_faults(config, config_schema))
    sheet_path = config.get("slices", config_schema["properties"]["slices"]["default"])
    modalities = config.get("modalities") if isinstance(config.get("modalities"), Mapping) else {}
    sheet = Sheet()
    if isinstance(sheet_path, str):
        there = config.get("check_files", True)
        sheet, sheet_faults = _read_sheet(sheet_path, sheet_schema, modalities, made if there else None)
        faults += sheet_faults
    for name in sorted(set(config.get("qc", {})) - set(modalities)) if not faults else ():
        hint = f"the modalities are {', '.join(modalities)}"
        faults.append(InputError("is no modality of the config", where=_key("qc", name), hint=hint))
    if not faults:
        complete = _complete(config, config_schema, sheet)
        faults += _config_faults(complete, sheet)
        faults += _column_faults(complete, sheet)
        faults += _method_faults(complete, sheet, with_conda=with_conda)
        faults += design_faults(sheet, sheet_path)
    if faults:
        raise InputError.of_all(faults, "the configuration")
    return complete, sheet


def _schema_faults(config: Mapping, schema: Mapping) -> Iterator[InputError]:
    for error in sorted(_Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path))):
        where = ".".join(map(str, error.absolute_path))
        value = error.instance
        description = error.schema.get("description") if isinstance(error.schema, Mapping) else None
        if error.validator == "additionalProperties":
            known = list(error.schema["properties"])
            for key in sorted(set(value) - set(known), key=str):
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
                yield InputError("unknown key", where=_key(where, key), hint=hint)
        elif error.validator == "required":
            for key in error.validator_value:
                # `slices` has a default; all else that is required must be there.
                if key not in value and "default" not in error.schema["properties"][key]:
                    yield InputError("is missing", where=_key(where, key), hint=_hint(error.schema["properties"][key]))
        elif error.validator == "enum":
            yield InputError(
                f"{_shown(value)} is not known",
                where=_key(where),
                hint=f"one of: {', '.join(map(str, error.validator_value))}",
            )
        elif error.validator == "oneOf":
            yield InputError(
                f"{_shown(value)} is no threshold",
                where=_key(where),
                hint="write a number that is not negative, {mads: 3} with your own number, or null",
            )
        elif isinstance(value, str) and _is_number(value) and error.validator == "type":
            yield InputError(
                f"{_shown(value)} is text, not a number",
                where=_key(where),
                hint=f"write {float(value):g} in the config file without quotes"
                + (" (YAML reads 1e-3 as text: write 0.001 or 1.0e-3)" if "e" in value.lower() else ""),
            )
        elif error.validator == "type":
            types = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
            wanted = " or ".join(_TYPES[name] for name in types)
            yield InputError(f"{_shown(value)} is not {wanted}", where=_key(where), hint=description)
        elif error.validator in ("pattern", "anyOf"):  # whose own messages quote the schema
            yield InputError(f"{_shown(value)} is not valid", where=_key(where), hint=description)
        else:
            problem = error.message.replace(repr(value), _shown(value))
            yield InputError(problem, where=_key(where), hint=description)


def _shown(value: object) -> str:
    """A value for a message, which a long one must not fill; as YAML has it where that is another word."""
    text = repr(value)
    if value is None or isinstance(value, bool):
        text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _name(text: str) -> str:
    """A name for a message: as it is, or in quotes where the eye could miss something in it."""
    return text if text.isprintable() and not re.search(r"\s", text) else repr(text)


def _key(*parts: object) -> str:
    return "config key " + (".".join(_name(str(part)) for part in parts if str(part)) or "(top level)")


def _hint(schema: Mapping) -> str | None:
    if "enum" in schema:
        return f"one of: {', '.join(schema['enum'])}"
    return schema.get("description")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _read_sheet(
    path: str, schema: Mapping, modalities: Mapping, made: Collection[str] | None
) -> tuple[Sheet, list[InputError]]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        problem = f"the sheet can't be read ({getattr(error, 'strerror', None) or error})"
        hint = "set slices to the sheet's path, relative to the working directory; the sheet is TSV in UTF-8"
        return Sheet(), [InputError(problem, where=f"config key slices, {_shown(path)}", hint=hint)]
    table, faults = [], []
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            continue
        try:
            # Each line alone, so that a quote left open takes no further line.
            cells = next(csv.reader([line], delimiter="\t", strict=True), [])
        except csv.Error as error:
            hint = "cells are separated by tabs alone; a quote that opens one must close it"
            faults.append(InputError(f"can't be read ({error})", where=f"{path}, line {number}", hint=hint))
            continue
        if any(cells):
            table.append((number, cells))
    if faults:
        return Sheet(), faults
    if not table:
        hint = "its first line is: slice, modality, path, by tabs"
        return Sheet(), [InputError("the sheet is empty", where=path, hint=hint)]
    columns = table[0][1]
    faults = list(_header_faults(columns, schema, where=f"{path}, line {table[0][0]}"))
    if not faults and len(table) == 1:
        faults = [InputError("the sheet has no rows", where=path, hint="write one row per slice and modality")]
    if faults:
        return Sheet(), faults
    rows, first_seen, first_path = [], {}, {}
    further = {name: {} for name in columns if name not in schema["required"]}
    for number, cells in table[1:]:
        where = f"{path}, line {number}"
        if len(cells) != len(columns):
            hint = f"separate exactly {len(columns)} cells by tabs; a line that is a comment begins with #"
            count = f"{len(cells)} cell" + "s" * (len(cells) > 1)
            faults.append(InputError(f"{count} instead of {len(columns)}", where=where, hint=hint))
            continue
        values = dict(zip(columns, cells, strict=True))
        errors = list(_Validator(schema).iter_errors(values))
        for error in errors:
            column = error.path[0]
            hint = schema["properties"].get(column, schema["additionalProperties"])["description"]
            faults.append(InputError(f"{column} {_shown(values[column])} is not valid", where=where, hint=hint))
        row = Row(*(values[name] for name in Row._fields))
        if not errors and modalities and row.modality not in modalities:
            close = difflib.get_close_matches(row.modality, map(str, modalities), n=1)
            hint = f"did you mean {close[0]}?" if close else "declare it, with its kind, under modalities in the config"
            faults.append(InputError(f"modality {row.modality!r} is not in the config", where=where, hint=hint))
        if row[:2] in first_seen:
            problem = f"{row.modality} of slice {row.slice} is there already, in line {first_seen[row[:2]]}"
            faults.append(InputError(problem, where=where, hint="one row per slice and modality"))
        first_seen.setdefault(row[:2], number)
        if row.path:
            # However it is spelled, and through links.
            first, spelled = first_path.setdefault(_file(row.path), (number, row.path))
            if first != number:
                problem = f"{_name(row.path)} is the same file as in line {first}"
                problem += f", {_name(spelled)}" if spelled != row.path else ""
                faults.append(InputError(problem, where=where, hint="each modality of each slice has its own file"))
        if row.path and made is not None and row.path not in made and not os.path.isfile(row.path):
            problem = f"{_name(row.path)} is {'a folder' if os.path.isdir(row.path) else 'not there'}"
            hint = f"give the path of an h5ad file, relative to {Path.cwd()}"
            faults.append(InputError(problem, where=where, hint=hint))
        for name, told in further.items():
            if values[name]:
                first, value = told.setdefault(row.slice, (number, values[name]))
                if value != values[name]:
                    problem = (
                        f"{name} of slice {row.slice} is {_shown(values[name])}, and {_shown(value)} in line {first}"
                    )
                    hint = "a further column describes the slice: give all its rows one value, or leave cells empty"
                    faults.append(InputError(problem, where=where, hint=hint))
        rows.append(row)
    columns = {name: {key: value for key, (_, value) in told.items()} for name, told in further.items()}
    return Sheet(rows, columns), faults


def _header_faults(columns: list[str], schema: Mapping, where: str) -> Iterator[InputError]:
    """Faults of a sheet's first line; the first kind that there is."""
    if not set(schema["required"]) <= set(columns) or len(set(columns)) < len(columns):
        shown = ", ".join(_name(name) or "(no name)" for name in columns[:10]) + ", …" * (len(columns) > 10)
        hint = "they must be slice, modality and path, once each, separated by tabs; others may follow, once each"
        yield InputError(f"the columns are {shown}", where=where, hint=hint)
        return
    for name in columns:
        if not _Validator(schema["propertyNames"]).is_valid(name):
            yield InputError(
                f"column {_name(name) or '(no name)'} is not valid", where=where, hint=_hint(schema["propertyNames"])
            )


def _file(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a NUL, a loop of links
        return path


def _complete(config: Mapping, schema: Mapping, sheet: Sheet) -> dict:
    """Fill in the defaults: of the schema, of the recipe, and of each modality's kind. Modalities as in the sheet."""
    published = config.get("recipe") == "published"
    if published:
        config = {**config, **{name: values | config.get(name, {}) for name, values in PUBLISHED.items()}}
    complete = _defaults(config, schema)
    modalities = {}
    for name in sheet.modalities:
        given = complete["modalities"][name]
        kind = given["kind"]
        modalities[name] = KIND_DEFAULTS[kind] | (PUBLISHED_KINDS.get(kind, {}) if published else {}) | given
    complete["modalities"] = modalities
    qc_schema = schema["properties"]["qc"]["additionalProperties"]
    complete["qc"] = {name: _defaults(complete["qc"].get(name, {}), qc_schema) for name in modalities}
    return complete


def _defaults(given: Mapping, schema: Mapping) -> dict:
    filled = {}
    for key, rule in schema["properties"].items():
        if key in given or "default" in rule:
            value = copy.deepcopy(given.get(key, rule.get("default")))
            filled[key] = _defaults(value, rule) if "properties" in rule and isinstance(value, Mapping) else value
    return filled


def _config_faults(config: Mapping, sheet: Sheet) -> Iterator[InputError]:
    for name, modality in config["modalities"].items():
        if name.removesuffix("_imputed") != name and name.removesuffix("_imputed") in config["modalities"]:
            yield InputError(
                f"is what the imputed counts of {name.removesuffix('_imputed')} are called in the result",
                where=_key("modalities", name),
                hint="give this modality another name",
            )
        for key, allowed in _ALLOWED[modality["kind"]].items():
            if modality[key] not in allowed:
                yield InputError(
                    f"{modality[key]!r} does not go with kind {modality['kind']}",
                    where=_key("modalities", name, key),
                    hint=f"one of: {', '.join(sorted(allowed))}",
                )
        if modality["reduction"] == "lsi" and modality["normalization"] == "none":
            yield InputError(
                "lsi scales and takes logarithms itself, and normalization is none",
                where=_key("modalities", name, "reduction"),
                hint="leave normalization out, or set reduction to pca",
            )
        if "drop_first" in modality and modality["kind"] != "epigenome":
            yield InputError(
                f"only chromatin's first component follows depth, and the kind is {modality['kind']}",
                where=_key("modalities", name, "drop_first"),
                hint="leave it out",
            )
        unlogged = modality["normalization"] == "none" and modality["n_top_features"] is not None
        if modality["feature_selection"] == "seurat" and unlogged:
            yield InputError(
                "seurat selects features on log-normalised values, and normalization is none",
                where=_key("modalities", name, "feature_selection"),
                hint="set feature_selection to seurat_v3 or all",
            )
    knns = config["graph"]["intra_knns"]
    if isinstance(knns, Mapping):
        for name in sorted(set(knns) ^ set(sheet.slices), key=str):
            problem = "is no slice of the sheet" if name in knns else "is missing"
            hint = f"one number for all slices, or one for each of {', '.join(sheet.slices)}"
            if str(name) in sheet.slices and name in knns:
                problem, hint = "is no text, as names of slices are", f"write it in quotes: '{name}'"
            yield InputError(problem, where=_key("graph", "intra_knns", name), hint=hint)
    cluster = config["cluster"]
    wanted = "resolution" if cluster["method"] == "leiden" else "n_domains"
    if cluster[wanted] is None:
        yield InputError(
            f"is missing, and {cluster['method']} needs it",
            where=_key("cluster", wanted),
            hint="the number of domains you expect, or auto"
            if wanted == "n_domains"
            else "1.0 is a start; more gives more domains",
        )
    if cluster["n_domains"] == "auto" and cluster["method"] == "leiden":
        yield InputError(
            "auto is for mixture and kmeans; leiden finds the number of domains from the resolution",
            where=_key("cluster", "n_domains"),
            hint="leave it out",
        )
    low, high = cluster["n_domains_range"]
    if low >= high:
        yield InputError(
            f"{low} is not below {high}",
            where=_key("cluster", "n_domains_range"),
            hint="first the smallest number, then the largest, such as [2, 15]",
        )


def result_columns(config: Mapping) -> list[str]:
    """Columns of ``obs`` that each method and seed of a run adds to the result."""
    methods, seeds = config["methods"], config["seeds"]
    columns = [f"domain_{method}_{seed}" for method in methods for seed in seeds]
    return columns + [f"{name}_{method}" for name in ("consensus", "confidence") for method in methods]


def _column_faults(config: Mapping, sheet: Sheet) -> Iterator[InputError]:
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
                f"{_shown(name)} is a column of the workflow's own",
                where=_key(key),
                hint=f"rename the column in the files; these names are taken: {', '.join(own)}",
            )
        elif {"", "."} & set(parts) or taken & set(above):
            yield InputError(
                f"HDF5 takes {_shown(name)} for another place in a file",
                where=_key(key),
                hint="rename the column in the files, without slashes",
            )
    for name in sheet.columns:
        others = [key for key, other in named if other == name]
        if name in own or others:
            problem = "is a column of the workflow's own" if name in own else f"is named by {' and '.join(others)}, too"
            hint = "give this column another name"
            yield InputError(problem, where=f"{config['slices']}, column {name}", hint=hint)


def _method_faults(config: Mapping, sheet: Sheet, *, with_conda: bool) -> Iterator[InputError]:
    """Peers that can't integrate this design, or that nothing can run."""
    kinds = {name: modality["kind"] for name, modality in config["modalities"].items()}
    for method in config["methods"]:
        if reason := cannot(method, sheet, kinds):
            hint = "leave it out, or change the sheet"
            yield InputError(f"{method} can't integrate these slices: {reason}", where=_key("methods"), hint=hint)
    for method, python in config["interpreters"].items():
        if method in config["methods"] and not os.access(python, os.X_OK):
            hint = f"make it with `make peers`, or name another Python, relative to {Path.cwd()}"
            yield InputError(f"{_shown(python)} is no program", where=_key("interpreters", method), hint=hint)
    for method in config["methods"]:
        if method in PEERS and PEERS[method].separate and not with_conda and method not in config["interpreters"]:
            folder = f".venv-{PEERS[method].env}"
            yield InputError(
                f"{method} needs an environment of its own, and neither conda nor an interpreter is given",
                where=_key("methods"),
                hint=f"make it with `make {folder}` (`make peers` makes all) and set interpreters: "
                f"{{{method}: {folder}/bin/python}}, or run with --sdm conda",
            )


def design_faults(sheet: Sheet, path: str) -> Iterator[InputError]:
    """Faults of a design: modalities that no chain of bridge slices joins can't be aligned.

    Parameters
    ----------
    sheet
        The design.
    path
        Where it is written, for messages.
    """
    groups = [{name} for name in sheet.modalities]
    for bridge in sheet.bridges:
        joined = set(sheet.modalities_of(bridge))
        groups = [group for group in groups if not group & joined] + [
            joined.union(*(group for group in groups if group & joined))
        ]
    for first, second in combinations(groups, 2):
        yield InputError(
            f"no chain of bridge slices joins {' and '.join(sorted(first))} to {' and '.join(sorted(second))}",
            where=path,
            hint="add a slice that measured one of each, or run them separately",
        )


def unused_modalities(config: Mapping, sheet: Sheet) -> list[str]:
    """Modalities that the config declares and the sheet does not use."""
    return [name for name in config["modalities"] if name not in sheet.modalities]
