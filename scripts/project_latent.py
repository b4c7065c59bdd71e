"""Lay out the latent space in two dimensions."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import pandas as pd

    from mosaic import layout, spots

    embedding = spots.read(snakemake.input.embedding)
    coordinates = layout.umap_layout(embedding.obsm[spots.LATENT], seed=snakemake.params.seed)
    table = pd.DataFrame(coordinates, index=embedding.obs_names, columns=["UMAP1", "UMAP2"])
    table.to_csv(snakemake.output[0], sep="\t", index_label="spot")
