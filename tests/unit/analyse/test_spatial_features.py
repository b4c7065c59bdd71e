"""Spatial features: Moran's I by its definition, planted patterns, and smooth fields that have nothing in common."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic.analyse import spatial_features
from mosaic.errors import InputError

SIDE = 16
PLACES = np.column_stack(np.divmod(np.arange(SIDE**2), SIDE)).astype(float)


def sliced(values: np.ndarray, features: list[str], name: str = "s1") -> ad.AnnData:
    obs = pd.DataFrame({"slice": name}, index=[f"{name}:{number}" for number in range(len(values))])
    return ad.AnnData(values, obs=obs, var=pd.DataFrame(index=features), obsm={"spatial": PLACES})


def field(random: np.random.Generator, scale: float = 4.0) -> np.ndarray:
    """A smooth random field on the grid."""
    waves = random.normal(size=(40, 2)) / scale
    return np.cos(PLACES @ waves.T + random.uniform(0, 2 * np.pi, 40)).sum(axis=1)


def test_morans_i_is_that_of_its_definition_sparse_or_dense():
    random = np.random.default_rng(0)
    values = random.poisson(1 + PLACES[:, :1] / 4, (len(PLACES), 6)).astype(float)
    graph = spatial_features.spatial_graph(PLACES, 6)
    centred = values - values.mean(axis=0)
    products = np.einsum("ig,ij,jg->g", centred, graph.toarray(), centred)
    expected = len(PLACES) / graph.sum() * products / (centred**2).sum(axis=0)
    np.testing.assert_allclose(spatial_features.morans_i(values, graph), expected, rtol=1e-6)
    np.testing.assert_allclose(spatial_features.morans_i(sparse.csr_matrix(values), graph), expected, rtol=1e-6)
    assert expected.min() > 0.1
    assert np.isnan(spatial_features.morans_i(np.full((len(PLACES), 1), 3.3), graph)).all()


def test_null_of_morans_i_is_that_of_noise():
    graph = spatial_features.spatial_graph(PLACES, 6)
    noise = spatial_features.morans_i(np.random.default_rng(0).normal(size=(len(PLACES), 4000)), graph)
    mean, spread = spatial_features.null_of_morans_i(graph)
    assert noise.mean() == pytest.approx(mean, abs=0.002)
    assert noise.std() == pytest.approx(spread, rel=0.05)


def test_patterns_of_all_slices_come_first_and_noise_is_not_called():
    random = np.random.default_rng(1)
    slices = []
    for name in ("s1", "s2"):
        values = random.normal(size=(len(PLACES), 30))
        values[:, 3] += 2 * np.sin(PLACES[:, 0] / 3)
        if name == "s1":
            values[:, 7] += 2 * np.sin(PLACES[:, 1] / 3)
        slices.append(sliced(values, [f"g{number}" for number in range(30)], name))
    slices[1].X[:, 9] = 1.0  # constant
    table = spatial_features.rank_spatial(slices, {"s1": 6, "s2": 6})
    assert table.index[:2].tolist() == ["g3", "g7"]
    assert list(table.columns) == ["morans_i", "lowest", "p_value", "p_adj", "s1", "s2"]
    assert table.loc["g7", "lowest"] == table.loc["g7", "s2"] < 0.2 < table.loc["g7", "s1"]
    assert table.loc["g9", "s2"] == 0
    assert (table["p_adj"].iloc[2:] > 0.05).all()
    few = spatial_features.rank_spatial(slices, {"s1": 6, "s2": 6}, most=3)
    assert {"g3", "g7"} < set(few.index)
    assert len(few) == 3


def test_a_slice_of_spots_that_are_all_neighbours_tells_nothing(caplog):
    values = np.random.default_rng(0).normal(size=(len(PLACES), 5))
    whole = sliced(values, list("abcde"))
    few = sliced(values[::-1], list("abcde"), "s2")[:8].copy()
    table = spatial_features.rank_spatial([whole, few], {"s1": 10, "s2": 10})
    pd.testing.assert_frame_equal(table, spatial_features.rank_spatial([whole], {"s1": 10}))
    assert "leaves out s2: its 8 spots are all neighbours" in caplog.text
    with pytest.raises(InputError, match=r"all spots of each slice are neighbours.*\n.*lower graph.intra_knns"):
        spatial_features.rank_spatial([few], {"s2": 10})


def test_pairs_are_those_asked_for_and_those_of_one_name():
    features = {"rna": ["CD4", "MS4A1", "Cd8a"], "adt": ["CD20", "cd4", "CD8A"], "atac": ["chr1:10-20"]}
    asked = [["adt:CD20", "rna:MS4A1"], ["rna:CD4", "atac:chr1:10-20"]]
    assert spatial_features.pairs_to_compare(features, asked) == [
        ("adt", "CD20", "rna", "MS4A1"),
        ("rna", "CD4", "atac", "chr1:10-20"),
        ("rna", "CD4", "adt", "cd4"),
        ("rna", "Cd8a", "adt", "CD8A"),
    ]
    with pytest.raises(InputError, match=r"no MS4A2 of rna(?s:.*)did you mean MS4A1"):
        spatial_features.pairs_to_compare(features, [["rna:MS4A2", "adt:CD20"]])


def test_features_in_the_same_places_are_found_and_in_others_told_apart():
    random = np.random.default_rng(3)
    shared = [field(random) for _ in range(3)]
    noise = 0.5 * np.std(shared[0])
    x = np.column_stack([own + noise * random.normal(size=len(PLACES)) for own in shared])
    y = np.column_stack([shared[0], -shared[1], random.normal(size=len(PLACES))])
    rna, adt = sliced(x, ["a", "b", "c"]), sliced(y, ["A", "B", "C"])
    pairs = [("rna", name, "adt", name.upper()) for name in "abc"]
    shuffled = adt[random.permutation(adt.n_obs)[10:]].copy()  # spots are paired by name
    table = spatial_features.colocalisation({"s1": {"rna": rna, "adt": shuffled}}, pairs, {"s1": 6})
    assert list(table.columns) == spatial_features.PAIR_COLUMNS
    assert table["first"].tolist() == ["a", "c", "b"]
    assert (table["p_adj"].iloc[[0, 2]] < 0.05).all()
    assert table["p_value"].iloc[1] > 0.05
    assert table["bivariate_morans_i"].iloc[0] > 0.5 > -0.5 > table["bivariate_morans_i"].iloc[2]
    # Without noise, the same as Moran's I of one feature.
    own = spatial_features.colocalisation({"s1": {"rna": rna, "adt": rna}}, [("rna", "a", "adt", "a")], {"s1": 6})
    graph = spatial_features.spatial_graph(PLACES, 6)
    assert own["bivariate_morans_i"][0] == pytest.approx(spatial_features.morans_i(x[:, :1], graph)[0])
    none = spatial_features.colocalisation({"s1": {"rna": rna}}, pairs, {"s1": 6})
    assert none.empty
    assert list(none.columns) == spatial_features.PAIR_COLUMNS


def test_smooth_fields_that_have_nothing_in_common_are_no_pairs():
    """Exchanging spots at random would call more than half of them significant."""
    random = np.random.default_rng(5)
    n = 60
    one, other = (np.column_stack([field(random) for _ in range(n)]) for _ in range(2))
    names = [f"f{number}" for number in range(n)]
    pairs = [("rna", name, "adt", name) for name in names]
    slices = {"s1": {"rna": sliced(one, names), "adt": sliced(other, names)}}
    table = spatial_features.colocalisation(slices, pairs, {"s1": 6}, n_rotations=199)
    assert (table["p_value"] < 0.05).mean() < 0.12
