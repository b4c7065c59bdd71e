"""Count which domains border on which in each slice, and compare conditions."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from mosaic import files, store, tables
    from mosaic.analyse import conditions, neighbourhoods

    embedding = store.read(snakemake.input.embedding)
    domains = tables.read_table(snakemake.input.domains, embedding.obs_names)["domain"]
    domains = tables.read_labels(snakemake.input.names).ordered(domains)
    levels = snakemake.params.compared["levels"]
    own = embedding.obs["slice"].isin(list(levels)).to_numpy()
    table = neighbourhoods.by_slice(
        embedding.obsm["spatial"][own], domains[own], embedding.obs["slice"][own], seed=snakemake.params.seed
    )
    compared = conditions.contrasts(**snakemake.params.compared)
    tests = [neighbourhoods.compare_neighbours(table, contrast, seed=snakemake.params.seed) for contrast in compared]
    table.insert(1, "level", table["slice"].map(levels))
    files.write_table(table, snakemake.output.slices, index=False, float_format="%.6g", na_rep="NA")
    files.write_table(pd.concat(tests), snakemake.output.tests, index=False, float_format="%.6g", na_rep="NA")
