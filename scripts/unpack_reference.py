"""Unpack the zip of a reference."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from pathlib import Path

    from mosaic import manifest

    manifest.unpack(snakemake.input.reference, Path(snakemake.output[0]).parent)
