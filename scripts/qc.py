"""Quality control of one modality of one slice."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    import json

    from mosaic import files, store
    from mosaic.prepare import feature_names, qc, read

    asked, called = snakemake.params, snakemake.wildcards
    adata = read.read_slice(asked.path, called.slice, asked.kind, modality=called.modality, options=asked.options)
    if snakemake.input.names:
        adata = feature_names.with_names(adata, feature_names.read_renamed(snakemake.input.names))
    passed, metrics, summary = qc.filter_slice(adata, **asked.thresholds)
    files.write_table(metrics, snakemake.output.spots, index_label="spot")
    with files.atomic_write(snakemake.output.summary) as unfinished:
        unfinished.write_text(json.dumps(summary, indent=1))
    store.write(passed, snakemake.output.h5ad)
