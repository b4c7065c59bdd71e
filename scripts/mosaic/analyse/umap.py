"""UMAP, for figures."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import numba
import numpy as np

from mosaic.matrices import sample_rows
from mosaic.neighbors import nearest

logger = logging.getLogger(__name__)

# Above this number of spots, UMAP uses a seeded sample; each other spot gets the mean of its nearest in the sample.
_MOST_SPOTS = 50_000
_AMID = 5


def umap_coordinates(features: np.ndarray, *, n_neighbors: int = 30, seed: int = 0) -> np.ndarray:
    """UMAP of features by Euclidean distance (McInnes et al., 2018).

    Parameters
    ----------
    features
        Spots x components.
    n_neighbors
        Size of the neighbourhoods.
    seed
        Seed; UMAP then runs on one thread and is reproducible.

    Returns
    -------
    Coordinates (spots x 2, float32), without unit.
    """
    features = np.ascontiguousarray(features, dtype=np.float32)
    n_neighbors = min(n_neighbors, len(features) - 1)
    if len(features) > _MOST_SPOTS:
        logger.warning(
            "UMAP of a sample of %d of %d spots; the others lie at the mean of their nearest",
            _MOST_SPOTS,
            len(features),
        )
        sample = sample_rows(len(features), _MOST_SPOTS, seed)
        placed = umap_coordinates(features[sample], n_neighbors=n_neighbors, seed=seed)
        layout = placed[nearest(features, features[sample], _AMID)[1]].mean(axis=1)
        layout[sample] = placed
        return layout
    distances, neighbors = nearest(features, features, n_neighbors)
    with _compiled_once():
        import umap

        model = umap.UMAP(
            n_neighbors=n_neighbors,
            n_epochs=200,
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(neighbors, distances, None),
        )
        return model.fit_transform(features).astype(np.float32)


@contextmanager
def _compiled_once() -> Iterator[None]:
    """Let numba keep what it compiles of umap for later processes, which umap asks of one function alone."""
    with mock.patch.object(numba, "njit", partial(numba.njit, cache=True)):
        yield
