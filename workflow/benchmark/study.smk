# The study of the method: variants of the default run (encoders, edges, losses, anchors) on data sets of the benchmark,
# with what each costs. config/study.yaml lists the variants. `make study` runs
#
#     snakemake -s workflow/benchmark/study.smk --configfile config/benchmark.yaml config/study.yaml
from snakemake.utils import min_version

min_version("9.14")


include: "common.smk"
include: "datasets.smk"


# Data sets that need published data are left out without it.
STUDIED = [name for name in config["study"]["quick" if config["quick"] else "datasets"] if name in DATASETS]
VARIANTS = config["study"]["variants"]
KNOWN = {"group", "config", "edges", "anchors", "features", "bridges"}
for name, variant in VARIANTS.items():
    if unknown := set(variant) - KNOWN:
        raise WorkflowError(
            f"variant {name} of the study has an unknown key: {', '.join(sorted(unknown))}.\n"
            f"Hint: the keys are {', '.join(sorted(KNOWN))}."
        )


def studied(dataset):
    """The variants that a data set can show: some need two bridge slices."""
    n_bridges = sum(len(own) > 1 for own in DATASETS[dataset]["slices"].values())
    return [name for name, own in VARIANTS.items() if n_bridges >= own.get("bridges", 1)]


rule study:
    """The tables and the figures of the study."""
    default_target: True
    input:
        f"{RESULTS}/study/scores.tsv",
        f"{RESULTS}/study/summary.md",
        f"{RESULTS}/study/anchors.png",
        f"{RESULTS}/study/changes.png",


rule study_variant:
    """Run a variant on a data set with all seeds, from its features on, and score it."""
    input:
        reduced=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/reduced/{modality}.h5ad" for modality in kinds(wildcards.dataset)
        ],
        counts=lambda wildcards: [
            f"{RESULTS}/{wildcards.dataset}/qc/{name}.{modality}.h5ad"
            for name, modality in rows(wildcards.dataset, "slices")
        ],
        annotations=f"{RESULTS}/{{dataset}}/annotations.h5ad",
        hidden=lambda wildcards: raw(wildcards.dataset, "hidden"),
        library=library("study_variant"),
    output:
        ensure(f"{RESULTS}/study/{{dataset}}/{{variant}}.tsv", non_empty=True),
    log:
        f"{RESULTS}/logs/study/{{dataset}}.{{variant}}.log",
    wildcard_constraints:
        dataset="|".join(DATASETS),
        variant="|".join(VARIANTS),
    conda:
        "../../envs/check.yaml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=240,
    params:
        variant=lambda wildcards: VARIANTS[wildcards.variant],
        config=lambda wildcards: settings_of(wildcards.dataset),
        hidden=lambda wildcards: rows(wildcards.dataset, "hidden"),
        seeds=config["seeds"],
    message:
        "Studying {wildcards.variant} on {wildcards.dataset}"
    script:
        "scripts/study_variant.py"


rule study_summary:
    """Put all scores into one table, sum them up by group of variants, and draw them."""
    input:
        scores=[f"{RESULTS}/study/{dataset}/{variant}.tsv" for dataset in STUDIED for variant in studied(dataset)],
        library=library("study_summary"),
    output:
        scores=ensure(f"{RESULTS}/study/scores.tsv", non_empty=True),
        markdown=ensure(f"{RESULTS}/study/summary.md", non_empty=True),
        anchors=multiext(f"{RESULTS}/study/anchors", ".svg", ".png"),
        changes=multiext(f"{RESULTS}/study/changes", ".svg", ".png"),
    log:
        f"{RESULTS}/logs/study/summary.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        variants=VARIANTS,
        runs=[(dataset, variant) for dataset in STUDIED for variant in studied(dataset)],
    message:
        "Summing up the study"
    script:
        "scripts/study_summary.py"
