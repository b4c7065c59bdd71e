"""Draw imputed counts on tissue, beside counts measured on another slice."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import spots
    from mosaic.analyse import impute
    from mosaic.figures import maps, style

    imputed = spots.read(snakemake.input.imputed)
    donor = max((spots.read(path) for path in snakemake.input.donors), key=lambda adata: adata.n_obs)
    measured = donor[:, imputed.var_names]
    names = impute.most_variable(measured)
    figure = maps.imputed_on_tissue(
        imputed.obsm["spatial"],
        impute.dense(imputed[:, names].layers["imputed"]),
        names,
        measured.obsm["spatial"],
        impute.dense(measured[:, names].layers.get("counts", measured[:, names].X)),
        (snakemake.wildcards.slice, str(donor.obs["slice"].iloc[0])),
        notes=impute.held_out_notes(imputed, names),
        um_per_unit=snakemake.params.um_per_unit,
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
