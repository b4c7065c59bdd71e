"""Score one run of the benchmark: the same clusterers and imputers for every method."""

import paths  # noqa: F401

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from itertools import product
    from pathlib import Path

    import pandas as pd

    from mosaic import files, matrices, spots, store
    from mosaic.analyse import alignment, domains, impute, metrics, n_domains, random_field
    from mosaic.embedding import LATENT
    from mosaic.prepare import read

    embedding = store.read(snakemake.input.embedding)
    truth = spots.truth(snakemake.input.annotations, embedding.obs_names, "domain")
    latent, seed = embedding.obsm[LATENT], snakemake.params.seed
    slices = embedding.obs["slice"].to_numpy(dtype=str)
    numbers = {
        "given": snakemake.params.n_domains,
        "chosen": n_domains.choose_by_silhouette(latent, seed=seed).n_domains,
    }
    tables = []
    graphs = {Path(path).stem: store.read(path) for path in snakemake.input.graphs}
    tissue = {
        "coordinates": embedding.obsm["spatial"],
        "slices": slices,
        "views": random_field.views_of(graphs, embedding.obs_names),
    }
    for method, (how, number) in product(("tissue", "mixture", "kmeans"), numbers.items()):
        found = domains.cluster_domains(latent, method, n_domains=number, **tissue, seed=seed)
        if (method, how) == ("tissue", "given"):
            aligned = alignment.aligned_embedding(embedding, found.weights)
            table = metrics.evaluate(embedding, found.labels, truth, aligned, seed=seed)
        else:
            table = metrics.against_truth(found.labels, truth, slices, embedding.obsm["spatial"])
        clustered = ~table["metric"].isin(metrics.OF_LATENT)
        tables.append(table.assign(by=clustered.map({True: f"{method}, {how} number", False: ""})))
    chosen = {"metric": "number of domains", "scope": "all", "value": numbers["chosen"], "by": "chosen number"}
    tables.append(pd.DataFrame([chosen]))

    counts = spots.read_stacked(snakemake.input.counts)
    imputers = {"matching": {}, "10 nearest": {"method": "nearest", "n_neighbors": 10}}
    for (name, modality), path in zip(snakemake.params.hidden, snakemake.input.hidden, strict=True):
        measured = read.read_slice(path, name, snakemake.params.kinds[modality])
        for by, settings in imputers.items():
            imputed = impute.impute_modality(embedding, name, modality, counts, **settings)
            both = imputed.obs_names[imputed.obs_names.isin(measured.obs_names)]
            features = imputed.var_names[imputed.var_names.isin(measured.var_names)]
            pair = (imputed[both, features].layers["imputed"], measured[both, features].layers["counts"])
            scores = metrics.imputation_scores(*map(matrices.dense, pair))
            up = {key: "up" if key.startswith("pearson") else "down" for key in scores}
            rows = [(f"imputation {key}", f"{name}:{modality}", value, up[key], by) for key, value in scores.items()]
            tables.append(pd.DataFrame(rows, columns=["metric", "scope", "value", "direction", "by"]))
    files.write_table(pd.concat(tables), snakemake.output[0], index=False, na_rep="NA", float_format="%.6g")
