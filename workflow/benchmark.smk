# The benchmark: data sets x methods x seeds x metrics, in one tidy table and its figures. Each data set is a run of the
# workflow, loaded as a module; config/benchmark.yaml says which. `make benchmark` builds what the methods need and runs
#
#     snakemake -s workflow/benchmark.smk --configfile config/benchmark.yaml
from snakemake.utils import min_version

min_version("9.14")


include: "rules/datasets.smk"


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
        annotations=f"{RESULTS}/{{dataset}}/annotations.h5ad",
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
        scores=[f"{RESULTS}/{dataset}/{method}/seed-{seed}/scores.tsv" for dataset, method, seed in runs()],
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
        runs=[(*run, cost(*run)) for run in runs()],
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
