"""Build the graph of one modality."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from mosaic import store
    from mosaic.integrate import graph

    reduced = store.read(snakemake.input.reduced)
    adata = graph.build_graph(
        reduced, reduced.obsm["X_corrected"], snakemake.params.mnn_pairs, **snakemake.params.settings
    )
    store.write(adata, snakemake.output[0])
