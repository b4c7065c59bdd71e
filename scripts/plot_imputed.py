"""Draw imputed counts on tissue, beside counts measured on another slice."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import impute, plots, spots

    imputed = spots.read(snakemake.input.imputed)
    donor = max((spots.read(path) for path in snakemake.input.donors), key=lambda adata: adata.n_obs)
    measured = donor[:, imputed.var_names]
    names = impute.most_variable(measured)
    figure = plots.imputed_on_tissue(
        imputed.obsm["spatial"],
        impute.dense(imputed[:, names].layers["imputed"]),
        names,
        measured.obsm["spatial"],
        impute.dense(measured[:, names].layers.get("counts", measured[:, names].X)),
        (snakemake.wildcards.slice, str(donor.obs["slice"].iloc[0])),
    )
    plots.save(figure, snakemake.output.svg, snakemake.output.png)
