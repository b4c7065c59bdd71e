"""The graph of one modality: spatial neighbours, mutual nearest neighbours between slices, and both merged."""

import logging
from collections.abc import Callable, Mapping, Sequence

import anndata as ad
import numpy as np
from scipy import sparse
from sklearn.ensemble import IsolationForest

from mosaic.errors import InputError
from mosaic.integrate.propagation import hops, propagation_operator
from mosaic.mnn import mutual_nearest_neighbors, tissue_support
from mosaic.spatial import spatial_neighbors
from mosaic.spots import slice_names

logger = logging.getLogger(__name__)


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
    search: Callable[..., np.ndarray] = mutual_nearest_neighbors,
    intra_knns: int | Mapping[str, int] = 10,
    radius: float | Mapping[str, float] | None = None,
    inter_knn_base: int = 10,
    inter_auto_knn: bool = False,
    inter_auto_thr: float = 0.8,
    smooth_input: bool = False,
    smooth_L: int = 1,
    mnn_on_smoothed: bool = False,
    weight_mnn: bool = True,
    rmv_outlier: bool = False,
    contamination: float | str = "auto",
    w_g: float = 0.8,
    symmetric: bool = True,
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
    search
        How: takes and returns what ``mutual_nearest_neighbors`` does.
    intra_knns, radius
        See ``spatial_neighbors``; one value for all slices, or one per slice.
    inter_knn_base, inter_auto_knn, inter_auto_thr
        See ``mutual_nearest_neighbors``; the threshold counts where ``inter_auto_knn`` is set.
    smooth_input, smooth_L
        Put the features' first ``smooth_L`` propagations over the spatial edges beside them before all else: (L + 1) d
        features.
    mnn_on_smoothed
        Search a second time with each spot's features averaged over itself and its spatial neighbours, and take the
        pairs of both searches; the features themselves stay as they are.
    weight_mnn
        Weigh a pair by 1 and the number of pairs beside it (``tissue_support``), so that those of two slices weigh 1 on
        average; otherwise all weigh 1.
    rmv_outlier, contamination
        See ``spatially_consistent``.
    w_g, symmetric
        See ``merge_edges``.

    Returns
    -------
    AnnData with the features in X, ``obs`` and ``obsm`` as given, ``obsp["spatial_connectivities"]`` of ones and
    directed, ``obsp["mutual_nearest_neighbors"]`` of weights and symmetric, and both merged in
    ``obsp["connectivities"]`` (see ``merge_edges``).

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
        features = hops(features, propagation_operator(spatial), smooth_L)
    searches = [features if searched is None else searched]
    if mnn_on_smoothed:
        around = spatial + sparse.eye_array(adata.n_obs, dtype=np.float32)
        searches.append((around @ searches[0]) / np.asarray(around.sum(axis=1)).reshape(-1, 1))
    undirected = sparse.csr_matrix(spatial.maximum(spatial.T))
    threshold = inter_auto_thr if inter_auto_knn else None
    links = []
    for first, second in pairs:
        one, other = members[first], members[second]
        each = [search(x[one], x[other], inter_knn_base, auto_threshold=threshold) for x in searches]
        found = np.unique(np.concatenate(each), axis=0)
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
        if weight_mnn:
            support = tissue_support(found, undirected[one][:, one], undirected[other][:, other])
            logger.info(
                "%s and %s: %.0f %% of the pairs have another beside them", first, second, 100 * (support > 0).mean()
            )
            weight = (1 + support) / (1 + support).mean()
        one, other = one[found[:, 0]], other[found[:, 1]]
        links += [(one, other, weight), (other, one, weight)]
    mutual = _adjacency(links, adata.n_obs)
    return ad.AnnData(
        np.asarray(features, dtype=np.float32),
        obs=adata.obs[["slice", "barcode"]],
        obsm={"spatial": coordinates},
        obsp={
            "spatial_connectivities": spatial,
            "mutual_nearest_neighbors": mutual,
            "connectivities": merge_edges(spatial, mutual, w_g=w_g, symmetric=symmetric),
        },
    )


def merge_edges(
    spatial: sparse.csr_matrix, mutual: sparse.csr_matrix, *, w_g: float = 0.8, symmetric: bool = True
) -> sparse.csr_matrix:
    """The one graph that an encoder takes, without self loops.

    Parameters
    ----------
    spatial, mutual
        ``obsp["spatial_connectivities"]`` and ``obsp["mutual_nearest_neighbors"]`` of ``build_graph``.
    w_g
        What the weights of expression edges are multiplied by; spatial edges weigh 1.
    symmetric
        Make the spatial edges undirected first. The published implementation leaves them directed.

    Returns
    -------
    Weights of the edges (spots x spots, float32).
    """
    if symmetric:
        spatial = spatial.maximum(spatial.T)
    return sparse.csr_matrix(spatial + w_g * mutual, dtype=np.float32)


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
