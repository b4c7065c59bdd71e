"""Compute a UMAP of the latent space."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic import files, store
    from mosaic.analyse import umap
    from mosaic.embedding import LATENT

    embedding = store.read(snakemake.input.embedding)
    coordinates = umap.umap_coordinates(embedding.obsm[LATENT], seed=snakemake.params.seed)
    table = pd.DataFrame(coordinates, index=embedding.obs_names, columns=["UMAP1", "UMAP2"])
    files.write_table(table, snakemake.output[0], index_label="spot")
