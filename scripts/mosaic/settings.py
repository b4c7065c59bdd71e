"""The configuration and the sheet of slices: checked as a whole, completed with defaults, asked about the design."""

import copy
import csv
import difflib
import math
import os
from collections.abc import Collection, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from mosaic.errors import InputError
from mosaic.methods import PEERS, cannot

# Defaults of a modality by its kind.
KIND_DEFAULTS = {
    "rna": {
        "normalization": "log",
        "feature_selection": "seurat",
        "n_top_features": 5000,
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
    "rna": {"batch_correction": PUBLISHED_HARMONY},
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
    """The rows of a sheet, and what they say of the design."""

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
        """The file of one modality of one slice."""
        return next(row.path for row in self if row[:2] == (slice_name, modality))


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
        rows, sheet_faults = _read_sheet(sheet_path, sheet_schema, modalities, made if there else None)
        sheet = Sheet(rows)
        faults += sheet_faults
    for name in sorted(set(config.get("qc", {})) - set(modalities)) if not faults else ():
        hint = f"the modalities are {', '.join(modalities)}"
        faults.append(InputError("is no modality of the config", where=_key("qc", name), hint=hint))
    if not faults:
        complete = _complete(config, config_schema, sheet)
        faults += _config_faults(complete, sheet)
        faults += _column_faults(complete)
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
        elif error.validator in ("pattern", "anyOf"):  # whose own messages quote the schema
            yield InputError(f"{_shown(value)} is not valid", where=_key(where), hint=description)
        else:
            problem = error.message.replace(repr(value), _shown(value))
            yield InputError(problem, where=_key(where), hint=description)


def _shown(value: object) -> str:
    """A value for a message, which a long one must not fill."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _key(*parts: object) -> str:
    return "config key " + (".".join(str(part) for part in parts if str(part)) or "(top level)")


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
) -> tuple[list[Row], list[InputError]]:
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        problem = f"the sheet can't be read ({getattr(error, 'strerror', None) or error})"
        hint = "set slices to the sheet's path, relative to the working directory; the sheet is TSV in UTF-8"
        return [], [InputError(problem, where=f"config key slices, {_shown(path)}", hint=hint)]
    table, faults = [], []
    for number, line in enumerate(lines, start=1):
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
        return [], faults
    if not table:
        return [], [
            InputError("the sheet is empty", where=path, hint="its first line is: slice, modality, path, by tabs")
        ]
    columns = table[0][1]
    if sorted(columns) != sorted(schema["required"]):
        problem = f"the columns are {_shown(', '.join(name or '(no name)' for name in columns))[1:-1]}"
        hint = "they must be slice, modality and path, once each, separated by tabs"
        return [], [InputError(problem, where=f"{path}, line {table[0][0]}", hint=hint)]
    if len(table) == 1:
        return [], [InputError("the sheet has no rows", where=path, hint="write one row per slice and modality")]
    rows, first_seen, first_path = [], {}, {}
    for number, cells in table[1:]:
        where = f"{path}, line {number}"
        if len(cells) != len(columns):
            hint = "separate exactly three cells by tabs"
            count = f"{len(cells)} cell" + "s" * (len(cells) > 1)
            faults.append(InputError(f"{count} instead of {len(columns)}", where=where, hint=hint))
            continue
        values = dict(zip(columns, cells, strict=True))
        errors = list(_Validator(schema).iter_errors(values))
        for error in errors:
            column = error.path[0]
            hint = schema["properties"][column]["description"]
            faults.append(InputError(f"{column} {_shown(values[column])} is not valid", where=where, hint=hint))
        row = Row(**values)
        if not errors and modalities and row.modality not in modalities:
            close = difflib.get_close_matches(row.modality, map(str, modalities), n=1)
            hint = f"did you mean {close[0]}?" if close else "declare it, with its kind, under modalities in the config"
            faults.append(InputError(f"modality {row.modality!r} is not in the config", where=where, hint=hint))
        if row[:2] in first_seen:
            problem = f"{row.modality} of slice {row.slice} is there already, in line {first_seen[row[:2]]}"
            faults.append(InputError(problem, where=where, hint="one row per slice and modality"))
        first_seen.setdefault(row[:2], number)
        if row.path and row.path in first_path:
            problem = f"the same file as in line {first_path[row.path]}"
            faults.append(InputError(problem, where=where, hint="each modality of each slice has its own file"))
        first_path.setdefault(row.path, number)
        if row.path and made is not None and row.path not in made and not os.path.isfile(row.path):
            problem = f"{row.path} is {'a folder' if os.path.isdir(row.path) else 'not there'}"
            hint = f"give the path of an h5ad file, relative to {Path.cwd()}"
            faults.append(InputError(problem, where=where, hint=hint))
        rows.append(row)
    return rows, faults


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


def _column_faults(config: Mapping) -> Iterator[InputError]:
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
