"""The graph of one modality: spatial neighbours, mutual nearest neighbours between slices, and both merged."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.ensemble import IsolationForest

from mosaic.errors import InputError
from mosaic.mnn import mutual_nearest_neighbors, tissue_support
from mosaic.spatial import spatial_neighbors, with_propagations
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


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """All settings of a graph.

    Attributes
    ----------
    intra_knns, radius
        See ``spatial.spatial_neighbors``; one value for all slices, or one per slice.
    inter_knn_base, inter_auto_knn, inter_auto_thr
        See ``mnn.mutual_nearest_neighbors``; the threshold counts where ``inter_auto_knn`` is set.
    smooth_input, smooth_L
        Put the features' first ``smooth_L`` propagations over the spatial edges beside them before all else: (L + 1) d
        features.
    mnn_on_smoothed
        Search a second time with each spot's features averaged over itself and its spatial neighbours, and take the
        pairs of both searches; the features themselves stay as they are.
    weight_mnn
        Weigh a pair by 1 and the number of pairs beside it (``mnn.tissue_support``), so that those of two slices weigh
        1 on average; otherwise all weigh 1.
    rmv_outlier, contamination
        See ``spatially_consistent``.
    w_g, symmetric
        See ``merge_edges``.
    """

    intra_knns: int | Mapping[str, int] = 10
    radius: float | Mapping[str, float] | None = None
    inter_knn_base: int = 10
    inter_auto_knn: bool = False
    inter_auto_thr: float = 0.8
    smooth_input: bool = False
    smooth_L: int = 1
    mnn_on_smoothed: bool = False
    weight_mnn: bool = True
    rmv_outlier: bool = False
    contamination: float | str = "auto"
    w_g: float = 0.8
    symmetric: bool = True


class _Slice(NamedTuple):
    """What links a slice to others: its rows, coordinates (spots x 2), what is searched, and undirected adjacency."""

    name: str
    rows: np.ndarray
    coordinates: np.ndarray
    searched: Sequence[np.ndarray]
    near: sparse.csr_matrix


def build_graph(
    adata: ad.AnnData,
    features: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    *,
    searched: np.ndarray | None = None,
    search: Callable[..., np.ndarray] = mutual_nearest_neighbors,
    unlinked: bool = False,
    **settings: Any,
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
        Slices to link by expression (``design.SampleSheet.mnn_pairs`` says which the design links).
    searched
        What is searched for mutual nearest neighbours (spots x any), if not the features.
    search
        How: takes and returns what ``mnn.mutual_nearest_neighbors`` does.
    unlinked
        Whether two of these slices may have no mutual neighbours.
    settings
        Those of ``GraphSettings`` that differ from its defaults.

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
    asked = GraphSettings(**settings)
    names, coordinates = adata.obs["slice"].to_numpy(dtype=str), adata.obsm["spatial"]
    members = {name: np.flatnonzero(names == name) for name in slice_names(adata.obs)}
    spatial = _spatial_edges(members, coordinates, asked)
    if asked.smooth_input:
        features = with_propagations(features, spatial, asked.smooth_L)
    searches = [features if searched is None else searched]
    if asked.mnn_on_smoothed:
        around = spatial + sparse.eye_array(adata.n_obs, dtype=np.float32)
        searches.append((around @ searches[0]) / np.asarray(around.sum(axis=1)).reshape(-1, 1))
    undirected = sparse.csr_matrix(spatial.maximum(spatial.T))
    slices = {
        name: _Slice(name, rows, coordinates[rows], [x[rows] for x in searches], undirected[rows][:, rows])
        for name, rows in members.items()
    }
    links = []
    for first, second in pairs:
        found, weight = _link(slices[first], slices[second], asked, search)
        if not len(found) and not unlinked:
            raise InputError(
                "no mutual nearest neighbours",
                where=f"slices {first} and {second}",
                hint="raise graph.inter_knn_base, or check that the slices show the same tissue",
            )
        one, other = members[first][found[:, 0]], members[second][found[:, 1]]
        links += [(one, other, weight), (other, one, weight)]
    mutual = _adjacency(links, adata.n_obs)
    return ad.AnnData(
        np.asarray(features, dtype=np.float32),
        obs=adata.obs[["slice", "barcode"]],
        obsm={"spatial": coordinates},
        obsp={
            "spatial_connectivities": spatial,
            "mutual_nearest_neighbors": mutual,
            "connectivities": merge_edges(spatial, mutual, w_g=asked.w_g, symmetric=asked.symmetric),
        },
    )


def link_to_reference(
    mapped: ad.AnnData, reference: ad.AnnData, *, searched: str = "X_corrected", **settings: Any
) -> ad.AnnData:
    """The graph of new slices of a modality, each linked to the slices of a reference as training linked its own.

    Parameters
    ----------
    mapped
        The new slices, with ``obsm["X_corrected"]``, ``obsm["spatial"]``, ``obs["slice"]`` and ``obs["barcode"]``.
    reference
        The same of the reference.
    searched
        Key of ``obsm`` of both that is searched for mutual nearest neighbours.
    settings
        Those of ``GraphSettings`` of the reference.

    Returns
    -------
    As of ``build_graph``, first the reference's spots, without links between its slices; ``obs["new"]`` tells the
    others. What new slices are mapped beside a slice changes nothing for it.
    """
    parts = [reference, mapped]
    obs = pd.concat([part.obs[["slice", "barcode"]].astype({"slice": str}) for part in parts])
    known, own = ([str(name) for name in pd.unique(part.obs["slice"])] for part in parts)
    obs["slice"] = pd.Categorical(obs["slice"], [*known, *own])
    stacked = ad.AnnData(obs=obs, obsm={"spatial": np.vstack([part.obsm["spatial"] for part in parts])})
    features = np.vstack([part.obsm["X_corrected"] for part in parts])
    # As in training, features are searched together with their propagations (``smooth_input``).
    among = None if searched == "X_corrected" else np.vstack([part.obsm[searched] for part in parts])
    pairs = [(first, second) for first in known for second in own]
    graph = build_graph(stacked, features, pairs, searched=among, unlinked=True, **settings)
    graph.obs["new"] = np.repeat([False, True], [part.n_obs for part in parts])
    return graph


def _spatial_edges(
    members: Mapping[str, np.ndarray], coordinates: np.ndarray, settings: GraphSettings
) -> sparse.csr_matrix:
    """Directed spatial edges of all slices (spots x spots)."""
    blocks = []
    for name, rows in members.items():
        n_neighbors, radius = (_of_slice(getattr(settings, key), name, key) for key in ("intra_knns", "radius"))
        try:
            block = spatial_neighbors(coordinates[rows], n_neighbors, radius).tocoo()
        except InputError as error:
            raise InputError(error.problem, where=f"slice {name}", hint=error.hint) from error
        blocks.append((rows[block.row], rows[block.col], block.data))
    return _adjacency(blocks, len(coordinates))


def _link(
    first: _Slice, second: _Slice, settings: GraphSettings, search: Callable[..., np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mutual nearest neighbours of two slices (pairs x 2, rows within the slices), and their weights."""
    threshold = settings.inter_auto_thr if settings.inter_auto_knn else None
    spaces = zip(first.searched, second.searched, strict=True)
    each = [search(*space, settings.inter_knn_base, auto_threshold=threshold) for space in spaces]
    found = np.unique(np.concatenate(each), axis=0)
    both = (first.name, second.name)
    if settings.rmv_outlier and len(found):
        n_found = len(found)
        found = spatially_consistent(found, first.coordinates, second.coordinates, settings.contamination)
        logger.info("%s and %s: %d of %d pairs are outliers on the tissue", *both, n_found - len(found), n_found)
    logger.info("%s and %s: %d pairs of mutual nearest neighbours", *both, len(found))
    if not settings.weight_mnn or not len(found):
        return found, np.ones(len(found))
    support = tissue_support(found, first.near, second.near)
    logger.info("%s and %s: %.0f %% of the pairs have another beside them", *both, 100 * (support > 0).mean())
    return found, (1 + support) / (1 + support).mean()


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
