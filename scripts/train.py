"""Train the encoders with one seed."""

from mosaic.logs import job

with job(snakemake.log[0], threads=snakemake.params.threads):
    import torch

    from mosaic import spots, training

    torch.set_num_threads(snakemake.params.threads)
    graphs = dict(zip(snakemake.params.modalities, [spots.read(path) for path in snakemake.input.graphs], strict=True))
    seed = int(snakemake.wildcards.seed)
    encoders, history = training.fit(graphs, seed=seed, **snakemake.params.settings)
    history.to_csv(snakemake.output.history, sep="\t", index=False)
    settings = snakemake.params.settings | {"seed": seed, "threads": snakemake.params.threads}
    training.save_model(encoders, settings, snakemake.output.model)
