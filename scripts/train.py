"""Train the encoders with one seed."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], threads=snakemake.params.settings["threads"], versions=snakemake.output.versions):
    from pathlib import Path

    import torch

    from mosaic import files, store
    from mosaic.integrate import model, training

    settings = dict(snakemake.params.settings)
    torch.set_num_threads(settings.pop("threads"))
    graphs = dict(zip(snakemake.params.modalities, [store.read(path) for path in snakemake.input.graphs], strict=True))
    seed = int(snakemake.wildcards.seed)
    # Not a declared output: Snakemake would delete it when the job is killed.
    checkpoint = Path(snakemake.output.model).with_name("checkpoint.safetensors")
    encoders, history = training.fit(
        graphs, seed=seed, encoder=snakemake.params.encoder, checkpoint=checkpoint, **settings
    )
    files.write_table(history, snakemake.output.history, index=False)
    model.save_model(encoders, {**snakemake.params.settings, "seed": seed}, graphs, snakemake.output.model)
    checkpoint.unlink(missing_ok=True)
