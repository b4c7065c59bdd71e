# From features to the latent space. Reads <results>/reduced; writes <results>/graph and, for the method spamosaic and
# each seed, a model and embedding.h5mu. baselines.smk has the rule that writes the same file for baseline methods.


rule build_graph:
    """Build the graph of a modality: spatial edges within slices, mutual nearest neighbours between slices."""
    input:
        reduced="<results>/reduced/{modality}.h5ad",
        library=library("build_graph"),
    output:
        ensure("<results>/graph/{modality}.h5ad", non_empty=True),
        versions=ensure("<results>/logs/build_graph/{modality}.versions.json", non_empty=True),
    log:
        "<results>/logs/build_graph/{modality}.log",
    benchmark:
        "<results>/benchmarks/build_graph/{modality}.tsv"
    conda:
        "../../envs/graph.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=120,
    params:
        mnn_pairs=mnn_pairs,
        settings=config["graph"],
    message:
        "Building the graph of {wildcards.modality}"
    script:
        "../../scripts/build_graph.py"


rule train:
    """Train one encoder per modality, on a GPU if available and allowed by the config."""
    input:
        graphs=collect("<results>/graph/{modality}.h5ad", modality=SHEET.modalities),
        library=library("train"),
    output:
        model=ensure("<results>/spamosaic/seed-{seed}/model.safetensors", non_empty=True),
        history=ensure("<results>/spamosaic/seed-{seed}/history.tsv", non_empty=True),
        versions=ensure("<results>/logs/train/seed-{seed}.versions.json", non_empty=True),
    log:
        "<results>/logs/train/seed-{seed}.log",
    benchmark:
        "<results>/benchmarks/train/seed-{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: config["train"]["threads"]
    resources:
        mem_mb=memory(3000, 30),
        runtime=240,
        gpu=int(config["train"]["device"] == "cuda"),
    params:
        modalities=SHEET.modalities,
        settings=config["train"],
        encoder=config["encoder"],
    message:
        "Training with seed {wildcards.seed}"
    script:
        "../../scripts/train.py"


rule embed:
    """Embed every spot with the trained encoders."""
    input:
        graphs=collect("<results>/graph/{modality}.h5ad", modality=SHEET.modalities),
        model="<results>/spamosaic/seed-{seed}/model.safetensors",
        library=library("embed"),
    output:
        ensure("<results>/spamosaic/seed-{seed}/embedding.h5mu", non_empty=True),
        versions=ensure("<results>/logs/embed/seed-{seed}.versions.json", non_empty=True),
    log:
        "<results>/logs/embed/seed-{seed}.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 20),
        runtime=30,
    message:
        "Embedding the spots with seed {wildcards.seed}"
    script:
        "../../scripts/embed.py"
