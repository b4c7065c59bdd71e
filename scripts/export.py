"""Write counts, latent spaces, domains, UMAPs and imputed counts to integrated.h5mu."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from pathlib import Path

    from mosaic import files, store, tables
    from mosaic.analyse import domain_names, export
    from mosaic.figures import style

    config = snakemake.params.config
    counts = files.by_modality(snakemake.input.qc)
    reduced = {name: store.read_outline(path) for name, path in zip(counts, snakemake.input.reduced, strict=True)}
    runs = []
    for folder in dict.fromkeys(Path(path).parent for path in snakemake.input.runs):
        imputed = [path for path in snakemake.input.imputed if Path(path).parent.parent == folder]
        embedding = store.read(folder / "embedding.h5mu")
        runs.append(
            export.Run(
                method=folder.parent.name,
                seed=int(folder.name.removeprefix("seed-")),
                embedding=embedding,
                aligned=store.read(folder / "aligned.h5mu"),
                domains=tables.read_table(folder / "domains.tsv", embedding.obs_names)["domain"],
                umap=tables.read_table(folder / "umap.tsv", embedding.obs_names),
                imputed=files.by_modality(imputed),
                labels=tables.read_labels(folder / "domain_names.tsv"),
            )
        )
    first = runs[0]
    known = {number: first.labels.colours[name] for number, name in first.labels.names.items()}
    consensus = {Path(path).parent.name: tables.read_table(path) for path in snakemake.input.consensus}
    for table in consensus.values():
        counterparts = domain_names.name_domains(table["domain"], first.domains, {})["counterpart"]
        table["colour"] = table["domain"].astype(str).map(style.colours_of_counterparts(counterparts, known))
    named = snakemake.input.annotations
    annotations = store.read(named).obs if named else None
    columns, union = snakemake.params.columns, snakemake.params.union
    mdata = export.assemble_mudata(counts, reduced, runs, consensus, config, annotations, columns, union)
    export.write_mudata(mdata, counts, runs, snakemake.output.mudata)
    for loupe, xenium in zip(snakemake.output.loupe, snakemake.output.xenium, strict=True):
        shown = export.browser_tables(mdata.obs, Path(loupe).name.split(".")[0])
        for table, path in zip(shown, (loupe, xenium), strict=True):
            files.write_table(table, path, sep=",", index=False)
