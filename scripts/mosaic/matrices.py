"""Matrices and labels: neighbour lists as sparse matrices, rows in a larger matrix, samples, one-to-one matches."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    import anndata as ad

# Maximum number of values in a block of the regression or of predicted spots: bounds the memory.
BLOCK_VALUES = 20_000_000


def from_neighbors(neighbors: np.ndarray, n_columns: int, weights: np.ndarray | None = None) -> sparse.csr_matrix:
    """Sparse matrix of neighbour lists.

    Parameters
    ----------
    neighbors
        Column numbers of each row's neighbours (rows x neighbours), each once in a row.
    n_columns
        Number of columns.
    weights
        Values (rows x neighbours); None: ones.

    Returns
    -------
    Rows x ``n_columns``. Each row keeps the order of its neighbours, and with it the rounding of sums over them.
    """
    n_rows, n_neighbors = neighbors.shape
    values = np.ones(neighbors.size) if weights is None else weights.ravel()
    ends = np.arange(n_rows + 1) * n_neighbors
    return sparse.csr_matrix((values, neighbors.ravel(), ends), (n_rows, n_columns))


def equal_weights(chosen: np.ndarray, n_donors: int) -> sparse.csr_matrix:
    """Weights (queries x donors) that average the donors ``chosen`` (queries x neighbours) of each query."""
    weights = from_neighbors(chosen, n_donors, np.full(chosen.shape, 1 / chosen.shape[1]))
    weights.sort_indices()
    return weights


def placed(matrix: sparse.sparray, rows: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """A matrix of ``shape`` with the rows of ``matrix`` at ``rows``, and zeros elsewhere."""
    matrix = matrix.tocoo()
    return sparse.csr_matrix((matrix.data, (np.asarray(rows)[matrix.row], matrix.col)), shape=shape)


def values_of(adata: "ad.AnnData") -> sparse.csr_matrix:
    """Counts, or X of kind ``features`` (spots x features, double precision)."""
    return sparse.csr_matrix(adata.layers.get("counts", adata.X), dtype=np.float64)


def dense(matrix: np.ndarray | sparse.spmatrix) -> np.ndarray:
    """A layer as a plain array, for the few features of a figure."""
    return np.asarray(matrix) if isinstance(matrix, np.ndarray) else matrix.toarray()


def sample_rows(n_rows: int, limit: int, seed: int | np.random.Generator) -> np.ndarray:
    """Sorted numbers of ``limit`` random rows; all rows if there are no more."""
    if n_rows <= limit:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, limit, replace=False))


def match_labels(shared: pd.DataFrame) -> dict:
    """Match two sets of labels one to one so that matched labels share the most spots.

    Hungarian method (Kuhn, Naval Research Logistics 1955). The order of the labels decides between equal matches.

    Parameters
    ----------
    shared
        Number of spots with both labels (labels x other labels), as ``pandas.crosstab`` counts them.

    Returns
    -------
    Matched label of the columns by label of the rows; of the larger set, labels without a counterpart are missing. A
    match can share no spot.
    """
    rows, columns = linear_sum_assignment(shared.to_numpy(), maximize=True)
    return dict(zip(shared.index[rows], shared.columns[columns], strict=True))


def numbered_like(labels: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Labels in the numbers of the reference, matched by ``match_labels``; -1 without counterpart; shape (spots,)."""
    names = match_labels(pd.crosstab(labels, reference))
    return pd.Series(labels).map(names).fillna(-1).to_numpy().astype(int)


def depth_factor(total: np.ndarray, depth: float) -> np.ndarray:
    """What the counts of each spot are multiplied by, so that they sum to ``depth``.

    Parameters
    ----------
    total
        Sum of each spot's counts, shape (spots,) or (spots, 1).
    depth
        The sum that all spots are to have.

    Returns
    -------
    Factors (spots x 1); 0 for a spot without counts.
    """
    total = np.asarray(total, dtype=np.float64).reshape(-1, 1)
    return np.where(total > 0, depth / np.where(total > 0, total, 1), 0)
