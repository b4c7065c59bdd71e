"""Domains by the Leiden algorithm on the latent space's neighbours, alone or together with those on the tissue."""

import numpy as np
from scipy import sparse

from mosaic.errors import InputError
from mosaic.matrices import from_neighbors
from mosaic.neighbors import nearest
from mosaic.spatial import tissue_neighbors

_LEIDEN_NEIGHBORS = 15
_TISSUE_NEIGHBORS = 6


def leiden_domains(
    embedding: np.ndarray,
    coordinates: np.ndarray,
    slices: np.ndarray,
    resolution: float,
    seed: int,
    *,
    spatial_weight: float = 0,
) -> np.ndarray:
    """Leiden communities of the graph of shared nearest neighbours, run until stable; shape (spots,).

    Two spots are joined by the Jaccard index of their 15 nearest neighbours, themselves included, where one is among
    the neighbours of the other (PhenoGraph; Levine et al., Cell 2015). Communities maximise modularity (Traag, Waltman
    and van Eck, Scientific Reports 2019), by leidenalg.

    With a spatial weight w, they maximise the modularity in this graph plus w times the proportion of edges within
    communities in the graph of the tissue, in which a spot is joined to its six nearest of the same slice (two layers,
    as in SpatialLeiden: Müller-Bötticher et al., Genome Biology 2025). From the edges on the tissue none are expected:
    modularity would reward communities for lying in one slice, as no edge joins two.

    Parameters
    ----------
    embedding
        Spots x dimensions.
    coordinates, slices
        Place (spots x 2) and slice of each spot; unused if ``spatial_weight`` is 0.
    resolution
        Factor of the expected edges in the modularity: more gives more domains.
    seed
        Seed of the order in which spots are visited.
    spatial_weight
        The weight w of the tissue, 0 or more.

    Raises
    ------
    InputError
        If there are fewer than three spots, or the spatial weight is negative.
    """
    # Imported here: igraph loads what it can draw with, and other ways to find domains do not need it.
    import igraph
    import leidenalg

    if len(embedding) < 3:
        raise InputError(f"{len(embedding)} spots are too few for a graph of nearest neighbours", where="cluster")
    if spatial_weight < 0:
        raise InputError(f"{spatial_weight} is negative", where="cluster: spatial_weight", hint="give 0 or more")
    graphs = [_latent_graph(embedding)]
    weights, resolutions = [1.0], [resolution]
    if spatial_weight:
        graphs.append(sparse.triu(tissue_neighbors(coordinates, slices, _TISSUE_NEIGHBORS), k=1).tocoo())
        weights.append(spatial_weight * graphs[0].data.sum() / graphs[1].data.sum())
        resolutions.append(0.0)
    layers = [
        leidenalg.RBConfigurationVertexPartition(
            igraph.Graph(len(embedding), np.column_stack([edges.row, edges.col]), edge_attrs={"weight": edges.data}),
            weights="weight",
            resolution_parameter=number,
        )
        for edges, number in zip(graphs, resolutions, strict=True)
    ]
    optimiser = leidenalg.Optimiser()
    optimiser.set_rng_seed(seed)
    optimiser.optimise_partition_multiplex(layers, weights, n_iterations=-1)
    return np.asarray(layers[0].membership)


def _latent_graph(embedding: np.ndarray) -> sparse.coo_matrix:
    """Edges between neighbours in latent space, each once."""
    n_neighbors = min(_LEIDEN_NEIGHBORS, len(embedding) - 1)
    # A spot is the nearest to itself; of spots that share its place any may stand in for it.
    _, neighbors = nearest(embedding, embedding, n_neighbors + 1)
    around = from_neighbors(neighbors, len(embedding))
    shared = (around @ around.T).multiply(around.maximum(around.T)).tocsr()
    shared.data /= 2 * (n_neighbors + 1) - shared.data
    return sparse.triu(shared, k=1).tocoo()
