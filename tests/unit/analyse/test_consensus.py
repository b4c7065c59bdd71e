"""Seeds that vote on domains."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from mosaic.analyse.consensus import consensus


def table(labels, **columns):
    names = pd.Index([f"s1:{number}" for number in range(len(labels))], name="spot")
    unknown = {"agreement": np.nan, "confidence": np.nan}
    return pd.DataFrame({"slice": "s1", "domain": labels} | unknown | columns, index=names)


def test_names_do_not_matter_and_the_majority_decides():
    truth = np.repeat([0, 1, 2], 20)
    rng = np.random.default_rng(0)
    seeds, wrong = {}, np.zeros(60, dtype=int)
    for seed in range(5):
        labels = truth.copy()
        astray = rng.choice(60, 6, replace=False)
        labels[astray] = (labels[astray] + 1) % 3
        wrong[astray] += 1
        seeds[seed] = table(rng.permutation(3)[labels])
    found = consensus(seeds)
    assert adjusted_rand_score(truth[wrong <= 2], found.spots["domain"][wrong <= 2]) == 1
    np.testing.assert_allclose(found.spots["confidence"][wrong <= 2], (5 - wrong[wrong <= 2]) / 5)
    assert len(found.agreement) == 10
    row = found.agreement.iloc[3]
    expected = adjusted_rand_score(seeds[row["seed"]]["domain"], seeds[row["other"]]["domain"])
    assert row["ARI"] == pytest.approx(expected)


def test_a_domain_without_counterpart_has_no_vote():
    whole, split = [0] * 10 + [1] * 10, [0] * 10 + [1] * 6 + [2] * 4
    found = consensus({0: table(whole), 1: table(whole), 2: table(split)})
    assert found.spots["domain"].tolist() == whole
    np.testing.assert_allclose(found.spots["confidence"], [1] * 16 + [2 / 3] * 4)


def test_a_surer_seed_weighs_more_and_a_domain_of_one_seed_alone_is_named(caplog):
    whole, other = [0] * 10 + [1] * 10 + [2] * 10, [0] * 10 + [1] * 6 + [0] * 4 + [2] * 10
    found = consensus(
        {0: table(whole, probability=0.9), 1: table(other, probability=0.6), 2: table(other, probability=0.2)}
    )
    assert found.spots["domain"].tolist() == whole
    assert found.support[["n_spots", "n_seeds"]].to_numpy().tolist() == [[10, 3], [10, 3], [10, 3]]
    split = [0] * 10 + [1] * 10 + [1] * 7 + [2] * 3
    found = consensus(
        {4: table(whole, probability=1.0), 5: table(split, probability=0.4), 6: table(split, probability=0.4)}
    )
    assert found.support.iloc[2].tolist() == [2, 10, 1, "4"]
    assert "consensus domain 2 exists in seed 4 alone" in caplog.text


def test_in_doubt_the_seed_that_agrees_best_decides():
    first, second = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1]
    found = consensus({7: table(first), 8: table(second)})
    assert found.spots["domain"].tolist() == first
    assert found.spots["confidence"].tolist() == [1, 1, 0.5, 1, 1, 1]


def test_seeds_that_agree_are_as_sure_as_each_of_them():
    first = table([0, 0, 1], confidence=[0.9, 0.4, 0.8], agreement=[1.0, 0.5, 1.0])
    second = table([0, 0, 0], confidence=[0.7, 0.2, 0.6], agreement=[1.0, np.nan, 1.0])
    found = consensus({0: first, 1: second}).spots
    assert found["domain"].tolist() == [0, 0, 1]
    np.testing.assert_allclose(found["confidence"], [0.8, 0.3, 0.4])
    assert found["calibrated"].tolist() == [True, False, True]


def test_one_seed_has_its_own_confidence():
    found = consensus({0: table([0, 1, 1], confidence=[0.9, 0.8, 0.7], agreement=[np.nan, 1, 1])})
    assert found.spots["confidence"].tolist() == [0.9, 0.8, 0.7]
    assert found.spots["calibrated"].tolist() == [False, True, True]
    assert found.agreement.empty
    assert "confidence" not in consensus({0: table([0, 1, 1])}).spots
