"""Write the explorer: a folder that a browser opens without a server."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from functools import partial
    from pathlib import Path

    import pandas as pd

    from mosaic import blocks, store, tables
    from mosaic.figures import explorer, style
    from mosaic.prepare import normalize

    given, asked = snakemake.input, snakemake.params

    def of(paths, modality):
        """The files of a modality, which their names have before the ending."""
        return [path for path in paths if Path(path).name.split(".")[-2] == modality]

    def on_scale(paths, scale, key):
        """Of each slice a function that reads it on the scale that is shown, block by block."""

        def read(path):
            found = blocks.read_blocks(path, key)
            found = explorer.imputed_counts(found) if key == "layers/imputed" else found
            return (normalize.normalize_spots(adata, scale) for adata in found)

        return [partial(read, path) for path in paths]

    spots = store.read_spots(given.integrated)
    available = {modality: store.read_features(*of(given.counts, modality)) for modality in asked.kinds}
    explorer.check_asked(asked.features, available)

    def panels():
        """The modalities, one at a time in memory."""
        for modality, kind in asked.kinds.items():
            scale = asked.scales[modality]
            markers = [tables.read_table(path, index="feature").index for path in of(given.markers, modality)]
            selected = store.read_features(*of(given.reduced, modality))
            features = explorer.shown_features(available[modality], kind, selected, markers, asked.features)
            measured = on_scale(of(given.counts, modality), scale, "X" if kind == "features" else "layers/counts")
            imputed = on_scale(of(given.imputed, modality), scale, "layers/imputed")
            outlines = [store.read_outline(path).var for path in of(given.imputed, modality)]
            scores = [own[["pearson_log", "better_than_mean"]] for own in outlines if "pearson_log" in own and len(own)]
            last = scores[-1] if scores else None
            yield explorer.panel(modality, scale, features, spots.obs_names, measured, imputed, last)

    quality = {name: pd.concat(map(tables.read_table, of(given.quality, name))) for name in asked.kinds}
    columns = explorer.columns(spots, asked.methods, asked.seeds, asked.truth, quality)
    frames = style.frames(given.tissue, **asked.figures)
    slices = {name: explorer.Slice(note, frames[name]) for name, note in asked.notes.items()}
    explorer.write(snakemake.output[0], given.page, spots, columns, panels(), slices)
