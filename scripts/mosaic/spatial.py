"""Spots on the tissue: spatial neighbours, distance between spots, and outlying spots."""

import numpy as np
from scipy import sparse
from scipy.spatial import KDTree

from mosaic.errors import InputError
from mosaic.threads import n_threads

# A spot is an outlier if it lies this many times farther from the centre than this proportion of the spots. A picture
# with it would show the tissue on a hundredth of its area.
_FAR = 20
_OTHERS = 0.95


def median_spot_distance(coordinates: np.ndarray) -> float:
    """Median distance from a position of spots to the nearest other position, in the unit of the coordinates.

    Parameters
    ----------
    coordinates
        Spots x 2.

    Returns
    -------
    The distance; 1 if all spots have the same position.
    """
    positions = np.unique(coordinates, axis=0)
    return float(np.median(KDTree(positions).query(positions, k=2)[0][:, 1])) if len(positions) > 1 else 1.0


def astray(coordinates: np.ndarray) -> np.ndarray:
    """Mask of the spots that lie so far from all others that a picture with them would not show the tissue.

    Parameters
    ----------
    coordinates
        Spots x 2.

    Returns
    -------
    bool (spots). At most a twentieth of the spots, or one spot of fewer than twenty.
    """
    reach = np.abs(coordinates - np.median(coordinates, axis=0)).max(axis=1)
    return reach > _FAR * max(np.quantile(reach, _OTHERS, method="lower"), np.finfo(float).tiny)


def spatial_neighbors(coordinates: np.ndarray, n_neighbors: int, radius: float | None = None) -> sparse.csr_matrix:
    """Join each spot of a slice to its nearest spots.

    A fixed hash of the pair breaks ties of distance, which are frequent on grids: the same on every machine, without
    preferred direction, and the same from both ends of an edge.

    Parameters
    ----------
    coordinates
        Spots x 2, in any unit.
    n_neighbors
        Neighbours per spot; fewer in a slice of fewer spots.
    radius
        Exclude neighbours farther than this many times the slice's ``median_spot_distance``.

    Returns
    -------
    Directed adjacency (spots x spots) of ones, row i holding the neighbours of spot i, without self loops.

    Raises
    ------
    InputError
        If the slice has one spot only, or the radius leaves a spot without neighbours.
    """
    n_spots = len(coordinates)
    if n_spots < 2:
        raise InputError("a slice with one spot has no spatial neighbours", hint="relax qc, or remove this slice")
    n_neighbors = min(n_neighbors, n_spots - 1)
    tree = KDTree(coordinates)
    rows = np.arange(n_spots)
    unit = median_spot_distance(coordinates)
    sources, targets, lengths = [], [], []
    # On square and hexagonal grids, this exceeds the ties of the tenth neighbour.
    depth = n_neighbors + 4
    while rows.size:
        depth = min(depth, n_spots)
        distance, candidate = tree.query(coordinates[rows], k=depth, workers=n_threads())
        distance[candidate == rows[:, None]] = np.inf
        # Distances that differ only by rounding are ties.
        step = np.round(distance / (unit * 1e-5))
        order = np.lexsort((_pair_hash(rows[:, None], candidate), step))
        step = np.take_along_axis(step, order, axis=1)
        # A row is settled when the ties of its last neighbour end before the candidates do. Coincident spots may
        # push a spot out of its own list of candidates, hence the sort that looks at the last finite step.
        last = np.where(np.isfinite(step), step, -1).max(axis=1)
        settled = (step[:, n_neighbors - 1] < last) | (depth == n_spots)
        chosen = order[settled, :n_neighbors]
        sources.append(np.repeat(rows[settled], n_neighbors))
        targets.append(np.take_along_axis(candidate[settled], chosen, axis=1).ravel())
        lengths.append(np.take_along_axis(distance[settled], chosen, axis=1).ravel())
        rows = rows[~settled]
        depth *= 4
    source, target, length = (np.concatenate(parts) for parts in (sources, targets, lengths))
    if radius is not None:
        near = length <= radius * unit * (1 + 1e-5)
        source, target = source[near], target[near]
        isolated = n_spots - len(np.unique(np.concatenate([source, target])))
        if isolated:
            raise InputError(
                f"radius {radius:g} (x {unit:g}, the median distance to the nearest spot) leaves {isolated} of "
                f"{n_spots} spots without a spatial neighbour",
                hint="raise graph.radius, or set it to null",
            )
    adjacency = sparse.csr_matrix((np.ones(len(source), dtype=np.float32), (source, target)), shape=(n_spots, n_spots))
    adjacency.sort_indices()
    return adjacency


def tissue_neighbors(coordinates: np.ndarray, slices: np.ndarray, n_neighbors: int) -> sparse.csr_matrix:
    """Join spots that are neighbours on the tissue, in all slices.

    Parameters
    ----------
    coordinates
        Spots x 2; each slice has its own system.
    slices
        Slice of each spot, shape (spots,).
    n_neighbors
        See ``spatial_neighbors``. A spot is also the neighbour of its neighbours.

    Returns
    -------
    Symmetric adjacency (spots x spots, float32) of ones. A spot that is alone in its slice has no neighbours.
    """
    rows, columns = [np.empty(0, dtype=int)], [np.empty(0, dtype=int)]
    for name in np.unique(slices):
        own = np.flatnonzero(slices == name)
        if len(own) > 1:
            near = spatial_neighbors(coordinates[own], n_neighbors)
            near = near.maximum(near.T).tocoo()
            rows.append(own[near.row])
            columns.append(own[near.col])
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_matrix((np.ones(len(row), dtype=np.float32), (row, column)), shape=(len(slices), len(slices)))


def with_propagations(features: np.ndarray, edges: sparse.csr_matrix, n_steps: int) -> np.ndarray:
    """The features and their first propagations over the edges, side by side (spots x (n_steps + 1) d, float32).

    As ``integrate.encoders.Propagation``, without torch.
    """
    A = sparse.csr_matrix(edges + sparse.eye_array(edges.shape[0], dtype=np.float32))
    scale = sparse.diags_array(1 / np.sqrt(np.asarray(A.sum(axis=1)).ravel()))
    operator = sparse.csr_matrix((scale @ A @ scale).T, dtype=np.float32)
    steps = [np.asarray(features, dtype=np.float32)]
    for _ in range(n_steps):
        steps.append(operator @ steps[-1])
    return np.hstack(steps)


def _pair_hash(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A well-mixed number per unordered pair (the finaliser of MurmurHash3)."""
    value = np.minimum(first, second).astype(np.uint64) << np.uint64(32) | np.maximum(first, second).astype(np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ (value >> np.uint64(33))) * np.uint64(factor)
    return value ^ (value >> np.uint64(33))
