"""Write the slices of one data set of the benchmark as a user's files, and apart from them what is hidden."""

from pathlib import Path

import paths  # noqa: F401

from mosaic.logs import job_log

with job_log(snakemake.log[0]):
    import datasets
    from mosaic import store
    from mosaic.config.schema import with_changes
    from mosaic.simulate.counts import simulate_mosaic
    from mosaic.simulate.design import read_design

    spec = snakemake.params.dataset
    if "simulate" in spec:
        design = with_changes(read_design(snakemake.input.design), spec["simulate"])
        design["slices"] = {name: [*own, *spec["hidden"].get(name, [])] for name, own in spec["slices"].items()}
        made = simulate_mosaic(design, seed=1234)
    else:
        dataset = getattr(datasets, spec["published"])(Path(snakemake.params.data), **spec["arguments"])
        made = {**dataset.slices, dataset.hidden: dataset.measured}
    for part in ("slices", "hidden"):
        for path in snakemake.output[part]:
            name, modality, _ = Path(path).name.split(".")
            store.write(made[name, modality], path)
