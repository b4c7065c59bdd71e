"""Put all scores of the study into one table, sum them up, and draw what variants change and the curves of anchors."""

import paths  # noqa: F401

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from pathlib import Path

    import pandas as pd
    import study_report

    from mosaic import files
    from mosaic.figures import style

    variants = snakemake.params.variants
    tables = [
        pd.read_csv(path, sep="\t").assign(dataset=dataset, variant=variant, group=variants[variant]["group"])
        for (dataset, variant), path in zip(snakemake.params.runs, snakemake.input.scores, strict=True)
    ]
    scores = pd.concat(tables, ignore_index=True)[study_report.COLUMNS]
    files.write_table(scores, snakemake.output.scores, index=False, na_rep="NA", float_format="%.6g")
    Path(snakemake.output.markdown).write_text(study_report.markdown(scores, variants))
    style.save(study_report.anchors(scores, variants), *snakemake.output.anchors)
    style.save(study_report.changes(scores, variants), *snakemake.output.changes)
