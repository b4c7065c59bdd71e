"""Fail the run if a check listed in `fail_on` failed."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from pathlib import Path

    import pandas as pd

    from mosaic.check import checks

    checks.enforce_checks(pd.read_csv(snakemake.input.checks, sep="\t"), snakemake.params.fail_on)
    Path(snakemake.output[0]).touch()
