"""Put all scores of the benchmark into one table, with what they cost, sum them up, and draw the summary."""

import paths  # noqa: F401

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from pathlib import Path

    import comparison
    import pandas as pd

    from mosaic import files
    from mosaic.figures import style

    tables = []
    for (dataset, method, seed, costs), path in zip(snakemake.params.runs, snakemake.input.scores, strict=True):
        scores = pd.read_csv(path, sep="\t", keep_default_na=False, na_values="NA")
        spent = comparison.cost([pd.read_csv(name, sep="\t") for name in costs])
        table = pd.concat([scores, spent])
        tables.append(table.assign(dataset=dataset, method=method, seed=seed)[comparison.COLUMNS])
    scores = pd.concat(tables, ignore_index=True)
    cannot = pd.DataFrame(snakemake.params.cannot, columns=["dataset", "method", "cannot"])
    summary = comparison.summarise(pd.concat([scores, comparison.own_ways(scores)], ignore_index=True))
    for table, path in ((scores, snakemake.output.scores), (summary, snakemake.output.summary)):
        files.write_table(pd.concat([table, cannot]), path, index=False, na_rep="NA", float_format="%.6g")
    Path(snakemake.output.markdown).write_text(comparison.markdown(summary, cannot, snakemake.params.labels))
    style.save(comparison.overview(summary, cannot, snakemake.params.labels), *snakemake.output.overview)
    style.save(comparison.quality_and_time(summary, snakemake.params.labels), *snakemake.output.time)
