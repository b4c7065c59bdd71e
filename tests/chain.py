"""The chain of the rules as calls of the library, for tests that need its result but no workflow."""

from datasets import Mosaic, fit_embed
from mosaic import spots

__all__ = ["THREE_SLICES", "fit_embed", "graphs_of", "truth_of"]


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


def graphs_of(files, kinds, **changed):
    """From files (modality -> slice -> path) to graphs, with the defaults of each modality's kind."""
    slices = {
        (name, m): spots.read_slice(path, name, kinds[m]) for m, own in files.items() for name, path in own.items()
    }
    mosaic = Mosaic(slices, kinds, T=0.1, n_domains=1)
    return mosaic.graphs(mosaic.reduced(**changed))


def truth_of(graphs, mdata, column="domain"):
    return spots.annotation({name: adata.obs for name, adata in graphs.items()}, mdata.obs_names, column)
