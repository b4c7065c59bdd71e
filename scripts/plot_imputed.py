"""Plot imputed counts on tissue, beside measured counts of another slice."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import numpy as np

    from mosaic import blocks, matrices, store
    from mosaic.figures import maps, style

    imputed = store.read_outline(snakemake.input.imputed)

    def worth(path):
        """How much of it a slice measured, and how large it is."""
        outline = store.read_outline(path)
        return outline.var_names.isin(imputed.var_names).sum(), outline.n_obs

    donor = store.read(max(snakemake.input.donors, key=worth))
    measured = donor[:, imputed.var_names[imputed.var_names.isin(donor.var_names)]]
    names = maps.most_variable(measured)
    parts = blocks.read_blocks(snakemake.input.imputed, "layers/imputed")
    frames = style.frames(snakemake.input.tissue, **snakemake.params.figures)
    pair = snakemake.wildcards.slice, str(donor.obs["slice"].iloc[0])
    figure = maps.imputed_on_tissue(
        imputed.obsm["spatial"],
        np.vstack([matrices.dense(own[:, names].layers["imputed"]) for own in parts]),
        names,
        measured.obsm["spatial"],
        matrices.dense(measured[:, names].layers.get("counts", measured[:, names].X)),
        pair,
        notes=maps.held_out_notes(imputed, names),
        frames=(frames[pair[0]], frames[pair[1]]),
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
