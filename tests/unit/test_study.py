"""The study's variants do what their names say, and its tables say what was measured."""

import numpy as np
import pandas as pd
import pytest
import study
import study_report
from chain import small_graph
from matplotlib.figure import Figure
from scipy import sparse

from mosaic import spots

SETTINGS = {"w_g": 0.8, "symmetric": True, "seed": 0}


@pytest.fixture(scope="module")
def graphs():
    return {"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s1", "s2"], seed=1)}


def between(matrix, slices) -> sparse.csr_matrix:
    """The edges that join two slices."""
    found = sparse.coo_matrix(matrix)
    return found.data[slices[found.row] != slices[found.col]]


def test_edges_are_those_of_the_name(graphs):
    graph = graphs["rna"]
    slices = graph.obs["slice"].to_numpy(dtype=str)
    both = graph.obsp["connectivities"]
    made = {
        name: study.with_edges(graph, name, **SETTINGS) for name in ("spatial", "expression", "shuffled", "features")
    }
    assert study.with_edges(graph, "both", **SETTINGS) is graph
    assert not len(between(made["spatial"].obsp["connectivities"], slices))
    expression = made["expression"].obsp["connectivities"]
    assert expression.nnz == len(between(both, slices)) > 0
    parts = made["spatial"].obsp["connectivities"] + expression
    assert abs(parts - both).max() == 0
    for name in ("shuffled", "features"):
        found = made[name].obsp["connectivities"]
        assert abs(found - both).max() > 0
        # Expression edges stay, and no edge leaves its slice beside them.
        np.testing.assert_allclose(np.sort(between(found, slices)), np.sort(between(both, slices)))
    assert made["shuffled"].obsp["connectivities"].nnz == both.nnz
    # Features show two halves of the tissue, and nearest features do not cross.
    half = np.tile(np.arange(60) < 30, 2)
    own = sparse.coo_matrix(made["features"].obsp["connectivities"])
    within = slices[own.row] == slices[own.col]
    assert (half[own.row] == half[own.col])[within].mean() > 0.95
    with pytest.raises(ValueError, match="not known"):
        study.with_edges(graph, "none", **SETTINGS)


@pytest.mark.parametrize(("drawn", "compact"), [("random", False), ("piece", True)])
def test_anchors_are_as_many_as_asked_for(graphs, drawn, compact):
    to_unpair, apart, n_anchors = study.drawn_anchors(graphs, share=0.1, drawn=drawn, seed=0)
    assert n_anchors == 12  # of 60 spots of two bridge slices
    assert apart == []
    made = {name: study.unpaired(adata, name, to_unpair.get(name, []), apart) for name, adata in graphs.items()}
    tables = spots.paired({name: adata.obs for name, adata in made.items()})
    rows = {name: table["rna"].to_numpy()[(table >= 0).all(axis=1)] for name, table in tables.items()}
    assert {name: len(own) for name, own in rows.items()} == {"s1": 6, "s2": 6}
    places = graphs["rna"].obsm["spatial"][rows["s1"]]
    assert (np.linalg.norm(places - places.mean(axis=0), axis=1).mean() < 1.5) == compact
    # The other spots are still there, each modality's under a name of its own.
    assert made["adt"].n_obs == graphs["adt"].n_obs
    assert made["adt"].obs_names.str.split(study.MARK).str[0].tolist() == graphs["adt"].obs_names.tolist()
    assert made["rna"].obs_names.tolist() == graphs["rna"].obs_names.tolist()


def test_one_bridge_alone_keeps_its_pairs(graphs):
    to_unpair, apart, n_anchors = study.drawn_anchors(graphs, bridge="last", seed=0)
    assert n_anchors == 60
    assert {name.split(":")[0] for name in to_unpair["adt"]} == {"s1"}
    assert study.drawn_anchors(graphs, seed=0) == ({"adt": []}, [], 120)
    # The modalities of the other bridge are two slices, with which the library trains.
    made = {name: study.unpaired(adata, name, to_unpair.get(name, []), apart) for name, adata in graphs.items()}
    assert set(made["rna"].obs["slice"]) == set(graphs["rna"].obs["slice"])
    assert set(made["adt"].obs["slice"]) == {"s1~adt" if name == "s1" else name for name in graphs["adt"].obs["slice"]}
    tables = spots.paired({name: adata.obs for name, adata in made.items()})
    assert {name: len(table) for name, table in tables.items()} == {"s2": 60}


VARIANTS = {
    "default": {"group": "default"},
    "mlp": {"group": "graph"},
    "random_50": {"group": "anchors", "anchors": {"drawn": "random"}},
    "random_10": {"group": "anchors", "anchors": {"drawn": "random"}},
    "random_1": {"group": "anchors", "anchors": {"drawn": "random"}},
}


@pytest.fixture(scope="module")
def scores():
    rows = []
    for variant, ari, foscttm, anchors in (
        ("default", 0.9, 0.1, 1000),
        ("mlp", 0.5, 0.2, 1000),
        ("random_50", 0.89, 0.1, 500),
        ("random_10", 0.85, 0.12, 100),
        ("random_1", 0.4, 0.11, 10),
    ):
        for seed in (0, 1):
            values = {"ARI": ari + 0.01 * seed, "anchors": anchors}
            if variant.startswith("random"):
                values["FOSCTTM (unseen pairs)"] = foscttm
            group = VARIANTS[variant]["group"]
            rows += [("toy", variant, group, seed, metric, value) for metric, value in values.items()]
    # With the fewest anchors one seed could not be trained.
    table = pd.DataFrame(rows, columns=study_report.COLUMNS)
    failed = (table["variant"] == "random_1") & (table["seed"] == 1) & (table["metric"] != "anchors")
    return table[~failed]


def test_differences_are_paired_over_seeds(scores):
    found = study_report.differences(scores).set_index(["variant", "metric"])
    assert found.loc[("mlp", "ARI"), "difference"] == pytest.approx(-0.4)
    assert found.loc[("mlp", "ARI"), "difference_sd"] == pytest.approx(0)
    assert found.loc[("default", "ARI"), ["mean", "difference"]].tolist() == pytest.approx([0.905, 0])


def test_enough_anchors_keep_nine_tenths(scores):
    found = study_report.enough_anchors(scores, VARIANTS)
    found = found[found["drawn"] == "random"].set_index("metric")
    assert found["all"].tolist() == [1000, 1000]
    assert found.loc["ARI", "enough"] == 100
    # The FOSCTTM of ten anchors would do, but a seed failed there.
    assert found.loc["FOSCTTM (unseen pairs)", "enough"] == 100
    few = (scores["variant"] == "random_50") & (scores["metric"] == "ARI")
    worse = scores.assign(value=scores["value"].mask(few, 0.45))
    found = study_report.enough_anchors(worse, VARIANTS).set_index(["drawn", "metric"])["enough"]
    assert np.isnan(found["random", "ARI"])


def test_tables_and_figures(scores):
    text = study_report.markdown(scores, VARIANTS)
    assert "| mlp | 0.505 (-0.400 ± 0.000) |" in text
    assert "| default | 0.905 ± 0.007 |" in text
    assert "| toy | 1000 | random | 100 | 100 |  |" in text
    figure = study_report.anchors(scores, VARIANTS)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == len(study_report.CURVES)
    figure = study_report.changes(scores, VARIANTS)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["mlp"]
    (bars,) = figure.axes[0].containers
    assert bars.lines[0].get_xdata() == pytest.approx([-0.4])
