"""Plot the losses over the epochs."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic.figures import charts, style

    tables = [pd.read_csv(path, sep="\t") for path in snakemake.input.history]
    figure = charts.training_curves(dict(zip(snakemake.params.seeds, tables, strict=True)))
    style.save(figure, snakemake.output.svg, snakemake.output.png)
