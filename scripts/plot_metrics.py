"""Set the metrics of a run in a table."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import pandas as pd

    from mosaic import plots

    table = pd.read_csv(snakemake.input.metrics, sep="\t")
    figure = plots.metrics_table(table.assign(method=snakemake.wildcards.method, seed=snakemake.wildcards.seed))
    plots.save(figure, snakemake.output.svg, snakemake.output.png)
