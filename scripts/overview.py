"""Write the first page of the report."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import json
    from pathlib import Path

    import pandas as pd

    from mosaic.figures import overview
    from mosaic.files import atomic_write
    from mosaic.manifest import read_manifest

    counts, checks = {}, {}
    shared = json.loads(Path(snakemake.input.pairing).read_text(encoding="utf-8"))
    for path in map(Path, snakemake.input.summaries):
        slice_name, modality, _ = path.name.split(".")
        counts[slice_name, modality] = json.loads(path.read_text())
    corrections = {
        Path(path).name.split(".")[0]: json.loads(Path(path).read_text()) for path in snakemake.input.corrections
    }
    for path in map(Path, snakemake.input.checks):
        run = path.parent.parent.name, int(path.parent.name.removeprefix("seed-"))
        checks[run] = pd.read_csv(path, sep="\t")
    domains = pd.read_csv(snakemake.input.domains, sep="\t", usecols=["domain"])
    # By kind of figure: the name of a figure may also contain a modality.
    figures = {Path(path).name.split(".")[0]: path for path in snakemake.input.figures}
    versions = {}
    for path in map(Path, snakemake.input.versions):
        versions[path.parent.name, path.name.removesuffix(".versions.json")] = json.loads(path.read_text())
    onto = read_manifest(snakemake.config["reference"]) if snakemake.config["reference"] else None
    told = versions, snakemake.params.columns, onto
    # Browsers do not show an embedded page of more than 2 MB: that version has no figures.
    for output, shown in ((snakemake.output.html, {}), (snakemake.output.landing, figures)):
        with atomic_write(output) as unfinished:
            page = overview.overview(
                snakemake.input.template, counts, shared, corrections, checks, domains, shown, snakemake.config, *told
            )
            unfinished.write_text(page, encoding="utf-8")
