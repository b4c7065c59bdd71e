"""Baseline Harmony: the first modality that every slice has, its components corrected for the slice."""

from mosaic.baselines.run import baseline_run

with baseline_run(__doc__) as task:
    import logging

    import pandas as pd

    from mosaic.prepare.batch_correction import harmony

    graphs = task.reduced()
    slices = {name for graph in graphs.values() for name in graph.obs["slice"].unique()}
    name = next(name for name, graph in graphs.items() if set(graph.obs["slice"].unique()) == slices)
    logging.getLogger("mosaic.baselines").info("Harmony of %s", name)
    graph = graphs[name]
    # The components before the workflow's batch correction, so that each seed runs Harmony anew.
    features = graph.obsm["X_reduced"]
    if len(slices) > 1:
        features = harmony(features, graph.obs["slice"].to_numpy(dtype=str), seed=task.seed).features
    task.write_joint(graphs, pd.DataFrame(features, graph.obs_names))
