# Slices compared by a condition. Reads counts, domains and embeddings; writes the comparisons of each run to
# <results>/{method}/seed-{seed}/conditions. Included where the config names a column of the sheet with two levels.


rule compare_composition:
    """Compare the proportions of the domains between conditions."""
    input:
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("compare_composition"),
    output:
        tests=ensure("<results>/{method}/seed-{seed}/conditions/composition.tsv", non_empty=True),
        shares=ensure("<results>/{method}/seed-{seed}/conditions/shares.tsv", non_empty=True),
        contrasts=ensure("<results>/{method}/seed-{seed}/conditions/contrasts.tsv", non_empty=True),
    log:
        "<results>/logs/compare_composition/{method}.seed-{seed}.log",
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        compared=compared(),
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "Composition by condition, {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/compare_composition.py"


rule compare_neighbours:
    """Count which domains border on which in each slice, and compare conditions."""
    input:
        embedding="<results>/{method}/seed-{seed}/embedding.h5mu",
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("compare_neighbours"),
    output:
        tests=ensure("<results>/{method}/seed-{seed}/conditions/neighbours.tsv", non_empty=True),
        slices=ensure("<results>/{method}/seed-{seed}/conditions/neighbours_by_slice.tsv", non_empty=True),
    log:
        "<results>/logs/compare_neighbours/{method}.seed-{seed}.log",
    benchmark:
        "<results>/benchmarks/compare_neighbours/{method}.seed-{seed}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=60,
    params:
        compared=compared(),
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "Neighbouring domains by condition, {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/compare_neighbours.py"


rule compare_features:
    """Test the features of a modality for differences between conditions within each domain, over replicates."""
    input:
        slices=slices_with("<results>/qc/{slice}.{modality}.h5ad"),
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("compare_features"),
    output:
        features=ensure("<results>/{method}/seed-{seed}/conditions/features.{modality}.tsv", non_empty=True),
        tests=ensure("<results>/{method}/seed-{seed}/conditions/tests.{modality}.tsv", non_empty=True),
    log:
        "<results>/logs/compare_features/{method}.seed-{seed}.{modality}.log",
    benchmark:
        "<results>/benchmarks/compare_features/{method}.seed-{seed}.{modality}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 40),
        runtime=240,
    params:
        compared=compared(),
        covariates={name: SHEET.columns[name] for name in config["conditions"]["covariates"]},
    message:
        "Differential {wildcards.modality} by condition, {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/compare_features.py"
