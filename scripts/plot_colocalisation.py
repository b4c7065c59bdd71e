"""Plot pairs of features of two modalities in the same places."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import tables
    from mosaic.figures import spatial_features, style

    figure = spatial_features.colocalisation(tables.read_rows(snakemake.input.pairs))
    style.save(figure, snakemake.output.svg, snakemake.output.png)
