"""Plot the features of a modality that differ between conditions."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import tables
    from mosaic.figures import comparisons, style

    compared = (tables.read_rows(path) for path in (snakemake.input.features, snakemake.input.tests))
    figure = comparisons.differential_features(*compared, tables.read_labels(snakemake.input.names).colours)
    style.save(figure, snakemake.output.svg, snakemake.output.png)
