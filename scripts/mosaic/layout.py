"""Two dimensions of many, for figures."""

import numpy as np
import umap
from sklearn.neighbors import NearestNeighbors

# Up to here exact neighbours are found sooner than approximate ones, whose search has to be compiled first.
_MOST_EXACT = 50_000


def umap_layout(features: np.ndarray, *, n_neighbors: int = 30, seed: int = 0) -> np.ndarray:
    """UMAP of features by Euclidean distance (McInnes et al., 2018).

    Parameters
    ----------
    features
        Spots x components.
    n_neighbors
        Size of the neighbourhoods.
    seed
        Makes the layout, which then runs on one thread, reproducible.

    Returns
    -------
    Coordinates (spots x 2, float32), without unit.
    """
    features = np.ascontiguousarray(features, dtype=np.float32)
    n_neighbors = min(n_neighbors, len(features) - 1)
    known = {}
    if len(features) <= _MOST_EXACT:
        search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(features)
        distances, neighbors = search.kneighbors(features)
        known["precomputed_knn"] = (neighbors, distances, None)
    model = umap.UMAP(n_neighbors=n_neighbors, n_epochs=200, random_state=seed, n_jobs=1, **known)
    return model.fit_transform(features).astype(np.float32)
