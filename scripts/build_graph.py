"""Build the graph of one modality."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import store
    from mosaic.integrate import graph

    reduced = store.read(snakemake.input.reduced)
    adata = graph.build_graph(
        reduced, reduced.obsm["X_corrected"], snakemake.params.linked, **snakemake.params.settings
    )
    store.write(adata, snakemake.output[0])
