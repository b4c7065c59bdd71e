# From the users' files to features. Reads what the sample sheet names; writes <results>/qc, normalized, reduced,
# features and tissue, <results>/annotations.h5ad and, only for `snakemake check`, <results>/inputs.tsv.


rule simulate_demo:
    """Simulate the slices of the demo, with true domains in obs["domain"]; runs only if the sheet names these files."""
    input:
        design=shipped("resources/demo.yaml"),
        library=library("simulate_demo"),
    output:
        ensure(located(DEMO_FILES), non_empty=True),
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
        "Simulating the slices of the demo"
    script:
        "../../scripts/simulate_demo.py"


rule check:
    """Check all files of the sample sheet in seconds and report all faults at once; runs only by `snakemake check`."""
    input:
        sources=sources_of_rows(SHEET),
        library=library("check"),
    output:
        ensure("<results>/inputs.tsv", non_empty=True),
    log:
        "<results>/logs/check.log",
    # Waiting in a cluster's queue would take longer than the job.
    localrule: True
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=10,
    params:
        rows=[[*row[:3], dict(row.options)] for row in SHEET],
        kinds={name: modality["kind"] for name, modality in config["modalities"].items()},
        truth=config["truth"],
        keep_obs=config["keep_obs"],
    message:
        "Checking the files of the sample sheet"
    script:
        "../../scripts/check.py"


rule annotate:
    """Collect the obs columns that the config names (`truth`, `keep_obs`) from all files of the sample sheet."""
    input:
        sources=sources_of_rows(SHEET),
        library=library("annotate"),
    output:
        ensure("<results>/annotations.h5ad", non_empty=True),
    log:
        "<results>/logs/annotate.log",
    # Runs first: a missing column should fail the run before training, not after.
    priority: 1
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=10,
    params:
        rows=[[*row[:3], dict(row.options)] for row in SHEET],
        truth=config["truth"],
        keep_obs=config["keep_obs"],
    message:
        "Collecting annotations of the spots"
    script:
        "../../scripts/annotate.py"


rule match_features:
    """Match the features of the slices of a modality by name, identifier or symbol, and list what they share."""
    input:
        sources=sources_of_modality,
        reference=reference_features,
        library=library("match_features"),
    output:
        listed=ensure("<results>/features/{modality}.tsv", non_empty=True),
        renamed=ensure("<results>/features/{modality}.renamed.tsv", non_empty=True),
    log:
        "<results>/logs/match_features/{modality}.log",
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, 2),
        runtime=30,
    params:
        rows=[[*row[:3], dict(row.options)] for row in SHEET],
        kind=lookup("modalities/{modality}/kind", within=config),
    message:
        "Matching the features of {wildcards.modality}"
    script:
        "../../scripts/match_features.py"


rule qc:
    """Check one modality of one slice and drop spots and features that fail quality control."""
    input:
        sources=sources,
        names=renamed_features,
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
        path=lambda wildcards: SHEET.row(wildcards.slice, wildcards.modality).path,
        options=lambda wildcards: dict(SHEET.row(wildcards.slice, wildcards.modality).options),
        kind=lookup("modalities/{modality}/kind", within=config),
        thresholds=lookup("qc/{modality}", within=config),
    message:
        "Quality control of {wildcards.modality} in {wildcards.slice}"
    script:
        "../../scripts/qc.py"


rule read_tissue:
    """Read the tissue image of each slice and the unit of its coordinates, for the figures."""
    input:
        sources=sources_of_rows(SHEET),
        library=library("read_tissue"),
    output:
        ensure(collect("<results>/tissue/{slice}.json", slice=SHEET.slices), non_empty=True),
    log:
        "<results>/logs/read_tissue.log",
    conda:
        "../../envs/prepare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500, 2),
        runtime=30,
    params:
        rows=[[*row[:3], dict(row.options)] for row in SHEET],
        um_per_unit=um_per_unit(),
    message:
        "Reading the tissue images"
    script:
        "../../scripts/read_tissue.py"


rule pair:
    """Compare barcodes and coordinates of the modalities of a slice, and features of the slices of a modality."""
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
        "Comparing barcodes, coordinates and features"
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
    """Select features over all slices of a modality, reduce them, and correct batch effects of the slices."""
    input:
        slices=slices_with("<results>/normalized/{slice}.{modality}.h5ad"),
        # Mismatched files fail the run here. `ancient`: a new pairing.json does not make the features stale.
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
        "Reducing {wildcards.modality} to features"
    script:
        "../../scripts/reduce.py"
