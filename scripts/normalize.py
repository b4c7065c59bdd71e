"""Normalise one modality of one slice."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import store
    from mosaic.prepare import normalize

    adata = normalize.normalize_slice(store.read(snakemake.input.h5ad), snakemake.params.normalization)
    store.write(adata, snakemake.output[0])
