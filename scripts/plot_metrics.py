"""Write the metrics of a run as a table of the report."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic.figures import pages, tables
    from mosaic.files import atomic_write

    foscttm = [pd.read_csv(path, sep="\t") for path in snakemake.input.foscttm]
    table = tables.metrics_table(tables.with_held_out(pd.read_csv(snakemake.input.metrics, sep="\t"), foscttm))
    run = f"{snakemake.wildcards.method}, seed {snakemake.wildcards.seed}"
    with atomic_write(snakemake.output.html) as unfinished:
        unfinished.write_text(pages.render(snakemake.input.template, title=run, **table), encoding="utf-8")
