"""Draw what became of hidden counts."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import pandas as pd

    from mosaic import plots

    features, coverage = (pd.read_csv(path, sep="\t") for path in (snakemake.input.features, snakemake.input.coverage))
    plots.save(plots.imputation_check(features, coverage), snakemake.output.svg, snakemake.output.png)
