"""Draw the losses over the epochs."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import pandas as pd

    from mosaic import plots

    tables = [pd.read_csv(path, sep="\t") for path in snakemake.input.history]
    figure = plots.training_curves(dict(zip(snakemake.params.seeds, tables, strict=True)))
    plots.save(figure, snakemake.output.svg, snakemake.output.png)
