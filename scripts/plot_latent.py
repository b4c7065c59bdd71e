"""Plot the UMAP of the latent space by slice, modalities and domain."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import spots, store
    from mosaic.figures import maps, style

    embedding = store.read(snakemake.input.embedding)
    domains = store.read_table(snakemake.input.domains, embedding.obs_names)["domain"]
    truth = spots.truth(snakemake.input.annotations, embedding.obs_names, snakemake.params.truth)
    figure = maps.latent_umap(
        store.read_table(snakemake.input.umap, embedding.obs_names).to_numpy(),
        embedding.obs["slice"],
        embedding.obs["modalities"],
        domains,
        slice_colours=style.palette(snakemake.params.slices),
        domain_colours=style.domain_colours(domains, truth),
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
