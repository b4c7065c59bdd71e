"""Embed with Harmony: the first modality that every slice measured, its components corrected for the slice."""

from mosaic.peers import program

with program(__doc__) as task:
    import logging

    import harmonypy
    import pandas as pd

    graphs = task.reduced()
    slices = {name for graph in graphs.values() for name in graph.obs["slice"].unique()}
    name = next(name for name, graph in graphs.items() if set(graph.obs["slice"].unique()) == slices)
    logging.getLogger("mosaic.peers").info("Harmony of %s", name)
    graph = graphs[name]
    # Before the workflow's own correction, so that each seed has one of its own.
    features = graph.obsm[next(key for key in ("X_pca", "X_lsi", "X_features") if key in graph.obsm)]
    if len(slices) > 1:
        meta = {"slice": graph.obs["slice"].to_numpy(dtype=str)}
        features = harmonypy.run_harmony(features, meta, "slice", random_state=task.seed, verbose=False).Z_corr
    task.write_joint(graphs, pd.DataFrame(features, graph.obs_names))
