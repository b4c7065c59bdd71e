"""Two dimensions of many, for figures."""

import numpy as np
import umap


def umap_layout(features: np.ndarray, *, metric: str = "euclidean", n_neighbors: int = 30, seed: int = 0) -> np.ndarray:
    """UMAP of features for a figure (McInnes et al., 2018).

    Parameters
    ----------
    features
        Spots x components.
    metric
        Distance between spots.
    n_neighbors
        Size of the neighbourhoods.
    seed
        Makes the layout, which then runs on one thread, reproducible.

    Returns
    -------
    Coordinates (spots x 2, float32), without unit.
    """
    model = umap.UMAP(n_neighbors=min(n_neighbors, len(features) - 1), metric=metric, random_state=seed, n_jobs=1)
    return model.fit_transform(features).astype(np.float32)
