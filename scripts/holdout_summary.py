"""Summarise the folds of a modality."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files, store
    from mosaic.check import scores

    summary = scores.summarise([store.read(path) for path in snakemake.input.folds])
    files.write_table(summary.features, snakemake.output.features, index_label="feature", float_format="%.6g")
    for name in ("coverage", "folds", "foscttm"):
        table = getattr(summary, name)
        files.write_table(table, snakemake.output[name], index=False, na_rep="NA", float_format="%.6g")
