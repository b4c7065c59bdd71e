"""Plot the quality-control metrics of each slice of a modality."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import json
    from pathlib import Path

    import pandas as pd

    from mosaic import tables
    from mosaic.figures import charts, style

    metrics, thresholds = [], {}
    for spots_path, summary_path in zip(snakemake.input.spots, snakemake.input.summaries, strict=True):
        slice_name = Path(spots_path).name.split(".")[0]
        metrics.append(tables.read_table(spots_path).assign(slice=slice_name))
        bounds = json.loads(Path(summary_path).read_text())["thresholds"]
        thresholds[slice_name] = {
            metric: (None, bound) if metric == "mito_percent" else (bound, None) for metric, bound in bounds.items()
        }
    table = pd.concat(metrics)
    # Spots off the tissue do not reflect the quality of the tissue.
    figure = charts.qc_distributions(
        table[table["in_tissue"]], thresholds, colours=style.palette(snakemake.params.slices)
    )
    style.save(figure, snakemake.output.svg, snakemake.output.png)
