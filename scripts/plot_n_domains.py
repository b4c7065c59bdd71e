"""Plot the silhouette curve that chose the number of domains."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic.figures import charts, style

    figure = charts.n_domains_curve(pd.read_csv(snakemake.input.curve, sep="\t"))
    style.save(figure, snakemake.output.svg, snakemake.output.png)
