"""Matrices of counts, dense or sparse: blocks, samples and weights."""

import anndata as ad
import numpy as np
from scipy import sparse

# Maximum number of values in a block of the regression or of predicted spots: bounds the memory.
BLOCK_VALUES = 20_000_000


def equal_weights(chosen: np.ndarray, n_donors: int) -> sparse.csr_matrix:
    """Weights (queries x donors) that average the donors ``chosen`` (queries x neighbours) of each query."""
    n_queries, n_neighbors = chosen.shape
    ends = np.arange(n_queries + 1) * n_neighbors
    weights = sparse.csr_matrix((np.full(chosen.size, 1 / n_neighbors), chosen.ravel(), ends), (n_queries, n_donors))
    weights.sort_indices()
    return weights


def placed(matrix: sparse.sparray, rows: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A matrix of ``shape`` with the rows of ``matrix`` at ``rows``, and zeros elsewhere."""
    matrix = matrix.tocoo()
    return sparse.csr_matrix((matrix.data, (np.asarray(rows)[matrix.row], matrix.col)), shape=shape)


def values_of(adata: ad.AnnData) -> sparse.csr_matrix:
    """Counts, or X of kind ``features`` (spots x features, double precision)."""
    return sparse.csr_matrix(adata.layers.get("counts", adata.X), dtype=np.float64)


def dense(matrix: np.ndarray | sparse.spmatrix) -> np.ndarray:
    """A layer as a plain array, for the few features of a figure."""
    return np.asarray(matrix) if isinstance(matrix, np.ndarray) else matrix.toarray()


def sample_rows(n_rows: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted numbers of ``limit`` random rows; all rows if there are no more."""
    return np.arange(n_rows) if n_rows <= limit else np.sort(rng.choice(n_rows, limit, replace=False))
