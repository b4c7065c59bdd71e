"""Reduce all slices of one modality to features."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import reduce, spots

    slices = [spots.read(path) for path in snakemake.input.slices]
    adata = reduce.reduce_modality(slices, snakemake.wildcards.modality, **snakemake.params.settings)
    spots.write(adata, snakemake.output[0])
