"""Batch correction: remove the differences between slices from features, and measure the effect.

``auto`` takes the one of two methods that the data support:

- *Harmony* (Korsunsky et al., Nature Methods 2019), run until convergence. It moves spots until every cluster mixes the
  slices. If every feature differs between slices, each cluster contains one slice, and Harmony has no effect.
- *Pair shift*: shift each slice by the differences between mutual nearest neighbours of different slices (Haghverdi et
  al., Nature Biotechnology 2018), first as a whole, then spot by spot. Only pairs with other pairs beside them on the
  tissue count. The shift depends on tissue that slices share, not on the means of slices, which also reflect their
  composition.

``auto`` compares the number of mutual nearest neighbours with other pairs beside them, minus the number expected by
chance: after a right correction, similar spots form contiguous regions on both tissues.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import harmonypy
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds
from scipy.spatial import KDTree

from mosaic.errors import InputError, few
from mosaic.matrices import from_neighbors, sample_rows
from mosaic.mixing import ilisi
from mosaic.mnn import mutual_nearest_neighbors, tissue_support
from mosaic.neighbors import nearest
from mosaic.spatial import spatial_neighbors
from mosaic.threads import n_threads

logger = logging.getLogger(__name__)

# Relative change of the objective at which Harmony has converged, and the maximum number of rounds.
_EPSILON, _ROUNDS = 1e-4, 20
# Spots per cluster, and the maximum number of clusters.
_CLUSTER_SPOTS, _MOST_CLUSTERS = 30, 100
# iLISI, and share of other slices among a slice's neighbours (``shares_of_others``), below which slices lie apart; and
# the share from which on a slice is mixed, whatever iLISI says. On the benchmark's data the share is 0.7 and more where
# slices are alike, and 0.24 and more where their donors or their composition differ.
APART, _MIXED = 0.05, 0.5
# Neighbours by which that share is counted, and the maximum number of spots of a slice.
_NEAR, _MOST_ASKED = 30, 500
# iLISI is slow: above this number of spots, it uses a sample.
_MOST_LISI = 10_000


class Harmonized(NamedTuple):
    """Result of Harmony.

    Attributes
    ----------
    features
        Corrected, spots x components, float32.
    rounds
        Number of rounds.
    clusters
        What maps new slices (``mapping.symphony``): ``Nr``, the spots of each cluster; ``C``, the sums of their
        corrected features (clusters x components); ``sigma``, the width of the clusters.
    """

    features: np.ndarray
    rounds: int
    clusters: dict[str, Any]


class Correction(NamedTuple):
    """Corrected features, a record of the correction, and what corrects further slices.

    Attributes
    ----------
    features
        Spots x components, float32.
    loadings
        Features x components (float32) if they differ from the input's; else None.
    record
        ``method`` (``harmony``, ``pair_shift`` or ``none``); ``ilisi_before``, ``ilisi_after``; ``apart``, whether
        slices hardly mix, or one of them with the others; ``moved``, the root mean square distance that spots moved,
        relative to that from a spot to the mean; ``rounds``; for ``auto`` also ``pairs_harmony`` and ``pairs_shift``,
        the evidence (see ``supported_pairs``).
    clusters
        See ``Harmonized``, if Harmony corrected the features; else empty.
    """

    features: np.ndarray
    loadings: np.ndarray | None
    record: dict[str, Any]
    clusters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PairShiftSettings:
    """Settings of the pair shift.

    Attributes
    ----------
    pair_neighbors
        Nearest neighbours in the search for pairs.
    tissue_neighbors
        Neighbours on the tissue, by which pairs support one another and features are smoothed.
    smoothings
        Number of times that features are averaged over neighbours on the tissue before a search.
    shift_rounds
        Rounds in which whole slices are shifted.
    spot_rounds, spot_step, spot_pairs
        Rounds of moves of single spots, their step, and the number of nearest ends of pairs that a move averages.
    most_tiles
        Maximum number of tiles per slice; the search for pairs groups the spots of larger slices into tiles.
    """

    pair_neighbors: int = 10
    tissue_neighbors: int = 6
    smoothings: int = 2
    shift_rounds: int = 5
    spot_rounds: int = 3
    spot_step: float = 0.5
    spot_pairs: int = 100
    most_tiles: int = 5_000


PAIR_SHIFT = PairShiftSettings()


class Tiles(NamedTuple):
    """The units of the search for pairs: spots, or tiles of spots in large slices.

    Attributes
    ----------
    of_spot
        Tile of each spot (spots).
    slices
        Slice number of each tile (tiles).
    adjacency
        Per slice, of its tiles: symmetric, of ones.
    settings
        Of the pair shift.
    """

    of_spot: np.ndarray
    slices: np.ndarray
    adjacency: list[sparse.csr_matrix]
    settings: PairShiftSettings

    def mean(self, features: np.ndarray) -> np.ndarray:
        """Features of tiles: means over their spots (tiles x components)."""
        counts = np.bincount(self.of_spot)
        member = sparse.csr_matrix((1 / counts[self.of_spot], (self.of_spot, np.arange(len(features)))))
        return member @ features

    def rows(self, number: int) -> np.ndarray:
        """Tiles of a slice."""
        return np.flatnonzero(self.slices == number)


def harmony(
    features: np.ndarray,
    slices: np.ndarray,
    *,
    seed: int,
    theta: float = 2.0,
    lamb: float | None = None,
    sigma: float = 0.1,
    nclust: int | None = None,
    max_iter: int = _ROUNDS,
    epsilon: float = _EPSILON,
) -> Harmonized:
    """Run Harmony until it converges.

    Parameters
    ----------
    features
        Spots x components.
    slices
        Each spot's slice.
    seed
        Of Harmony's clustering.
    theta
        Diversity penalty; 0 enforces no mixing.
    lamb
        Ridge penalty; None: estimated for each cluster.
    sigma
        Width of the soft clusters.
    nclust
        Number of clusters; None: one per 30 spots, 100 at most.
    max_iter
        Maximum number of rounds. With harmonypy's default tolerance it stops after one or two, converged or not.
    epsilon
        Relative change of the objective at which Harmony has converged.
    """
    n_spots = len(features)
    nclust = nclust or int(np.clip(round(n_spots / _CLUSTER_SPOTS), 1, _MOST_CLUSTERS))
    result = harmonypy.run_harmony(
        np.asarray(features, dtype=np.float64),
        {"slice": np.asarray(slices, dtype=str)},
        "slice",
        theta=theta,
        lamb=lamb,
        sigma=sigma,
        nclust=min(nclust, n_spots),
        max_iter_harmony=max_iter,
        epsilon_harmony=epsilon,
        random_state=seed,
        ncores=n_threads(),
        verbose=False,
    )
    rounds = len(result.objective_harmony) - 1
    if rounds >= max_iter:
        logger.info("Harmony had not converged after %d rounds", rounds)
    clusters = {"Nr": result.R.sum(axis=0), "C": result.R.T @ result.Z_corr, "sigma": float(sigma)}
    return Harmonized(result.Z_corr.astype(np.float32), rounds, clusters)


def within_slices(matrix: sparse.csr_matrix | np.ndarray, slices: np.ndarray, n_comps: int) -> np.ndarray:
    """Loadings of the variation within slices, without components for differences between whole slices.

    Parameters
    ----------
    matrix
        Spots x features; sparse data stay sparse.
    slices
        Each spot's slice.
    n_comps
        Components, fewer than spots and features.

    Returns
    -------
    Right singular vectors of the matrix minus the mean of each spot's slice (features x components, float64).
    """
    _, number = np.unique(slices, return_inverse=True)
    member = np.eye(number.max() + 1)[number]
    means = np.asarray((matrix.T @ (member / member.sum(axis=0))).T)
    centred = LinearOperator(
        matrix.shape,
        matvec=lambda v: matrix @ v - member @ (means @ v),
        rmatvec=lambda u: matrix.T @ u - means.T @ (member.T @ u),
        dtype=np.float64,
    )
    _, _, Vt = svds(centred, k=n_comps, v0=np.ones(min(matrix.shape)), return_singular_vectors="vh")
    V = Vt[::-1].T
    # The sign of a singular vector is arbitrary: its largest entry is positive.
    return V * np.sign(V[np.abs(V).argmax(axis=0), np.arange(n_comps)])


def supported_pairs(features: np.ndarray, tiles: Tiles) -> float:
    """Supported mutual nearest neighbours per spot, minus those expected by chance; mean over pairs of slices.

    A pair is supported if another pair joins the spatial neighbours of its spots (``mnn.tissue_support``). The expected
    number assumes random pairs, with the number of pairs of each spot kept.

    Parameters
    ----------
    features
        Of tiles (tiles x components).
    tiles
        Of all slices.
    """
    found = []
    for one, other in combinations(range(len(tiles.adjacency)), 2):
        pairs, support = _pairs(features, tiles, one, other)
        near = tiles.adjacency[one], tiles.adjacency[other]
        if not len(pairs):
            found.append(0.0)
            continue
        counts = [np.bincount(ends, minlength=A.shape[0]) for ends, A in zip(pairs.T, near, strict=True)]
        around = [(A @ count)[ends] for A, count, ends in zip(near, counts, pairs.T, strict=True)]
        by_chance = -np.expm1(-around[0] * around[1] / len(pairs))
        found.append(((support > 0) - by_chance).sum() / min(A.shape[0] for A in near))
    return float(np.mean(found))


def slice_offsets(features: np.ndarray, tiles: Tiles) -> np.ndarray:
    """Estimate the offset of each slice from the mutual nearest neighbours that the tissue supports.

    Least squares over the pairs of all slices, weighted by support; starts at the means of the slices.

    Parameters
    ----------
    features
        Of tiles (tiles x components).
    tiles
        Of all slices.

    Returns
    -------
    Offsets to subtract (slices x components), whose mean is 0.

    Raises
    ------
    InputError
        If two groups of slices share no supported pair.
    """
    n_slices = len(tiles.adjacency)
    smooth = _smoothed(features, tiles)
    offsets = np.array([features[tiles.rows(number)].mean(axis=0) for number in range(n_slices)])
    offsets -= offsets.mean(axis=0)
    for _ in range(tiles.settings.shift_rounds):
        shifted = smooth - offsets[tiles.slices]
        laplacian, difference = np.zeros((n_slices, n_slices)), np.zeros_like(offsets)
        for one, other in combinations(range(n_slices), 2):
            pairs, weight = _pairs(shifted, tiles, one, other)
            first, second = tiles.rows(one)[pairs[:, 0]], tiles.rows(other)[pairs[:, 1]]
            apart = weight @ (smooth[first] - smooth[second])
            difference[[one, other]] += apart, -apart
            laplacian[[one, other], [one, other]] += weight.sum()
            laplacian[[one, other], [other, one]] -= weight.sum()
        if np.linalg.matrix_rank(laplacian) < n_slices - 1:
            raise InputError(
                "slices share no pairs of mutual nearest neighbours that have others beside them",
                where="batch_correction",
                hint="do they show the same tissue? If so, set batch_correction to harmony",
            )
        offsets = np.linalg.pinv(laplacian) @ difference
        offsets -= offsets.mean(axis=0)
    return offsets


def offset_onto_others(features: np.ndarray, tiles: Tiles, number: int) -> np.ndarray:
    """Estimate the offset of one slice from others that stay where they are: see ``slice_offsets``.

    Parameters
    ----------
    features
        Of tiles (tiles x components).
    tiles
        Of all slices.
    number
        Number of the slice.

    Returns
    -------
    Offset to subtract (components).

    Raises
    ------
    InputError
        If it shares no supported pair with another slice.
    """
    smooth, own = _smoothed(features, tiles), tiles.rows(number)
    offset = features[own].mean(axis=0) - features[tiles.slices != number].mean(axis=0)
    for _ in range(tiles.settings.shift_rounds):
        shifted = smooth.copy()
        shifted[own] -= offset
        difference, total = np.zeros_like(offset), 0.0
        for other in set(range(len(tiles.adjacency))) - {number}:
            pairs, weight = _pairs(shifted, tiles, number, other)
            difference += weight @ (smooth[own[pairs[:, 0]]] - smooth[tiles.rows(other)[pairs[:, 1]]])
            total += weight.sum()
        if not total:
            raise InputError(
                "shares no pairs of mutual nearest neighbours that have others beside them with the reference",
                hint="does it show the tissue of the reference?",
            )
        offset = difference / total
    return offset


def spot_moves(features: np.ndarray, tiles: Tiles, moving: Collection[int] | None = None) -> np.ndarray:
    """Estimate the remaining moves tile by tile: both ends of a pair move towards each other.

    A tile moves by the mean difference of the supported pairs at the nearest ends of pairs of its slice. Weights are
    support times a Gaussian with the median distance to these ends as width.

    Parameters
    ----------
    features
        Of tiles (tiles x components), after the shift of whole slices.
    tiles
        Of all slices.
    moving
        Numbers of the slices that move; None: all.

    Returns
    -------
    Moves to add (tiles x components).
    """
    moves = np.zeros_like(features)
    numbers = range(len(tiles.adjacency))
    moving = set(numbers if moving is None else moving)
    for _ in range(tiles.settings.spot_rounds):
        smooth = _smoothed(features + moves, tiles)
        ends: dict[int, list[tuple[np.ndarray, ...]]] = {number: [] for number in numbers}
        for one, other in combinations(numbers, 2):
            if not moving & {one, other}:
                continue
            pairs, support = _pairs(smooth, tiles, one, other)
            pairs, support = pairs[support > 0], support[support > 0]
            first, second = tiles.rows(one)[pairs[:, 0]], tiles.rows(other)[pairs[:, 1]]
            ends[one].append((first, second, support))
            ends[other].append((second, first, support))
        for number, found in ends.items():
            if number not in moving:
                continue
            own, partner, support = (np.concatenate(parts) for parts in zip(*found, strict=True))
            if not len(own):
                continue
            rows = tiles.rows(number)
            distance, near = nearest(smooth[rows], smooth[own], tiles.settings.spot_pairs)
            width = np.median(distance) or 1.0
            # Relative to the nearest, so that a tile far from all ends has weights, too.
            weight = np.exp((distance[:, :1] ** 2 - distance**2) / width**2) * support[near]
            weight /= weight.sum(axis=1, keepdims=True)
            mean = from_neighbors(near, len(own), weight)
            moves[rows] += tiles.settings.spot_step * (mean @ (smooth[partner] - smooth[own]))
    return moves


def correct(
    features: np.ndarray,
    slices: np.ndarray,
    coordinates: np.ndarray,
    method: str | Mapping[str, Mapping],
    *,
    seed: int,
    within: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
    what: str = "features",
    pair_shift: PairShiftSettings = PAIR_SHIFT,
) -> Correction:
    """Correct batch effects of the slices.

    Parameters
    ----------
    features
        Spots x components.
    slices
        Each spot's slice; two or more.
    coordinates
        Spots x 2, each slice in its own frame.
    method
        ``harmony``, or ``{"harmony": options of harmony()}``; ``pair_shift``; ``auto``, the pair shift if moving whole
        slices gives more supported pairs than Harmony does, else Harmony; ``none``.
    seed
        Of Harmony.
    within
        Returns features of the variation within slices, and their loadings, for the pair shift; None: the pair shift
        uses ``features``.
    what
        Name of the features, for the log.
    pair_shift
        Settings of the pair shift.
    """
    options: Mapping = {}
    if isinstance(method, Mapping):
        options = method["harmony"] or {}
        method = "harmony"
    record: dict[str, Any] = {"method": "harmony"}
    if method == "none":
        mixed = _ilisi(features, slices, seed)
        apart, _ = _apart(features, slices, mixed, seed)
        record = {"method": "none", "ilisi_before": mixed, "ilisi_after": mixed, "moved": 0.0, "apart": apart}
        return Correction(np.asarray(features, dtype=np.float32), None, record, {})
    corrected, before = features, features
    clusters: dict[str, Any] = {}
    loadings: np.ndarray | None = None
    if method != "pair_shift":
        corrected, record["rounds"], clusters = harmony(features, slices, seed=seed, **options)
    if method != "harmony":
        tiles = tiles_of(slices, coordinates, pair_shift)
        own, own_loadings = within() if within else (features, None)
        try:
            means = tiles.mean(own)
            moves = -slice_offsets(means, tiles)[tiles.slices]
        except InputError:
            if method == "pair_shift":
                raise
            logger.info("%s: slices share no supported pairs, so Harmony is taken", what)
        else:
            if method == "auto":
                record["pairs_harmony"] = supported_pairs(tiles.mean(corrected), tiles)
                # Before single spots move by pairs, which would then support themselves.
                record["pairs_shift"] = supported_pairs(means + moves, tiles)
                logger.info(
                    "%s: supported pairs per spot beyond chance: %.3f after Harmony, %.3f after shifting whole slices",
                    what,
                    record["pairs_harmony"],
                    record["pairs_shift"],
                )
            if method == "pair_shift" or record["pairs_shift"] > record["pairs_harmony"]:
                moves += spot_moves(means + moves, tiles)
                corrected = (own + moves[tiles.of_spot]).astype(np.float32)
                loadings, before, clusters = own_loadings, own, {}
                record |= {"method": "pair_shift", "rounds": pair_shift.shift_rounds + pair_shift.spot_rounds}
    spread = np.sqrt(((before - before.mean(axis=0)) ** 2).sum(axis=1).mean())
    moved = np.sqrt(((corrected - before) ** 2).sum(axis=1).mean())
    record |= {
        "ilisi_before": _ilisi(features, slices, seed),
        "ilisi_after": _ilisi(corrected, slices, seed),
        "moved": float(moved / spread) if spread else 0.0,
    }
    record["apart"], alone = _apart(corrected, slices, record["ilisi_after"], seed)
    _tell(record, alone, method, what)
    return Correction(corrected, loadings, record, clusters)


def shares_of_others(features: np.ndarray, slices: np.ndarray, seed: int) -> dict[str, float]:
    """How often the nearest neighbours of a slice's spots are of other slices, relative to mixed slices (1).

    iLISI, a median over all spots, is 0 where a small slice lies within a large one, and does not see a small slice
    that lies apart from several others.

    Parameters
    ----------
    features
        Spots x components.
    slices
        Each spot's slice.
    seed
        Of the spots that are looked at, 500 of each slice at most.
    """
    found = {}
    for name in np.unique(slices):
        rows = np.flatnonzero(slices == name)
        rows = rows[sample_rows(len(rows), _MOST_ASKED, seed)]
        _, near = nearest(features[rows], features, _NEAR)
        found[str(name)] = float((slices[near] != name).mean() / (slices != name).mean())
    return found


def _apart(features: np.ndarray, slices: np.ndarray, mixed: float, seed: int) -> tuple[bool, list[str]]:
    """Whether slices lie apart, of which ``mixed`` is the iLISI, and of three or more those apart from all others."""
    if len(np.unique(slices)) < 2:
        return False, []
    shares = shares_of_others(features, slices, seed)
    alone = [name for name, share in shares.items() if share < APART]
    apart = bool(alone) or (bool(mixed < APART) and min(shares.values()) < _MIXED)
    return apart, alone if len(shares) > 2 else []


def _tell(record: Mapping[str, Any], alone: list[str], asked: str, what: str) -> None:
    """Log the record of a correction, with a warning if slices lie apart after it, some from all others."""
    logger.info(
        "%s: batch correction by %s, %d round(s): iLISI %.3f before, %.3f after; spots moved by %.2f of their spread",
        what,
        record["method"].replace("_", " "),
        *(record[key] for key in ("rounds", "ilisi_before", "ilisi_after", "moved")),
    )
    if record["apart"]:
        logger.warning(
            "%s: slices lie apart after batch correction (iLISI %.3f, where 1 is evenly mixed%s). If they show the "
            "same tissue, domains will follow the slice: %s",
            what,
            record["ilisi_after"],
            f"; apart from all others: {few(alone)}" if alone else "",
            "compare batch_correction auto, or set a larger theta of harmony"
            if asked == "harmony"
            else "compare depth and features of the slices, and remove a slice that differs from the others",
        )


def _ilisi(features: np.ndarray, slices: np.ndarray, seed: int) -> float:
    rows = sample_rows(len(features), _MOST_LISI, seed)
    return ilisi(features[rows], slices[rows])


def tiles_of(slices: np.ndarray, coordinates: np.ndarray, settings: PairShiftSettings = PAIR_SHIFT) -> Tiles:
    """One tile per spot in small slices; compact tiles of similar numbers of spots in large ones.

    Parameters
    ----------
    slices, coordinates
        As for ``correct``.
    settings
        Of the pair shift.
    """
    of_spot, adjacency = np.empty(len(slices), dtype=int), []
    owner: list[int] = []
    for number, name in enumerate(dict.fromkeys(slices)):
        rows = np.flatnonzero(slices == name)
        tile = _leaves(coordinates[rows], settings.most_tiles)
        of_spot[rows] = tile + len(owner)
        counts = np.bincount(tile)
        centres = np.column_stack([np.bincount(tile, axis) / counts for axis in coordinates[rows].T])
        near = spatial_neighbors(centres, settings.tissue_neighbors)
        adjacency.append(sparse.csr_matrix(near.maximum(near.T)))
        owner += [number] * len(counts)
    return Tiles(of_spot, np.array(owner), adjacency, settings)


def _leaves(coordinates: np.ndarray, most: int) -> np.ndarray:
    """Leaf of each spot in a k-d tree of at most ``most`` leaves; with at most ``most`` spots, one leaf per spot."""
    n_spots = len(coordinates)
    if n_spots <= most:
        return np.arange(n_spots)
    # Leaves are more than half full.
    waiting = [KDTree(coordinates, leafsize=-(-2 * n_spots // most)).tree]
    leaf, n_leaves = np.empty(n_spots, dtype=int), 0
    while waiting:
        node = waiting.pop()
        if isinstance(node, KDTree.leafnode):
            leaf[node.idx] = n_leaves
            n_leaves += 1
        else:
            waiting += [node.less, node.greater]
    return leaf


def _smoothed(features: np.ndarray, tiles: Tiles) -> np.ndarray:
    """Features averaged over neighbours on the tissue, because single spots are noisy."""
    smooth, n_neighbors = np.array(features, dtype=np.float64), tiles.settings.tissue_neighbors
    for number, adjacency in enumerate(tiles.adjacency):
        rows = tiles.rows(number)
        mean = sparse.diags_array(1 / np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1)) @ adjacency
        for _ in range(tiles.settings.smoothings):
            smooth[rows] = (smooth[rows] + n_neighbors * (mean @ smooth[rows])) / (1 + n_neighbors)
    return smooth


def _pairs(features: np.ndarray, tiles: Tiles, one: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    """Mutual nearest neighbours of two slices (pairs x 2, rows within the slices), and the support of each."""
    first, second = features[tiles.rows(one)], features[tiles.rows(other)]
    pairs = mutual_nearest_neighbors(first, second, tiles.settings.pair_neighbors)
    return pairs, tissue_support(pairs, tiles.adjacency[one], tiles.adjacency[other])
