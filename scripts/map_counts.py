"""Impute a modality that a slice lacks from the donors of a reference."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    from pathlib import Path

    from mosaic import store
    from mosaic.analyse import impute, imputed, reference_files
    from mosaic.manifest import checked

    given, modality = snakemake.input, snakemake.wildcards.modality
    folder = Path(given.manifest).parent
    own = {name: slices[0] for name, slices in store.read_slices(given.own).items()}
    donors = {
        name: store.read(checked(folder, path.name))
        for path in map(Path, given.counts)
        if (name := path.name.split(".")[1]) in (*own, modality)
    }
    features = {
        name: store.read(path) for path in given.features if (name := Path(path).name.split(".")[1]) in (*own, modality)
    }
    plan = impute.plan_modality(
        reference_files.linked_embedding(store.read(given.embedding), features, [*own, modality]),
        snakemake.wildcards.slice,
        modality,
        reference_files.counts_to_impute(modality, list(own), donors, own),
        **snakemake.params.settings,
    )
    scores = donors[modality].var.drop(columns=["unit", "gene_id"], errors="ignore")
    imputed.write_imputed(plan, snakemake.output[0], scores if scores.shape[1] else None)
