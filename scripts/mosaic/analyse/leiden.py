"""Domains by the Leiden algorithm on the latent space's neighbours."""

import igraph
import leidenalg
import numpy as np
from scipy import sparse

from mosaic.errors import InputError
from mosaic.matrices import from_neighbors
from mosaic.neighbors import nearest

_LEIDEN_NEIGHBORS = 15


def leiden_domains(embedding: np.ndarray, resolution: float, seed: int) -> np.ndarray:
    """Leiden communities of the graph of shared nearest neighbours, run until stable; shape (spots,).

    Two spots are joined by the Jaccard index of their 15 nearest neighbours, themselves included, where one is among
    the neighbours of the other (PhenoGraph; Levine et al., Cell 2015). Communities maximise modularity (Traag, Waltman
    and van Eck, Scientific Reports 2019), by leidenalg.

    Raises
    ------
    InputError
        If there are fewer than three spots.
    """
    if len(embedding) < 3:
        raise InputError(f"{len(embedding)} spots are too few for a graph of nearest neighbours", where="cluster")
    n_neighbors = min(_LEIDEN_NEIGHBORS, len(embedding) - 1)
    # A spot is the nearest to itself; of spots that share its place any may stand in for it.
    _, neighbors = nearest(embedding, embedding, n_neighbors + 1)
    around = from_neighbors(neighbors, len(embedding))
    shared = (around @ around.T).multiply(around.maximum(around.T)).tocsr()
    shared.data /= 2 * (n_neighbors + 1) - shared.data
    edges = sparse.triu(shared, k=1).tocoo()
    graph = igraph.Graph(len(embedding), np.column_stack([edges.row, edges.col]), edge_attrs={"weight": edges.data})
    communities = leidenalg.find_partition(
        graph,
        leidenalg.RBConfigurationVertexPartition,
        weights="weight",
        resolution_parameter=resolution,
        n_iterations=-1,
        seed=seed,
    )
    return np.asarray(communities.membership)
