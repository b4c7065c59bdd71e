"""Collect the obs columns that the config names."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import anndata as ad

    from mosaic import store
    from mosaic.prepare import inputs

    asked = snakemake.params
    table = inputs.annotate(asked.rows, asked.truth, asked.keep_obs)
    store.write(ad.AnnData(obs=table), snakemake.output[0])
