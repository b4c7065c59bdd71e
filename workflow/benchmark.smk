# The benchmark: data sets x methods x seeds x metrics, in one tidy table and its figures. Each data set is a run of the
# workflow, loaded as a module; config/benchmark.yaml says which. `make benchmark` builds what the methods need and runs
#
#     snakemake -s workflow/benchmark.smk --configfile config/benchmark.yaml
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.14")

ROOT = Path(workflow.basedir).parent
SCRIPTS = ROOT / "scripts"
sys.path.insert(0, str(SCRIPTS))

from mosaic import methods
from mosaic.imports import reached
from mosaic.settings import Row, Sheet

RESULTS = "results/benchmark"
FIRST = "spamosaic"  # what the others are compared with
UNKNOWN = {"data", "seeds", "methods", "interpreters", "datasets"} ^ set(config)

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


def cannot(dataset, method):
    """Why a method does not do a data set; None where it does."""
    if method in DATASETS[dataset]["leave_out"]:
        return f"left out: {DATASETS[dataset]['leave_out'][method]}"
    return methods.cannot(method, Sheet(Row(*pair, "") for pair in rows(dataset, "slices")), kinds(dataset))


def able(dataset):
    """The methods that can do a data set."""
    return [method for method in config["methods"] if cannot(dataset, method) is None]


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
    own = [ROOT / "benchmarks" / f"{name}.py" for name in ("datasets", "comparison")]
    modules = {module for path in (*own, ROOT / "benchmarks" / f"{script}.py") for module in reached(path, SCRIPTS)[0]}
    return sorted(modules | set(map(str, own)))


def runs(pattern):
    """The pattern for each data set, method that can do it, and seed."""
    return [
        pattern.format(dataset=dataset, method=method, seed=seed)
        for dataset in DATASETS
        for method in able(dataset)
        for seed in config["seeds"]
    ]


def cost(dataset, method, seed):
    """Where Snakemake noted time and memory of what a method does with a data set, from counts to embedding."""
    folder = f"{RESULTS}/{dataset}/benchmarks"
    reduced = [f"{folder}/reduce/{modality}.tsv" for modality in kinds(dataset)]
    if method == FIRST:
        graphs = [f"{folder}/build_graph/{modality}.tsv" for modality in kinds(dataset)]
        return [*reduced, *graphs, f"{folder}/train/seed-{seed}.tsv"]
    own = f"{folder}/embed_peer/{method}.seed-{seed}.tsv"
    return [*reduced, own] if methods.PEERS[method].reduced else [own]


rule benchmark:
    """The tables and figures of all data sets."""
    default_target: True
    input:
        f"{RESULTS}/scores.tsv",
        f"{RESULTS}/summary.tsv",
        f"{RESULTS}/overview.png",
        f"{RESULTS}/time.png",


for dataset in DATASETS:
    prefix = f"{dataset}_"

    module:
        name: dataset
        pathvars:
            results=f"{RESULTS}/{dataset}",
        snakefile:
            "../Snakefile"
        config:
            settings_of(dataset)

    use rule * from dataset exclude all, simulate_demo as prefix*

    rule:
        name:
            f"make_{dataset}"
        input:
            design=ROOT / "resources" / "demo.yaml",
            library=library("make_dataset"),
        output:
            slices=ensure(raw(dataset, "slices"), non_empty=True),
            hidden=ensure(raw(dataset, "hidden"), non_empty=True),
        log:
            f"{RESULTS}/logs/make/{dataset}.log",
        conda:
            "../envs/prepare.yaml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            dataset={key: value for key, value in DATASETS[dataset].items() if key not in ("config", "leave_out")},
            data=config["data"],
        message:
            f"Making the slices of {dataset}"
        script:
            "../benchmarks/make_dataset.py"


rule score:
    """Score one run: domains by each clusterer, latent space, and imputed counts against hidden ones."""
    input:
        embedding=f"{RESULTS}/{{dataset}}/{{method}}/seed-{{seed}}/embedding.h5mu",
        reduced=lambda wildcards: [f"{RESULTS}/{wildcards.dataset}/reduced/{m}.h5ad" for m in kinds(wildcards.dataset)],
        counts=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/qc/{name}.{m}.h5ad" for name, m in rows(wildcards.dataset, "slices")
        ],
        hidden=lambda wildcards: raw(wildcards.dataset, "hidden"),
        library=library("score"),
    output:
        ensure(f"{RESULTS}/{{dataset}}/{{method}}/seed-{{seed}}/scores.tsv", non_empty=True),
    log:
        f"{RESULTS}/logs/score/{{dataset}}.{{method}}.seed-{{seed}}.log",
    wildcard_constraints:
        dataset="|".join(DATASETS),
        method="|".join(config["methods"]),
    conda:
        "../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        n_domains=lambda wildcards: DATASETS[wildcards.dataset]["config"]["cluster"]["n_domains"],
        kinds=lambda wildcards: kinds(wildcards.dataset),
        hidden=lambda wildcards: rows(wildcards.dataset, "hidden"),
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "Scoring {wildcards.method} on {wildcards.dataset}, seed {wildcards.seed}"
    script:
        "../benchmarks/score.py"


rule summarise:
    """Put all scores into one table, with what they cost; means, intervals, paired differences and ranks; and figures."""
    input:
        scores=runs(f"{RESULTS}/{{dataset}}/{{method}}/seed-{{seed}}/scores.tsv"),
        library=library("summarise"),
    output:
        scores=ensure(f"{RESULTS}/scores.tsv", non_empty=True),
        summary=ensure(f"{RESULTS}/summary.tsv", non_empty=True),
        markdown=ensure(f"{RESULTS}/summary.md", non_empty=True),
        overview=multiext(f"{RESULTS}/overview", ".svg", ".png"),
        time=multiext(f"{RESULTS}/time", ".svg", ".png"),
    log:
        f"{RESULTS}/logs/summarise.log",
    conda:
        "../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        runs=[
            (dataset, method, seed, cost(dataset, method, seed))
            for dataset in DATASETS
            for method in able(dataset)
            for seed in config["seeds"]
        ],
        labels={method: methods.label(method) for method in config["methods"]},
        cannot=[
            (dataset, method, cannot(dataset, method))
            for dataset in DATASETS
            for method in config["methods"]
            if cannot(dataset, method)
        ],
    message:
        "Summing up the benchmark"
    script:
        "../benchmarks/summarise.py"
