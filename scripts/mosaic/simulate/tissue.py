"""Tissue of a simulated slice: its outline and its domains."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from mosaic.errors import InputError

WAVES = 64  # plane waves per random field; with fewer, single waves become visible

LAYOUT_ATTEMPTS = 200  # layouts to draw before giving up on a design

POWER_ROUNDS = 300  # iterations in which the cells of a layout approach the requested sizes

ISLAND_ATTEMPTS = 200  # places to try for an island before giving up on a design

LAYOUT_SWEEPS = 2  # iterations of Lloyd's algorithm: enough to even out the patches, too few for a honeycomb


class Tissue(NamedTuple):
    """One slice before counting: n spots of the grid, d domains."""

    in_tissue: np.ndarray  # (n,) bool
    domain: np.ndarray  # (n,) index of the domain, -1 off tissue
    mixture: np.ndarray  # (n, d) proportion of each domain's cells in a spot
    low_counts: np.ndarray  # (n,) bool
    high_mito: np.ndarray  # (n,) bool


def stream(seed: int, *names: str) -> np.random.Generator:
    """Random number generator of one part of the mosaic, identified by its names.

    Like ``SeedSequence.spawn``, with names in place of a running number, so that additions to a design and changes of
    order leave the numbers of all other parts unchanged.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple("\0".join(names).encode())))


def hexagonal_grid(grid: Mapping) -> np.ndarray:
    """Coordinates (n, 2) of a hexagonal grid in units of the spot distance; odd rows are shifted by half a step."""
    row, column = np.divmod(np.arange(grid["rows"] * grid["columns"]), grid["columns"])
    return np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(3) / 2])


def make_tissue(design: Mapping, spots: np.ndarray, slice_name: str, seed: int) -> Tissue:
    """Generate one slice: outline, domains, composition of each spot, and low-quality spots."""
    rng = stream(seed, "slice", slice_name)
    neighbours = KDTree(spots).query_pairs(1.1, output_type="ndarray")
    places = spots / spots.max(axis=0).min()  # in widths of the capture area's shorter side
    in_tissue = _outline(design.get("tissue"), places, neighbours, rng)

    n_domains = len(design["domains"])
    in_patches = np.array([*design["domains"].values()]) > 0
    composition = design.get("composition", {}).get(slice_name)
    shares = None
    if composition is not None:
        shares = np.array([composition.get(name, 1) for name in design["domains"]], dtype=float) * in_patches
        shares /= shares.sum()
    domain = np.full(len(spots), -1)
    number = np.cumsum(in_tissue) - 1  # number of each tissue spot
    inside = number[neighbours[in_tissue[neighbours].all(axis=1)]]
    where = f"slice {slice_name}"
    patches = _domains(design, shares, places[in_tissue], inside, rng, where=where)
    if "structures" in design:
        present = [name for name in design["domains"] if (composition or {}).get(name, 1)]
        own = stream(seed, "structures", slice_name)
        patches = _with_structures(patches, design, present, spots[in_tissue], inside, own, where=where)
    domain[in_tissue] = patches

    mixture = np.full((len(spots), n_domains), np.nan)
    mixture[in_tissue] = np.eye(n_domains)[domain[in_tissue]]
    if mixing := design.get("mixing"):
        strays = in_patches / in_patches.sum() if shares is None else shares
        mean = (1 - mixing["share"]) * mixture[in_tissue] + mixing["share"] * strays
        cells = rng.standard_gamma(mixing["concentration"] * mean)  # Dirichlet, once divided by their sum
        mixture[in_tissue] = cells / cells.sum(axis=1, keepdims=True)
    mixture[~in_tissue] = mixture[in_tissue].mean(axis=0)  # ambient counts, from all of the tissue

    bad = design.get("bad_spots", {})
    n_low, n_mito = (bad.get(key, {}).get("n", 0) for key in ("low_counts", "high_mito"))
    if n_low + n_mito > in_tissue.sum():
        problem = f"{n_low + n_mito} bad spots asked for, {in_tissue.sum()} spots in tissue"
        raise InputError(problem, where=f"slice {slice_name}", hint="lower bad_spots or enlarge the grid")
    picked = rng.choice(np.flatnonzero(in_tissue), size=n_low + n_mito, replace=False)
    low_counts, high_mito = (np.isin(np.arange(len(spots)), part) for part in (picked[:n_low], picked[n_low:]))
    return Tissue(in_tissue, domain, mixture, low_counts, high_mito)


def _outline(
    tissue: Mapping | None, places: np.ndarray, neighbours: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Mask (n,) of the spots under tissue: a connected ellipse with a rough edge."""
    if tissue is None:
        return np.ones(len(places), dtype=bool)
    from_centre = np.linalg.norm(2 * places / places.max(axis=0) - 1, axis=1)  # 1 at the middle of each side
    score = from_centre + tissue["roughness"] * _smooth_field(places, tissue["scale"], rng)
    covered = score <= np.quantile(score, tissue["share"])
    piece = _pieces(covered, neighbours)
    return covered & (piece == np.bincount(piece[covered]).argmax())


def _domains(
    design: Mapping,
    shares: np.ndarray | None,
    places: np.ndarray,
    neighbours: np.ndarray,
    rng: np.random.Generator,
    where: str,
) -> np.ndarray:
    """Domain index of every tissue spot (n,): warped, connected Voronoi cells; no domain below the minimum size.

    ``shares``: proportions of the domains (d,), 0 for an absent one, which moved cell borders approach; None: random
    sizes.
    """
    layout = design.get("layout", {"warp": 0.0, "scale": 1.0, "min_share": 0.0})
    n_domains = len(design["domains"])
    patches = np.repeat(np.arange(n_domains), list(design["domains"].values()))
    smallest = max(1, layout["min_share"] * len(places))
    if shares is not None:
        patches = patches[shares[patches] > 0]
        # A small domain may be intended, because the design gives the proportions.
        smallest = max(1, 0.5 * shares[shares > 0].min() * len(places))
    for _ in range(LAYOUT_ATTEMPTS if len(patches) <= len(places) else 0):
        warped = places + layout["warp"] * np.column_stack([_smooth_field(places, layout["scale"], rng) for _ in "xy"])
        sites = rng.choice(warped, size=len(patches), replace=False)
        try:
            _, cell = kmeans2(warped, sites, iter=LAYOUT_SWEEPS, minit="matrix", missing="raise")
        except ClusterError:  # a cell became empty
            continue
        named = rng.permutation(patches)
        if shares is not None:
            sizes = (shares / np.maximum(np.bincount(patches, minlength=len(shares)), 1))[named]
            cell = _cells_of_size(warped, cell, sizes)
        cell = _without_fragments(cell, places, neighbours)
        domain = named[cell]
        in_one_piece = _pieces(cell, neighbours).max() + 1 == len(patches)
        if in_one_piece and np.bincount(domain, minlength=n_domains)[np.unique(patches)].min() >= smallest:
            return domain
    problem = (
        f"{len(patches)} patches with at least {smallest:.0f} spots a domain do not fit on {len(places)} tissue spots"
    )
    raise InputError(
        problem, where=where, hint="lower layout.min_share, layout.warp or the patches, or enlarge the grid"
    )


def _with_structures(
    domain: np.ndarray,
    design: Mapping,
    present: list[str],
    spots: np.ndarray,
    neighbours: np.ndarray,
    rng: np.random.Generator,
    where: str,
) -> np.ndarray:
    """Domain index of every tissue spot (n,) with the structures of the ``present`` domains laid over the patches.

    Cords come first. Islands and strays touch neither one another nor another spot of their domain.
    """
    structures, names = design["structures"], list(design["domains"])
    domain = domain.copy()
    for name, cords in structures.get("cords", {}).items():
        if {name, cords["within"]} <= set(present):
            wave = _labyrinth(spots, cords["width"], rng)
            domain[(domain == names.index(cords["within"])) & (wave > 0)] = names.index(name)
    first, second = np.vstack([neighbours, neighbours[:, ::-1]]).T
    near = sparse.csr_matrix((np.ones(len(first), dtype=bool), (first, second)), shape=(len(spots), len(spots)))
    taken = np.zeros(len(spots), dtype=bool)
    islands = [(name, own["n"], own["spots"]) for name, own in structures.get("islands", {}).items()]
    strays = [(name, n, (1, 1)) for name, n in structures.get("strays", {}).items()]
    for name, n, (fewest, most) in islands + strays:
        for size in rng.integers(fewest, most, size=n if name in present else 0, endpoint=True):
            island = _island(size, taken | (domain == names.index(name)), spots, near, rng)
            if island is None:
                problem = f"no place is left for an island or stray of {name} ({size} spots)"
                raise InputError(problem, where=where, hint="lower structures or enlarge the grid")
            domain[island] = names.index(name)
            taken[island] = True
    return domain


def _island(
    size: int, foreign: np.ndarray, spots: np.ndarray, near: sparse.csr_matrix, rng: np.random.Generator
) -> np.ndarray | None:
    """``size`` connected spots around a random one, neither ``foreign`` nor beside such; None if there is no place."""
    free = ~foreign & ~(near @ foreign)
    if not free.any():
        return None
    for centre in rng.choice(np.flatnonzero(free), size=ISLAND_ATTEMPTS):
        distance = np.linalg.norm(spots - spots[centre], axis=1)
        distance[distance > 0] += rng.uniform(0, 0.5, size=len(spots) - 1)  # an irregular outline
        island = np.argsort(distance)[:size]
        if len(island) == size and free[island].all() and connected_components(near[island][:, island])[0] == 1:
            return island
    return None


def _labyrinth(spots: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
    """Random field (n,) whose positive and negative parts interlace as cords of this mean width.

    Plane waves of one length in random directions. Along a line the field changes its sign every 1 / sqrt(2) of a wave
    on average (Rice's formula).
    """
    angles, phases = rng.uniform(0, 2 * np.pi, size=(2, WAVES))
    number = 2 * np.pi / (np.sqrt(2) * width)
    return np.cos(
        number * (np.outer(spots[:, 0], np.cos(angles)) + np.outer(spots[:, 1], np.sin(angles))) + phases
    ).sum(axis=1)


def _cells_of_size(places: np.ndarray, cell: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Cells (n,) around the same centres with the given proportions (cells,) of the positions (n, 2).

    A power diagram: an offset per centre is added to its squared distances and raised if its cell is too large
    (Aurenhammer, Hoffmann and Aronov, Algorithmica 1998).
    """
    centres = np.array([places[cell == number].mean(axis=0) for number in range(len(sizes))])
    squared = ((places[:, None] - centres) ** 2).sum(axis=2)
    offset, step = np.zeros(len(sizes)), squared.mean()
    for number in range(1, POWER_ROUNDS + 1):
        cell = (squared + offset).argmin(axis=1)
        offset += step / np.sqrt(number) * (np.bincount(cell, minlength=len(sizes)) / len(places) - sizes)
    return cell


def _smooth_field(places: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian random field (n,) of variance 1 with correlation length ``scale``.

    A sum of random plane waves (random Fourier features: Rahimi and Recht, NeurIPS 2007), linear in n.
    """
    along_x, along_y = rng.normal(scale=1 / scale, size=(2, WAVES))
    phases = rng.uniform(0, 2 * np.pi, size=WAVES)
    return np.cos(places[:, :1] * along_x + places[:, 1:] * along_y + phases).sum(axis=1) * np.sqrt(2 / WAVES)


def _pieces(label: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Number (n,) of each spot's connected component, where only neighbours with the same label connect."""
    first, second = neighbours[label[neighbours[:, 0]] == label[neighbours[:, 1]]].T
    graph = sparse.coo_matrix((np.ones(len(first)), (first, second)), shape=(len(label), len(label)))
    return connected_components(graph, directed=False)[1]


def _without_fragments(cell: np.ndarray, places: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Keep the largest component of each cell and assign the spots of the others to the nearest cell."""
    piece = _pieces(cell, neighbours)
    size = np.bincount(piece)
    cell_of_piece = np.zeros(len(size), dtype=cell.dtype)
    cell_of_piece[piece] = cell
    largest = [np.flatnonzero(cell_of_piece == c)[size[cell_of_piece == c].argmax()] for c in np.unique(cell)]
    kept = np.isin(piece, largest)
    _, nearest = KDTree(places[kept]).query(places)
    return cell[kept][nearest]
