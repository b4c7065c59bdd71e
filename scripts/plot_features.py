"""Plot UMAPs of the features of a modality before and after batch correction."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import store
    from mosaic.analyse import umap
    from mosaic.figures import maps, style

    reduced = store.read(snakemake.input.reduced)
    before = umap.umap_coordinates(reduced.obsm["X_reduced"])
    correction = reduced.uns["batch_correction"]
    after = None if correction["method"] == "none" else umap.umap_coordinates(reduced.obsm["X_corrected"])
    colours = style.palette(snakemake.params.slices)
    figure = maps.features_umap(before, after, reduced.obs["slice"], correction, colours=colours)
    style.save(figure, snakemake.output.svg, snakemake.output.png)
