"""Map the slices of a modality to the features of a reference."""

from mosaic.logs import job_log

with job_log(snakemake.log[0], versions=snakemake.output.versions):
    import json
    from pathlib import Path

    from mosaic import store
    from mosaic.files import atomic_write
    from mosaic.manifest import checked
    from mosaic.prepare import feature_names, mapping, reduce

    settings, modality = snakemake.params.settings, snakemake.wildcards.modality
    folder = Path(snakemake.input.reference).parent
    layers = reduce.ReductionSettings(**settings).needs_counts
    names = snakemake.input.names
    adata = mapping.map_modality(
        (store.read(path, layers=layers) for path in snakemake.input.slices),
        store.read(checked(folder, f"features.{modality}.h5ad")),
        modality,
        least_share=snakemake.params.min_features,
        renamed=feature_names.read_renamed(names) if names else None,
        **settings,
    )
    store.write(adata, snakemake.output.h5ad)
    with atomic_write(snakemake.output.correction) as unfinished:
        unfinished.write_text(json.dumps(adata.uns["batch_correction"]))
