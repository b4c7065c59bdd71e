"""The chain of the rules as calls of the library, for tests that need its result but no workflow."""

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.integrate import graph

# A mosaic as simulate_mosaic takes it: RNA and ADT, RNA, RNA and ADT.
THREE_SLICES = {
    "grid": {"rows": 12, "columns": 12, "pitch": 100},
    "domains": {"a": 1, "b": 1, "c": 1},
    "slices": {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["rna", "adt"]},
    "modalities": {
        "rna": {"kind": "rna", "n_features": 120, "depth": 800, "markers": 12, "marker_fold": 5.0},
        "adt": {"kind": "protein", "n_features": 20, "depth": 1500, "markers": 3, "marker_fold": 5.0},
    },
}


def simulated(design, *, seed=0, change=None, **config):
    """A run on a simulated mosaic, with the workflow's defaults but for ``config``.

    ``change`` makes of the name, modality and AnnData of a slice what takes its place. One CPU, one thread.
    """
    # Need every package of the chain; `make envs` runs tests that need small_graph alone where these are not.
    from mosaic.config.schema import with_changes
    from mosaic.pipeline import Pipeline
    from mosaic.simulate.counts import simulate_mosaic

    slices = simulate_mosaic(design, seed=seed)
    if change is not None:
        slices = {key: change(*key, adata) for key, adata in slices.items()}
    base = {
        "modalities": {name: {"kind": own["kind"]} for name, own in design["modalities"].items()},
        "train": {"T": 0.1, "device": "cpu", "threads": 1},
        "cluster": {"n_domains": len(design["domains"])},
        "truth": "domain",
    }
    return Pipeline.from_slices(slices, with_changes(base, config))


def small_graph(design, n_spots=60, seed=0):
    """A graph of the slices in ``design`` whose features show two halves of the tissue."""
    rng = np.random.default_rng(seed)
    slices = np.repeat(list(design), n_spots)
    places = np.vstack([np.column_stack(np.divmod(np.arange(n_spots), 10)) for _ in design]).astype(float)
    half = np.tile(np.arange(n_spots) < n_spots // 2, len(design))
    features = (rng.normal(size=(len(slices), 6)) + 3 * half[:, None]).astype(np.float32)
    barcodes = [f"BC{number}" for _ in design for number in range(n_spots)]
    obs = pd.DataFrame({"slice": pd.Categorical(slices), "barcode": barcodes})
    obs.index = [f"{name}:{barcode}" for name, barcode in zip(slices, barcodes, strict=True)]
    pairs = [(design[0], name) for name in design[1:]]
    stacked = ad.AnnData(obs=obs, obsm={"spatial": places})
    return graph.build_graph(stacked, features, pairs, intra_knns=5, inter_knn_base=5)
