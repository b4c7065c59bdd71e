"""Build the graph of one modality."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import graph, spots

    reduced = spots.read(snakemake.input.reduced)
    features = reduced.obsm[reduced.uns["features_key"]]
    adata = graph.build_graph(reduced, features, snakemake.params.linked, **snakemake.params.settings)
    spots.write(adata, snakemake.output[0])
