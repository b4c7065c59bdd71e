"""Test the features of a modality for differences between conditions within each domain."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic import files, store, tables
    from mosaic.analyse import conditions, pseudobulk

    domains = tables.read_table(snakemake.input.domains)["domain"]
    domains = tables.read_labels(snakemake.input.names).ordered(domains)
    bulk = pseudobulk.pseudobulk(map(store.read, snakemake.input.slices), domains)
    compared = conditions.contrasts(**snakemake.params.compared)
    found = [pseudobulk.differences(bulk, own, snakemake.params.covariates) for own in compared]
    features, tests = (pd.concat(parts) for parts in zip(*found, strict=True))
    files.write_table(features, snakemake.output.features, index=False, float_format="%.6g", na_rep="NA")
    files.write_table(tests, snakemake.output.tests, index=False)
