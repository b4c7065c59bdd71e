"""Plot the proportion of each slice in each domain."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import tables
    from mosaic.figures import charts, style

    composition = tables.read_table(snakemake.input.composition, index="domain")
    figure = charts.domain_composition(composition, tables.read_labels(snakemake.input.names).colours)
    style.save(figure, snakemake.output.svg, snakemake.output.png)
