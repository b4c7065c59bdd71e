"""Lay out and draw a modality's features before and after batch correction."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import drawing, layout, maps, spots

    reduced = spots.read(snakemake.input.reduced)
    before = layout.umap_layout(reduced.obsm["X_reduced"])
    corrected = reduced.uns["batch_correction"]["method"] != "none"
    after = layout.umap_layout(reduced.obsm["X_corrected"]) if corrected else None
    colours = drawing.palette(snakemake.params.slices)
    figure = maps.features_umap(before, after, reduced.obs["slice"], colours=colours)
    drawing.save(figure, snakemake.output.svg, snakemake.output.png)
