# From the users' files to features. Needs the h5ad files of the sheet; makes <results>/qc, normalized and reduced,
# <results>/annotations.h5ad, and for `snakemake check` alone <results>/inputs.tsv.


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


rule check:
    """Look at all files of the sheet and tell all their faults at once, in seconds; `snakemake check` runs this alone."""
    input:
        h5ad=[row.path for row in SHEET],
        library=library("check"),
    output:
        ensure("<results>/inputs.tsv", non_empty=True),
    log:
        "<results>/logs/check.log",
    # A cluster's queue would take longer than the work.
    localrule: True
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=10,
    params:
        rows=[list(row) for row in SHEET],
        kinds={name: modality["kind"] for name, modality in config["modalities"].items()},
        truth=config["truth"],
        keep_obs=config["keep_obs"],
    message:
        "Checking the files of the sheet"
    script:
        "../../scripts/check.py"


rule annotate:
    """Gather the columns of obs that the config names, the truth first of all, from all files of the sheet."""
    input:
        h5ad=[row.path for row in SHEET],
        library=library("annotate"),
    output:
        ensure("<results>/annotations.h5ad", non_empty=True),
    log:
        "<results>/logs/annotate.log",
    # First of all: a column that no file has is better known before training than after.
    priority: 1
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=10,
    params:
        rows=[list(row) for row in SHEET],
        truth=config["truth"],
        keep_obs=config["keep_obs"],
    message:
        "Gathering what the files say of spots"
    script:
        "../../scripts/annotate.py"


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


rule pair:
    """Compare barcodes and places of each slice's modalities, and features of each modality's slices."""
    input:
        slices=measured("<results>/qc/{slice}.{modality}.h5ad"),
        library=library("pair"),
    output:
        ensure("<results>/pairing.json", non_empty=True),
    log:
        "<results>/logs/pair.log",
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 5),
        runtime=30,
    message:
        "Comparing what slices and modalities share"
    script:
        "../../scripts/pair.py"


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
        # Files that don't belong together end the run here; a pairing made anew is no reason to reduce again.
        pairing=ancient("<results>/pairing.json"),
        library=library("reduce"),
    output:
        h5ad=ensure("<results>/reduced/{modality}.h5ad", non_empty=True),
        correction=ensure("<results>/reduced/{modality}.correction.json", non_empty=True),
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
