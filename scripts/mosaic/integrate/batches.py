"""Batches of training: all spots in one step, or shuffled batches of every slice, prepared one step ahead."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scipy.spatial import KDTree
from torch_geometric.data import Data

from mosaic.errors import InputError
from mosaic.integrate.encoders import Encoder, part_of, to_data
from mosaic.spots import paired, slice_names

logger = logging.getLogger(__name__)

# The encoders' inputs stay on the GPU if they take at most this proportion of its free memory.
_SHARE_OF_MEMORY = 0.5

# Spots per tile of the tissue. Coupled encoders draw whole tiles, so that a step needs few spots around its own.
_TILE = 64

# Warn if two modalities of a bridge slice share less than this proportion of the spots of the smaller one.
_FEW_PAIRED = 0.1


# Row numbers: a range where possible, because a range is a view.
Positions = torch.Tensor | slice


class Batch(NamedTuple):
    """Data of one optimisation step, on the device. Positions index the rows of a modality's ``inputs``.

    Attributes
    ----------
    inputs
        Per modality, as ``encoders.encode`` takes it: all spots, or what ``encoders.part_of`` returns.
    contrasted
        Per bridge slice and modality the positions of its paired spots, and the spot number of each.
    reconstructed
        Modality and positions of each slice whose features are reconstructed.
    edges, absent
        For graph reconstruction, one entry per entry of ``reconstructed``: positions of the ends of spatial edges, and
        of as many random pairs as negatives (2 x edges both). Empty without graph reconstruction.
    """

    inputs: Mapping[str, Data]
    contrasted: Sequence[Mapping[str, tuple[Positions, torch.Tensor]]]
    reconstructed: Sequence[tuple[str, Positions]]
    edges: Sequence[torch.Tensor]
    absent: Sequence[torch.Tensor]


class _Group(NamedTuple):
    """Spots of a slice that are drawn together. ``rows``: per modality the row of each spot, -1 if not measured."""

    slice_name: str
    rows: Mapping[str, np.ndarray]

    @property
    def n_spots(self) -> int:
        return len(next(iter(self.rows.values())))


def _check_pairs(slice_name: str, pairs: pd.DataFrame, slices: Mapping[str, pd.Series]) -> None:
    """Check that a bridge slice has enough paired spots to align its modalities.

    Parameters
    ----------
    slice_name, pairs
        As ``spots.paired`` returns them.
    slices
        Per modality the slice of each of its spots.

    Raises
    ------
    InputError
        If two modalities share fewer than two spots. Warns if they share few.
    """
    if len(pairs) < 2:
        raise InputError(
            f"{' and '.join(pairs)} share one spot, and the contrastive loss of one spot is always 0",
            where=f"slice {slice_name}",
            hint="the modalities of a slice are paired by obs_names: spell the barcodes alike",
        )
    for one, other in combinations(pairs, 2):
        n_shared = int(((pairs[one] >= 0) & (pairs[other] >= 0)).sum())
        fewer = min(int((slices[name] == slice_name).sum()) for name in (one, other))
        if n_shared < _FEW_PAIRED * fewer:
            logger.warning(
                "slice %s: %s and %s share %d of %d spots only, and these alone align them. Do both files spell the "
                "barcodes alike?",
                slice_name,
                one,
                other,
                n_shared,
                fewer,
            )


class Batches:
    """Iterate over the steps of an epoch; each iteration is a new epoch.

    If no slice has more than ``full_batch_max`` spots, an epoch is one step over all spots. Otherwise the largest slice
    is shuffled and cut into even batches of at most ``batch_size`` spots, so that an epoch covers all of them. Each
    step also draws as many spots of every other slice and restarts slices that are exhausted. So all slices have the
    same weight in each step, and each contrastive loss compares the same number of spots. For coupled encoders, small
    tiles of the tissue are shuffled instead of spots, because a step also needs the spots around its own.

    Parameters
    ----------
    graphs
        Per modality, as ``graph.build_graph`` returns it.
    encoders
        Per modality; they compute the inputs from the graph.
    reconstruct
        Slices whose features are reconstructed: ``queries`` (those that are no bridge) or ``all``.
    with_edges
        Draw edges and negatives for graph reconstruction: all edges if a step sees all spots, else one edge per spot of
        the step, whose other end then joins the step.
    full_batch_max, batch_size
        See above, in spots of a slice.
    seed
        Of batches and edges. They are drawn on the CPU, so that all devices draw the same.
    device
        Where the steps are computed.

    Raises
    ------
    InputError
        If a bridge slice has fewer than two paired spots, or ``reconstruct`` is not known.
    """

    def __init__(
        self,
        graphs: Mapping[str, ad.AnnData],
        encoders: Mapping[str, Encoder],
        *,
        reconstruct: str = "all",
        with_edges: bool = False,
        full_batch_max: int = 8000,
        batch_size: int = 1024,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        self.device, self.batch_size = torch.device(device), batch_size
        if reconstruct not in ("all", "queries"):
            raise InputError(f"{reconstruct!r} is not known", where="train.reconstruct", hint="all or queries")
        self.generator = torch.Generator().manual_seed(seed)
        pairs = paired({name: graph.obs for name, graph in graphs.items()})
        for slice_name, table in pairs.items():
            _check_pairs(slice_name, table, {name: graphs[name].obs["slice"] for name in table})
        self._groups = [
            _Group(slice_name, {name: column.to_numpy() for name, column in table.items()})
            for slice_name, table in pairs.items()
        ]
        self._reconstructed = []
        for name, graph in graphs.items():
            slices = graph.obs["slice"].to_numpy(dtype=str)
            for slice_name in slice_names(graph.obs):
                alone = np.flatnonzero(slices == slice_name)
                if name in pairs.get(slice_name, ()):
                    alone = np.setdiff1d(alone, pairs[slice_name][name])
                if alone.size:
                    self._groups.append(_Group(slice_name, {name: alone}))
                if reconstruct == "all" or slice_name not in pairs:
                    self._reconstructed.append((name, slice_name))
        largest = max(group.n_spots for group in self._groups)
        self.n_steps = -(-largest // batch_size) if largest > full_batch_max else 1
        self.n_bridges, self.n_reconstructed = len(pairs), len(self._reconstructed)
        self._around: dict[str, sparse.csr_matrix] = {}
        if with_edges:
            self._around = {
                name: sparse.csr_matrix(graph.obsp["spatial_connectivities"] + sparse.eye_array(graph.n_obs))
                for name, graph in graphs.items()
            }
        self._n_hops = {name: encoder.n_hops for name, encoder in encoders.items()}
        self._tiles: list[np.ndarray | None] = [None] * len(self._groups)
        if any(self._n_hops.values()):
            self._tiles = [tiles_of(group, graphs) for group in self._groups]
        self._inputs = {name: encoders[name].inputs(to_data(graph)) for name, graph in graphs.items()}
        if self.device.type == "cuda":
            needed = sum(tensor.nbytes for data in self._inputs.values() for _, tensor in data)
            if needed <= _SHARE_OF_MEMORY * torch.cuda.mem_get_info(self.device)[0]:
                self._inputs = {name: data.to(self.device) for name, data in self._inputs.items()}

    def __iter__(self) -> Iterator[Batch]:
        """The steps of one epoch. A thread prepares the next step in the background."""
        steps = self._steps()
        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(next, steps)
            for number in range(1, self.n_steps + 1):
                batch = coming.result()
                if number < self.n_steps:
                    coming = pool.submit(next, steps)
                yield batch

    def _steps(self) -> Iterator[Batch]:
        chunks = [self._chunks(*own) for own in zip(self._groups, self._tiles, strict=True)]
        while True:
            yield self._batch([next(own) for own in chunks])

    def _chunks(self, group: _Group, tiles: np.ndarray | None) -> Iterator[np.ndarray]:
        """Spot numbers of one group, one array per step."""
        n_spots = group.n_spots
        if self.n_steps == 1:
            yield np.arange(n_spots)
        while True:
            if tiles is None:
                order = torch.randperm(n_spots, generator=self.generator).numpy()
            else:
                shuffled = torch.randperm(int(tiles.max()) + 1, generator=self.generator).numpy()
                order = np.argsort(shuffled[tiles], kind="stable")
            yield from np.array_split(order, -(-n_spots // self.batch_size))

    def _batch(self, chunks: Sequence[np.ndarray]) -> Batch:
        whole = self.n_steps == 1
        rows: dict[str, list[np.ndarray]] = {name: [] for name in self._inputs}
        members: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
        contrasted = []

        def join(name: str, own: np.ndarray) -> np.ndarray:
            """Add rows of a modality to the step, and return their positions in it."""
            if whole:
                return own
            rows[name].append(own)
            end = sum(map(len, rows[name]))
            return np.arange(end - len(own), end)

        for group, chunk in zip(self._groups, chunks, strict=True):
            positives = {}
            for name, column in group.rows.items():
                spot = np.flatnonzero(column[chunk] >= 0)
                own = column[chunk][spot]
                positions = join(name, own)
                members.setdefault((name, group.slice_name), []).append((positions, own))
                positives[name] = self._positions(positions), self._moved(spot)
            if len(positives) > 1:
                contrasted.append(positives)
        reconstructed, edges, absent = [], [], []
        for name, slice_name in self._reconstructed:
            positions, own = (np.concatenate(parts) for parts in zip(*members[name, slice_name], strict=True))
            reconstructed.append((name, self._positions(positions)))
            if self._around:
                ends = (
                    self._edges(name, own) if whole else np.vstack([positions, join(name, self._neighbors(name, own))])
                )
                edges.append(self._moved(ends))
                drawn = torch.randint(len(positions), ends.shape, generator=self.generator).numpy()
                absent.append(self._moved(positions[drawn]))
        inputs = {name: self._gathered(name, None if whole else np.concatenate(rows[name])) for name in self._inputs}
        return Batch(inputs, contrasted, reconstructed, edges, absent)

    def _edges(self, name: str, rows: np.ndarray) -> np.ndarray:
        """All spatial edges and self loops from these rows (2 x edges)."""
        own = self._around[name][rows].tocoo()
        return np.vstack([rows[own.row], own.col]).astype(np.int64)

    def _neighbors(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The end of a random spatial edge or self loop from each of these rows."""
        around = self._around[name]
        starts, degrees = around.indptr[rows], np.diff(around.indptr)[rows]
        drawn = torch.rand(len(rows), generator=self.generator).numpy()
        return around.indices[starts + (drawn * degrees).astype(np.int64)].astype(np.int64)

    def _gathered(self, name: str, rows: np.ndarray | None) -> Data:
        data = self._inputs[name]
        if rows is None:
            return data.to(self.device)
        part = part_of(data, torch.from_numpy(rows).to(data.x.device), self._n_hops[name])
        return part if data.x.device.type == self.device.type else part.pin_memory().to(self.device, non_blocking=True)

    def _positions(self, rows: np.ndarray) -> Positions:
        # A range is a view, and so is its gradient.
        if len(rows) and (np.diff(rows) == 1).all():
            return slice(int(rows[0]), int(rows[-1]) + 1)
        return self._moved(rows)

    def _moved(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)


def tiles_of(group: _Group, graphs: Mapping[str, ad.AnnData]) -> np.ndarray:
    """Number of the tile of each spot of a group: boxes on the tissue of at most ``_TILE`` spots."""
    name, rows = next((name, rows) for name, rows in group.rows.items() if (rows >= 0).all())
    # The leaves of the tree are the boxes, one after the other.
    order = KDTree(graphs[name].obsm["spatial"][rows], leafsize=_TILE).indices
    tiles = np.empty(len(rows), dtype=np.int64)
    tiles[order] = np.arange(len(rows)) // _TILE
    return tiles
