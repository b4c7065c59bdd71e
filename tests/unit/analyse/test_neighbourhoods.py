"""Neighbouring domains: pairs by independent counting, and differences between conditions."""

import numpy as np
import pandas as pd
import pytest

from mosaic.analyse import conditions, neighbourhoods


def grid(side: int = 12) -> np.ndarray:
    return np.column_stack(np.divmod(np.arange(side**2), side)).astype(float)


def test_domains_apart_are_depleted_and_coherent_ones_enriched():
    places = grid()
    halves = np.where(places[:, 0] < 6, "left", "right")
    table = neighbourhoods.neighbourhood_enrichment(places, halves).set_index(["domain", "neighbour"])
    assert list(table.index) == [("left", "left"), ("left", "right"), ("right", "right")]
    assert table.loc[("left", "right"), "z"] < -5
    assert table.loc[("left", "left"), "z"] > 5
    assert table["n_pairs"].sum() == pytest.approx(table["expected"].sum(), abs=1e-6)


def test_expected_pairs_are_those_of_a_random_arrangement():
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(["a", "b", "c"], 48))
    table = neighbourhoods.neighbourhood_enrichment(grid(), labels).set_index(["domain", "neighbour"])
    n_pairs = table["n_pairs"].sum()
    assert table.loc[("a", "b"), "expected"] == pytest.approx(n_pairs * 2 * 48 * 48 / (144 * 143), rel=0.02)
    assert table.loc[("a", "a"), "expected"] == pytest.approx(n_pairs * 48 * 47 / (144 * 143), rel=0.02)
    assert table["z"].abs().max() < 3.5


def test_small_domains_are_left_out_and_categories_keep_their_order():
    labels = pd.Series(["x"] * 130 + ["few"] * 5 + ["b"] * 9).astype(pd.CategoricalDtype(["x", "few", "b", "none"]))
    table = neighbourhoods.neighbourhood_enrichment(grid(), labels, n_permutations=5)
    assert table[["domain", "neighbour"]].to_numpy().tolist() == [["x", "x"]]
    labels[labels == "few"] = "b"
    table = neighbourhoods.neighbourhood_enrichment(grid(), labels, n_permutations=5)
    assert table["neighbour"].tolist() == ["x", "b", "b"]


def test_a_domain_that_wraps_another_in_one_condition_is_found_and_nothing_else():
    levels = {f"s{number}": "old" if number < 4 else "young" for number in range(8)}
    random, places, tables = np.random.default_rng(0), grid(20), []
    for name, level in levels.items():
        labels = np.where(random.random(400) < 0.3, "c", "d").astype(object)
        middle = np.linalg.norm(places - 9.5 - random.normal(0, 0.5, 2), axis=1)
        labels[middle < 4] = "a"
        if level == "young":
            labels[(middle >= 4) & (middle < 6)] = "b"
        else:
            labels[places[:, 0] < 4] = "b"
        tables.append(pd.DataFrame({"slice": name, "domain": labels, "x": places[:, 0], "y": places[:, 1]}))
    spots = pd.concat(tables, ignore_index=True)
    table = neighbourhoods.by_slice(spots[["x", "y"]].to_numpy(), spots["domain"], spots["slice"])
    (contrast,) = conditions.contrasts(levels)
    found = neighbourhoods.compare_neighbours(table, contrast).set_index(["domain", "neighbour"])
    assert found.loc[("a", "b"), "difference"] > 1
    assert found.loc[("a", "b"), "p_value"] == pytest.approx(2 / 70)
    assert found.loc[("c", "d"), "p_value"] > 0.05
    assert (found["n_level"] == 4).all()
