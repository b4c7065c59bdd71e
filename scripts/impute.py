"""Impute what a slice did not measure of a modality."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from mosaic import spots, store, tables
    from mosaic.analyse import impute, imputed

    imputation = impute.plan_modality(
        store.read(snakemake.input.embedding),
        snakemake.wildcards.slice,
        snakemake.wildcards.modality,
        spots.read_stacked(snakemake.input.counts, snakemake.params.union),
        **snakemake.params.settings,
    )
    scores = tables.read_table(snakemake.input.scores, index="feature") if snakemake.input.scores else None
    # The table is empty if every fold was skipped.
    known = scores is not None and len(scores) > 0
    imputed.write_imputed(imputation, snakemake.output[0], scores if known else None)
