"""Cluster the latent space into spatial domains, and align it by them."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from pathlib import Path

    from mosaic import files, store
    from mosaic.analyse import alignment, domains

    embedding = store.read(snakemake.input.embedding)
    graphs = {Path(path).stem: store.read(path) for path in snakemake.input.graphs}
    found = domains.domains_of(embedding, graphs, snakemake.params.settings, snakemake.params.seed)
    if found.curve is not None:
        files.write_table(found.curve, snakemake.output.curve, index=False, float_format="%.6g")
        files.write_table(found.tree, snakemake.output.tree, index=False, float_format="%.6g")
    files.write_table(found.table, snakemake.output.domains, index_label="spot", float_format="%.6g")
    store.write(alignment.aligned_embedding(embedding, found.weights), snakemake.output.aligned)
