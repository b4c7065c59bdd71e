"""Lay out and draw a modality's features before and after Harmony."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import drawing, layout, maps, spots

    reduced = spots.read(snakemake.input.reduced)
    last = reduced.uns["features_key"]
    first = next(key for key in ("X_pca", "X_lsi", "X_features") if key in reduced.obsm)
    before = layout.umap_layout(reduced.obsm[first])
    after = layout.umap_layout(reduced.obsm[last]) if last != first else None
    colours = drawing.palette(snakemake.params.slices)
    figure = maps.features_umap(before, after, reduced.obs["slice"], colours=colours)
    drawing.save(figure, snakemake.output.svg, snakemake.output.png)
