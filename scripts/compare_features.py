"""Test the features of a modality for differences between conditions within each domain."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic import files, store
    from mosaic.analyse import conditions, pseudobulk

    domains = store.read_table(snakemake.input.domains)["domain"]
    domains = store.read_labels(snakemake.input.names).ordered(domains)
    bulk = pseudobulk.pseudobulk(map(store.read, snakemake.input.slices), domains)
    compared = conditions.contrasts(**snakemake.params.compared)
    found = [pseudobulk.differences(bulk, own, snakemake.params.covariates) for own in compared]
    features, tests = (pd.concat(tables) for tables in zip(*found, strict=True))
    files.write_table(features, snakemake.output.features, index=False, float_format="%.6g", na_rep="NA")
    files.write_table(tests, snakemake.output.tests, index=False)
