"""The demo: a mosaic of slices with known domains, in files such as an instrument's pipeline leaves behind.

A *design* (``resources/demo.yaml`` explains every key) says which slice has which modalities, what the tissue looks
like and how deep each modality is counted. What a design leaves out is absent from the data: without ``mixing`` every
spot is pure, without ``dispersion`` counts are Poisson, without ``bad_spots`` all spots are good.

How the counts come about, for spot i, feature g, slice s:

1. Domains are patches of tissue: Voronoi cells in coordinates that smooth random fields have warped, one connected
   piece each, laid out anew for every slice.
2. A spot holds cells of several domains, mostly its own: Dirichlet weights w_i, the same in every modality.
3. A domain's profile is a log-normal abundance per feature, raised by a fold change where the feature is a marker of
   the domain, times a log-normal factor per slice and feature; it sums to 1.
4. The expected count is mu_ig = depth_i * (w_i P_s)_g with a log-normal depth_i. Counts are negative binomial with
   variance mu + dispersion * mu^2 (a gamma-Poisson mixture, as in Splatter: Zappia, Phipson and Oshlack, Genome Biology
   2017), and Splatter's logistic dropout loses counts with probability 1 / (1 + (mu / midpoint)^slope).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count, filterfalse, islice
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from anndata import AnnData
from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from scipy import sparse
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from mosaic.errors import InputError

VALUES_PER_CHUNK = 2**22  # counts made at a time: about 200 MB at the peak. Changing it changes the random numbers.
WAVES = 64  # plane waves in a random field: enough that none of them is seen
LAYOUT_ATTEMPTS = 200  # layouts drawn before the design is called impossible
POWER_ROUNDS = 300  # in which the cells of a layout take the sizes asked for
LAYOUT_SWEEPS = 2  # of Lloyd's algorithm: evens the patches out without making honeycomb of them
GENERATED_NAME = {"rna": "GENE", "protein": "PROTEIN"}  # epigenome features are named as peaks
PEAK_WIDTH, PEAK_GAP = (300, 1000), (1_000, 50_000)  # base pairs, from-to
CHROMOSOMES = [f"chr{name}" for name in [*range(1, 23), "X"]]


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


class _Tissue(NamedTuple):
    """One slice before anything is counted: n spots of the grid, d domains."""

    in_tissue: np.ndarray  # (n,) bool
    domain: np.ndarray  # (n,) index of the domain, -1 beside the tissue
    mixture: np.ndarray  # (n, d) share of each domain's cells in a spot
    low_counts: np.ndarray  # (n,) bool
    high_mito: np.ndarray  # (n,) bool


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

        named = _named_features(spec)
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


def _named_features(spec: Mapping) -> list[str]:
    """All features that a modality names, each once: markers, mitochondrial, background."""
    markers = spec["markers"] if isinstance(spec["markers"], dict) else {}
    mitochondrial = spec.get("mitochondrial", {}).get("features", [])
    return list(
        dict.fromkeys([*(n for names in markers.values() for n in names), *mitochondrial, *spec.get("background", [])])
    )


def _stream(seed: int, *names: str) -> np.random.Generator:
    """Return the random numbers of one thing in the mosaic, told by its names.

    What ``SeedSequence.spawn`` does, with the names in place of a running number: so nothing that is added to a design,
    and no change of order, touches the numbers of the rest.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple("\0".join(names).encode())))


def simulate_mosaic(design: dict, seed: int) -> dict[tuple[str, str], AnnData]:
    """Make the counts of a mosaic of slices with known domains.

    Parameters
    ----------
    design
        The design, as in ``resources/demo.yaml``.
    seed
        The same seed gives the same bits. Every slice and modality has random numbers of its own: one more of either,
        or another order, leaves the rest as it was.

    Returns
    -------
    One AnnData (spots x features) for each (slice, modality), as a user's file would be: raw counts in ``X`` (CSR,
    float32, whole numbers); bare barcodes in ``obs_names``, which repeat between slices, as a place on the grid has the
    same barcode on each; ``obs["in_tissue"]`` 0 or 1; ``obs["domain"]`` the truth, missing beside the tissue;
    ``obsm["spatial"]`` (x, y) in whole pixels. By design the modalities of a slice hold neither quite the same spots
    nor the same order of rows.

    Raises
    ------
    InputError
        Where the design is faulty, its domains do not fit on the grid, or a slice has fewer spots than it should lose.
    """
    check_design(design)
    _check_seed(seed)
    spots = _grid(design["grid"])
    pixels = np.rint(spots * design["grid"]["pitch"])
    barcodes = _barcodes(len(spots), _stream(seed, "barcodes"))
    profiles = expected_profiles(design, seed)

    mosaic = {}
    for slice_name, measured in design["slices"].items():
        tissue = _tissue(design, spots, slice_name, seed)
        domain = pd.Categorical.from_codes(tissue.domain, categories=list(design["domains"]))
        for modality in measured:
            rng = _stream(seed, "counts", slice_name, modality)
            rows = _rows(design["modalities"][modality], tissue, barcodes, rng, where=f"slice {slice_name}, {modality}")
            profile = profiles[slice_name, modality]
            mosaic[slice_name, modality] = AnnData(
                X=_counts(design, modality, tissue, rows, profile, rng),
                obs=pd.DataFrame(
                    {"in_tissue": tissue.in_tissue[rows].astype(np.int64), "domain": domain[rows]}, index=barcodes[rows]
                ),
                var=pd.DataFrame(index=profile.columns),
                obsm={"spatial": pixels[rows]},
            )
    return mosaic


def expected_profiles(design: dict, seed: int) -> dict[tuple[str, str], pd.DataFrame]:
    """Return what a pure spot of each domain is expected to look like: the truth behind the counts.

    Parameters
    ----------
    design
        The design, as in ``resources/demo.yaml``.
    seed
        The seed that :func:`simulate_mosaic` was given.

    Returns
    -------
    For each (slice, modality) a table (domains x features) of each feature's share of the counts; rows sum to 1.

    Raises
    ------
    InputError
        Where the design is faulty.
    """
    check_design(design)
    _check_seed(seed)
    domains = list(design["domains"])
    biology = {
        name: _biology(spec, domains, _stream(seed, "modality", name)) for name, spec in design["modalities"].items()
    }
    return {
        (slice_name, modality): _with_slice_effect(
            biology[modality], design["modalities"][modality], _stream(seed, "slice effect", slice_name, modality)
        )
        for slice_name, measured in design["slices"].items()
        for modality in measured
    }


def _check_seed(seed: int) -> None:
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"the seed is {seed!r}", where="seed", hint="give a whole number, 0 or more")


# --- features and profiles --------------------------------------------------------------------------------------------


def _biology(spec: Mapping, domains: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Abundance of every feature (columns) in every domain (rows), in arbitrary units, the same in all slices."""
    named = _named_features(spec)
    n_generated = spec["n_features"] - len(named)
    if spec["kind"] == "epigenome":
        generated = _peak_names(n_generated, rng)
    else:
        prefix, digits = GENERATED_NAME[spec["kind"]], max(3, len(str(n_generated)))
        free = (f"{prefix}{number:0{digits}d}" for number in count(1))
        generated = list(islice(filterfalse(set(named).__contains__, free), n_generated))

    hidden = spec.get("looks_like", {})
    seen = [domain for domain in domains if domain not in hidden]
    markers = spec["markers"]
    if isinstance(markers, int):
        chosen = rng.choice(generated, size=(len(seen), markers), replace=False)
        markers = dict(zip(seen, chosen.tolist(), strict=True))

    features = pd.Index(named + generated)
    abundance = rng.lognormal(sigma=spec.get("abundance_log_sd", 0), size=len(features))
    profile = pd.DataFrame(np.tile(abundance, (len(domains), 1)), index=domains, columns=features)
    for domain in seen:
        own = markers.get(domain, [])
        fold = spec["marker_fold"] * rng.lognormal(sigma=spec.get("marker_fold_log_sd", 0), size=len(own))
        profile.loc[domain, own] *= fold
    for domain, twin in hidden.items():
        profile.loc[domain] = profile.loc[twin]
    return profile


def _peak_names(n_peaks: int, rng: np.random.Generator) -> list[str]:
    """Names chrom-start-end of peaks that do not overlap, in the order of the genome."""
    width = rng.integers(*PEAK_WIDTH, size=n_peaks)
    gap = rng.integers(*PEAK_GAP, size=n_peaks)
    names = []
    for chromosome, peaks in zip(CHROMOSOMES, np.array_split(np.arange(n_peaks), len(CHROMOSOMES)), strict=True):
        ends = np.cumsum(gap[peaks] + width[peaks])
        names += [f"{chromosome}-{end - w}-{end}" for end, w in zip(ends, width[peaks], strict=True)]
    return names


def _with_slice_effect(biology: pd.DataFrame, spec: Mapping, rng: np.random.Generator) -> pd.DataFrame:
    """Profiles of one slice: features times the slice's factors, rows summing to 1, the mitochondrial share kept."""
    log_sd = spec.get("slice_effect", {}).get("feature_log_sd", 0)
    profile = biology * rng.lognormal(sigma=log_sd, size=biology.shape[1])
    mitochondrial = _is_mitochondrial(spec, profile.columns)
    share = spec["mitochondrial"]["share"] if "mitochondrial" in spec else 0.0
    for part, of_total in ((mitochondrial, share), (~mitochondrial, 1 - share)):
        profile.loc[:, part] = profile.loc[:, part].div(profile.loc[:, part].sum(axis=1), axis=0) * of_total
    return profile


def _is_mitochondrial(spec: Mapping, features: pd.Index) -> np.ndarray:
    return features.isin(spec.get("mitochondrial", {}).get("features", []))


# --- tissue -----------------------------------------------------------------------------------------------------------


def _grid(grid: Mapping) -> np.ndarray:
    """Coordinates (n, 2) of a hexagonal grid, in distances between neighbours; odd rows are half a step aside."""
    row, column = np.divmod(np.arange(grid["rows"] * grid["columns"]), grid["columns"])
    return np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(3) / 2])


def _barcodes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n different barcodes of 16 bases, as Visium writes them."""
    codes = rng.choice(4**16, size=n, replace=False)
    bases = np.frombuffer(b"ACGT", dtype="S1")[(codes[:, None] >> np.arange(0, 32, 2)) & 3]
    return np.strings.add(bases.view("S16").ravel().astype("U16"), "-1")


def _tissue(design: Mapping, spots: np.ndarray, slice_name: str, seed: int) -> _Tissue:
    """Lay one slice out: outline, domains, what is in each spot, and which spots are bad."""
    rng = _stream(seed, "slice", slice_name)
    neighbours = KDTree(spots).query_pairs(1.1, output_type="ndarray")
    places = spots / spots.max(axis=0).min()  # in widths of the capture area's shorter side
    in_tissue = _outline(design.get("tissue"), places, neighbours, rng)

    n_domains = len(design["domains"])
    composition = design.get("composition", {}).get(slice_name)
    shares = None
    if composition is not None:
        shares = np.array([composition.get(name, 1) for name in design["domains"]], dtype=float)
        shares /= shares.sum()
    domain = np.full(len(spots), -1)
    number = np.cumsum(in_tissue) - 1  # of a tissue spot among tissue spots
    inside = number[neighbours[in_tissue[neighbours].all(axis=1)]]
    domain[in_tissue] = _domains(design, shares, places[in_tissue], inside, rng, where=f"slice {slice_name}")

    mixture = np.full((len(spots), n_domains), np.nan)
    mixture[in_tissue] = np.eye(n_domains)[domain[in_tissue]]
    if mixing := design.get("mixing"):
        strays = np.full(n_domains, 1 / n_domains) if shares is None else shares
        mean = (1 - mixing["share"]) * mixture[in_tissue] + mixing["share"] * strays
        cells = rng.standard_gamma(mixing["concentration"] * mean)  # Dirichlet, once divided by their sum
        mixture[in_tissue] = cells / cells.sum(axis=1, keepdims=True)
    mixture[~in_tissue] = mixture[in_tissue].mean(axis=0)  # what leaks out of all of the tissue

    bad = design.get("bad_spots", {})
    n_low, n_mito = (bad.get(key, {}).get("n", 0) for key in ("low_counts", "high_mito"))
    if n_low + n_mito > in_tissue.sum():
        problem = f"{n_low + n_mito} bad spots asked for, {in_tissue.sum()} spots in tissue"
        raise InputError(problem, where=f"slice {slice_name}", hint="lower bad_spots or enlarge the grid")
    picked = rng.choice(np.flatnonzero(in_tissue), size=n_low + n_mito, replace=False)
    low_counts, high_mito = (np.isin(np.arange(len(spots)), part) for part in (picked[:n_low], picked[n_low:]))
    return _Tissue(in_tissue, domain, mixture, low_counts, high_mito)


def _outline(
    tissue: Mapping | None, places: np.ndarray, neighbours: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Which spots (n, bool) lie under tissue: an ellipse with a rough edge, in one piece."""
    if tissue is None:
        return np.ones(len(places), dtype=bool)
    from_centre = np.linalg.norm(2 * places / places.max(axis=0) - 1, axis=1)  # 1 at the middle of each side
    score = from_centre + tissue["roughness"] * _smooth_field(places, tissue["scale"], rng)
    covered = score <= np.quantile(score, tissue["share"])
    piece = _pieces(covered, neighbours)
    return covered & (piece == np.bincount(piece[covered]).argmax())


def _domains(
    design: Mapping,
    shares: np.ndarray | None,
    places: np.ndarray,
    neighbours: np.ndarray,
    rng: np.random.Generator,
    where: str,
) -> np.ndarray:
    """Domain index of every tissue spot (n,): warped Voronoi cells, each in one piece, no domain too small.

    ``shares`` of the domains (d,), 0 for one that is absent, are met by moving the cells' borders; None leaves the
    sizes to chance.
    """
    layout = design.get("layout", {"warp": 0.0, "scale": 1.0, "min_share": 0.0})
    patches = np.repeat(np.arange(len(design["domains"])), list(design["domains"].values()))
    smallest = max(1, layout["min_share"] * len(places))
    if shares is not None:
        patches = patches[shares[patches] > 0]
        # The shares are asked for, so that a small domain is meant to be small.
        smallest = max(1, 0.5 * shares[shares > 0].min() * len(places))
    for _ in range(LAYOUT_ATTEMPTS if len(patches) <= len(places) else 0):
        warped = places + layout["warp"] * np.column_stack([_smooth_field(places, layout["scale"], rng) for _ in "xy"])
        sites = rng.choice(warped, size=len(patches), replace=False)
        try:
            _, cell = kmeans2(warped, sites, iter=LAYOUT_SWEEPS, minit="matrix", missing="raise")
        except ClusterError:  # a cell became empty
            continue
        named = rng.permutation(patches)
        if shares is not None:
            sizes = (shares / np.maximum(np.bincount(patches, minlength=len(shares)), 1))[named]
            cell = _cells_of_size(warped, cell, sizes)
        cell = _without_fragments(cell, places, neighbours)
        domain = named[cell]
        in_one_piece = _pieces(cell, neighbours).max() + 1 == len(patches)
        present = np.bincount(domain, minlength=len(design["domains"]))
        if in_one_piece and (present if shares is None else present[shares > 0]).min() >= smallest:
            return domain
    problem = (
        f"{len(patches)} patches with at least {smallest:.0f} spots a domain do not fit on {len(places)} tissue spots"
    )
    raise InputError(
        problem, where=where, hint="lower layout.min_share, layout.warp or the patches, or enlarge the grid"
    )


def _cells_of_size(places: np.ndarray, cell: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Cells about the same centres (n,) that hold the given shares (cells,) of the places (n, 2).

    A power diagram: each centre's squared distances get an offset of its own, raised where the cell is too large
    (Aurenhammer, Hoffmann and Aronov, Algorithmica 1998).
    """
    centres = np.array([places[cell == number].mean(axis=0) for number in range(len(sizes))])
    squared = ((places[:, None] - centres) ** 2).sum(axis=2)
    offset, step = np.zeros(len(sizes)), squared.mean()
    for number in range(1, POWER_ROUNDS + 1):
        cell = (squared + offset).argmin(axis=1)
        offset += step / np.sqrt(number) * (np.bincount(cell, minlength=len(sizes)) / len(places) - sizes)
    return cell


def _smooth_field(places: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian random field (n,) of variance 1 whose correlation falls off over the length ``scale``.

    A sum of random plane waves (random Fourier features: Rahimi and Recht, NeurIPS 2007), so it costs n, not n^2.
    """
    along_x, along_y = rng.normal(scale=1 / scale, size=(2, WAVES))
    phases = rng.uniform(0, 2 * np.pi, size=WAVES)
    return np.cos(places[:, :1] * along_x + places[:, 1:] * along_y + phases).sum(axis=1) * np.sqrt(2 / WAVES)


def _pieces(label: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Number (n,) of the connected piece each spot is in, where only neighbours with equal labels connect."""
    first, second = neighbours[label[neighbours[:, 0]] == label[neighbours[:, 1]]].T
    graph = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=(len(label), len(label)))
    return connected_components(graph, directed=False)[1]


def _without_fragments(cell: np.ndarray, places: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Keep each cell's largest piece and give the spots of its other pieces to the nearest cell."""
    piece = _pieces(cell, neighbours)
    size = np.bincount(piece)
    cell_of_piece = np.zeros(len(size), dtype=cell.dtype)
    cell_of_piece[piece] = cell
    largest = [np.flatnonzero(cell_of_piece == c)[size[cell_of_piece == c].argmax()] for c in np.unique(cell)]
    kept = np.isin(piece, largest)
    _, nearest = KDTree(places[kept]).query(places)
    return cell[kept][nearest]


# --- counts -----------------------------------------------------------------------------------------------------------


def _rows(spec: Mapping, tissue: _Tissue, barcodes: np.ndarray, rng: np.random.Generator, where: str) -> np.ndarray:
    """Which spots of the grid a file holds, in the order of its rows."""
    # Bad spots are never lost, so that each file holds as many as the design says.
    good = np.flatnonzero(tissue.in_tissue & ~tissue.low_counts & ~tissue.high_mito)
    n_lost = spec.get("lost_spots", 0)
    if n_lost >= len(good):
        problem = f"{n_lost} spots to lose, {len(good)} good ones in tissue"
        raise InputError(problem, where=where, hint="lower lost_spots or enlarge the grid")
    kept = np.setdiff1d(np.arange(len(barcodes)), rng.choice(good, size=n_lost, replace=False))
    return rng.permutation(kept) if spec.get("shuffled", False) else kept[np.argsort(barcodes[kept])]


def _counts(
    design: Mapping,
    modality: str,
    tissue: _Tissue,
    rows: np.ndarray,
    profile: pd.DataFrame,
    rng: np.random.Generator,
) -> sparse.csr_matrix:
    """Draw the counts (rows x features) of one slice and modality, in chunks: no dense matrix is ever whole."""
    spec = design["modalities"][modality]
    bad = design.get("bad_spots", {})
    of_slice = rng.lognormal(sigma=spec.get("slice_effect", {}).get("depth_log_sd", 0))
    depth = spec["depth"] * of_slice * rng.lognormal(sigma=spec.get("depth_log_sd", 0), size=len(rows))
    depth[~tissue.in_tissue[rows]] *= design.get("tissue", {}).get("ambient", 0)
    if "low_counts" in bad:
        depth[tissue.low_counts[rows]] *= bad["low_counts"]["depth"]
    mitochondrial = _is_mitochondrial(spec, profile.columns)

    chunks = []
    step = max(1, VALUES_PER_CHUNK // profile.shape[1])
    for start in range(0, len(rows), step):
        spots = rows[start : start + step]
        # not @, whose last digit hangs on the number of threads
        share = np.einsum("sd,df->sf", tissue.mixture[spots], profile.to_numpy())
        dying = tissue.high_mito[spots]
        if mitochondrial.any() and dying.any():
            for part, of_total in (
                (mitochondrial, bad["high_mito"]["share"]),
                (~mitochondrial, 1 - bad["high_mito"]["share"]),
            ):
                block = share[np.ix_(dying, part)]
                share[np.ix_(dying, part)] = of_total * block / block.sum(axis=1, keepdims=True)
        chunks.append(_draw(depth[start : start + step, None] * share, spec, rng))
    return sparse.vstack(chunks, format="csr")


def _draw(mean: np.ndarray, spec: Mapping, rng: np.random.Generator) -> sparse.csr_matrix:
    """Counts about the means: negative binomial, then dropout."""
    if dispersion := spec.get("dispersion", 0):
        counts = rng.negative_binomial(1 / dispersion, 1 / (1 + dispersion * mean))
    else:
        counts = rng.poisson(mean)
    if dropout := spec.get("dropout"):
        counts[rng.random(mean.shape) < 1 / (1 + (mean / dropout["midpoint"]) ** dropout["slope"])] = 0
    return sparse.csr_matrix(counts.astype(np.float32))
