# What the benchmark's rules share: its config, checked, and helpers; the Snakefile of the benchmark and the study include it.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

HERE = Path(workflow.current_basedir)
ROOT = HERE.parents[1]
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))

from mosaic.config import methods
from mosaic.imports import imported_modules
from mosaic.config.design import SampleRow, SampleSheet
from mosaic.config.schema import read_yaml
from mosaic.config.settings import SCHEMAS, from_command_line

RESULTS = "results/benchmark"
# The benchmark's own keys that a run has, too, such as seeds, are read from --config as there.
SCHEMA = read_yaml(SCHEMAS / "config.schema.yaml")
update_config(config, from_command_line(workflow.config_settings.config, SCHEMA))
UNKNOWN = {"data", "seeds", "methods", "interpreters", "datasets"} ^ (set(config) - {"study", "quick"})

if UNKNOWN:
    raise WorkflowError(
        f"the benchmark's config lacks or does not know: {', '.join(sorted(UNKNOWN))}.\n"
        "Hint: --configfile config/benchmark.yaml, or a file with the same keys."
    )
DATASETS = {
    name: {"hidden": {}, "arguments": {}, "leave_out": {}} | own
    for name, own in config["datasets"].items()
    if "simulate" in own or config["data"]
}


def rows(dataset, part):
    """Pairs of slice and modality that the methods see (`slices`) or that is hidden from them (`hidden`)."""
    return [(name, modality) for name, own in DATASETS[dataset][part].items() for modality in own]


def raw(dataset, part):
    """Files of the data set, as a user's."""
    return [f"{RESULTS}/data/{dataset}/{part}/{name}.{modality}.h5ad" for name, modality in rows(dataset, part)]


def kinds(dataset):
    """What each modality of a data set measures."""
    return {name: own["kind"] for name, own in DATASETS[dataset]["config"]["modalities"].items()}


def unsupported_reason(dataset, method):
    """Why a method does not do a data set; None where it does."""
    if method in DATASETS[dataset]["leave_out"]:
        return f"left out: {DATASETS[dataset]['leave_out'][method]}"
    return methods.unsupported_reason(
        method, SampleSheet(SampleRow(*pair, "") for pair in rows(dataset, "slices")), kinds(dataset)
    )


def able(dataset):
    """The methods that can do a data set."""
    return [method for method in config["methods"] if unsupported_reason(dataset, method) is None]


def settings_of(dataset):
    """The workflow's config for a data set, with its sheet, which is written here as a module needs it when it loads."""
    sheet = Path(RESULTS, "data", dataset, "slices.tsv")
    pairs = zip(rows(dataset, "slices"), raw(dataset, "slices"), strict=True)
    text = "slice\tmodality\tpath\n" + "".join(f"{name}\t{own}\t{path}\n" for (name, own), path in pairs)
    if not sheet.exists() or sheet.read_text() != text:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet.write_text(text)
    chosen = able(dataset)
    return DATASETS[dataset]["config"] | {
        "slices": str(sheet),
        "check_files": False,
        "truth": "domain",
        "seeds": config["seeds"],
        "methods": chosen,
        "interpreters": {name: path for name, path in config["interpreters"].items() if name in chosen},
        "checks": {"imputation": False},
    }


def library(script):
    """What a script of the benchmark reaches, as inputs: their edits make its results stale."""
    path = HERE / "scripts" / f"{script}.py"
    # Beside the library: the modules of the benchmark, and the published data sets.
    named = [
        folder / f"{name}.py"
        for name in imported_modules(path, SCRIPTS)[1]
        for folder in (HERE / "scripts", ROOT / "benchmarks")
    ]
    own = [str(file) for file in named if file.exists()]
    modules = {module for file in (path, *own) for module in imported_modules(file, SCRIPTS)[0]}
    return sorted(modules | set(own))


def runs():
    """Each data set, method that can do it, and seed."""
    return [(dataset, method, seed) for dataset in DATASETS for method in able(dataset) for seed in config["seeds"]]


def cost(dataset, method, seed):
    """Where Snakemake noted time and memory of what a method does with a data set, from counts to embedding."""
    folder = f"{RESULTS}/{dataset}/benchmarks"
    reduced = [f"{folder}/reduce/{modality}.tsv" for modality in kinds(dataset)]
    if method not in methods.BASELINES:
        graphs = [f"{folder}/build_graph/{modality}.tsv" for modality in kinds(dataset)]
        return [*reduced, *graphs, f"{folder}/train/seed-{seed}.tsv"]
    own = f"{folder}/embed_baseline/{method}.seed-{seed}.tsv"
    return [*reduced, own] if methods.BASELINES[method].reduced else [own]
