"""Build the graph of one modality."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import anndata as ad

    from mosaic import graph, spots

    reduced = spots.read(snakemake.input.reduced)
    features = reduced.obsm[reduced.uns["features_key"]]
    spatial, mutual = graph.build_graph(
        features,
        reduced.obsm["spatial"],
        reduced.obs["slice"].to_numpy(dtype=str),
        snakemake.params.linked,
        intra_knns=snakemake.params.intra_knns,
        radius=snakemake.params.radius,
        inter_knn_base=snakemake.params.inter_knn_base,
    )
    adata = ad.AnnData(
        features,
        obs=reduced.obs[["slice", "barcode"]],
        obsm={"spatial": reduced.obsm["spatial"]},
        obsp={"spatial_connectivities": spatial, "mutual_nearest_neighbors": mutual},
    )
    spots.write(adata, snakemake.output[0])
