"""Embed new spots with the encoders of a reference, tuned to the slices that have two modalities if the config asks."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from pathlib import Path

    from mosaic import store
    from mosaic.integrate import fine_tuning, model
    from mosaic.manifest import checked

    graphs = {Path(path).stem: store.read(path) for path in snakemake.input.graphs}
    weights, asked = Path(snakemake.input.model), snakemake.params.mapping
    encoders = model.load_model(checked(weights.parent, weights.name), graphs, new=True)
    tuned = {}
    if asked["fine_tune"]:
        settings = fine_tuning.tuning_settings(asked["fine_tune_epochs"], snakemake.params.train)
        tuned = fine_tuning.fine_tune(graphs, encoders, **settings)
    store.write(model.embed_new(graphs, encoders, tuned), snakemake.output[0])
