"""Features that follow the tissue: spatially variable ones, and pairs of two modalities that lie in the same places."""

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse, stats
from scipy.spatial import KDTree

from mosaic.errors import InputError
from mosaic.matrices import dense
from mosaic.spatial import spatial_neighbors

logger = logging.getLogger(__name__)

_FEWEST_SPOTS = 10  # of a slice
_N_ROTATIONS = 499
PAIR_COLUMNS = ["first_modality", "first", "second_modality", "second", "bivariate_morans_i", "correlation", "p_value"]
PAIR_COLUMNS += ["p_adj", "n_slices"]


def spatial_graph(coordinates: np.ndarray, n_neighbors: int, radius: float | None = None) -> sparse.csr_matrix:
    """Undirected spatial neighbours of a slice, as the encoders' graph has them.

    Parameters
    ----------
    coordinates, n_neighbors, radius
        As of ``spatial.spatial_neighbors``.

    Returns
    -------
    Spots x spots, 1 for neighbours.
    """
    near = spatial_neighbors(coordinates, n_neighbors, radius)
    return sparse.csr_matrix(near.maximum(near.T), dtype=np.float64)


def morans_i(values: np.ndarray | sparse.spmatrix, graph: sparse.csr_matrix) -> np.ndarray:
    """Moran's I of each feature (Moran, Biometrika 1950): how alike neighbouring spots are, from -1 to 1.

    The same as ``scanpy.metrics.morans_i``, of all features at once and without its ten seconds of compilation.

    Parameters
    ----------
    values
        Spots x features.
    graph
        Weights (spots x spots) of neighbours; symmetric.

    Returns
    -------
    Features; missing where a feature is constant.
    """
    n_spots, total, degree = graph.shape[0], graph.sum(), np.asarray(graph.sum(axis=1)).ravel()
    # Sums of centred values, without centring: sparse values stay sparse.
    if sparse.issparse(values):
        values = sparse.csc_matrix(values, dtype=np.float64)
        means = np.asarray(values.mean(axis=0)).ravel()
        squares = np.asarray(values.multiply(values).sum(axis=0)).ravel()
        products = np.asarray(values.multiply(graph @ values).sum(axis=0)).ravel()
    else:
        values = np.asarray(values, dtype=np.float64)
        means, squares, products = values.mean(axis=0), (values**2).sum(axis=0), (values * (graph @ values)).sum(axis=0)
    products = products - 2 * means * (degree @ values) + means**2 * total
    variance = squares - n_spots * means**2
    constant = variance <= 1e-12 * np.maximum(squares, 1e-300)
    return np.where(constant, np.nan, n_spots / total * products / np.where(constant, 1, variance))


def null_of_morans_i(graph: sparse.csr_matrix) -> tuple[float, float]:
    """Mean and standard deviation of Moran's I without spatial structure, for normal values.

    From Cliff and Ord, Spatial Processes, 1981. The graph is symmetric.
    """
    n, total = graph.shape[0], graph.sum()
    s1 = 2 * graph.multiply(graph).sum()
    s2 = 4 * (np.asarray(graph.sum(axis=1)) ** 2).sum()
    mean = -1 / (n - 1)
    variance = (n**2 * s1 - n * s2 + 3 * total**2) / ((n**2 - 1) * total**2) - mean**2
    return mean, float(np.sqrt(variance))


def rank_spatial(
    slices: Iterable[ad.AnnData], n_neighbors: Mapping[str, int], radius: float | None = None, *, most: int = 3000
) -> pd.DataFrame:
    """Rank the features of a modality by how strongly they follow the tissue, in every slice.

    Parameters
    ----------
    slices
        Normalised slices of the modality.
    n_neighbors
        Spatial neighbours per spot, by slice.
    radius
        See ``spatial.spatial_neighbors``.
    most
        Maximum number of features: those with the largest mean variance over the slices.

    Returns
    -------
    Per ``feature`` of all slices, largest first: ``morans_i``, the mean over the slices; ``lowest``, of a slice;
    ``p_value`` (one-sided; z-scores under normality, added over the slices by Stouffer's method) and ``p_adj``
    (Benjamini and Hochberg); and Moran's I in each slice, by its name. A feature that is constant in a slice
    counts as 0 there. A slice of so few spots that all are neighbours is left out.

    Raises
    ------
    InputError
        If no slice has more spots.
    """
    slices = list(slices)
    shared = slices[0].var_names
    for adata in slices[1:]:
        shared = shared[shared.isin(adata.var_names)]
    variance = np.mean([_variances(adata[:, shared].X) for adata in slices], axis=0)
    chosen = shared[np.sort(np.argsort(-variance, kind="stable")[:most])]
    if len(chosen) < len(shared):
        logger.info("Moran's I of the %d features of %d that vary most", len(chosen), len(shared))
    values, scores = {}, []
    for adata in slices:
        name = str(adata.obs["slice"].iloc[0])
        graph = spatial_graph(adata.obsm["spatial"], n_neighbors[name], radius)
        if graph.nnz == adata.n_obs * (adata.n_obs - 1):
            # Moran's I is then the same for every arrangement of the spots.
            logger.warning("Moran's I leaves out %s: its %d spots are all neighbours", name, adata.n_obs)
            continue
        mean, spread = null_of_morans_i(graph)
        found = morans_i(adata[:, chosen].X, graph)
        values[name] = np.nan_to_num(found)
        scores.append((np.where(np.isnan(found), mean, found) - mean) / spread)
    if not scores:
        raise InputError(
            "all spots of each slice are neighbours, so no feature can follow the tissue",
            where="Moran's I",
            hint="lower graph.intra_knns, or relax qc",
        )
    each = pd.DataFrame(values, index=chosen)
    table = pd.DataFrame({"morans_i": each.mean(axis=1), "lowest": each.min(axis=1)})
    table["p_value"] = stats.norm.sf(np.sum(scores, axis=0) / np.sqrt(len(scores)))
    table["p_adj"] = stats.false_discovery_control(table["p_value"])
    table = pd.concat([table, each], axis=1).rename_axis("feature")
    return table.sort_values("morans_i", ascending=False, kind="stable")


def _variances(values: np.ndarray | sparse.spmatrix) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values.var(axis=0)
    squares = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    return squares - np.asarray(values.mean(axis=0)).ravel() ** 2


def pairs_to_compare(
    features: Mapping[str, Sequence[str]], asked: Iterable[Sequence[str]] = ()
) -> list[tuple[str, str, str, str]]:
    """Pairs of features of two modalities: those asked for, then those of the same name, whatever its case.

    Parameters
    ----------
    features
        Names of the features of each modality.
    asked
        Pairs as the config gives them, each feature as ``modality:feature``.

    Returns
    -------
    Modality and feature of the first, and of the second.

    Raises
    ------
    InputError
        If a modality does not have a feature that is asked for.
    """
    known = {modality: set(names) for modality, names in features.items()}
    found: dict[tuple[str, str, str, str], None] = {}
    for number, pair in enumerate(asked):
        ends = [tuple(text.split(":", 1)) for text in pair]
        for modality, feature in ends:
            if feature not in known.get(modality, set()):
                close = difflib.get_close_matches(feature, known.get(modality, set()), n=3)
                hint = f"did you mean {' or '.join(close)}?" if close else "spell it as the files do"
                where = f"config key spatial.pairs.{number}"
                raise InputError(
                    f"the slices with both modalities have no {feature} of {modality}", where=where, hint=hint
                )
        (one, first), (other, second) = ends
        found[one, first, other, second] = None
    modalities = list(features)
    for place, one in enumerate(modalities):
        for other in modalities[place + 1 :]:
            named = {name.casefold(): name for name in reversed(features[other])}
            found |= {
                (one, name, other, named[name.casefold()]): None for name in features[one] if name.casefold() in named
            }
    return list(found)


def colocalisation(
    slices: Mapping[str, Mapping[str, ad.AnnData]],
    pairs: Sequence[tuple[str, str, str, str]],
    n_neighbors: Mapping[str, int],
    radius: float | None = None,
    *,
    n_rotations: int = _N_ROTATIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether two features of different modalities lie in the same places: bivariate Moran's I.

    The statistic is the mean product of one feature and the other in neighbouring spots, both standardised (Wartenberg,
    Geographical Analysis 1985), averaged over the slices. Under the null hypothesis, one feature lies on the tissue
    without regard to the other, but each keeps its own spatial structure. Exchanging spots at random would destroy it
    and call most pairs of smooth features significant, so the second feature is rotated about the centre of the slice
    by a random angle, and mirrored half of the time; each spot takes the value of the spot nearest to where it comes to
    lie.

    Parameters
    ----------
    slices
        Per slice with two modalities or more its normalised modalities.
    pairs
        As ``pairs_to_compare`` gives them.
    n_neighbors, radius
        As for ``rank_spatial``.
    n_rotations
        Random rotations; the smallest p-value is ``1 / (n_rotations + 1)``.
    seed
        Of the rotations.

    Returns
    -------
    Per pair, strongest first: modality and name of both, ``bivariate_morans_i`` and the ``correlation`` within spots
    (Pearson), each the mean over ``n_slices``; ``p_value``, two-sided, and ``p_adj`` (Benjamini and Hochberg). A slice
    counts for pairs that it has; in a pair of a constant feature, it counts as 0.
    """
    observed, within, rotated = (np.zeros((size, len(pairs))) for size in (1, 1, n_rotations))
    n_slices = np.zeros(len(pairs), dtype=int)
    for number, (name, modalities) in enumerate(slices.items()):
        random = np.random.default_rng([seed, number])
        for first, second in dict.fromkeys((pair[0], pair[2]) for pair in pairs):
            if not {first, second} <= set(modalities):
                continue
            one, other = modalities[first], modalities[second]
            spots = one.obs_names[one.obs_names.isin(other.obs_names)]
            own = [
                place
                for place, pair in enumerate(pairs)
                if (pair[0], pair[2]) == (first, second) and pair[1] in one.var_names and pair[3] in other.var_names
            ]
            if len(spots) < _FEWEST_SPOTS or not own:
                continue
            x = _standardised(dense(one[spots, [pairs[place][1] for place in own]].X))
            y = _standardised(dense(other[spots, [pairs[place][3] for place in own]].X))
            coordinates = one[spots].obsm["spatial"]
            graph = spatial_graph(coordinates, n_neighbors[name], radius)
            around = graph @ x / graph.sum()
            observed[0, own] += (around * y).sum(axis=0)
            within[0, own] += (x * y).mean(axis=0)
            for turn, rows in enumerate(_rotations(coordinates, n_rotations, random)):
                rotated[turn, own] += (around * _standardised(y[rows])).sum(axis=0)
            n_slices[own] += 1
    told = n_slices > 0
    counts = np.maximum(n_slices, 1)
    extreme = (np.abs(rotated) >= np.abs(observed) - 1e-12).sum(axis=0)
    table = pd.DataFrame(pairs, columns=["first_modality", "first", "second_modality", "second"])
    table["bivariate_morans_i"], table["correlation"] = (observed / counts)[0], (within / counts)[0]
    table["p_value"] = (1 + extreme) / (n_rotations + 1)
    table["n_slices"] = n_slices
    table = table[told].copy()
    table["p_adj"] = stats.false_discovery_control(table["p_value"]) if len(table) else []
    return table[PAIR_COLUMNS].sort_values("bivariate_morans_i", ascending=False, kind="stable", ignore_index=True)


def _standardised(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64) - values.mean(axis=0)
    spread = values.std(axis=0)
    return values / np.where(spread > 0, spread, 1)


def _rotations(coordinates: np.ndarray, count: int, random: np.random.Generator) -> Iterable[np.ndarray]:
    """For each random rotation, the spot nearest to where each spot comes to lie."""
    centred = coordinates - coordinates.mean(axis=0)
    tree = KDTree(centred)
    for angle, mirrored in zip(random.uniform(0, 2 * np.pi, count), random.random(count) < 0.5, strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        yield tree.query(centred @ (turn * [1, -1] if mirrored else turn))[1]
