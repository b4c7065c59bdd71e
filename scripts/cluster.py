"""Divide the tissue into domains."""

from mosaic.logs import job

with job(snakemake.log[0]):
    from mosaic import cluster, files, spots

    embedding = spots.read(snakemake.input.embedding)
    found = cluster.cluster_domains(
        embedding.obsm[spots.LATENT], seed=snakemake.params.seed, **snakemake.params.settings
    )
    table = embedding.obs[["slice"]].assign(domain=found.labels)
    if found.probability is not None:
        table["probability"] = found.probability
    files.write_table(table, snakemake.output[0], index_label="spot", float_format="%.6g")
