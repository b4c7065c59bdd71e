"""Normalise one modality of one slice."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import spots
    from mosaic.prepare import normalize

    adata = normalize.normalize_slice(spots.read(snakemake.input.h5ad), snakemake.params.normalization)
    spots.write(adata, snakemake.output[0])
