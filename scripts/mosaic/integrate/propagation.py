"""What an encoder reads: features, and their means over the graph, hop by hop."""

import anndata as ad
import numpy as np
from scipy import sparse


def propagation_operator(
    spatial: sparse.csr_matrix, mutual: sparse.csr_matrix, *, w_g: float, symmetric: bool
) -> sparse.csr_matrix:
    """Normalise the merged graph: S = D^-1/2 A D^-1/2, D the row sums of A.

    Parameters
    ----------
    spatial, mutual
        As ``build_graph`` gives them.
    w_g
        Weight of the expression edges; spatial edges and self loops weigh 1.
    symmetric
        Make the spatial edges undirected first. The published implementation leaves them directed.

    Returns
    -------
    S' (spots x spots), the transpose, which is what propagates: features flow along an edge from its source.
    """
    if symmetric:
        spatial = spatial.maximum(spatial.T)
    A = sparse.csr_matrix(spatial + sparse.eye_array(spatial.shape[0], dtype=np.float32) + w_g * mutual)
    scale = sparse.diags_array(1 / np.sqrt(np.asarray(A.sum(axis=1)).ravel()))
    return sparse.csr_matrix((scale @ A @ scale).T, dtype=np.float32)


def hops(features: np.ndarray, operator: sparse.csr_matrix, K: int, *, on_disk: str | None = None) -> np.ndarray:
    """What the encoder reads: the features and their first K propagations side by side.

    Parameters
    ----------
    features
        Spots x d.
    operator
        See ``propagation_operator``.
    K
        Number of propagations.
    on_disk
        A file (.npy) to hold the result, of which then only what is read is in memory.

    Returns
    -------
    H (spots x (K + 1) d, float32).
    """
    n_spots, width = features.shape
    shape = (n_spots, (K + 1) * width)
    H = np.lib.format.open_memmap(on_disk, "w+", np.float32, shape) if on_disk else np.empty(shape, dtype=np.float32)
    step = np.asarray(features, dtype=np.float32)
    H[:, :width] = step
    for number in range(1, K + 1):
        step = operator @ step
        H[:, number * width : (number + 1) * width] = step
    return H


def encoder_input(graph: ad.AnnData, *, K: int, w_g: float, symmetric: bool, on_disk: str | None = None) -> np.ndarray:
    """Propagate a modality's features over its graph.

    Parameters
    ----------
    graph
        Spots x d features in X, with ``obsp["spatial_connectivities"]`` and ``obsp["mutual_nearest_neighbors"]``.
    K, w_g, symmetric
        See ``graph.hops`` and ``graph.propagation_operator``.
    on_disk
        See ``graph.hops``.

    Returns
    -------
    H (spots x (K + 1) d, float32).
    """
    operator = propagation_operator(
        graph.obsp["spatial_connectivities"], graph.obsp["mutual_nearest_neighbors"], w_g=w_g, symmetric=symmetric
    )
    return hops(graph.X, operator, K, on_disk=on_disk)
