"""Compute the confidence of each spot's domain, given the modalities of its slice."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from pathlib import Path

    from mosaic import files, store, tables
    from mosaic.check import confidence

    domains = tables.read_table(snakemake.input.domains)
    embedding = store.read(snakemake.input.embedding)
    modalities = embedding.obs["modalities"]
    graphs = {Path(path).stem: store.read(path) for path in snakemake.input.graphs}
    tissue = confidence.tissue_of(embedding, graphs) if graphs else None
    folds = map(store.read, snakemake.input.folds)
    calls = confidence.together(confidence.hidden_calls(domains, modalities, fold, tissue) for fold in folds)
    table = confidence.calibrate(domains, modalities, calls)
    table.insert(1, "modalities", modalities.loc[table.index])
    labels = tables.read_labels(snakemake.input.names)
    if labels.given:
        table["name"] = labels.of(table["domain"])
    files.write_table(table, snakemake.output.spots, index_label="spot", float_format="%.6g")
    files.write_table(confidence.called_by(calls), snakemake.output.calls, index=False, float_format="%.6g")
