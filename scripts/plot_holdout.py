"""Plot imputed against hidden counts, and the coverage of intervals."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic.figures import charts, style

    features, coverage = (pd.read_csv(path, sep="\t") for path in (snakemake.input.features, snakemake.input.coverage))
    style.save(charts.holdout(features, coverage), snakemake.output.svg, snakemake.output.png)
