"""Score the domains and the latent space of one run."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from mosaic import files, spots, store, tables
    from mosaic.analyse import metrics

    embedding = store.read(snakemake.input.embedding)
    domains = tables.read_table(snakemake.input.domains, embedding.obs_names)["domain"]
    truth = spots.truth(snakemake.input.annotations, embedding.obs_names, snakemake.params.truth)
    aligned = store.read(snakemake.input.aligned)
    table = metrics.evaluate(embedding, domains.to_numpy(), truth, aligned, seed=snakemake.params.seed)
    files.write_table(table, snakemake.output[0], index=False, na_rep="NA", float_format="%.6g")
