"""Mutual nearest neighbours between slices, and their support by the tissue."""

import numpy as np
from scipy import sparse
from sklearn.preprocessing import normalize

from mosaic.matrices import from_neighbors, placed
from mosaic.neighbors import nearest_both


def mutual_nearest_neighbors(
    first: np.ndarray, second: np.ndarray, n_neighbors: int, *, auto_threshold: float | None = None
) -> np.ndarray:
    """Pairs of spots of two slices that are each among the other's nearest (Haghverdi et al., Nature Biotech. 2018).

    By Manhattan distance between L2-normalised rows; see ``neighbors.nearest`` for when the search is exact.

    Parameters
    ----------
    first, second
        Features of the two slices (spots x d).
    n_neighbors
        Size of the neighbourhoods.
    auto_threshold
        If the smaller slice has less than this proportion of the larger one's spots, spots of the larger search only
        that proportion of ``n_neighbors`` (``inter_auto_knn`` of the publication). None: the same number for both.

    Returns
    -------
    Array (pairs x 2) of row numbers in ``first`` and ``second``, sorted.
    """
    sizes = {"forth": n_neighbors, "back": n_neighbors}
    ratio = min(len(first), len(second)) / max(len(first), len(second))
    if auto_threshold is not None and ratio < auto_threshold:
        sizes["forth" if len(first) > len(second) else "back"] = max(1, int(n_neighbors * ratio))
    first, second = normalize(first), normalize(second)

    forth, asked, back = nearest_both(first, second, sizes["forth"], sizes["back"])
    found = placed(from_neighbors(back, len(first)), asked, (len(second), len(first)))
    mutual = from_neighbors(forth, len(second)).multiply(found.T).tocoo()
    pairs = np.column_stack([mutual.row, mutual.col]).astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def tissue_support(
    pairs: np.ndarray, first: sparse.csr_matrix, second: sparse.csr_matrix, *, block: int = 50_000
) -> np.ndarray:
    """Count, for each pair, the other pairs between the spatial neighbours of its two spots.

    Regions that two tissues share are contiguous, so a correct pair has other pairs beside it and a chance pair has
    none. The same count filters matches between two photographs (Bian et al., CVPR 2017). The slices need no common
    frame.

    Parameters
    ----------
    pairs
        Row numbers in the two slices (pairs x 2), each pair once.
    first, second
        Spatial adjacency of the two slices (spots x spots), symmetric and of ones.
    block
        Pairs counted at a time.

    Returns
    -------
    For each pair, the number of pairs between a spatial neighbour of its first spot and one of its second.
    """
    one, other = pairs.T
    matrix = sparse.csr_matrix((np.ones(len(pairs), dtype=np.float32), (one, other)), (first.shape[0], second.shape[0]))
    reached = first @ matrix  # pairs between the neighbours of a spot and each spot of the second slice
    blocks = [slice(start, start + block) for start in range(0, len(pairs), block)]
    counts = [reached[one[rows]].multiply(second[other[rows]]).sum(axis=1) for rows in blocks]
    return np.concatenate([np.asarray(count).ravel() for count in counts] or [np.empty(0)])
