"""Reduce all slices of one modality to features."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    import json

    from mosaic import store
    from mosaic.files import atomic_write
    from mosaic.prepare import reduce

    settings = snakemake.params.settings
    layers = reduce.ReductionSettings(**settings).needs_counts
    slices = (store.read(path, layers=layers) for path in snakemake.input.slices)
    adata = reduce.reduce_modality(slices, snakemake.wildcards.modality, **settings)
    store.write(adata, snakemake.output.h5ad)
    with atomic_write(snakemake.output.correction) as unfinished:
        # One slice has no iLISI, and JSON has no NaN.
        record = {key: None if value != value else value for key, value in adata.uns["batch_correction"].items()}
        unfinished.write_text(json.dumps(record))
