"""Impute one modality in one slice that lacks it."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import impute, spots

    adata = impute.impute_modality(
        spots.read(snakemake.input.embedding),
        snakemake.wildcards.slice,
        snakemake.wildcards.modality,
        spots.read_slices(snakemake.input.counts),
        **snakemake.params.settings,
    )
    spots.write(adata, snakemake.output[0])
