"""Write the folder onto which a later run maps new slices."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import json
    import shutil
    from pathlib import Path

    import pandas as pd

    from mosaic import reference, store
    from mosaic.analyse.mapped_domains import reference_features, reference_spots
    from mosaic.prepare import mapping

    asked, given = snakemake.params, snakemake.input
    modalities = asked.config["modalities"]
    reduced = {Path(path).stem: store.read(path) for path in given.reduced}
    for name, adata in reduced.items():
        mapping.mappable(adata, name, reference.reduction_settings(modalities[name]))
    embedding = store.read(given.embedding)
    domains = store.read_table(given.domains, embedding.obs_names)
    spots = reference_spots(
        embedding,
        {Path(path).stem: store.read(path) for path in given.graphs},
        domains,
        store.read_table(given.umap, embedding.obs_names)[["UMAP1", "UMAP2"]],
        domains,
        views=asked.views,
    )
    scores = {Path(path).name.split(".")[1]: store.read_table(path, index="feature") for path in given.scores}
    counts = {
        name: reference.donor_counts(slices, name, scores[name] if len(scores.get(name, ())) else None)
        for name, slices in store.read_slices(given.counts).items()
    }
    labels = store.read_labels(given.names)
    checks = pd.read_csv(given.checks, sep="\t")[["check", "status", "value"]]
    folder = Path(snakemake.output[0])
    folder.mkdir(parents=True)
    shutil.copyfile(given.model, folder / "model.safetensors")
    reference.write_reference(
        folder,
        {name: reference_features(adata, embedding, name) for name, adata in reduced.items()},
        spots,
        counts,
        {
            "seed": int(snakemake.wildcards.seed),
            "config": asked.config,
            "slices": asked.slices,
            "domains": {
                "names": labels.names,
                "colours": {number: labels.colours[name] for number, name in labels.names.items()},
            },
            "checks": json.loads(checks.to_json(orient="records")),
            "versions": json.loads(Path(given.versions).read_text()),
        },
    )
