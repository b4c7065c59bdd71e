"""Plot the checks of a run."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import pandas as pd

    from mosaic.figures import style, tables

    style.save(
        tables.verdict(pd.read_csv(snakemake.input.checks, sep="\t")), snakemake.output.svg, snakemake.output.png
    )
