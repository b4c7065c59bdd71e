"""The design of a simulated mosaic: its schema, and what is wrong with a design."""

from collections import Counter
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from mosaic.errors import InputError


def _number(description: str, **limits: float) -> dict:
    return {"type": "number", "description": description, **limits}


def _whole(description: str, minimum: int) -> dict:
    return {"type": "integer", "description": description, "minimum": minimum}


def _table(description: str, required: Mapping[str, dict], optional: Mapping[str, dict] | None = None) -> dict:
    return {
        "type": "object",
        "description": description,
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


def _names(description: str) -> dict:
    return {
        "type": "array",
        "description": description,
        "uniqueItems": True,
        "items": {"type": "string", "minLength": 1},
    }


def _by_name(description: str, values: dict) -> dict:
    names = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$", "description": "letters, digits, _ and - only"}
    return {"type": "object", "description": description, "propertyNames": names, "additionalProperties": values}


DESIGN_SCHEMA = _table(
    "the design of a mosaic, as in resources/demo.yaml",
    required={
        "grid": _table(
            "the capture area: a hexagonal grid of spots",
            required={
                "rows": _whole("rows of spots, 4 or more", 4),
                "columns": _whole("spots in a row, 4 or more", 4),
                "pitch": _number("distance between neighbouring spots, in pixels of the image", exclusiveMinimum=0),
            },
        ),
        "domains": _by_name("domain: into how many patches each slice divides it", _whole("patches, 1 or more", 1))
        | {"minProperties": 1},
        "slices": _by_name("slice: list of its modalities", _names("names of modalities") | {"minItems": 1})
        | {"minProperties": 1},
        "modalities": _by_name(
            "modality: how it is measured",
            _table(
                "how a modality is measured",
                required={
                    "kind": {"enum": ["rna", "protein", "epigenome"], "description": "rna, protein or epigenome"},
                    "n_features": _whole("features in all: those named, and generated ones up to this number", 2),
                    "depth": _number("median counts of a spot, before dropout", exclusiveMinimum=0, maximum=1e7),
                    "markers": {
                        "type": ["object", "integer"],
                        "description": "domain: list of its marker features; or how many generated ones a domain has",
                        "minimum": 0,
                        "additionalProperties": _names("marker features of a domain"),
                    },
                    "marker_fold": _number("median fold change of a marker in its domain", exclusiveMinimum=0),
                },
                optional={
                    "marker_fold_log_sd": _number("spread of the fold changes, in natural logs", minimum=0),
                    "depth_log_sd": _number("spread of the depth between spots, in natural logs", minimum=0),
                    "abundance_log_sd": _number("spread of the abundance between features, natural logs", minimum=0),
                    "dispersion": _number("negative binomial: variance = mean + dispersion * mean^2", minimum=0),
                    "dropout": _table(
                        "counts lost by chance",
                        required={
                            "midpoint": _number("mean count at which half are lost", exclusiveMinimum=0),
                            "slope": _number("how fast the loss falls with the mean count", exclusiveMinimum=0),
                        },
                    ),
                    "slice_effect": _table(
                        "what differs between slices for technical reasons, in natural logs",
                        required={
                            "depth_log_sd": _number("spread of the depth between slices", minimum=0),
                            "feature_log_sd": _number("spread of a feature's factor between slices", minimum=0),
                        },
                    ),
                    "looks_like": {
                        "type": "object",
                        "description": "domain that this modality cannot see: domain whose profile it has instead",
                        "additionalProperties": {"type": "string", "description": "a domain"},
                    },
                    "background": _names("features that are no marker and bear a real name"),
                    "mitochondrial": _table(
                        "mitochondrial features",
                        required={
                            "share": _number("their share of a spot's counts", exclusiveMinimum=0, exclusiveMaximum=1),
                            "features": _names("their names") | {"minItems": 1},
                        },
                    ),
                    "lost_spots": _whole("good tissue spots of a slice that are missing from its file", 0),
                    "shuffled": {"type": "boolean", "description": "true: rows in random order; else by barcode"},
                },
            ),
        ),
    },
    optional={
        "tissue": _table(
            "where the tissue lies; without it, everywhere",
            required={
                "share": _number("share of the capture area under tissue", exclusiveMinimum=0, maximum=1),
                "roughness": _number("depth of the outline's bays, in half widths of the area", minimum=0),
                "scale": _number("length of the outline's bays, in widths of the area", exclusiveMinimum=0),
                "ambient": _number("counts of a spot beside the tissue, as a share of a tissue spot's", minimum=0),
            },
        ),
        "composition": _by_name(
            "slice: how frequent domains are in it; slices that are not named are divided at random",
            _by_name(
                "domain: its share of the slice's tissue, relative to 1 for a domain that is not named; 0: absent",
                _number("relative share, 0 or more", minimum=0),
            ),
        ),
        "layout": _table(
            "the shape of the domains; without it, straight borders",
            required={
                "warp": _number("how far borders are bent, in widths of the area", minimum=0),
                "scale": _number("length of the bends, in widths of the area", exclusiveMinimum=0),
                "min_share": _number("share of the tissue that the smallest domain has at least", minimum=0, maximum=1),
            },
        ),
        "mixing": _table(
            "cells of other domains in a spot; without it, none",
            required={
                "share": _number("their mean share", minimum=0, maximum=1),
                "concentration": _number("of the Dirichlet distribution: small is noisy, 0.1 or more", minimum=0.1),
            },
        ),
        "bad_spots": _table(
            "spots for quality control to find, in every slice",
            required={},
            optional={
                "low_counts": _table(
                    "spots that lost nearly all their counts",
                    required={
                        "n": _whole("how many", 0),
                        "depth": _number("their counts, as a share of a good spot's", minimum=0),
                    },
                ),
                "high_mito": _table(
                    "spots of dying cells",
                    required={
                        "n": _whole("how many", 0),
                        "share": _number("mitochondrial share of their counts", minimum=0, maximum=1),
                    },
                ),
            },
        ),
    },
)

# To JSON Schema infinity and NaN are numbers and 4.0 is an integer; a simulation cannot use them.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            ),
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        }
    ),
)


def read_design(path: str | Path) -> dict:
    """Read a design from a YAML file and check it.

    Parameters
    ----------
    path
        The YAML file.

    Returns
    -------
    The design, ready for :func:`simulate_mosaic`.

    Raises
    ------
    InputError
        Where the file cannot be read, is no YAML, or holds a faulty design.
    """
    try:
        design = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        hint = "name a readable file, such as resources/demo.yaml"
        raise InputError(f"the design cannot be read ({error})", where=str(path), hint=hint) from error
    except yaml.YAMLError as error:
        problem = f"not valid YAML: {' '.join(str(error).split())}"
        raise InputError(problem, where=str(path), hint="mend the line that the message names") from error
    check_design(design, source=str(path))
    return design


def check_design(design: dict, source: str = "design") -> None:
    """Check a design and report all of its faults at once.

    Parameters
    ----------
    design
        The design, as in ``resources/demo.yaml``.
    source
        What to call it in messages: the file it came from.

    Raises
    ------
    InputError
        Lists every fault with its key and a hint. Names are compared once all keys and values are well formed.
    """
    faults = [
        InputError(
            error.message,
            where=f"{source}: {'.'.join(map(str, error.absolute_path)) or 'top level'}",
            hint=_schema_hint(error.validator, error.schema),
        )
        for error in sorted(
            _Validator(DESIGN_SCHEMA).iter_errors(design), key=lambda error: [*map(str, error.absolute_path)]
        )
    ] or list(_name_faults(design, source))
    if faults:
        raise InputError.of_all(faults, source)


def _schema_hint(keyword: str, schema: Mapping) -> str:
    if keyword == "additionalProperties":
        return f"known keys: {', '.join(schema['properties'])}"
    return schema.get("description", "see resources/demo.yaml")


def _name_faults(design: dict, source: str) -> Iterator[InputError]:
    """Faults in what one part of a well-formed design says of another."""
    domains, modalities = design["domains"], design["modalities"]
    known_domains = f"domains are {', '.join(domains)}"
    for slice_name, measured in design["slices"].items():
        for modality in measured:
            if modality not in modalities:
                where, hint = f"{source}: slices.{slice_name}", f"modalities are {', '.join(modalities)}"
                yield InputError(f"there is no modality {modality!r}", where=where, hint=hint)

    for slice_name, shares in design.get("composition", {}).items():
        where = f"{source}: composition.{slice_name}"
        if slice_name not in design["slices"]:
            hint = f"slices are {', '.join(design['slices'])}"
            yield InputError(f"there is no slice {slice_name!r}", where=where, hint=hint)
        for domain in sorted(set(shares) - set(domains), key=str):
            yield InputError(f"there is no domain {domain!r}", where=where, hint=known_domains)
        if not any(shares.get(domain, 1) for domain in domains):
            yield InputError("no domain is left", where=where, hint="leave a domain out of it, or give it a share")

    for modality, spec in modalities.items():
        where = f"{source}: modalities.{modality}"
        markers, hidden = spec["markers"], spec.get("looks_like", {})
        listed = markers if isinstance(markers, dict) else {}
        for key, names in (("markers", listed), ("looks_like", [*hidden, *hidden.values()])):
            for domain in sorted(set(names) - set(domains), key=str):
                yield InputError(f"there is no domain {domain!r}", where=f"{where}.{key}", hint=known_domains)
        for domain in hidden:
            if hidden[domain] in hidden:
                problem = f"{domain!r} looks like {hidden[domain]!r}, which is itself hidden"
                yield InputError(problem, where=f"{where}.looks_like", hint="name a domain that this modality sees")
            if listed.get(domain):
                problem = f"{domain!r} has markers but looks like {hidden[domain]!r}, so they would do nothing"
                yield InputError(problem, where=f"{where}.markers", hint="remove the markers, or the looks_like entry")

        named = named_features(spec)
        times = Counter(spec.get("background", []) + spec.get("mitochondrial", {}).get("features", []))
        times.update({name for names in listed.values() for name in names})  # two domains may share a marker
        if repeated := sorted(name for name, n in times.items() if n > 1):
            hint = "a feature is either a marker, or mitochondrial, or background"
            yield InputError(f"named more than once: {', '.join(repeated)}", where=where, hint=hint)
        if spec["kind"] == "epigenome" and named:
            hint = "give markers as a number and leave background and mitochondrial out"
            yield InputError("names its features, but peaks are generated", where=where, hint=hint)
        needed = len(named) + (markers * (len(domains) - len(hidden)) if isinstance(markers, int) else 0)
        if needed > spec["n_features"]:
            problem = f"n_features is {spec['n_features']}, but names and markers need {needed}"
            yield InputError(problem, where=where, hint="raise n_features or name fewer")


def named_features(spec: Mapping) -> list[str]:
    """All features that a modality names, each once: markers, mitochondrial, background."""
    markers = spec["markers"] if isinstance(spec["markers"], dict) else {}
    mitochondrial = spec.get("mitochondrial", {}).get("features", [])
    return list(
        dict.fromkeys([*(n for names in markers.values() for n in names), *mitochondrial, *spec.get("background", [])])
    )
