"""Plot the UMAP of the latent space by slice, modalities and domain."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import store, tables
    from mosaic.figures import maps, style

    embedding = store.read(snakemake.input.embedding)
    labels = tables.read_labels(snakemake.input.names)
    figure = maps.latent_umap(
        tables.read_table(snakemake.input.umap, embedding.obs_names).to_numpy(),
        embedding.obs["slice"],
        embedding.obs["modalities"],
        labels.of(tables.read_table(snakemake.input.domains, embedding.obs_names)["domain"]),
        slice_colours=style.palette(snakemake.params.slices),
        domain_colours=labels.colours,
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
