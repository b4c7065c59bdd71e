"""Coordinates of spots on the tissue: how dense they lie, and which lie nowhere near it."""

import numpy as np
from scipy.spatial import KDTree

# A spot so many times farther from the middle than the others are is no part of any tissue; and this share of the spots
# are the others. A picture of both would show the tissue on a hundredth of its area.
_FAR = 20
_OTHERS = 0.95


def pitch(coordinates: np.ndarray) -> float:
    """Median distance from a spot to the nearest one at another place, in the unit of the coordinates.

    Parameters
    ----------
    coordinates
        Spots x 2.

    Returns
    -------
    1 where all spots lie on one place.
    """
    if len(coordinates) < 2:
        return 1.0
    distances = KDTree(coordinates).query(coordinates, k=2)[0][:, 1]
    distances = distances[distances > 0]
    return float(np.median(distances)) if distances.size else 1.0


def astray(coordinates: np.ndarray) -> np.ndarray:
    """Which spots lie so far from all others that a picture with them would show nothing else.

    Parameters
    ----------
    coordinates
        Spots x 2.

    Returns
    -------
    bool (spots). Never more than a twentieth of the spots, but one where there are fewer than twenty.
    """
    reach = np.abs(coordinates - np.median(coordinates, axis=0)).max(axis=1)
    return reach > _FAR * max(np.quantile(reach, _OTHERS, method="lower"), np.finfo(float).tiny)
