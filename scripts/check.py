"""Say how far to believe the run."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import pandas as pd

    from mosaic import files, spots, verdict

    found = [[pd.read_csv(path, sep="\t") for path in snakemake.input[name]] for name in ("features", "foscttm")]
    metrics = pd.read_csv(snakemake.input.metrics, sep="\t")
    checks = verdict.verdicts(metrics, spots.read_table(snakemake.input.domains), *found)
    files.write_table(checks, snakemake.output[0], index=False, na_rep="NA", float_format="%.6g")
    verdict.stop_on(checks, snakemake.params.fail_on)
