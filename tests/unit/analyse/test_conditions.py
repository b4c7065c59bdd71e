"""Conditions: replicates as the sheet has them, p-values by independent counting, and no false alarm."""

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from mosaic.analyse import conditions

LEVELS = {f"s{number}": "old" if number < 4 else "young" for number in range(8)}


def simulated(seed: int, effect: float, n_spots: int = 200) -> pd.DataFrame:
    """Spots of eight slices; of three domains the last is ``effect`` times as large in the young ones."""
    random = np.random.default_rng(seed)
    tables = []
    for name, level in LEVELS.items():
        shares = np.array([5, 3, 2]) * random.lognormal(0, 0.2, 3)
        shares[2] *= effect if level == "young" else 1
        labels = random.choice(["a", "b", "c"], n_spots, p=shares / shares.sum())
        tables.append(pd.DataFrame({"slice": name, "domain": labels}))
    return pd.concat(tables)


def test_slices_are_replicates_and_the_first_level_is_the_reference():
    (contrast,) = conditions.contrasts(LEVELS)
    assert (contrast.level, contrast.reference, contrast.paired) == ("young", "old", False)
    assert contrast.n_replicates == (4, 4)
    assert contrast.note == "4 of young, 4 of old: no p-value of a permutation can be below 0.029."
    (turned,) = conditions.contrasts(LEVELS, reference="young")
    assert (turned.level, turned.reference) == ("old", "young")
    three = conditions.contrasts({**LEVELS, "s9": "fetal"})
    assert [(own.level, own.reference) for own in three] == [("young", "old"), ("fetal", "old")]


def test_slices_of_one_donor_are_one_replicate():
    donors = {f"s{number}": f"d{number // 2}" for number in range(8)}
    (contrast,) = conditions.contrasts(LEVELS, donors)
    assert contrast.n_replicates == (2, 2)
    crossed = {f"s{number}": f"d{number % 4}" for number in range(8)} | {"s9": "d9"}
    (contrast,) = conditions.contrasts({**LEVELS, "s9": "old"}, crossed)
    assert contrast.paired
    assert contrast.left_out == ["d9"]
    assert contrast.note.startswith("4 donors with both young and old: no p-value of a permutation can be below 0.12")


def test_a_slice_without_a_donor_is_none_of_that_name():
    levels = {"1": "old", "2": "old", "3": "young", "4": "young"}
    (found,) = conditions.contrasts(levels, {"3": "1", "4": "2"})
    assert not found.paired
    assert found.slices["replicate"].tolist() == ["slice 1", "slice 2", "1", "2"]
    assert found.n_replicates == (2, 2)


def test_one_replicate_is_told_and_not_tested():
    levels = {"s0": "old", "s1": "old", "s4": "young"}
    (contrast,) = conditions.contrasts(levels)
    assert not contrast.enough
    assert "not tested, as each needs 2 replicates. The spots of a slice are no replicates" in contrast.note
    table = conditions.compare_composition(simulated(0, 9.0), contrast)
    assert table[["p_value", "p_adj"]].isna().all(axis=None)
    assert table.set_index("domain").loc["c", "difference"] > 1
    # Two slices of one donor are one replicate.
    (contrast,) = conditions.contrasts(LEVELS, dict.fromkeys(list(LEVELS)[:4], "d0"))
    assert not contrast.enough
    assert conditions.compare_composition(simulated(0, 9.0), contrast)["p_adj"].isna().all()


@pytest.mark.parametrize("paired", [False, True])
def test_p_values_are_those_of_counting_permutations(paired):
    donors = {f"s{number}": f"d{number % 4}" for number in range(8)} if paired else None
    (contrast,) = conditions.contrasts(LEVELS, donors)
    values = np.array([3.0, 1.0, 4.0, 1.5, 5.0, 9.0, 2.0, 6.0])
    table = conditions.compare(pd.DataFrame({"x": values}, list(LEVELS)), contrast)
    old, young = values[:4], values[4:]
    observed = young.mean() - old.mean()
    if paired:
        turned = [np.mean(np.array(signs) * (young - old)) for signs in product([1, -1], repeat=4)]
    else:
        turned = [2 * values[list(chosen)].sum() / 4 - values.sum() / 4 for chosen in combinations(range(8), 4)]
    p_value = 2 * np.mean(np.array(turned) >= observed - 1e-9)
    assert table.loc["x", ["difference", "mean_level"]].tolist() == pytest.approx([observed, young.mean()])
    assert table.loc["x", "p_value"] == pytest.approx(p_value)
    assert len(turned) == (16 if paired else 70)


def test_missing_values_leave_replicates_out_and_too_few_are_not_tested():
    (contrast,) = conditions.contrasts(LEVELS)
    values = pd.DataFrame(1.0, list(LEVELS), ["x", "y"])
    values.loc[["s0", "s1", "s2"], "x"] = np.nan
    values.loc["s4", "y"] = np.nan
    table = conditions.compare(values, contrast)
    assert table[["n_level", "n_reference"]].to_numpy().tolist() == [[4, 1], [3, 4]]
    assert np.isnan(table.loc["x", "p_value"])
    assert table.loc["y", "p_value"] == 1


def test_a_known_difference_of_composition_is_found():
    (contrast,) = conditions.contrasts(LEVELS)
    table = conditions.compare_composition(simulated(1, 4.0), contrast).set_index("domain")
    assert table.loc["c", "difference"] > 0.7
    assert table.loc["c", "p_value"] == pytest.approx(2 / 70)


def test_without_a_difference_there_are_no_more_alarms_than_the_level_says():
    (contrast,) = conditions.contrasts({f"s{number}": "old" if number % 2 else "young" for number in range(8)})
    alarms = [
        conditions.compare_composition(simulated(seed, 1.0), contrast)["p_adj"].min() < 0.05 for seed in range(20)
    ]
    assert sum(alarms) <= 1


def test_shares_and_ratios_are_those_of_the_spots():
    spots = pd.DataFrame({"slice": ["a"] * 4 + ["b"] * 2, "domain": list("xxxyyy")})
    spots["domain"] = pd.Categorical(spots["domain"], ["y", "x"])
    table = conditions.shares(spots, {"a": "old"})
    assert table["domain"].tolist() == ["y", "x"]
    assert table["share"].tolist() == [0.25, 0.75]
    half = np.log(3.5 / 1.5) / 2
    assert table["clr"].tolist() == pytest.approx([-half, half])
    described = conditions.described(conditions.contrasts(LEVELS))
    assert described.loc[0, ["n_level", "n_reference", "paired"]].tolist() == [4, 4, False]
