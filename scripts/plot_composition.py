"""Plot the proportion of each slice in each domain."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import store
    from mosaic.figures import charts, style

    composition = store.read_table(snakemake.input.composition, index="domain")
    figure = charts.domain_composition(composition, store.read_labels(snakemake.input.names).colours)
    style.save(figure, snakemake.output.svg, snakemake.output.png)
