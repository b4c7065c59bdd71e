"""Simulate the slices of the demo."""

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    from mosaic import store
    from mosaic.simulate.counts import simulate_mosaic
    from mosaic.simulate.design import read_design

    slices = simulate_mosaic(read_design(snakemake.input.design), seed=snakemake.params.seed)
    for (slice_name, modality), adata in slices.items():
        path = next(path for path in snakemake.output if path.endswith(f"/{slice_name}.{modality}.h5ad"))
        store.write(adata, path)
