"""Check all files of the sample sheet and report all faults at once."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files
    from mosaic.prepare import inputs

    asked = snakemake.params
    table = inputs.survey(asked.rows, asked.kinds, asked.truth, asked.keep_obs)
    files.write_table(table, snakemake.output[0], index=False)
