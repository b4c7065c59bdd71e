"""Variants of a run: other edges, fewer anchors. The library of the study."""

from collections.abc import Mapping

import anndata as ad
import numpy as np
from scipy import sparse

from mosaic.integrate.graph import merge_edges
from mosaic.matrices import from_neighbors
from mosaic.neighbors import nearest
from mosaic.spots import paired, slice_names

# Between the name of a spot and the modality by which an unpaired spot is known.
MARK = "~"


def with_edges(graph: ad.AnnData, edges: str, *, w_g: float, symmetric: bool, seed: int) -> ad.AnnData:
    """The graph with other edges for the encoder.

    Parameters
    ----------
    graph
        As ``graph.build_graph`` returns it.
    edges
        ``both``: as it is. ``spatial``, ``expression``: these alone. ``shuffled``: each spot has the spatial neighbours
        of another spot of its slice. ``features``: instead of the spatial edges, as many to the spots of the slice with
        the nearest features.
    w_g, symmetric
        Settings of the graph, see ``graph.merge_edges``.
    seed
        Of the shuffling.

    Raises
    ------
    ValueError
        If ``edges`` is not known.
    """
    spatial, mutual = graph.obsp["spatial_connectivities"], graph.obsp["mutual_nearest_neighbors"]
    nothing = sparse.csr_matrix(spatial.shape, dtype=spatial.dtype)
    if edges == "both":
        return graph
    if edges == "spatial":
        mutual = nothing
    elif edges == "expression":
        spatial = nothing
    elif edges == "shuffled":
        order = np.arange(graph.n_obs)
        rng = np.random.default_rng(seed)
        for rows in _rows_of_slices(graph).values():
            order[rows] = rng.permutation(rows)
        spatial = sparse.csr_matrix(spatial[order][:, order])
    elif edges == "features":
        blocks = []
        for name, rows in _rows_of_slices(graph).items():
            n_neighbors = round(spatial[rows].nnz / len(rows))
            found = nearest(graph.X[rows], graph.X[rows], n_neighbors + 1)[1][:, 1:]
            blocks.append((name, from_neighbors(found, len(rows))))
        order = np.argsort(np.concatenate(list(_rows_of_slices(graph).values())))
        stacked = sparse.block_diag([block for _, block in blocks], format="csr", dtype=np.float32)
        spatial = sparse.csr_matrix(stacked[order][:, order])
    else:
        raise ValueError(f"edges {edges!r} are not known")
    changed = graph.copy()
    changed.obsp["connectivities"] = merge_edges(spatial, mutual, w_g=w_g, symmetric=symmetric)
    return changed


def _rows_of_slices(graph: ad.AnnData) -> dict[str, np.ndarray]:
    names = graph.obs["slice"].to_numpy(dtype=str)
    return {name: np.flatnonzero(names == name) for name in slice_names(graph.obs)}


def drawn_anchors(
    graphs: Mapping[str, ad.AnnData], *, share: float = 1.0, drawn: str = "random", bridge: str | None = None, seed: int
) -> tuple[dict[str, list[str]], list[str], int]:
    """Spots to unpair, so that only some of the pairs of each bridge slice align the modalities.

    Parameters
    ----------
    graphs
        Per modality, as ``graph.build_graph`` returns it.
    share
        Of the paired spots of a bridge slice that stay paired.
    drawn
        ``random``, or ``piece``: the spots nearest to a random one.
    bridge
        ``first`` or ``last``: only this bridge slice keeps its pairs. None: all.
    seed
        Of the draw.

    Returns
    -------
    Per modality but the first of each bridge slice the names of the spots to unpair; the slices that keep no pair; and
    the number of anchors left.
    """
    rng = np.random.default_rng(seed)
    tables = paired({name: graph.obs for name, graph in graphs.items()})
    kept_alone = {"first": list(tables)[:1], "last": list(tables)[-1:], None: list(tables)}[bridge]
    to_unpair: dict[str, list[str]] = {}
    apart = []
    n_anchors = 0
    for slice_name, table in tables.items():
        modalities = list(table)
        both = np.flatnonzero((table >= 0).all(axis=1))
        n_kept = round(share * len(both)) if slice_name in kept_alone else 0
        rows = table[modalities[0]].to_numpy()[both]
        if drawn == "piece":
            places = graphs[modalities[0]].obsm["spatial"][rows]
            order = np.argsort(np.linalg.norm(places - places[rng.integers(len(places))], axis=1), kind="stable")
        else:
            order = rng.permutation(len(both))
        n_anchors += n_kept
        if n_kept == 0:
            apart.append(slice_name)
        for modality in modalities[1:]:
            own = table[modality].to_numpy()[both[order[n_kept:]]]
            to_unpair.setdefault(modality, []).extend(graphs[modality].obs_names[own])
    return to_unpair, apart, n_anchors


def unpaired(adata: ad.AnnData, modality: str, spots: list[str], apart: list[str]) -> ad.AnnData:
    """The same spots, of which some have names of their own, so that no other modality measured them.

    Parameters
    ----------
    adata
        Spots of one modality.
    modality
        Its name.
    spots
        Names of the spots to unpair; none for the modality whose spots keep their names.
    apart
        Slices that keep no pair. Such a modality of theirs becomes a slice of its own, as modalities of one slice
        that share no barcode are a fault.
    """
    changed = adata.copy()
    own = changed.obs_names.isin(spots)
    changed.obs_names = np.where(own, changed.obs_names + f"{MARK}{modality}", changed.obs_names)
    barcodes = changed.obs["barcode"].astype(str)
    changed.obs["barcode"] = np.where(own, barcodes + f"{MARK}{modality}", barcodes)
    slices = changed.obs["slice"].astype(str)
    changed.obs["slice"] = np.where(slices.isin(apart) & bool(spots), slices + f"{MARK}{modality}", slices)
    return changed
