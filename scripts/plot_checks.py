"""Plot the checks of a run."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic.figures import style, tables

    style.save(tables.checks(pd.read_csv(snakemake.input.checks, sep="\t")), snakemake.output.svg, snakemake.output.png)
