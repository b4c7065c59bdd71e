"""Embed new spots with the encoders of a reference."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from pathlib import Path

    from mosaic import store
    from mosaic.integrate import model
    from mosaic.manifest import checked

    graphs = {Path(path).stem: store.read(path) for path in snakemake.input.graphs}
    weights = Path(snakemake.input.model)
    encoders = model.load_model(checked(weights.parent, weights.name), graphs, new=True)
    store.write(model.embed_new(graphs, encoders), snakemake.output[0])
