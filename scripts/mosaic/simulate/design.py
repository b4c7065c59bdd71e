"""The design of a simulated mosaic: reading one, and what is wrong with it beyond its schema."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from mosaic.config.schema import read_yaml, schema_faults
from mosaic.errors import InputError

SCHEMA = read_yaml(Path(__file__).with_name("design.schema.yaml"))


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
        Where the file cannot be read, is no YAML, gives a key twice, or holds a faulty design.
    """
    design = read_yaml(path, hint="name a readable file, such as resources/demo.yaml")
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
    faults = list(schema_faults(design, SCHEMA, of=f"{source}: ")) or list(_name_faults(design, source))
    if faults:
        raise InputError.of_all(faults, source)


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
        yield from _modality_faults(spec, domains, f"{source}: modalities.{modality}")


def _modality_faults(spec: Mapping, domains: Mapping, where: str) -> Iterator[InputError]:
    """Faults in what a modality says of domains and of its features."""
    known_domains = f"domains are {', '.join(domains)}"
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
