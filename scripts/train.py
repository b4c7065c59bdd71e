"""Train the encoders with one seed."""

from mosaic.logs import job

with job(snakemake.log[0], threads=snakemake.params.threads):
    from pathlib import Path

    import torch

    from mosaic import files, store
    from mosaic.integrate import model, training

    torch.set_num_threads(snakemake.params.threads)
    graphs = dict(zip(snakemake.params.modalities, [store.read(path) for path in snakemake.input.graphs], strict=True))
    seed = int(snakemake.wildcards.seed)
    # Not a declared output: Snakemake would delete it when the job is killed.
    checkpoint = Path(snakemake.output.model).with_name("checkpoint.safetensors")
    encoders, history = training.fit(graphs, seed=seed, checkpoint=checkpoint, **snakemake.params.settings)
    files.write_table(history, snakemake.output.history, index=False)
    settings = snakemake.params.settings | {"seed": seed, "threads": snakemake.params.threads}
    model.save_model(encoders, settings, graphs, snakemake.output.model)
    checkpoint.unlink(missing_ok=True)
