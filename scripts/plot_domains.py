"""Draw the domains on the tissue of every slice."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import plots, spots

    embedding = spots.read(snakemake.input.embedding)
    table = embedding.obs[["slice"]].assign(
        domain=spots.read_table(snakemake.input.domains, embedding.obs_names)["domain"]
    )
    if snakemake.params.truth:
        obs = {path: spots.read(path).obs for path in snakemake.input.reduced}
        table["truth"] = spots.annotation(obs, embedding.obs_names, snakemake.params.truth)
    members = {name: (table["slice"] == name).to_numpy() for name in snakemake.params.slices}
    figure = plots.domains_on_tissue(
        {name: embedding.obsm["spatial"][rows] for name, rows in members.items()},
        {name: table.loc[rows, "domain"] for name, rows in members.items()},
        {name: table.loc[rows, "truth"] for name, rows in members.items()} if "truth" in table else None,
    )
    plots.save(figure, snakemake.output.svg, snakemake.output.png)
