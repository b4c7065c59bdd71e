# How far the run may be believed. Needs what prepare, integrate and analyse made; makes <results>/check: what was hidden,
# imputed and compared, and <results>/checks.tsv, the verdict.


rule check_fold:
    """Hide a measured modality in a bridge slice or a stripe of it, train without it, impute it, and compare."""
    input:
        reduced=collect("<results>/reduced/{modality}.h5ad", modality=SHEET.modalities),
        graphs=collect("<results>/graph/{modality}.h5ad", modality=SHEET.modalities),
        counts=fold_counts,
        library=library("check_fold"),
    output:
        scored=ensure("<results>/check/folds/{slice}.{modality}.{part}.h5ad", non_empty=True),
        embedding=ensure("<results>/check/folds/{slice}.{modality}.{part}.embedding.h5ad", non_empty=True),
        versions=ensure("<results>/logs/check_fold/{slice}.{modality}.{part}.versions.json", non_empty=True),
    log:
        "<results>/logs/check_fold/{slice}.{modality}.{part}.log",
    benchmark:
        "<results>/benchmarks/check_fold/{slice}.{modality}.{part}.tsv"
    conda:
        "../../envs/check.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=memory(3000, 40),
        runtime=240,
        gpu=int(config["train"]["device"] == "cuda"),
    params:
        modalities=SHEET.modalities,
        linked=fold_links,
        n_stripes=config["checks"]["n_folds"],
        graph=config["graph"],
        train=config["train"],
        encoder=config["encoder"],
        impute=config["impute"],
        seed=config["seeds"][0],
    message:
        "Hiding {wildcards.modality} of {wildcards.slice} (part {wildcards.part}) to check what is imputed"
    script:
        "../../scripts/check_fold.py"


rule check_imputation:
    """Put the folds of a modality together: scores and errors of each feature, and how well intervals hold."""
    input:
        folds=folds_of,
        library=library("check_imputation"),
    output:
        features=ensure("<results>/check/features.{modality}.tsv", non_empty=True),
        coverage=ensure("<results>/check/coverage.{modality}.tsv", non_empty=True),
        folds=ensure("<results>/check/folds.{modality}.tsv", non_empty=True),
        foscttm=ensure("<results>/check/foscttm.{modality}.tsv", non_empty=True),
    log:
        "<results>/logs/check_imputation/{modality}.log",
    conda:
        "../../envs/check.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 20),
        runtime=30,
    message:
        "Scoring what was imputed of {wildcards.modality}"
    script:
        "../../scripts/check_imputation.py"


rule confidence:
    """Say how sure each spot's domain is, by how often hidden spots keep theirs without what its slice lacks."""
    input:
        embedding="<results>/{method}/seed-{seed}/embedding.h5mu",
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        folds=fold_embeddings,
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
        "How sure the domains of {wildcards.method}, seed {wildcards.seed}, are"
    script:
        "../../scripts/confidence.py"


rule verdict:
    """Say how far to believe the run."""
    input:
        metrics="<results>/{method}/seed-{seed}/metrics.tsv",
        domains="<results>/{method}/seed-{seed}/confidence.tsv",
        calls="<results>/{method}/seed-{seed}/calls.tsv",
        features=check_results("features"),
        foscttm=check_results("foscttm"),
        folds=check_results("folds"),
        library=library("verdict"),
    output:
        checks=ensure("<results>/{method}/seed-{seed}/checks.tsv", non_empty=True),
        composition=ensure("<results>/{method}/seed-{seed}/composition.tsv", non_empty=True),
    log:
        "<results>/logs/verdict/{method}.seed-{seed}.log",
    conda:
        "../../envs/check.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 10),
        runtime=10,
    message:
        "Checking {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/verdict.py"


rule enforce:
    """Stop the run where it failed a check that the config names. A rule of its own, so that the verdict stays."""
    input:
        checks="<results>/{method}/seed-{seed}/checks.tsv",
        library=library("enforce"),
    output:
        "<results>/{method}/seed-{seed}/checks.passed",
    log:
        "<results>/logs/enforce/{method}.seed-{seed}.log",
    conda:
        "../../envs/check.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 10),
        runtime=10,
    params:
        fail_on=config["checks"]["fail_on"],
    message:
        "Is {wildcards.method}, seed {wildcards.seed}, to be believed?"
    script:
        "../../scripts/enforce.py"
