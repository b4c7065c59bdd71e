# New slices onto a reference: the config key `reference`. Its rules stand in for those that train, and write the same
# files; all other rules run as ever.
ruleorder: map_features > reduce
ruleorder: map_graph > build_graph
ruleorder: map_spots > embed
ruleorder: map_domains > cluster
ruleorder: map_domains > name_domains
ruleorder: map_domains > confidence
ruleorder: map_domains > consensus
ruleorder: map_domains > project_latent
ruleorder: map_counts > impute


rule unpack_reference:
    """Unpack the zip of a reference."""
    input:
        reference=config["reference"],
        library=library("unpack_reference"),
    output:
        collect("<results>/onto/{file}", file=[*ONTO["files"], MANIFEST]),
    log:
        "<results>/logs/unpack_reference.log",
    conda:
        "../../envs/mapping.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 0),
        runtime=30,
    message:
        "Unpacking the reference"
    script:
        "../../scripts/unpack_reference.py"


rule map_features:
    """Map the slices of a modality to the features of the reference."""
    input:
        slices=slices_with("<results>/normalized/{slice}.{modality}.h5ad"),
        reference=of_reference("features.{modality}.h5ad"),
        manifest=of_reference(MANIFEST),
        names=renamed_features,
        pairing=ancient("<results>/pairing.json"),
        library=library("map_features"),
    output:
        h5ad=ensure("<results>/reduced/{modality}.h5ad", non_empty=True),
        correction=ensure("<results>/reduced/{modality}.correction.json", non_empty=True),
        versions=ensure("<results>/logs/map_features/{modality}.versions.json", non_empty=True),
    log:
        "<results>/logs/map_features/{modality}.log",
    benchmark:
        "<results>/benchmarks/map_features/{modality}.tsv"
    conda:
        "../../envs/mapping.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 30),
        runtime=60,
    params:
        settings=reduction,
        min_features=config["mapping"]["min_features"],
    message:
        "Mapping {wildcards.modality} to the features of the reference"
    script:
        "../../scripts/map_features.py"


rule map_graph:
    """Build the graph of the slices of a modality, each linked to the slices of the reference."""
    input:
        mapped="<results>/reduced/{modality}.h5ad",
        reference=of_reference("features.{modality}.h5ad"),
        library=library("map_graph"),
    output:
        ensure("<results>/graph/{modality}.h5ad", non_empty=True),
        versions=ensure("<results>/logs/map_graph/{modality}.versions.json", non_empty=True),
    log:
        "<results>/logs/map_graph/{modality}.log",
    benchmark:
        "<results>/benchmarks/map_graph/{modality}.tsv"
    conda:
        "../../envs/mapping.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=120,
    params:
        settings=config["graph"],
    message:
        "Building the graph of {wildcards.modality}"
    script:
        "../../scripts/map_graph.py"


rule map_spots:
    """Embed the spots with the encoders of the reference."""
    input:
        graphs=collect("<results>/graph/{modality}.h5ad", modality=SHEET.modalities),
        model=of_reference("model.safetensors"),
        manifest=of_reference(MANIFEST),
        library=library("map_spots"),
    output:
        ensure(f"{FIRST_RUN}/embedding.h5mu", non_empty=True),
        versions=ensure("<results>/logs/map_spots.versions.json", non_empty=True),
    log:
        "<results>/logs/map_spots.log",
    conda:
        "../../envs/mapping.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 20),
        runtime=120,
    params:
        mapping=config["mapping"],
        train=config["train"],
    message:
        "Embedding the spots with the encoders of the reference"
    script:
        "../../scripts/map_spots.py"


rule map_domains:
    """Find the domains of the reference in the slices, and how far each spot lies from it."""
    input:
        embedding=f"{FIRST_RUN}/embedding.h5mu",
        graphs=collect("<results>/graph/{modality}.h5ad", modality=SHEET.modalities),
        mapped=collect("<results>/reduced/{modality}.h5ad", modality=SHEET.modalities),
        features=collect(f"{ONTO_FOLDER}/features.{{modality}}.h5ad", modality=SHEET.modalities),
        spots=f"{ONTO_FOLDER}/spots.h5ad",
        manifest=f"{ONTO_FOLDER}/{MANIFEST}",
        library=library("map_domains"),
    output:
        domains=ensure(f"{FIRST_RUN}/domains.tsv", non_empty=True),
        names=ensure(f"{FIRST_RUN}/domain_names.tsv", non_empty=True),
        aligned=ensure(f"{FIRST_RUN}/aligned.h5mu", non_empty=True),
        umap=ensure(f"{FIRST_RUN}/umap.tsv", non_empty=True),
        confidence=ensure(f"{FIRST_RUN}/confidence.tsv", non_empty=True),
        calls=ensure(f"{FIRST_RUN}/calls.tsv", non_empty=True),
        mapping=ensure(f"{FIRST_RUN}/mapping.tsv", non_empty=True),
        consensus=ensure("<results>/spamosaic/consensus.tsv", non_empty=True),
        agreement=ensure("<results>/spamosaic/agreement.tsv", non_empty=True),
        support=ensure("<results>/spamosaic/support.tsv", non_empty=True),
        versions=ensure("<results>/logs/map_domains.versions.json", non_empty=True),
    log:
        "<results>/logs/map_domains.log",
    benchmark:
        "<results>/benchmarks/map_domains.tsv"
    conda:
        "../../envs/mapping.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=60,
    message:
        "Finding the domains of the reference"
    script:
        "../../scripts/map_domains.py"


rule map_counts:
    """Impute a modality that a slice lacks from the donors of the reference."""
    input:
        embedding=f"{FIRST_RUN}/embedding.h5mu",
        features=collect(f"{ONTO_FOLDER}/features.{{modality}}.h5ad", modality=list(ONTO["config"]["modalities"])),
        counts=collect(f"{ONTO_FOLDER}/counts.{{modality}}.h5ad", modality=ONTO["counts"]),
        manifest=f"{ONTO_FOLDER}/{MANIFEST}",
        own=lambda wildcards: collect(
            "<results>/qc/{slice}.{own}.h5ad", own=SHEET.modalities_of(wildcards.slice), allow_missing=True
        ),
        library=library("map_counts"),
    output:
        ensure(f"{FIRST_RUN}/imputed/{{slice}}.{{modality}}.h5ad", non_empty=True),
        versions=ensure("<results>/logs/map_counts/{slice}.{modality}.versions.json", non_empty=True),
    log:
        "<results>/logs/map_counts/{slice}.{modality}.log",
    benchmark:
        "<results>/benchmarks/map_counts/{slice}.{modality}.tsv"
    conda:
        "../../envs/mapping.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 40),
        runtime=60,
    params:
        settings=config["impute"],
    message:
        "Imputing {wildcards.modality} in {wildcards.slice} from the reference"
    script:
        "../../scripts/map_counts.py"
