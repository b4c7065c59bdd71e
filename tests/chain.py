"""The chain of the rules as calls of the library, for tests that need its result but no workflow."""

from datasets import Mosaic, fit_embed
from mosaic import spots

__all__ = ["fit_embed", "graphs_of", "truth_of"]


def graphs_of(files, kinds, **changed):
    """From files (modality -> slice -> path) to graphs, with the defaults of each modality's kind."""
    slices = {
        (name, m): spots.read_slice(path, name, kinds[m]) for m, own in files.items() for name, path in own.items()
    }
    mosaic = Mosaic(slices, kinds, T=0.1, n_domains=1)
    return mosaic.graphs(mosaic.reduced(**changed))


def truth_of(graphs, mdata, column="domain"):
    return spots.annotation({name: adata.obs for name, adata in graphs.items()}, mdata.obs_names, column)
