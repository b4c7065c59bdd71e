# How far to trust the run. Reads the results of prepare, integrate and analyse; writes held-out validation to
# <results>/check, and the checks of each run to <results>/{method}/seed-{seed}/checks.tsv.


rule holdout_fold:
    """Held-out validation: hide a modality in a bridge slice or a stripe of it, train without it, impute, compare."""
    input:
        reduced=collect("<results>/reduced/{modality}.h5ad", modality=SHEET.modalities),
        graphs=collect("<results>/graph/{modality}.h5ad", modality=SHEET.modalities),
        counts=fold_counts,
        library=library("holdout_fold"),
    output:
        scored=ensure("<results>/check/folds/{slice}.{modality}.{part}.h5ad", non_empty=True),
        embedding=ensure("<results>/check/folds/{slice}.{modality}.{part}.embedding.h5ad", non_empty=True),
        versions=ensure("<results>/logs/holdout_fold/{slice}.{modality}.{part}.versions.json", non_empty=True),
    log:
        "<results>/logs/holdout_fold/{slice}.{modality}.{part}.log",
    benchmark:
        "<results>/benchmarks/holdout_fold/{slice}.{modality}.{part}.tsv"
    conda:
        "../../envs/check.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=memory(3000, 40),
        runtime=240,
        gpu=int(config["train"]["device"] == "cuda"),
    params:
        modalities=SHEET.modalities,
        mnn_pairs=fold_links,
        n_stripes=config["checks"]["n_folds"],
        graph=config["graph"],
        train=config["train"],
        encoder=config["encoder"],
        impute=config["impute"],
        seed=config["seeds"][0],
    message:
        "Held-out validation of {wildcards.modality} in {wildcards.slice} (part {wildcards.part})"
    script:
        "../../scripts/holdout_fold.py"


rule holdout_summary:
    """Summarise the folds of a modality: scores and errors of each feature, and the coverage of intervals."""
    input:
        folds=folds_of,
        library=library("holdout_summary"),
    output:
        features=ensure("<results>/check/features.{modality}.tsv", non_empty=True),
        coverage=ensure("<results>/check/coverage.{modality}.tsv", non_empty=True),
        folds=ensure("<results>/check/folds.{modality}.tsv", non_empty=True),
        foscttm=ensure("<results>/check/foscttm.{modality}.tsv", non_empty=True),
    log:
        "<results>/logs/holdout_summary/{modality}.log",
    conda:
        "../../envs/check.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 20),
        runtime=30,
    message:
        "Summarising held-out validation of {wildcards.modality}"
    script:
        "../../scripts/holdout_summary.py"


rule confidence:
    """Compute the confidence of each spot's domain, calibrated on held-out spots with the modalities of its slice."""
    input:
        embedding="<results>/{method}/seed-{seed}/embedding.h5mu",
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        folds=fold_embeddings,
        graphs=clustered_graphs(),
        library=library("confidence"),
    output:
        spots=ensure("<results>/{method}/seed-{seed}/confidence.tsv", non_empty=True),
        calls=ensure("<results>/{method}/seed-{seed}/calls.tsv", non_empty=True),
    log:
        "<results>/logs/confidence/{method}.seed-{seed}.log",
    conda:
        "../../envs/check.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Confidence of the domains of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/confidence.py"


rule run_checks:
    """Run the checks of a method and seed: status, number and hint of each."""
    input:
        metrics="<results>/{method}/seed-{seed}/metrics.tsv",
        domains="<results>/{method}/seed-{seed}/confidence.tsv",
        calls="<results>/{method}/seed-{seed}/calls.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        pairing="<results>/pairing.json",
        features=check_results("features"),
        foscttm=check_results("foscttm"),
        folds=check_results("folds"),
        mapping=mapping_table(),
        library=library("run_checks"),
    output:
        checks=ensure("<results>/{method}/seed-{seed}/checks.tsv", non_empty=True),
        composition=ensure("<results>/{method}/seed-{seed}/composition.tsv", non_empty=True),
    log:
        "<results>/logs/run_checks/{method}.seed-{seed}.log",
    conda:
        "../../envs/check.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 10),
        runtime=10,
    message:
        "Running the checks of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/run_checks.py"


rule enforce_checks:
    """Fail the run if a check listed in `fail_on` failed. A separate rule, so that checks.tsv is kept."""
    input:
        checks="<results>/{method}/seed-{seed}/checks.tsv",
        library=library("enforce_checks"),
    output:
        "<results>/{method}/seed-{seed}/checks.passed",
    log:
        "<results>/logs/enforce_checks/{method}.seed-{seed}.log",
    conda:
        "../../envs/check.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 10),
        runtime=10,
    params:
        fail_on=config["checks"]["fail_on"],
    message:
        "Enforcing the checks of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/enforce_checks.py"
