"""Draw the layout of the latent space by slice, measured modalities and domain."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import plots, spots

    embedding = spots.read(snakemake.input.embedding)
    domains = spots.read_table(snakemake.input.domains, embedding.obs_names)["domain"]
    domain_colours = plots.palette(domains)
    if snakemake.params.truth:
        obs = {path: spots.read(path).obs for path in snakemake.input.reduced}
        truth = spots.annotation(obs, embedding.obs_names, snakemake.params.truth)
        domain_colours, _ = plots.matched_palette(domains, truth)
    figure = plots.latent_umap(
        spots.read_table(snakemake.input.umap, embedding.obs_names).to_numpy(),
        embedding.obs["slice"],
        embedding.obs["modalities"],
        domains,
        slice_colours=plots.palette(snakemake.params.slices),
        domain_colours=domain_colours,
    )
    plots.save(figure, snakemake.output.svg, snakemake.output.png)
