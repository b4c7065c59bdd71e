"""Reduce all slices of one modality to features."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import reduce, spots

    settings = snakemake.params.settings
    slices = (spots.read(path, layers=reduce.needs_counts(**settings)) for path in snakemake.input.slices)
    adata = reduce.reduce_modality(slices, snakemake.wildcards.modality, **settings)
    spots.write(adata, snakemake.output[0])
