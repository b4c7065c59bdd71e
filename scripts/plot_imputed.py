"""Plot imputed counts on tissue, beside measured counts of another slice."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import matrices, store
    from mosaic.figures import maps, style

    imputed = store.read(snakemake.input.imputed)
    # Of the slices that measured the most of it, the largest.
    donor = max(
        map(store.read, snakemake.input.donors),
        key=lambda adata: (adata.var_names.isin(imputed.var_names).sum(), adata.n_obs),
    )
    measured = donor[:, imputed.var_names[imputed.var_names.isin(donor.var_names)]]
    names = maps.most_variable(measured)
    frames = style.frames(snakemake.input.tissue, **snakemake.params.figures)
    pair = snakemake.wildcards.slice, str(donor.obs["slice"].iloc[0])
    figure = maps.imputed_on_tissue(
        imputed.obsm["spatial"],
        matrices.dense(imputed[:, names].layers["imputed"]),
        names,
        measured.obsm["spatial"],
        matrices.dense(measured[:, names].layers.get("counts", measured[:, names].X)),
        pair,
        notes=maps.held_out_notes(imputed, names),
        frames=(frames[pair[0]], frames[pair[1]]),
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
