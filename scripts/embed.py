"""Embed every spot with the trained encoders."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from pathlib import Path

    from mosaic import spots
    from mosaic.integrate import training

    graphs = {Path(path).stem: spots.read(path) for path in snakemake.input.graphs}
    encoders, settings = training.load_model(snakemake.input.model, graphs)
    spots.write(training.embed(graphs, encoders, settings), snakemake.output[0])
