"""Quality control of one modality of one slice."""

from mosaic.logs import job

with job(snakemake.log[0]):
    import json
    from pathlib import Path

    from mosaic import qc, spots

    adata = spots.read_slice(snakemake.input.h5ad, snakemake.wildcards.slice, snakemake.params.kind)
    passed, metrics, summary = qc.filter_slice(adata, **snakemake.params.thresholds)
    metrics.to_csv(snakemake.output.spots, sep="\t", index_label="spot")
    Path(snakemake.output.summary).write_text(json.dumps(summary, indent=1))
    spots.write(passed, snakemake.output.h5ad)
