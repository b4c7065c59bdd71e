# From the latent space to results. Reads <results>/{method}/seed-{seed}/embedding.h5mu of any method; writes domains, the
# latent space aligned by them, imputed counts, metrics and UMAPs beside it, <results>/integrated.h5mu with all results,
# and <results>/domains for vendors' browsers.


rule cluster:
    """Cluster the latent space into spatial domains, and align it by them."""
    input:
        embedding="<results>/{method}/seed-{seed}/embedding.h5mu",
        graphs=clustered_graphs(),
        library=library("cluster"),
    output:
        **choice_of_number(),
        domains=ensure("<results>/{method}/seed-{seed}/domains.tsv", non_empty=True),
        aligned=ensure("<results>/{method}/seed-{seed}/aligned.h5mu", non_empty=True),
        versions=ensure("<results>/logs/cluster/{method}.seed-{seed}.versions.json", non_empty=True),
    log:
        "<results>/logs/cluster/{method}.seed-{seed}.log",
    benchmark:
        "<results>/benchmarks/cluster/{method}.seed-{seed}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=60,
    params:
        settings=config["cluster"],
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "Clustering {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/cluster.py"


rule name_domains:
    """Match the domains of a run with those of the first run; name and colour them."""
    input:
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        first_domains=f"{FIRST_RUN}/domains.tsv",
        annotations=annotations(truth=True),
        library=library("name_domains"),
    output:
        ensure("<results>/{method}/seed-{seed}/domain_names.tsv", non_empty=True),
    log:
        "<results>/logs/name_domains/{method}.seed-{seed}.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=10,
    params:
        names=config["domains"]["names"],
        truth=config["truth"],
    message:
        "Names of the domains of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/name_domains.py"


rule consensus:
    """Find consensus domains: the majority vote of the seeds for each spot."""
    input:
        domains=collect("<results>/{method}/seed-{seed}/confidence.tsv", seed=config["seeds"], allow_missing=True),
        first_domains=f"{FIRST_RUN}/domains.tsv",
        library=library("consensus"),
    output:
        spots=ensure("<results>/{method}/consensus.tsv", non_empty=True),
        agreement=ensure("<results>/{method}/agreement.tsv", non_empty=True),
        support=ensure("<results>/{method}/support.tsv", non_empty=True),
    log:
        "<results>/logs/consensus/{method}.log",
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        seeds=config["seeds"],
        names=config["domains"]["names"],
    message:
        "Consensus of the seeds of {wildcards.method}"
    script:
        "../../scripts/consensus.py"


rule impute:
    """Impute a modality that a slice lacks, or the features of it that other slices alone measured."""
    input:
        embedding="<results>/{method}/seed-{seed}/embedding.h5mu",
        counts=imputation_counts,
        scores=held_out_scores,
        library=library("impute"),
    output:
        ensure("<results>/{method}/seed-{seed}/imputed/{slice}.{modality}.h5ad", non_empty=True),
        versions=ensure("<results>/logs/impute/{method}.seed-{seed}.{slice}.{modality}.versions.json", non_empty=True),
    log:
        "<results>/logs/impute/{method}.seed-{seed}.{slice}.{modality}.log",
    benchmark:
        "<results>/benchmarks/impute/{method}.seed-{seed}.{slice}.{modality}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 40),
        runtime=60,
    params:
        settings=config["impute"],
        union=UNION,
    message:
        "Imputing {wildcards.modality} in {wildcards.slice} with {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/impute.py"


rule evaluate:
    """Score domains and latent space, against the true domains if known."""
    input:
        embedding="<results>/{method}/seed-{seed}/embedding.h5mu",
        aligned="<results>/{method}/seed-{seed}/aligned.h5mu",
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        annotations=annotations(truth=True),
        library=library("evaluate"),
    output:
        ensure("<results>/{method}/seed-{seed}/metrics.tsv", non_empty=True),
        versions=ensure("<results>/logs/evaluate/{method}.seed-{seed}.versions.json", non_empty=True),
    log:
        "<results>/logs/evaluate/{method}.seed-{seed}.log",
    benchmark:
        "<results>/benchmarks/evaluate/{method}.seed-{seed}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 20),
        runtime=60,
    params:
        truth=config["truth"],
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "Evaluating {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/evaluate.py"


rule rank_markers:
    """Rank the marker features of the domains in a modality, slice by slice."""
    input:
        slices=slices_with("<results>/qc/{slice}.{modality}.h5ad"),
        domains="<results>/{method}/seed-{seed}/domains.tsv",
        names="<results>/{method}/seed-{seed}/domain_names.tsv",
        library=library("rank_markers"),
    output:
        table=ensure("<results>/{method}/seed-{seed}/markers/{modality}.tsv", non_empty=True),
        profile=ensure("<results>/{method}/seed-{seed}/markers/{modality}.profile.tsv", non_empty=True),
    log:
        "<results>/logs/rank_markers/{method}.seed-{seed}.{modality}.log",
    benchmark:
        "<results>/benchmarks/rank_markers/{method}.seed-{seed}.{modality}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 40),
        runtime=60,
    params:
        scale=lambda wildcards: scale(wildcards.modality),
    message:
        "Markers of the domains of {wildcards.method}, seed {wildcards.seed}, in {wildcards.modality}"
    script:
        "../../scripts/rank_markers.py"


rule rank_spatial:
    """Rank the features of a modality by how strongly they follow the tissue."""
    input:
        slices=slices_with("<results>/qc/{slice}.{modality}.h5ad"),
        library=library("rank_spatial"),
    output:
        ensure("<results>/spatial/{modality}.tsv", non_empty=True),
    log:
        "<results>/logs/rank_spatial/{modality}.log",
    benchmark:
        "<results>/benchmarks/rank_spatial/{modality}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 40),
        runtime=60,
    params:
        scale=lambda wildcards: scale(wildcards.modality),
        n_neighbors=spatial_neighbours(),
        radius=config["graph"]["radius"],
        n_features=config["spatial"]["n_features"],
    message:
        "Spatially variable features of {wildcards.modality}"
    script:
        "../../scripts/rank_spatial.py"


rule colocalise:
    """Compare pairs of features of two modalities on the tissue of the slices that have both."""
    input:
        slices=[f"<results>/qc/{slice}.{modality}.h5ad" for slice, modality in COUNTED_TWICE if modality in COUNTED],
        library=library("colocalise"),
    output:
        ensure("<results>/spatial/pairs.tsv", non_empty=True),
    log:
        "<results>/logs/colocalise.log",
    benchmark:
        "<results>/benchmarks/colocalise.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 40),
        runtime=60,
    params:
        scales={modality: scale(modality) for modality in COUNTED},
        pairs=config["spatial"]["pairs"],
        n_neighbors=spatial_neighbours(),
        radius=config["graph"]["radius"],
    message:
        "Features of two modalities in the same places"
    script:
        "../../scripts/colocalise.py"


rule project_latent:
    """Compute a UMAP of the aligned latent space."""
    input:
        embedding="<results>/{method}/seed-{seed}/aligned.h5mu",
        library=library("project_latent"),
    output:
        ensure("<results>/{method}/seed-{seed}/umap.tsv", non_empty=True),
    log:
        "<results>/logs/project_latent/{method}.seed-{seed}.log",
    benchmark:
        "<results>/benchmarks/project_latent/{method}.seed-{seed}.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 20),
        runtime=120,
    params:
        seed=lambda wildcards: int(wildcards.seed),
    message:
        "UMAP of {wildcards.method}, seed {wildcards.seed}"
    script:
        "../../scripts/project_latent.py"


rule export_reference:
    """Write the folder onto which a later run maps new slices."""
    input:
        model="<results>/spamosaic/seed-{seed}/model.safetensors",
        reduced=collect("<results>/reduced/{modality}.h5ad", modality=SHEET.modalities),
        graphs=collect("<results>/graph/{modality}.h5ad", modality=SHEET.modalities),
        embedding="<results>/spamosaic/seed-{seed}/embedding.h5mu",
        domains="<results>/spamosaic/seed-{seed}/confidence.tsv",
        names="<results>/spamosaic/seed-{seed}/domain_names.tsv",
        umap="<results>/spamosaic/seed-{seed}/umap.tsv",
        checks="<results>/spamosaic/seed-{seed}/checks.tsv",
        counts=reference_donors(),
        scores=collect("<results>/check/features.{modality}.tsv", modality=CHECKED),
        versions="<results>/logs/train/seed-{seed}.versions.json",
        library=library("export_reference"),
    output:
        directory("<results>/reference/seed-{seed}"),
    log:
        "<results>/logs/export_reference/seed-{seed}.log",
    benchmark:
        "<results>/benchmarks/export_reference/seed-{seed}.tsv"
    conda:
        "../../envs/mapping.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 20),
        runtime=60,
    params:
        config=config,
        slices={name: SHEET.modalities_of(name) for name in SHEET.slices},
        views=CLUSTERERS[config["cluster"]["method"]].views,
    message:
        "Writing the reference of seed {wildcards.seed}"
    script:
        "../../scripts/export_reference.py"


rule export:
    """Write counts, latent spaces, domains, UMAPs and imputed counts to one file, and domains for vendors' browsers."""
    input:
        qc=measured("<results>/qc/{slice}.{modality}.h5ad"),
        reduced=collect("<results>/reduced/{modality}.h5ad", modality=SHEET.modalities),
        runs=collect(
            "<results>/{method}/seed-{seed}/{file}",
            method=config["methods"],
            seed=config["seeds"],
            file=["embedding.h5mu", "aligned.h5mu", "domains.tsv", "domain_names.tsv", "umap.tsv"],
        ),
        imputed=collect(
            imputed("<results>/{method}/seed-{seed}/imputed/{slice}.{modality}.h5ad"),
            method=config["methods"],
            seed=config["seeds"],
        ),
        consensus=collect("<results>/{method}/consensus.tsv", method=config["methods"]),
        annotations=annotations(),
        library=library("export"),
    output:
        mudata=ensure("<results>/integrated.h5mu", non_empty=True),
        loupe=ensure(collect("<results>/domains/{slice}.loupe.csv", slice=SHEET.slices), non_empty=True),
        xenium=ensure(collect("<results>/domains/{slice}.xenium.csv", slice=SHEET.slices), non_empty=True),
    log:
        "<results>/logs/export.log",
    benchmark:
        "<results>/benchmarks/export.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 10),
        runtime=60,
    params:
        config=config,
        columns=SHEET.columns,
        union=UNION,
    message:
        "Writing integrated.h5mu"
    script:
        "../../scripts/export.py"
