# From the users' files to features. Needs the h5ad files of the sheet; makes <results>/qc, normalized and reduced.


rule simulate_demo:
    """Make the slices of the demo, with the truth in obs["domain"]; runs only when the sheet names these files."""
    input:
        design=ROOT / "resources" / "demo.yaml",
        library=library("simulate_demo"),
    output:
        ensure(DEMO_FILES, non_empty=True),
    log:
        "<results>/logs/simulate_demo.log",
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 0),
        runtime=10,
    params:
        seed=1234,
    message:
        "Making the demo's slices"
    script:
        "../../scripts/simulate_demo.py"


rule qc:
    """Check one modality of one slice and drop the spots and features that fail."""
    input:
        h5ad=lambda wildcards: SHEET.path(wildcards.slice, wildcards.modality),
        library=library("qc"),
    output:
        h5ad=ensure("<results>/qc/{slice}.{modality}.h5ad", non_empty=True),
        summary=ensure("<results>/qc/{slice}.{modality}.json", non_empty=True),
        spots=ensure("<results>/qc/{slice}.{modality}.tsv", non_empty=True),
        versions=ensure("<results>/logs/qc/{slice}.{modality}.versions.json", non_empty=True),
    log:
        "<results>/logs/qc/{slice}.{modality}.log",
    benchmark:
        "<results>/benchmarks/qc/{slice}.{modality}.tsv"
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        kind=lookup("modalities/{modality}/kind", within=config),
        thresholds=lookup("qc/{modality}", within=config),
    message:
        "Quality control of {wildcards.modality} in {wildcards.slice}"
    script:
        "../../scripts/qc.py"


rule normalize:
    """Normalise the counts of one modality of one slice."""
    input:
        h5ad="<results>/qc/{slice}.{modality}.h5ad",
        library=library("normalize"),
    output:
        temp(ensure("<results>/normalized/{slice}.{modality}.h5ad", non_empty=True)),
    log:
        "<results>/logs/normalize/{slice}.{modality}.log",
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 20),
        runtime=30,
    params:
        normalization=lookup("modalities/{modality}/normalization", within=config),
    message:
        "Normalising {wildcards.modality} of {wildcards.slice}"
    script:
        "../../scripts/normalize.py"


rule reduce:
    """Select features over all slices of a modality, reduce them, and correct for the slice."""
    input:
        slices=slices_with("<results>/normalized/{slice}.{modality}.h5ad"),
        library=library("reduce"),
    output:
        ensure("<results>/reduced/{modality}.h5ad", non_empty=True),
        versions=ensure("<results>/logs/reduce/{modality}.versions.json", non_empty=True),
    log:
        "<results>/logs/reduce/{modality}.log",
    benchmark:
        "<results>/benchmarks/reduce/{modality}.tsv"
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 30),
        runtime=120,
    params:
        settings=reduction,
    message:
        "Reducing {wildcards.modality}"
    script:
        "../../scripts/reduce.py"
