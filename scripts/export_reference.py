"""Write the folder onto which a later run maps new slices."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import json
    import shutil
    from pathlib import Path

    import pandas as pd

    from mosaic import store, tables
    from mosaic.analyse import mapped_domains, reference_files
    from mosaic.prepare import mapping

    asked, given, folder = snakemake.params, snakemake.input, Path(snakemake.output[0])
    reduced = {Path(path).stem: store.read(path) for path in given.reduced}
    for name, adata in reduced.items():
        mapping.mappable(adata, name, asked.config["modalities"][name])
    embedding = store.read(given.embedding)
    domains = tables.read_table(given.domains, embedding.obs_names)
    umap = tables.read_table(given.umap, embedding.obs_names)[["UMAP1", "UMAP2"]]
    graphs = {Path(path).stem: store.read(path) for path in given.graphs}
    spots = mapped_domains.reference_spots(embedding, graphs, domains, umap, domains, views=asked.views)
    scores = {Path(path).name.split(".")[1]: tables.read_table(path, index="feature") for path in given.scores}
    donors = store.read_slices(given.counts)
    counts = {name: reference_files.donor_counts(own, name, scores.get(name)) for name, own in donors.items()}
    features = {name: mapped_domains.reference_features(adata, embedding, name) for name, adata in reduced.items()}
    told = reference_files.told_of(tables.read_labels(given.names), pd.read_csv(given.checks, sep="\t"))
    told |= {"seed": int(snakemake.wildcards.seed), "config": asked.config, "slices": asked.slices}
    told["versions"] = json.loads(Path(given.versions).read_text())
    folder.mkdir(parents=True)
    shutil.copyfile(given.model, folder / "model.safetensors")
    reference_files.write_reference(folder, features, spots, counts, told)
