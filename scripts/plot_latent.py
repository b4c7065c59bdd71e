"""Draw the layout of the latent space by slice, measured modalities and domain."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import drawing, maps, spots

    embedding = spots.read(snakemake.input.embedding)
    domains = spots.read_table(snakemake.input.domains, embedding.obs_names)["domain"]
    truth = spots.truth(snakemake.input.annotations, embedding.obs_names, snakemake.params.truth)
    figure = maps.latent_umap(
        spots.read_table(snakemake.input.umap, embedding.obs_names).to_numpy(),
        embedding.obs["slice"],
        embedding.obs["modalities"],
        domains,
        slice_colours=drawing.palette(snakemake.params.slices),
        domain_colours=drawing.domain_colours(domains, truth),
    )
    drawing.save(figure, snakemake.output.svg, snakemake.output.png)
