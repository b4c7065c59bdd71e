# The figures, as SVG and as PNG for the report, and the report's pages, as HTML. Reads the results of the other rules; writes
# <results>/figures for the input and <results>/{method}/seed-{seed}/figures for each run.


rule plot_qc:
    """Plot the quality-control metrics of each slice of a modality, with thresholds."""
    input:
        spots=slices_with("<results>/qc/{slice}.{modality}.tsv"),
        summaries=slices_with("<results>/qc/{slice}.{modality}.json"),
        library=library("plot_qc"),
    output:
        **drawn("qc"),
    log:
        "<results>/logs/plot_qc/{modality}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        slices=SHEET.slices,
    message:
        "Drawing the quality control of {wildcards.modality}"
    script:
        "../../scripts/plot_qc.py"


rule plot_features:
    """Plot UMAPs of the features of a modality before and after batch correction."""
    input:
        reduced="<results>/reduced/{modality}.h5ad",
        library=library("plot_features"),
    output:
        **drawn("features"),
    log:
        "<results>/logs/plot_features/{modality}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 20),
        runtime=30,
    params:
        slices=SHEET.slices,
    message:
        "Drawing the features of {wildcards.modality}"
    script:
        "../../scripts/plot_features.py"


rule plot_training:
    """Plot the losses over the epochs, one line per seed."""
    input:
        history=collect("<results>/spamosaic/seed-{seed}/history.tsv", seed=config["seeds"]),
        library=library("plot_training"),
    output:
        **drawn("training"),
    log:
        "<results>/logs/plot_training.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        seeds=config["seeds"],
    message:
        "Drawing the training curves"
    script:
        "../../scripts/plot_training.py"


rule plot_latent:
    """Plot the UMAP of the latent space by slice, modalities and domain."""
    input:
        embedding="<results>/{method}/seed-{seed}/embedding.h5mu",
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        umap="<results>/{method}/seed-{seed}/umap.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("plot_latent"),
    output:
        **drawn("latent"),
    log:
        "<results>/logs/plot_latent/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        slices=SHEET.slices,
    message:
        "Drawing the latent space of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_latent.py"


rule plot_domains:
    """Plot the domains on the tissue of every slice, above the true domains if known."""
    input:
        embedding="<results>/{method}/seed-{seed}/embedding.h5mu",
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        annotations=annotations(truth=True),
        tissue=collect("<results>/tissue/{slice}.json", slice=SHEET.slices),
        library=library("plot_domains"),
    output:
        **drawn("domains"),
    log:
        "<results>/logs/plot_domains/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        slices=SHEET.slices,
        truth=config["truth"],
        figures=config["figures"],
    message:
        "Drawing the domains of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_domains.py"


rule plot_composition:
    """Plot the proportion of each slice in each domain."""
    input:
        composition="<results>/{method}/seed-{seed}/composition.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("plot_composition"),
    output:
        **drawn("composition"),
    log:
        "<results>/logs/plot_composition/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the composition of the slices by {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_composition.py"


rule plot_markers:
    """Plot the marker features of the domains in a modality."""
    input:
        table="<results>/{method}/seed-{seed}/markers/{modality}.tsv",
        profile="<results>/{method}/seed-{seed}/markers/{modality}.profile.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("plot_markers"),
    output:
        **drawn("markers"),
    log:
        "<results>/logs/plot_markers/{method}.seed-{seed}.{modality}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the {wildcards.modality} markers of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_markers.py"


rule plot_n_domains:
    """Plot what chose the number of domains, and how domains split as the number grows."""
    input:
        curve="<results>/{method}/seed-{seed}/n_domains.tsv",
        tree="<results>/{method}/seed-{seed}/domain_tree.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("plot_n_domains"),
    output:
        **drawn("n_domains"),
    log:
        "<results>/logs/plot_n_domains/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the choice of the number of domains of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_n_domains.py"


rule plot_confidence:
    """Plot the confidence of each spot on the tissue."""
    input:
        embedding=f"<results>/{{method}}/seed-{config['seeds'][0]}/embedding.h5mu",
        spots="<results>/{method}/consensus.tsv",
        agreement="<results>/{method}/agreement.tsv",
        support="<results>/{method}/support.tsv",
        tissue=collect("<results>/tissue/{slice}.json", slice=SHEET.slices),
        library=library("plot_confidence"),
    output:
        **drawn("confidence"),
    log:
        "<results>/logs/plot_confidence/{method}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        slices=SHEET.slices,
        figures=config["figures"],
    message:
        "Drawing the confidence of {wildcards.method}"
    script:
        "../../scripts/plot_confidence.py"


rule plot_imputed:
    """Plot imputed counts of a slice beside measured counts of the largest slice that has the modality."""
    input:
        imputed="<results>/{method}/seed-{seed}/imputed/{slice}.{modality}.h5ad",
        donors=slices_with("<results>/qc/{slice}.{modality}.h5ad"),
        tissue=collect("<results>/tissue/{slice}.json", slice=SHEET.slices),
        library=library("plot_imputed"),
    output:
        **drawn("imputed"),
    log:
        "<results>/logs/plot_imputed/{method}.seed-{seed}.{slice}.{modality}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        figures=config["figures"],
    message:
        "Drawing {wildcards.modality} imputed in {wildcards.slice}"
    script:
        "../../scripts/plot_imputed.py"


rule plot_metrics:
    """Write the metrics of a run as a table of the report."""
    input:
        metrics="<results>/{method}/seed-{seed}/metrics.tsv",
        foscttm=check_results("foscttm"),
        template=shipped("workflow/report/metrics.html.j2"),
        library=library("plot_metrics"),
    output:
        **drawn("metrics"),
    log:
        "<results>/logs/plot_metrics/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Writing the table of metrics of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_metrics.py"


rule plot_checks:
    """Plot the checks of a run: status, number and hint of each."""
    input:
        checks="<results>/{method}/seed-{seed}/checks.tsv",
        library=library("plot_checks"),
    output:
        **drawn("checks"),
    log:
        "<results>/logs/plot_checks/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the checks of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_checks.py"


rule plot_holdout:
    """Plot imputed against hidden counts of a modality, and the coverage of their intervals."""
    input:
        features="<results>/check/features.{modality}.tsv",
        coverage="<results>/check/coverage.{modality}.tsv",
        library=library("plot_holdout"),
    output:
        **drawn("holdout"),
    log:
        "<results>/logs/plot_holdout/{modality}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the held-out validation of {wildcards.modality}"
    script:
        "../../scripts/plot_holdout.py"


rule plot_spatial:
    """Plot the features of a modality that follow the tissue most."""
    input:
        ranked="<results>/spatial/{modality}.tsv",
        library=library("plot_spatial"),
    output:
        **drawn("spatial"),
    log:
        "<results>/logs/plot_spatial/{modality}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        slices=SHEET.slices,
    message:
        "Drawing the spatially variable features of {wildcards.modality}"
    script:
        "../../scripts/plot_spatial.py"


rule plot_colocalisation:
    """Plot pairs of features of two modalities in the same places."""
    input:
        pairs="<results>/spatial/pairs.tsv",
        library=library("plot_colocalisation"),
    output:
        **drawn("colocalisation"),
    log:
        "<results>/logs/plot_colocalisation.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the features of two modalities in the same places"
    script:
        "../../scripts/plot_colocalisation.py"


rule plot_compared_composition:
    """Plot the composition of the slices by condition."""
    input:
        tests="<results>/{method}/seed-{seed}/conditions/composition.tsv",
        shares="<results>/{method}/seed-{seed}/conditions/shares.tsv",
        contrasts="<results>/{method}/seed-{seed}/conditions/contrasts.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("plot_compared_composition"),
    output:
        **drawn("compared_composition"),
    log:
        "<results>/logs/plot_compared_composition/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the composition by condition of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_compared_composition.py"


rule plot_compared_features:
    """Plot the features of a modality that differ between conditions."""
    input:
        features="<results>/{method}/seed-{seed}/conditions/features.{modality}.tsv",
        tests="<results>/{method}/seed-{seed}/conditions/tests.{modality}.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("plot_compared_features"),
    output:
        **drawn("compared_features"),
    log:
        "<results>/logs/plot_compared_features/{method}.seed-{seed}.{modality}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the differential {wildcards.modality} of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_compared_features.py"


rule plot_compared_neighbours:
    """Plot which domains border on which, by condition."""
    input:
        tests="<results>/{method}/seed-{seed}/conditions/neighbours.tsv",
        contrasts="<results>/{method}/seed-{seed}/conditions/contrasts.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("plot_compared_neighbours"),
    output:
        **drawn("compared_neighbours"),
    log:
        "<results>/logs/plot_compared_neighbours/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    message:
        "Drawing the neighbouring domains by condition of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/plot_compared_neighbours.py"


rule overview:
    """Write the first page of the report: input, checks, main figures, settings and versions."""
    input:
        summaries=measured("<results>/qc/{slice}.{modality}.json"),
        pairing="<results>/pairing.json",
        corrections=collect("<results>/reduced/{modality}.correction.json", modality=SHEET.modalities),
        checks=collect(
            "<results>/{method}/seed-{seed}/checks.tsv",
            method=config["methods"],
            seed=config["seeds"],
        ),
        domains=f"{FIRST_RUN}/domains.tsv",
        figures=MAIN_FIGURES,
        versions=recorded_versions(),
        template=shipped("workflow/report/overview.html.j2"),
        library=library("overview"),
    output:
        **drawn("overview"),
        # The same page with figures; workflow.rst includes it, as it is beside the other.
        landing=ensure("<results>/landing.html", non_empty=True),
    log:
        "<results>/logs/overview.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        # The report embeds params in a script, unescaped. They must not contain user text, except what a schema keeps
        # free of markup: the page reads the configuration itself, and the digest reruns the rule when it changes.
        settings=digest(config),
        columns=SHEET.columns,
    message:
        "Writing the report's first page"
    script:
        "../../scripts/overview.py"
