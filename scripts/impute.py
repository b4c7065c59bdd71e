"""Impute one modality in one slice that lacks it."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import spots
    from mosaic.analyse import impute

    imputation = impute.prepare(
        spots.read(snakemake.input.embedding),
        snakemake.wildcards.slice,
        snakemake.wildcards.modality,
        spots.read_slices(snakemake.input.counts),
        **snakemake.params.settings,
    )
    scores = spots.read_table(snakemake.input.scores, index="feature") if snakemake.input.scores else None
    # Without a row where every fold was left out.
    known = scores is not None and len(scores) > 0
    impute.write_imputed(imputation, snakemake.output[0], scores if known else None)
