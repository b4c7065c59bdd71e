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
        for domain in shares:
            if shares[domain] and domains.get(domain) == 0:
                hint = "the share of its structures follows from them; 0 leaves them out"
                yield InputError(f"domain {domain!r} has no patches to share the tissue", where=where, hint=hint)
        if not any(shares.get(domain, 1) and domains[domain] for domain in domains):
            yield InputError("no domain is left", where=where, hint="leave a domain out of it, or give it a share")
    yield from _structure_faults(design, f"{source}: structures")

    for modality, spec in modalities.items():
        yield from _modality_faults(spec, domains, f"{source}: modalities.{modality}")


def _structure_faults(design: Mapping, where: str) -> Iterator[InputError]:
    """Faults in what the structures say of domains, and domains that nothing makes."""
    domains, structures = design["domains"], design.get("structures", {})
    known_domains = f"domains are {', '.join(domains)}"
    made = {domain for own in structures.values() for domain in own}
    if not any(domains.values()):
        hint = "give a domain 1 or more"
        yield InputError("no domain has a patch", where=where.replace("structures", "domains"), hint=hint)
    for domain in domains:
        if domains[domain] == 0 and domain not in made:
            hint = "give it patches, or islands, cords or strays in structures"
            yield InputError(f"domain {domain!r} has neither patches nor structures", where=where, hint=hint)
    for kind, own in structures.items():
        for domain in [*own, *(cords["within"] for cords in own.values() if kind == "cords")]:
            if domain not in domains:
                yield InputError(f"there is no domain {domain!r}", where=f"{where}.{kind}", hint=known_domains)
    for domain, cords in structures.get("cords", {}).items():
        if cords["within"] == domain:
            problem = f"cords of {domain!r} within itself"
            yield InputError(problem, where=f"{where}.cords", hint="name another domain")
    for domain, islands in structures.get("islands", {}).items():
        if islands["spots"][0] > islands["spots"][1]:
            problem = f"islands of {domain!r}: the fewest spots are more than the most"
            yield InputError(problem, where=f"{where}.islands", hint="write [fewest, most]")


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
