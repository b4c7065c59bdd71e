"""Plot the confidence of each spot on the tissue."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic import store, tables
    from mosaic.figures import maps, style

    embedding = store.read(snakemake.input.embedding)
    table = tables.read_table(snakemake.input.spots, embedding.obs_names)
    members = {name: (table["slice"] == name).to_numpy() for name in snakemake.params.slices}
    agreement = pd.read_csv(snakemake.input.agreement, sep="\t")
    label = "confidence, mean over the seeds" if len(agreement) else "confidence"
    # Decide by half of the spots: a few that quality control left with fewer modalities do not represent the slice.
    unchecked = [name for name, rows in members.items() if table.loc[rows, "calibrated"].mean() < 0.5]
    if unchecked:
        label += ": by the clustering alone in " + (
            "every slice" if len(unchecked) == len(members) else ", ".join(map(style.fit, unchecked))
        )
    if len(agreement):
        label += f" (mean ARI of pairs {agreement['ARI'].mean():.2f})"
        support = pd.read_csv(snakemake.input.support, sep="\t")
        alone = support.loc[support["n_seeds"] < 2, "domain"]
        names = table["name"] if "name" in table else table["domain"]
        if len(alone):
            label += "; of one seed alone: " + ", ".join(
                style.fit(str(names[table["domain"] == domain].iloc[0])) for domain in alone
            )
    figure = maps.confidence_on_tissue(
        {name: embedding.obsm["spatial"][rows] for name, rows in members.items()},
        {name: table.loc[rows, "confidence"].to_numpy() for name, rows in members.items()},
        label,
        frames=style.frames(snakemake.input.tissue, **snakemake.params.figures),
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
