# The results as SpatialData; included if the config asks for it. Reads <results>/integrated.h5mu and tissue; writes
# <results>/integrated.zarr. Runs in a separate Python, as spatialdata's packages do not go with those of this workflow:
# that of envs/spatialdata.yaml, or the one that the config names under `interpreters`.


rule export_spatialdata:
    """Write tables, spots and tissue images as SpatialData."""
    input:
        mudata="<results>/integrated.h5mu",
        tissue=collect("<results>/tissue/{slice}.json", slice=SHEET.slices),
        script=shipped("scripts/export_spatialdata.py"),
        library=library("export_spatialdata"),
    output:
        directory("<results>/integrated.zarr"),
    log:
        "<results>/logs/export_spatialdata.log",
    benchmark:
        "<results>/benchmarks/export_spatialdata.tsv"
    conda:
        "../../envs/spatialdata.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, 20),
        runtime=60,
    params:
        python=python_of("spatialdata"),
    message:
        "Writing integrated.zarr"
    shell:
        "{params.python:q} {input.script:q} --mudata {input.mudata:q} --tissue {input.tissue:q} --log {log:q}"
        " --output {output:q}"
