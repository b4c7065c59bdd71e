"""The graph of one modality: spatial neighbours, mutual nearest neighbours between slices, and their propagation.

Notation follows Yan et al., Nature Genetics 2026 (SpaMosaic): A the weighted adjacency, S its symmetric
normalisation, H the hops that the encoder reads.
"""

import logging
from collections.abc import Mapping, Sequence

import anndata as ad
import numpy as np
from scipy import sparse
from scipy.spatial import KDTree
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import normalize

from mosaic.errors import InputError
from mosaic.neighbors import n_threads, nearest
from mosaic.spots import slice_names

logger = logging.getLogger(__name__)


def spatial_neighbors(coordinates: np.ndarray, n_neighbors: int, radius: float | None = None) -> sparse.csr_matrix:
    """Join each spot of a slice to its nearest spots.

    Among equally distant candidates, of which a grid has many, a fixed hash of the pair decides: the same on every
    machine, with no preferred direction, and the same from both ends of an edge.

    Parameters
    ----------
    coordinates
        Spots x 2, in any unit.
    n_neighbors
        Neighbours per spot; fewer in a slice of fewer spots.
    radius
        Leave out neighbours farther than this many times the slice's median nearest-neighbour distance.

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
        raise InputError("a slice with one spot has no spatial neighbours", hint="loosen qc, or leave this slice out")
    n_neighbors = min(n_neighbors, n_spots - 1)
    tree = KDTree(coordinates)
    rows = np.arange(n_spots)
    pitch = None
    sources, targets, lengths = [], [], []
    # On square and hexagonal grids this reaches past the ties of the tenth neighbour.
    depth = n_neighbors + 4
    while rows.size:
        depth = min(depth, n_spots)
        distance, candidate = tree.query(coordinates[rows], k=depth, workers=n_threads())
        distance[candidate == rows[:, None]] = np.inf
        if pitch is None:
            pitch = float(np.median(distance.min(axis=1)))
        # Distances that differ by rounding alone are ties.
        step = np.round(distance / ((pitch or 1.0) * 1e-5))
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
        if pitch == 0:
            raise InputError(
                "more than half of the spots share their place with another, so radius has no unit",
                hint="set radius to null, or give each spot its own coordinates",
            )
        near = length <= radius * pitch * (1 + 1e-5)
        source, target = source[near], target[near]
        isolated = n_spots - len(np.unique(np.concatenate([source, target])))
        if isolated:
            raise InputError(
                f"radius {radius:g} (x {pitch:g}, the median distance to the nearest spot) leaves {isolated} of "
                f"{n_spots} spots without a spatial neighbour",
                hint="raise graph.radius, or set it to null",
            )
    adjacency = sparse.csr_matrix((np.ones(len(source), dtype=np.float32), (source, target)), shape=(n_spots, n_spots))
    adjacency.sort_indices()
    return adjacency


def spot_pitch(coordinates: np.ndarray) -> float:
    """Median distance from a spot to the nearest other one, in the unit of the coordinates (spots x 2)."""
    return float(np.median(KDTree(coordinates).query(coordinates, k=2, workers=n_threads())[0][:, 1]))


def _pair_hash(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A well-mixed number per unordered pair (the finaliser of MurmurHash3)."""
    value = np.minimum(first, second).astype(np.uint64) << np.uint64(32) | np.maximum(first, second).astype(np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ (value >> np.uint64(33))) * np.uint64(factor)
    return value ^ (value >> np.uint64(33))


def mutual_nearest_neighbors(
    first: np.ndarray, second: np.ndarray, n_neighbors: int, *, auto_threshold: float | None = None
) -> np.ndarray:
    """Pairs of spots of two slices that are each among the other's nearest (Haghverdi et al., Nature Biotech. 2018).

    By Manhattan distance between L2-normalised rows; ``neighbors.nearest`` says up to where the search is exact.

    Parameters
    ----------
    first, second
        Features of the two slices (spots x d).
    n_neighbors
        Size of the neighbourhoods.
    auto_threshold
        Where the smaller slice has less than this share of the larger one's spots, spots of the larger look for that
        share of ``n_neighbors`` alone (``inter_auto_knn`` of the publication). None: the same number for both.

    Returns
    -------
    Array (pairs x 2) of row numbers in ``first`` and ``second``, sorted.
    """
    sizes = {"forth": n_neighbors, "back": n_neighbors}
    ratio = min(len(first), len(second)) / max(len(first), len(second))
    if auto_threshold is not None and ratio < auto_threshold:
        sizes["forth" if len(first) > len(second) else "back"] = max(1, int(n_neighbors * ratio))
    first, second = normalize(first), normalize(second)

    _, forth = nearest(first, second, sizes["forth"], "manhattan")
    # Only what some spot of the first slice has found can be mutual.
    wanted = np.unique(forth)
    _, back = nearest(second[wanted], first, sizes["back"], "manhattan")
    shape = (len(first), len(second))
    edges = [_pattern(np.arange(len(first)), forth, shape), _pattern(wanted, back, shape[::-1]).T]
    mutual = edges[0].multiply(edges[1]).tocoo()
    pairs = np.column_stack([mutual.row, mutual.col]).astype(np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _pattern(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Ones where ``rows`` have ``columns`` (rows x any)."""
    places = np.repeat(rows, columns.shape[1]), columns.ravel()
    return sparse.csr_matrix((np.ones(columns.size, dtype=np.float32), places), shape=shape)


def tissue_support(
    pairs: np.ndarray, first: sparse.csr_matrix, second: sparse.csr_matrix, *, block: int = 50_000
) -> np.ndarray:
    """How many of the other pairs join the two neighbourhoods of each pair.

    What two tissues share they share in patches, so a right pair has others beside it, and a chance pair has none: by
    the same count, matches between two photographs are told apart (Bian et al., CVPR 2017). The slices need no common
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


def spatially_consistent(
    pairs: np.ndarray, first: np.ndarray, second: np.ndarray, contamination: float | str = "auto"
) -> np.ndarray:
    """Drop pairs whose places and offset are unlike those of the others (``rmv_outlier`` of the publication).

    An isolation forest (Liu et al., ICDM 2008) looks at both places and at their difference. It helps where the slices
    lie in one frame, such as serial sections.

    Parameters
    ----------
    pairs
        As ``mutual_nearest_neighbors`` gives them (pairs x 2).
    first, second
        Coordinates of the two slices (spots x 2).
    contamination
        See ``sklearn.ensemble.IsolationForest``.

    Returns
    -------
    The pairs that are left.
    """
    one, other = first[pairs[:, 0]], second[pairs[:, 1]]
    forest = IsolationForest(contamination=contamination, random_state=0)
    return pairs[forest.fit_predict(np.hstack([one, other, one - other])) == 1]


def build_graph(
    adata: ad.AnnData,
    features: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    *,
    searched: np.ndarray | None = None,
    intra_knns: int | Mapping[str, int] = 10,
    radius: float | Mapping[str, float] | None = None,
    inter_knn_base: int = 10,
    inter_auto_knn: bool = False,
    inter_auto_thr: float = 0.8,
    smooth_input: bool = False,
    smooth_L: int = 1,
    smooth_search: bool = False,
    weigh_pairs: bool = True,
    rmv_outlier: bool = False,
    contamination: float | str = "auto",
) -> ad.AnnData:
    """Spatial and expression edges of one modality over all its slices.

    Parameters
    ----------
    adata
        The slices stacked, with ``obs["slice"]``, ``obs["barcode"]`` and ``obsm["spatial"]`` (spots x 2; each slice in
        its own frame and unit).
    features
        Spots x d.
    pairs
        Slices to link by expression (``settings.Sheet.linked`` says which the design links).
    searched
        What is searched for mutual nearest neighbours (spots x any), if not the features.
    intra_knns, radius
        See ``spatial_neighbors``; one value for all slices, or one per slice.
    inter_knn_base, inter_auto_knn, inter_auto_thr
        See ``mutual_nearest_neighbors``; the threshold counts where ``inter_auto_knn`` is set.
    smooth_input, smooth_L
        Put the features' first ``smooth_L`` propagations over the spatial edges beside them before all else: (L + 1) d
        features.
    smooth_search
        Search a second time with each spot's features averaged over itself and its spatial neighbours, and take the
        pairs of both searches; the features themselves stay as they are.
    weigh_pairs
        Weigh a pair by 1 and the number of pairs beside it (``tissue_support``), so that those of two slices weigh 1 on
        average; otherwise all weigh 1.
    rmv_outlier, contamination
        See ``spatially_consistent``.

    Returns
    -------
    AnnData with the features in X, ``obs`` and ``obsm`` as given, ``obsp["spatial_connectivities"]`` of ones and
    directed, ``obsp["mutual_nearest_neighbors"]`` of weights and symmetric.

    Raises
    ------
    InputError
        As ``spatial_neighbors``, naming the slice; if two slices to be linked have no mutual neighbours; or if values
        per slice do not name each slice.
    """
    slices, coordinates = adata.obs["slice"].to_numpy(dtype=str), adata.obsm["spatial"]
    members = {name: np.flatnonzero(slices == name) for name in slice_names(adata.obs)}
    blocks = []
    for name, rows in members.items():
        knns, cutoff = (_of_slice(value, name, key) for value, key in ((intra_knns, "intra_knns"), (radius, "radius")))
        try:
            block = spatial_neighbors(coordinates[rows], knns, cutoff).tocoo()
        except InputError as error:
            raise InputError(error.problem, where=f"slice {name}", hint=error.hint) from error
        blocks.append((rows[block.row], rows[block.col], block.data))
    spatial = _adjacency(blocks, adata.n_obs)
    if smooth_input:
        alone = sparse.csr_matrix(spatial.shape, dtype=np.float32)
        features = hops(features, propagation_operator(spatial, alone, w_g=0, symmetric=False), smooth_L)
    searches = [features if searched is None else searched]
    if smooth_search:
        around = spatial + sparse.eye_array(adata.n_obs, dtype=np.float32)
        searches.append((around @ searches[0]) / np.asarray(around.sum(axis=1)).reshape(-1, 1))
    undirected = sparse.csr_matrix(spatial.maximum(spatial.T))
    threshold = inter_auto_thr if inter_auto_knn else None
    links = []
    for first, second in pairs:
        one, other = members[first], members[second]
        found = [mutual_nearest_neighbors(x[one], x[other], inter_knn_base, auto_threshold=threshold) for x in searches]
        found = np.unique(np.concatenate(found), axis=0)
        if rmv_outlier and len(found):
            n_found = len(found)
            found = spatially_consistent(found, coordinates[one], coordinates[other], contamination)
            logger.info(
                "%s and %s: %d of %d pairs are outliers on the tissue", first, second, n_found - len(found), n_found
            )
        if not len(found):
            raise InputError(
                "no mutual nearest neighbours",
                where=f"slices {first} and {second}",
                hint="raise graph.inter_knn_base, or check that the slices show the same tissue",
            )
        logger.info("%s and %s: %d pairs of mutual nearest neighbours", first, second, len(found))
        weight = np.ones(len(found))
        if weigh_pairs:
            support = tissue_support(found, undirected[one][:, one], undirected[other][:, other])
            logger.info(
                "%s and %s: %.0f %% of the pairs have another beside them", first, second, 100 * (support > 0).mean()
            )
            weight = (1 + support) / (1 + support).mean()
        one, other = one[found[:, 0]], other[found[:, 1]]
        links += [(one, other, weight), (other, one, weight)]
    return ad.AnnData(
        np.asarray(features, dtype=np.float32),
        obs=adata.obs[["slice", "barcode"]],
        obsm={"spatial": coordinates},
        obsp={"spatial_connectivities": spatial, "mutual_nearest_neighbors": _adjacency(links, adata.n_obs)},
    )


def _of_slice(value, name: str, key: str):
    if not isinstance(value, Mapping):
        return value
    if name not in value:
        raise InputError(
            f"has no value for slice {name}", where=f"graph.{key}", hint="name every slice, or give one number"
        )
    return value[name]


def _adjacency(edges: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], n_spots: int) -> sparse.csr_matrix:
    """From rows, columns and weights."""
    row, col, weight = (np.concatenate([edge[part] for edge in edges] or [np.empty(0, dtype=int)]) for part in range(3))
    matrix = sparse.csr_matrix((weight.astype(np.float32), (row, col)), shape=(n_spots, n_spots))
    matrix.sort_indices()
    return matrix


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
