"""Compare the proportions of the domains between conditions."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic import files, tables
    from mosaic.analyse import conditions

    domains = tables.read_table(snakemake.input.domains)
    domains["domain"] = tables.read_labels(snakemake.input.names).ordered(domains["domain"])
    compared = conditions.contrasts(**snakemake.params.compared)
    tests = [conditions.compare_composition(domains, own, seed=snakemake.params.seed) for own in compared]
    outputs = snakemake.output
    files.write_table(pd.concat(tests), outputs.tests, index=False, float_format="%.6g", na_rep="NA")
    shares = conditions.shares(domains, snakemake.params.compared["levels"])
    files.write_table(shares, outputs.shares, index=False, float_format="%.6g")
    files.write_table(conditions.described(compared), outputs.contrasts, index=False)
