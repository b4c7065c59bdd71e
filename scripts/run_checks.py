"""Run the checks of a method and seed."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import json
    from pathlib import Path

    import pandas as pd

    from mosaic import files, tables
    from mosaic.check import agreement, checks

    found = [
        [pd.read_csv(path, sep="\t") for path in snakemake.input[name]] for name in ("features", "foscttm", "folds")
    ]
    metrics = pd.read_csv(snakemake.input.metrics, sep="\t")
    domains = tables.read_table(snakemake.input.domains)
    calls = pd.read_csv(snakemake.input.calls, sep="\t", keep_default_na=False)
    rows = json.loads(Path(snakemake.input.pairing).read_text(encoding="utf-8"))["agreement"]
    agreements = pd.DataFrame(rows, columns=agreement.COLUMNS)
    labels = tables.read_labels(snakemake.input.names)
    composition = checks.composition(domains)
    composition.index = labels.of(composition.index.to_series())
    if labels.given:
        domains["domain"] = labels.of(domains["domain"])
        calls[["called", "domain"]] = calls[["called", "domain"]].apply(labels.of)
    mapping = tables.read_rows(snakemake.input.mapping) if snakemake.input.mapping else None
    results = checks.run_checks(metrics, domains, *found, calls=calls, agreements=agreements, mapping=mapping)
    files.write_table(results, snakemake.output.checks, index=False, na_rep="NA", float_format="%.6g")
    files.write_table(composition, snakemake.output.composition, index_label="domain", float_format="%.6g")
