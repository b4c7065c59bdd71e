"""Plot the metrics of a run as a table."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic.figures import style, tables

    foscttm = [pd.read_csv(path, sep="\t") for path in snakemake.input.foscttm]
    table = tables.with_held_out(pd.read_csv(snakemake.input.metrics, sep="\t"), foscttm)
    figure = tables.metrics_table(table.assign(method=snakemake.wildcards.method, seed=snakemake.wildcards.seed))
    style.save(figure, snakemake.output.svg, snakemake.output.png)
