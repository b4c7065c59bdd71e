"""Embed every spot with the trained encoders."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from pathlib import Path

    from mosaic import store
    from mosaic.integrate import model

    graphs = {Path(path).stem: store.read(path) for path in snakemake.input.graphs}
    encoders = model.load_model(snakemake.input.model, graphs)
    store.write(model.embed(graphs, encoders), snakemake.output[0])
