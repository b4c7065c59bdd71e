"""Cluster the latent space into spatial domains."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import files, store
    from mosaic.analyse import domains, n_domains
    from mosaic.embedding import LATENT

    embedding = store.read(snakemake.input.embedding)
    latent, settings = embedding.obsm[LATENT], dict(snakemake.params.settings)
    n_domains_range = settings.pop("n_domains_range")
    if settings["n_domains"] == "auto":
        settings["n_domains"], curve = n_domains.choose_n_domains(latent, n_domains_range, seed=snakemake.params.seed)
        files.write_table(curve, snakemake.output.curve, index=False, float_format="%.6g")
    places = {"coordinates": embedding.obsm["spatial"], "slices": embedding.obs["slice"]}
    found = domains.cluster_domains(latent, seed=snakemake.params.seed, **places, **settings)
    table = embedding.obs[["slice"]].assign(domain=found.labels)
    if found.probability is not None:
        table["probability"] = found.probability
    files.write_table(table, snakemake.output.domains, index_label="spot", float_format="%.6g")
