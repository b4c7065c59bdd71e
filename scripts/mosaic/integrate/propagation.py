"""Features, and their means over the graph, hop by hop."""

import numpy as np
from scipy import sparse


def propagation_operator(connectivities: sparse.csr_matrix) -> sparse.csr_matrix:
    """Normalise a graph: S = D^-1/2 A D^-1/2, A the graph with self loops of weight 1, D the row sums of A.

    Parameters
    ----------
    connectivities
        Weights of the edges (spots x spots), without self loops; ``graph.merge_edges`` makes them.

    Returns
    -------
    S' (spots x spots), the transpose, which is what propagates: features flow along an edge from its source.
    """
    A = sparse.csr_matrix(connectivities + sparse.eye_array(connectivities.shape[0], dtype=np.float32))
    scale = sparse.diags_array(1 / np.sqrt(np.asarray(A.sum(axis=1)).ravel()))
    return sparse.csr_matrix((scale @ A @ scale).T, dtype=np.float32)


def hops(features: np.ndarray, operator: sparse.csr_matrix, K: int) -> np.ndarray:
    """The features and their first K propagations side by side.

    Parameters
    ----------
    features
        Spots x d.
    operator
        See ``propagation_operator``.
    K
        Number of propagations.

    Returns
    -------
    H (spots x (K + 1) d, float32).
    """
    n_spots, width = features.shape
    H = np.empty((n_spots, (K + 1) * width), dtype=np.float32)
    step = np.asarray(features, dtype=np.float32)
    H[:, :width] = step
    for number in range(1, K + 1):
        step = operator @ step
        H[:, number * width : (number + 1) * width] = step
    return H
