"""Lay out and draw a modality's features before and after batch correction."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import drawing, layout, maps, spots

    reduced = spots.read(snakemake.input.reduced)
    before = layout.umap_layout(reduced.obsm["X_reduced"])
    correction = reduced.uns["batch_correction"]
    after = None if correction["method"] == "none" else layout.umap_layout(reduced.obsm["X_corrected"])
    colours = drawing.palette(snakemake.params.slices)
    figure = maps.features_umap(before, after, reduced.obs["slice"], correction, colours=colours)
    drawing.save(figure, snakemake.output.svg, snakemake.output.png)
