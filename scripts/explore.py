"""Write the explorer: a folder that a browser opens without a server."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from functools import partial
    from pathlib import Path

    import pandas as pd

    from mosaic import store, tables
    from mosaic.figures import explorer, style
    from mosaic.prepare import normalize

    given, asked = snakemake.input, snakemake.params

    def of(paths, modality):
        """The files of a modality, which their names have before the ending."""
        return [path for path in paths if Path(path).name.split(".")[-2] == modality]

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
            on_scale = partial(normalize.normalize_spots, normalization=scale)
            key = "X" if kind == "features" else "layers/counts"
            measured = explorer.slice_readers(of(given.counts, modality), key, on_scale)
            beside = of(given.counts, modality) if kind != "features" else ()
            imputed = explorer.slice_readers(of(given.imputed, modality), "layers/imputed", on_scale, beside)
            scores = explorer.held_out_scores(of(given.imputed, modality))
            yield explorer.panel(modality, scale, features, spots.obs_names, measured, imputed, scores)

    quality = {name: pd.concat(map(tables.read_table, of(given.quality, name))) for name in asked.kinds}
    columns = explorer.columns(spots, asked.methods, asked.seeds, asked.truth, quality)
    frames = style.frames(given.tissue, **asked.figures)
    slices = {name: explorer.Slice(note, frames[name]) for name, note in asked.notes.items()}
    explorer.write(snakemake.output[0], given.page, spots, columns, panels(), slices)
