"""Find the domains of a reference in new slices, and how far each spot lies from it."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from pathlib import Path

    from mosaic import files, manifest, store
    from mosaic.analyse import consensus, mapped_domains
    from mosaic.check import confidence

    given, written = snakemake.input, snakemake.output
    folder = Path(given.spots).parent
    modalities = [Path(path).stem for path in given.graphs]
    found = mapped_domains.map_domains(
        store.read(given.embedding),
        dict(zip(modalities, map(store.read, given.graphs), strict=True)),
        dict(zip(modalities, map(store.read, given.mapped), strict=True)),
        dict(zip(modalities, map(store.read, given.features), strict=True)),
        store.read(manifest.checked(folder, "spots.h5ad")),
    )
    told = manifest.read_manifest(folder)
    names = mapped_domains.domain_names(found.table["domain"], told["domains"])
    labelled = found.confidence
    if (names["name"] != names.index.astype(str)).any():
        labelled = labelled.assign(name=labelled["domain"].map(names["name"]))
    vote = consensus.consensus({told["seed"]: labelled})
    if "name" in labelled:
        vote.spots["name"] = labelled["name"]
    rounded = {"float_format": "%.6g"}
    files.write_table(found.table, written.domains, index_label="spot", **rounded)
    files.write_table(names, written.names, index_label="domain")
    store.write(found.aligned, written.aligned)
    files.write_table(found.umap, written.umap, index_label="spot")
    files.write_table(labelled, written.confidence, index_label="spot", **rounded)
    files.write_table(confidence.called_by(confidence.together([])), written.calls, index=False)
    files.write_table(found.slices, written.mapping, index=False, na_rep="NA", **rounded)
    files.write_table(vote.spots, written.consensus, index_label="spot", **rounded)
    files.write_table(vote.agreement, written.agreement, index=False)
    files.write_table(vote.support, written.support, index=False)
