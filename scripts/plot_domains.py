"""Plot the domains on the tissue of every slice."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import spots, store, tables
    from mosaic.figures import maps, style

    embedding = store.read(snakemake.input.embedding)
    labels = tables.read_labels(snakemake.input.names)
    table = tables.read_table(snakemake.input.domains, embedding.obs_names)
    domains = labels.of(table["domain"])
    by_latent = labels.of(table["by_latent"]) if "by_latent" in table else None
    truth = spots.truth(snakemake.input.annotations, embedding.obs_names, snakemake.params.truth)
    members = {name: (embedding.obs["slice"] == name).to_numpy() for name in snakemake.params.slices}
    figure = maps.domains_on_tissue(
        {name: embedding.obsm["spatial"][rows] for name, rows in members.items()},
        {name: domains[rows] for name, rows in members.items()},
        None if truth is None else {name: truth[rows] for name, rows in members.items()},
        by_latent=None if by_latent is None else {name: by_latent[rows] for name, rows in members.items()},
        colours=labels.colours,
        frames=style.frames(snakemake.input.tissue, **snakemake.params.figures),
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
