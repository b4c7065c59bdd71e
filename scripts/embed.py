"""Embed every spot with the trained encoders."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import spots, training

    encoders, settings = training.load_model(snakemake.input.model)
    graphs = dict(zip(encoders, [spots.read(path) for path in snakemake.input.graphs], strict=True))
    spots.write(training.embed(graphs, encoders, settings), snakemake.output[0])
