# Shared by all rules: the checked configuration, the sample sheet, and helpers for inputs and resources.
import copy
import hashlib
import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import update_config

try:
    ROOT = Path(workflow.current_basedir).parents[1]
    HOSTED = {}
except TypeError:
    # Deployed from a repository elsewhere: Snakemake fetches files one by one and keeps them in the folders that they have
    # there. As inputs they are known by their address, because where they are kept may change from run to run.
    listed = workflow.source_path("../sources.txt")
    fetched = [workflow.source_path(f"../../{name}") for name in Path(listed).read_text().split()]
    ROOT = Path(listed).parents[1]
    HOSTED = {str(path): path for path in fetched}
SCRIPTS = ROOT / "scripts"

# The library is beside the scripts, and goes before one that is installed: here, and in jobs, which inherit PYTHONPATH.
sys.path.insert(0, str(SCRIPTS))
paths = [str(SCRIPTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
os.environ.update(PYTHONPATH=os.pathsep.join(dict.fromkeys(filter(None, paths))))

import mosaic
from mosaic.config import figures, methods, schema, settings
from mosaic.config.clusterers import CLUSTERERS
from mosaic.config.defaults import COUNTING
from mosaic.config.readers import source_files
from mosaic.errors import InputError
from mosaic.imports import imported_modules
from mosaic.manifest import MANIFEST, read_manifest

if not Path(mosaic.__file__).resolve().is_relative_to(SCRIPTS.resolve()):
    raise WorkflowError(
        f"This run needs the library {SCRIPTS / 'mosaic'}, but has loaded {Path(mosaic.__file__).parent}.\n"
        "Hint: if several modules are this workflow, give them all the same tag or commit."
    )

# A workflow that uses this one as a module provides the config, of which this module completes a copy.
AS_MODULE = workflow.modifier.skip_configfile
if AS_MODULE:
    config = copy.deepcopy(config)
PREFIXED = workflow.modifier.path_modifier.prefix is not None
# Otherwise a --configfile stands alone: config/config.yaml is loaded only without one.
BY_DEFAULT = not (AS_MODULE or workflow.overwrite_configfiles)
WITH_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method

try:
    # Snakemake also reads these files, but silently takes the last of a repeated key and does not locate syntax errors.
    for path in [*workflow.configfiles, *(["config/config.yaml"] if BY_DEFAULT else [])]:
        schema.read_yaml(path)
    DEMO = schema.read_yaml(ROOT / "resources" / "demo.yaml")
    CONFIG_SCHEMA = schema.read_yaml(ROOT / "workflow" / "schemas" / "config.schema.yaml")
    SHEET_SCHEMA = schema.read_yaml(ROOT / "workflow" / "schemas" / "slices.schema.yaml")
except InputError as error:
    raise WorkflowError(str(error))
DEMO_FILES = [f"data/demo/{name}.{modality}.h5ad" for name, own in DEMO["slices"].items() for modality in own]

if BY_DEFAULT:

    configfile: "config/config.yaml"


try:
    if not AS_MODULE:
        update_config(config, settings.from_command_line(workflow.config_settings.config, CONFIG_SCHEMA))
    for old, new in settings.renamed_keys(config).items():
        logger.warning(f"Config key {old} is now {new}: write that, the next release no longer knows the old name.")
    complete, SHEET = settings.load(config, CONFIG_SCHEMA, SHEET_SCHEMA, made=DEMO_FILES, with_conda=WITH_CONDA)
except InputError as error:
    raise WorkflowError(str(error))
for modality in settings.unused_modalities(config, SHEET):
    logger.warning(f"Ignoring modality {modality} of the config: no slice in {complete['slices']} has it.")
config.clear()
config.update(complete)

if config["container"]:

    container: config["container"]


# Modalities integrated over the features of any of their slices; what is imputed, the features that a slice of these
# did not measure included.
UNION = [name for name, own in config["modalities"].items() if own["features"] == "union"]
# What the reference is that slices are mapped onto; empty for a run of its own.
ONTO = read_manifest(config["reference"]) if config["reference"] else {}
# Where its files are: a zip is unpacked.
ONTO_FOLDER = config["reference"] if ONTO and Path(config["reference"]).is_dir() else "<results>/onto"
if ONTO:
    known = [(name, modality) for name in SHEET.slices for modality in ONTO["counts"]]
    IMPUTED = [(name, modality) for name, modality in known if modality not in SHEET.modalities_of(name)]
else:
    IMPUTED = SHEET.missing + [(name, modality) for modality in UNION for name in SHEET.slices_of(modality)]
# Baseline methods that the config lists.
BASELINES = [name for name in config["methods"] if name in methods.BASELINES]
# Folds of held-out validation, which covers the method spamosaic alone.
CHECKS_ITSELF = config["checks"]["imputation"] and "spamosaic" in config["methods"]
FOLDS = SHEET.folds(config["checks"]["n_folds"]) if CHECKS_ITSELF else []
CHECKED = sorted({modality for _, modality, _ in FOLDS})


wildcard_constraints:
    slice="|".join(map(re.escape, SHEET.slices)),
    modality="|".join(map(re.escape, dict.fromkeys([*SHEET.modalities, *ONTO.get("counts", [])]))),
    method="|".join(map(re.escape, config["methods"])),
    seed="|".join(map(str, config["seeds"])),
    part=r"\d+",


# Slices that are compared, by their level of a condition; empty without two levels.
LEVELS = SHEET.columns.get(config["conditions"]["column"], {})
if config["conditions"]["column"] and len(set(LEVELS.values())) < 2:
    logger.warning(f"Comparing nothing: column {config['conditions']['column']} of the sheet has one level alone.")
    LEVELS = {}
# Modalities with counts, and slices that have two of them.
COUNTED = [name for name, own in config["modalities"].items() if own["kind"] != "features"]
COUNTED_TWICE = [
    (row.slice, row.modality) for row in SHEET if len(set(SHEET.modalities_of(row.slice)) & set(COUNTED)) > 1
]

# The run on the first page of the report.
FIRST_RUN = f"<results>/{config['methods'][0]}/seed-{config['seeds'][0]}"
# What figures need (config/figures.py): the wildcards of each case in this run.
HAS = {
    "modality": [{"modality": name} for name in SHEET.modalities],
    "counts": [{"modality": name} for name in COUNTED],
    "hidden modality": [{"modality": name} for name in CHECKED],
    "missing modality": [
        {"slice": name, "modality": modality} for name, modality in SHEET.missing if (name, modality) in IMPUTED
    ],
    "training": [{}] if "spamosaic" in config["methods"] and not ONTO else [],
    # From the vote of several seeds, or from the posterior of the clustering.
    "confidence": [{}] if len(config["seeds"]) > 1 or CLUSTERERS[config["cluster"]["method"]].probability else [],
    "chosen number": [{}] if config["cluster"]["n_domains"] == "auto" and not ONTO else [],
    "counts of two": [{}] if COUNTED_TWICE else [],
    "conditions": [{}] if LEVELS else [],
    "conditions and counts": [{"modality": name} for name in COUNTED if LEVELS],
}
# Figures of this run, and of these those on the first page of its report.
FIGURES, MAIN_FIGURES = (
    [f"<results>/{path}" for path in chosen(HAS, config["methods"], config["seeds"])]
    for chosen in (figures.drawn, figures.on_first_page)
)


def shipped(path):
    """A file of this repository, by its path from the top, as input of a rule."""
    return HOSTED.get(str(ROOT / path), ROOT / path)


def library(script):
    """Library modules that a rule's script imports: as inputs, an edit of one makes the results stale."""
    return [shipped(path) for path in imported_modules(SCRIPTS / f"{script}.py")[0]]


def located(paths):
    """Paths that stay as the sheet says, where a `prefix` of the module goes before all others."""
    return [local(path) if PREFIXED else path for path in paths]


def slices_with(pattern):
    """An input function: the pattern for each slice that has the wildcard's modality."""
    return lambda wildcards: collect(pattern, slice=SHEET.slices_of(wildcards.modality), allow_missing=True)


def scale(modality):
    """Normalization that puts the counts of all spots on one scale, even if the run integrates raw counts."""
    return {"protein": "clr", "features": "none"}.get(config["modalities"][modality]["kind"], "log")


def spatial_neighbours():
    """Spatial neighbours per spot, by slice."""
    knns = config["graph"]["intra_knns"]
    return {name: knns if isinstance(knns, int) else knns[name] for name in SHEET.slices}


def compared():
    """What rules compare slices by: level and donor of each, and the reference."""
    own = config["conditions"]
    return {"levels": LEVELS, "donors": SHEET.columns.get(own["donor"], {}), "reference": own["reference"]}


def renamed_features(wildcards):
    """New names of a modality's features; empty for one slice of its own, and for kinds that have no names of genes."""
    alone = len(SHEET.slices_of(wildcards.modality)) == 1 and not ONTO
    named = config["modalities"][wildcards.modality]["kind"] in ("rna", "protein")
    return [] if alone or not named else "<results>/features/{modality}.renamed.tsv"


def reference_features(wildcards):
    """Files of the reference with the names that a modality's features take; empty for a run of its own."""
    parts = ["features", *(["counts"] if wildcards.modality in ONTO.get("counts", []) else [])]
    return [f"{ONTO_FOLDER}/{part}.{wildcards.modality}.h5ad" for part in parts] if ONTO else []


def sources_of_rows(rows):
    """Files of the user's that rows of the sheet name."""
    return located(file for row in rows for file in source_files(row.path, row.options))


def sources_of_modality(wildcards):
    """Files of the user's that hold one modality of any slice."""
    return sources_of_rows(row for row in SHEET if row.modality == wildcards.modality)


def sources(wildcards):
    """Files of the user's that hold one modality of one slice."""
    return sources_of_rows([SHEET.row(wildcards.slice, wildcards.modality)])


def reduction(wildcards):
    """Settings of `reduce` for a modality."""
    modality = config["modalities"][wildcards.modality]
    return {key: value for key, value in modality.items() if key not in ("normalization", *COUNTING)}


def mnn_pairs(wildcards):
    """Pairs of slices between which the graph of a modality has mutual nearest neighbours."""
    return [list(pair) for pair in SHEET.mnn_pairs(wildcards.modality)]


def um_per_unit():
    """Micrometres per unit of the coordinates that the config gives, per slice."""
    given = config["um_per_unit"]
    return given if isinstance(given, dict) else dict.fromkeys(SHEET.slices, given)


def annotations(truth=False):
    """The annotations file if the config names obs columns; with ``truth``, only if it names the true domains."""
    named = config["truth"] or (config["keep_obs"] and not truth)
    return "<results>/annotations.h5ad" if named else []


def imputation_counts(wildcards):
    """Counts to impute from: the missing modality's and, for `matching`, those of each modality of the slice."""
    if (wildcards.slice, wildcards.modality) not in IMPUTED:
        raise InputError(
            f"slice {wildcards.slice} has {wildcards.modality}: nothing to impute",
            where=config["slices"],
            hint="its counts are in <results>/qc, the comparison of imputed with hidden counts in <results>/check",
        )
    rows = SHEET.imputed_from(wildcards.slice, wildcards.modality, config["impute"]["method"])
    return [f"<results>/qc/{name}.{modality}.h5ad" for name, modality in dict.fromkeys(rows)]


def fold_counts(wildcards):
    """Counts of the hidden modality and of its sources, in slices that have both."""
    fold = f"{wildcards.slice}.{wildcards.modality}.{wildcards.part}"
    known = [f"{slice}.{modality}.{part}" for slice, modality, part in FOLDS]
    if fold not in known:
        hint = f"folds are named slice.modality.part: {', '.join(known) or 'none with this sheet and these checks'}"
        raise InputError(f"the run hides no {fold}", where="config key checks", hint=hint)
    donors = SHEET.slices_of(wildcards.modality)
    rows = [(name, wildcards.modality) for name in donors]
    for source in SHEET.modalities_of(wildcards.slice):
        if source != wildcards.modality:
            rows += [(name, source) for name in SHEET.slices_of(source) if name in donors]
    return [f"<results>/qc/{name}.{modality}.h5ad" for name, modality in rows]


def fold_links(wildcards):
    """Pairs of slices between which the graph of a fold's hidden modality has mutual nearest neighbours."""
    whole = wildcards.part == "0"
    design = SHEET.drop(wildcards.slice, wildcards.modality) if whole else SHEET
    return [list(pair) for pair in design.mnn_pairs(wildcards.modality)]


def folds_of(wildcards):
    """Results of all folds that hide a modality."""
    if wildcards.modality not in CHECKED:
        hint = "set checks.imputation: true, list spamosaic under methods, and provide a bridge slice with the modality"
        raise InputError(f"the run hides no {wildcards.modality}", where="config key checks", hint=hint)
    return [
        f"<results>/check/folds/{slice}.{modality}.{part}.h5ad"
        for slice, modality, part in FOLDS
        if modality == wildcards.modality
    ]


def fold_embeddings(wildcards):
    """Latent spaces of all folds; empty for baseline methods."""
    own = FOLDS if wildcards.method == "spamosaic" else []
    return [f"<results>/check/folds/{slice}.{modality}.{part}.embedding.h5ad" for slice, modality, part in own]


def held_out_scores(wildcards):
    """The modality's table of held-out scores; empty if the run has none for this method."""
    made = wildcards.method == "spamosaic" and wildcards.modality in CHECKED
    return "<results>/check/features.{modality}.tsv" if made else []


def check_results(table):
    """An input function: a table of held-out validation for each modality; empty for baseline methods."""
    pattern = f"<results>/check/{table}.{{modality}}.tsv"
    return lambda wildcards: collect(pattern, modality=CHECKED if wildcards.method == "spamosaic" else [])


def baseline_slices(wildcards):
    """The files of each slice that a baseline method reads."""
    folder = methods.BASELINES[wildcards.method].slices
    return measured(f"<results>/{folder}/{{slice}}.{{modality}}.h5ad") if folder else []


def baseline_reduced(wildcards):
    """Reduced features of each modality, in the order of the config; empty for a method that does not read them."""
    wanted = methods.BASELINES[wildcards.method].reduced
    return collect("<results>/reduced/{modality}.h5ad", modality=SHEET.modalities) if wanted else []


def baseline_script(wildcards):
    """The script of a baseline method."""
    return shipped(f"scripts/embed_{methods.BASELINES[wildcards.method].script}.py")


def baseline_settings(wildcards):
    """Sections of the config that a baseline method uses, as JSON."""
    sections = ("modalities", *methods.BASELINES[wildcards.method].settings)
    return json.dumps({key: config[key] for key in sections} | {"device": config["train"]["device"]})


def baseline_python(wildcards):
    """The Python interpreter that runs a baseline method's script."""
    method = wildcards.method
    return python_of(method) if methods.BASELINES[method].separate or WITH_CONDA else sys.executable


def python_of(name):
    """The Python interpreter of a separate environment: the config's, or conda's."""
    return config["interpreters"].get(name, "python")


def clustered_graphs():
    """Graphs of all modalities, if the way to find domains looks at what they measure."""
    views = CLUSTERERS[config["cluster"]["method"]].views
    return collect("<results>/graph/{modality}.h5ad", modality=SHEET.modalities if views else [])


def choice_of_number():
    """Additional outputs of `cluster` with `n_domains: auto`: what chose the number, and how domains split."""
    names = {"curve": "n_domains", "tree": "domain_tree"} if HAS["chosen number"] else {}
    return {
        key: ensure(f"<results>/{{method}}/seed-{{seed}}/{name}.tsv", non_empty=True) for key, name in names.items()
    }


def memory(base, per_input):
    """Memory of a job in MB: ``base`` plus ``per_input`` times the size of its input, times the attempt."""
    return lambda wildcards, input, attempt: int((base + per_input * input.size_mb) * attempt)


def measured(pattern):
    """The pattern for each slice and modality of the sheet."""
    return [pattern.format(slice=row.slice, modality=row.modality) for row in SHEET]


def imputed(pattern):
    """The pattern for each slice and modality of which something is imputed."""
    return collect(pattern, zip, slice=[s for s, _ in IMPUTED], modality=[m for _, m in IMPUTED], allow_missing=True)


def mapped_jobs():
    """Jobs that map the slices onto the reference, by the places of their logs."""
    return [
        *collect(["map_features/{modality}", "map_graph/{modality}"], modality=SHEET.modalities),
        *("map_spots", "map_domains"),
        *imputed("map_counts/{slice}.{modality}"),
    ]


def mapping_table():
    """How each slice lies to the reference that it was mapped onto; empty for a run of its own."""
    return f"{FIRST_RUN}/mapping.tsv" if ONTO else []


def of_reference(pattern):
    """An input function: a file of the reference that the slices are mapped onto."""
    return lambda wildcards: f"{ONTO_FOLDER}/{pattern}".format(**wildcards)


def reference_donors():
    """Counts that a reference keeps, for imputation; empty if `export.reference_counts` is false."""
    if not config["export"]["reference_counts"]:
        return []
    matching = config["impute"]["method"] == "matching"
    kept = SHEET.bridges if matching and SHEET.bridges else SHEET.slices
    return [f"<results>/qc/{name}.{own}.h5ad" for name in kept for own in SHEET.modalities_of(name)]


def exported():
    """Further forms of the result that the config asks for."""
    own, asked = config["export"], config["export"]["reference"] and "spamosaic" in config["methods"]
    references = collect("<results>/reference/seed-{seed}", seed=config["seeds"] if asked else [])
    return [*(["<results>/integrated.zarr"] if own["spatialdata"] else []), *references]


def enforced():
    """Marker files of rule `enforce_checks`; empty unless `checks.fail_on` is set."""
    path = "<results>/{method}/seed-{seed}/checks.passed"
    return collect(path, method=config["methods"], seed=config["seeds"]) if config["checks"]["fail_on"] else []


def drawn(name):
    """Files of a figure as outputs, with its place in the report."""
    figure = figures.FIGURES[name]
    files = {ending: ensure(f"<results>/{figure.path}.{ending}", non_empty=True) for ending in figure.endings}
    shown = figure.endings[-1]
    files[shown] = report(
        files[shown],
        caption=f"../report/{name}.rst",
        category=figure.category,
        subcategory=figure.subcategory,
        labels=figures.labels(name, config["methods"], config["seeds"]),
    )
    return files


def digest(settings):
    """SHA-256 of the settings: Snakemake notices a change, the report shows no values."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def recorded_versions():
    """Files with the software versions of all jobs that affect the results, beside their logs."""
    ours, run = "spamosaic" in config["methods"] and not ONTO, "{method}.seed-{seed}"
    jobs = [
        *measured("qc/{slice}.{modality}"),
        *(mapped_jobs() if ONTO else []),
        *(collect("reduce/{modality}", modality=SHEET.modalities) if not ONTO else []),
        *(collect("build_graph/{modality}", modality=SHEET.modalities) if ours else []),
        *(collect("{rule}/seed-{seed}", rule=["train", "embed"], seed=config["seeds"]) if ours else []),
        *collect(f"embed_baseline/{run}", method=BASELINES, seed=config["seeds"]),
        *(f"holdout_fold/{slice}.{modality}.{part}" for slice, modality, part in FOLDS),
        *collect(
            [
                f"evaluate/{run}",
                *([] if ONTO else [f"cluster/{run}", *imputed(f"impute/{run}.{{slice}}.{{modality}}")]),
            ],
            method=config["methods"],
            seed=config["seeds"],
        ),
    ]
    return [f"<results>/logs/{job}.versions.json" for job in jobs]
