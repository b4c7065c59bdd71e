"""Lay out and draw a modality's features before and after Harmony."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import layout, plots, spots

    reduced = spots.read(snakemake.input.reduced)
    last = reduced.uns["features_key"]
    first = next(key for key in ("X_pca", "X_lsi", "X_features") if key in reduced.obsm)
    before = layout.umap_layout(reduced.obsm[first])
    after = layout.umap_layout(reduced.obsm[last]) if last != first else None
    colours = plots.palette(snakemake.params.slices)
    figure = plots.features_umap(before, after, reduced.obs["slice"], colours=colours)
    plots.save(figure, snakemake.output.svg, snakemake.output.png)
