"""Plot the composition of the slices by condition."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import tables
    from mosaic.figures import comparisons, style

    given = snakemake.input
    figure = comparisons.composition_by_level(
        tables.read_rows(given.shares),
        tables.read_rows(given.tests),
        tables.read_labels(given.names).colours,
        tables.read_rows(given.contrasts)["note"].tolist(),
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
