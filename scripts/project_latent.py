"""Lay out the latent space in two dimensions."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import pandas as pd

    from mosaic import files, spots
    from mosaic.analyse import umap

    embedding = spots.read(snakemake.input.embedding)
    coordinates = umap.umap_layout(embedding.obsm[spots.LATENT], seed=snakemake.params.seed)
    table = pd.DataFrame(coordinates, index=embedding.obs_names, columns=["UMAP1", "UMAP2"])
    files.write_table(table, snakemake.output[0], index_label="spot")
