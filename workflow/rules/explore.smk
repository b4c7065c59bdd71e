# The explorer, <results>/explorer: a page with all slices, the latent space and the features, which a browser opens
# without a server, also from a zip that was mailed. Its page is in resources/explorer.


rule explore:
    """Write the explorer: a folder that a browser opens without a server."""
    input:
        integrated="<results>/integrated.h5mu",
        counts=measured("<results>/qc/{slice}.{modality}.h5ad"),
        quality=measured("<results>/qc/{slice}.{modality}.tsv"),
        imputed=imputed(f"{FIRST_RUN}/imputed/{{slice}}.{{modality}}.h5ad"),
        tissue=collect("<results>/tissue/{slice}.json", slice=SHEET.slices),
        reduced=collect("<results>/reduced/{modality}.h5ad", modality=SHEET.modalities),
        markers=[f"{FIRST_RUN}/markers/{own['modality']}.tsv" for own in HAS["counts"]],
        page=[shipped(f"resources/explorer/{name}") for name in ("index.html", "explorer.js")],
        library=library("explore"),
    output:
        directory("<results>/explorer"),
    log:
        "<results>/logs/explore.log",
    benchmark:
        "<results>/benchmarks/explore.tsv"
    conda:
        "../../envs/analyse.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 20),
        runtime=120,
    params:
        kinds={name: config["modalities"][name]["kind"] for name in SHEET.modalities},
        scales={name: scale(name) for name in SHEET.modalities},
        features=config["explorer"]["features"],
        methods=config["methods"],
        seeds=config["seeds"],
        truth=config["truth"],
        figures=config["figures"],
        notes={
            name: ", ".join(f"{key} {own[name]}" for key, own in SHEET.columns.items() if name in own)
            for name in SHEET.slices
        },
    message:
        "Writing the explorer"
    script:
        "../../scripts/explore.py"
