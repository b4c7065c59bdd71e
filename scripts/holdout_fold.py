"""Held-out validation: hide a measured modality, impute it from the rest, and compare."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], threads=snakemake.params.train["threads"], versions=snakemake.output.versions):
    import torch

    from mosaic import spots, store
    from mosaic.check import folds

    train_settings = dict(snakemake.params.train)
    torch.set_num_threads(train_settings.pop("threads"))
    names, parts = snakemake.params.modalities, snakemake.wildcards
    fold = folds.try_fold(
        dict(zip(names, map(store.read, snakemake.input.reduced), strict=True)),
        dict(zip(names, map(store.read, snakemake.input.graphs), strict=True)),
        spots.read_stacked(snakemake.input.counts),
        (parts.slice, parts.modality, int(parts.part)),
        snakemake.params.mnn_pairs,
        folds.FoldSettings(
            n_stripes=snakemake.params.n_stripes,
            graph=snakemake.params.graph,
            train=train_settings | {"encoder": snakemake.params.encoder},
            impute=snakemake.params.impute,
            seed=snakemake.params.seed,
        ),
    )
    store.write(fold.scored, snakemake.output.scored)
    store.write(fold.embedding, snakemake.output.embedding)
