"""YAML files read strictly and held against a JSON Schema: every fault with its place and a hint."""

import copy
import difflib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from mosaic.errors import InputError

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


def read_yaml(
    path: str | Path,
    hint: str = "run Snakemake in the folder that holds config/, or name a config by --configfile; it is YAML in UTF-8",
) -> Any:
    """What a YAML or JSON file holds.

    Parameters
    ----------
    path
        The file, in UTF-8.
    hint
        What to do where it can't be read.

    Raises
    ------
    InputError
        If the file can't be read, is neither, or gives a key twice, of which YAML would take the last.
    """
    where = os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        problem = f"can't be read ({getattr(error, 'strerror', None) or error})"
        raise InputError(problem, where=where, hint=hint) from error
    try:
        json.loads(text)
        text = text.expandtabs()  # which JSON allows and YAML does not
    except ValueError:
        pass
    try:
        loader, node = _composed(text)
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


def _composed(text: str) -> tuple[Any, yaml.Node | None]:
    """A loader and the document in it; by libyaml, which is ten times as fast, where it is there and finds no fault."""
    try:
        loader = yaml.CSafeLoader(text)
        return loader, loader.get_single_node()
    except (AttributeError, yaml.YAMLError):  # of which the loader in Python says more
        loader = yaml.SafeLoader(text)
        return loader, loader.get_single_node()


def _repeated_keys(node: yaml.Node, where: str, seen: set[yaml.Node], above: str = "") -> Iterator[InputError]:
    if node in seen:  # by another name, an alias
        return
    seen.add(node)
    if isinstance(node, yaml.SequenceNode):
        for number, inner in enumerate(node.value):
            yield from _repeated_keys(inner, where, seen, f"{above}{number}.")
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
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


def with_nulls(given: object) -> object:
    """What a user gave, with None for the words by which a command line says it."""
    if isinstance(given, Mapping):
        return {key: with_nulls(value) for key, value in given.items()}
    if isinstance(given, list):
        return [with_nulls(value) for value in given]
    return None if given in ("null", "~") else given


def innermost(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """The errors of which alternatives of a schema are made."""
    for error in errors:
        yield from innermost(error.context) if error.context else [error]


def schema_faults(config: object, schema: Mapping, of: str = "config key ") -> Iterator[InputError]:
    """Where a config departs from its JSON Schema, each with its key, after the words ``of``, and a hint."""
    seen = set()
    for error in sorted(_Validator(schema).iter_errors(config), key=lambda error: list(map(str, error.path))):
        where = ".".join(map(str, error.absolute_path))
        value = error.instance
        description = error.schema.get("description") if isinstance(error.schema, Mapping) else None
        if error.validator == "additionalProperties":
            known = list(error.schema["properties"])
            for key in sorted(set(value) - set(known), key=str):
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
                yield InputError("unknown key", where=key_of(where, key, of=of), hint=hint)
        elif error.validator == "required":
            for key in error.validator_value:
                # `slices` has a default; all else that is required must be there.
                # A validator reports each missing key, with the list of all.
                rule = error.schema["properties"][key]
                if key not in value and "default" not in rule and (where, key) not in seen:
                    seen.add((where, key))
                    yield InputError("is missing", where=key_of(where, key, of=of), hint=hint_of(rule))
        elif error.validator == "enum":
            yield InputError(
                f"{shown(value)} is not known",
                where=key_of(where, of=of),
                hint=f"one of: {', '.join(map(str, error.validator_value))}",
            )
        elif error.validator == "oneOf":
            yield InputError(
                f"{shown(value)} is no threshold",
                where=key_of(where, of=of),
                hint="write a number that is not negative, {mads: 3} with your own number, or null",
            )
        elif isinstance(value, str) and is_number(value) and error.validator == "type":
            yield InputError(
                f"{shown(value)} is text, not a number",
                where=key_of(where, of=of),
                hint=f"write {float(value):g} without quotes"
                + (" (YAML reads 1e-3 as text: write 0.001 or 1.0e-3)" if "e" in value.lower() else ""),
            )
        elif error.validator == "type":
            types = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
            wanted = " or ".join(_TYPES[name] for name in types)
            yield InputError(f"{shown(value)} is not {wanted}", where=key_of(where, of=of), hint=description)
        elif error.validator in ("pattern", "anyOf"):  # whose own messages quote the schema
            yield InputError(f"{shown(value)} is not valid", where=key_of(where, of=of), hint=description)
        else:
            problem = error.message.replace(repr(value), shown(value))
            yield InputError(problem, where=key_of(where, of=of), hint=description)


def shown(value: object) -> str:
    """A value for a message, which a long one must not fill; as YAML has it where that is another word."""
    text = repr(value)
    if value is None or isinstance(value, bool):
        text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def plain_name(text: str) -> str:
    """A name for a message: as it is, or in quotes where the eye could miss something in it."""
    return text if text.isprintable() and not re.search(r"\s", text) else repr(text)


def key_of(*parts: object, of: str = "config key ") -> str:
    """How a message calls a key of the config, or of what the words ``of`` say."""
    return of + (".".join(plain_name(str(part)) for part in parts if str(part)) or "(top level)")


def hint_of(schema: Mapping) -> str | None:
    """What a schema says of a value: its choices or its description."""
    if "enum" in schema:
        return f"one of: {', '.join(schema['enum'])}"
    return schema.get("description")


def is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def with_defaults(given: Mapping, schema: Mapping) -> dict:
    """A copy of a section of the config with the schema's defaults for what was not given."""
    filled = {}
    for key, rule in schema["properties"].items():
        if key in given or "default" in rule:
            value = copy.deepcopy(given.get(key, rule.get("default")))
            filled[key] = with_defaults(value, rule) if "properties" in rule and isinstance(value, Mapping) else value
    return filled


def with_changes(given: Mapping, changes: Mapping) -> dict:
    """A copy of a config with some of its settings changed, key by key at every depth; an empty mapping empties."""
    changed = dict(copy.deepcopy(given))
    for key, value in changes.items():
        deep = isinstance(value, Mapping) and value and isinstance(changed.get(key), Mapping)
        changed[key] = with_changes(changed[key], value) if deep else copy.deepcopy(value)
    return changed
