"""Batch correction: slices that differ in everything come together, and domains that a slice lacks do not."""

import logging

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.neighbors import KNeighborsClassifier

from mosaic import mixing
from mosaic.errors import InputError
from mosaic.prepare import batch_correction

SIDE = 24


def tissue(shares, seed=0):
    """A slice of SIDE x SIDE spots in stripes of domains 0, 1, 2, as wide as their shares, and its coordinates."""
    places = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2).astype(float)
    borders = np.cumsum(shares) / np.sum(shares) * SIDE
    return np.searchsorted(borders, places[:, 0] + 0.5), places


def donors(shares, *, batch, n_features=60, seed=0):
    """Features of slices whose every feature is off by a number of the slice's own, of standard deviation ``batch``."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(3, n_features)) * np.repeat([2.0, 0.0], [12, n_features - 12])
    domains, places, features = [], [], []
    for share in shares:
        domain, own = tissue(share)
        domains.append(domain)
        places.append(own)
        features.append(means[domain] + rng.normal(size=(len(domain), n_features)) + rng.normal(0, batch, n_features))
    slices = np.repeat([f"s{number}" for number in range(len(shares))], SIDE**2)
    return np.vstack(features).astype(np.float32), slices, np.vstack(places), np.concatenate(domains)


def transfer(features, slices, domains):
    """How often a spot's nearest of the other slices are of its domain, where these have it."""
    right = []
    for name in np.unique(slices):
        own = slices == name
        model = KNeighborsClassifier(15).fit(features[~own], domains[~own])
        own &= np.isin(domains, domains[~own])
        right.append(model.score(features[own], domains[own]))
    return np.mean(right)


ALIKE = [(1, 1, 1), (1, 1, 1)]
UNLIKE = [(1, 1, 1), (0, 1, 2)]


def test_harmony_converges_where_its_defaults_stop(monkeypatch):
    X, slices, *_ = donors(ALIKE, batch=0.5)
    mixed, rounds, _ = batch_correction.harmony(X, slices, seed=0)
    stopped, few, _ = batch_correction.harmony(X, slices, seed=0, epsilon=1e-2, max_iter=10)
    assert rounds > few
    assert mixing.ilisi(mixed, slices) > mixing.ilisi(stopped, slices) > mixing.ilisi(X, slices)


def test_auto_takes_the_shift_where_harmony_does_nothing():
    X, slices, places, domains = donors(ALIKE, batch=3.0)
    harmony = batch_correction.harmony(X, slices, seed=0).features
    assert mixing.ilisi(harmony, slices) < 0.05
    done = batch_correction.correct(X, slices, places, "auto", seed=0)
    assert done.record["method"] == "pair_shift"
    assert done.record["pairs_shift"] > done.record["pairs_harmony"]
    assert done.record["ilisi_before"] < 0.05 < 0.5 < done.record["ilisi_after"]
    assert mixing.ilisi(done.features, slices) == pytest.approx(done.record["ilisi_after"])
    assert done.record["moved"] > 0.5
    assert transfer(done.features, slices, domains) > 0.95


def test_a_domain_that_a_slice_lacks_is_not_mixed_away():
    X, slices, places, domains = donors(UNLIKE, batch=3.0)
    done = batch_correction.correct(X, slices, places, "auto", seed=0)
    centred = np.vstack([X[slices == name] - X[slices == name].mean(axis=0) for name in ("s0", "s1")])
    # Means of slices of unlike composition are biology as well: centred, domains meet others.
    assert transfer(done.features, slices, domains) > 0.99 > 0.02 + transfer(centred, slices, domains)
    assert mixing.ilisi_within(done.features, slices, pd.Series(domains)) > 0.5


def test_auto_leaves_harmony_where_it_works():
    X, slices, places, _ = donors(ALIKE, batch=0.3)
    done = batch_correction.correct(X, slices, places, "auto", seed=0)
    assert done.record["method"] == "harmony"
    np.testing.assert_array_equal(done.features, batch_correction.harmony(X, slices, seed=0)[0])


def test_the_shift_is_the_slices_own():
    X, slices, places, _ = donors([(1, 1, 1), (1, 2, 1), (0, 1, 2)], batch=2.0)
    rng = np.random.default_rng(0)
    offset = rng.normal(0, 2, size=(3, X.shape[1]))
    tiles = batch_correction.tiles_of(slices, places)
    first = batch_correction.slice_offsets(X, tiles)
    second = batch_correction.slice_offsets(X + np.repeat(offset, SIDE**2, axis=0), tiles)
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-6)
    # What is added to a slice comes back, up to the constant that no slice can tell.
    added = offset - offset.mean(axis=0)
    assert np.abs(second - first - added).max() < 0.35 * np.abs(added).max()


def test_spots_move_where_slices_differ_in_one_domain_alone():
    """After the shift of the whole, what only one domain is off by is left."""
    X, slices, places, domains = donors(ALIKE, batch=0.0)
    X = X + 2.0 * ((slices == "s1") & (domains == 0))[:, None] * np.eye(X.shape[1])[:6].sum(axis=0)
    tiles = batch_correction.tiles_of(slices, places)
    moves = batch_correction.spot_moves(X, tiles)

    def gap(features, domain):
        means = [features[(slices == name) & (domains == domain)].mean(axis=0) for name in ("s0", "s1")]
        return np.linalg.norm(means[0] - means[1])

    assert gap(X + moves, 0) < 0.4 * gap(X, 0)
    assert all(gap(X + moves, domain) < gap(X, domain) + 0.3 for domain in (1, 2))


def test_supported_pairs_are_none_by_chance():
    X, slices, places, _ = donors(ALIKE, batch=0.0)
    tiles = batch_correction.tiles_of(slices, places)
    shuffled = np.random.default_rng(0).permutation(X)
    assert abs(batch_correction.supported_pairs(shuffled, tiles)) < 0.1 * batch_correction.supported_pairs(X, tiles)


def test_large_slices_are_searched_in_compact_tiles():
    X, slices, places, domains = donors(ALIKE, batch=3.0)
    settings = batch_correction.PairShiftSettings(most_tiles=200)
    tiles = batch_correction.tiles_of(slices, places, settings)
    assert 100 < len(tiles.slices) / 2 <= 200
    mean = tiles.mean(places)
    np.testing.assert_allclose(mean[0], places[tiles.of_spot == 0].mean(axis=0))
    assert np.linalg.norm(mean[tiles.of_spot] - places, axis=1).max() < 4
    done = batch_correction.correct(X, slices, places, "auto", seed=0, pair_shift=settings)
    assert done.record["method"] == "pair_shift"
    assert transfer(done.features, slices, domains) > 0.95


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_loadings_of_the_variation_within_slices(kind):
    X, slices, *_ = donors(UNLIKE, batch=3.0)
    centred = np.vstack([X[slices == name] - X[slices == name].mean(axis=0) for name in ("s0", "s1")])
    expected = np.linalg.svd(centred, full_matrices=False)[2][:5].T
    found = batch_correction.within_slices(kind(X), slices, 5)
    np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=0)), 1, atol=1e-3)
    np.testing.assert_array_equal(found, batch_correction.within_slices(kind(X), slices, 5))


def test_options_of_harmony_reach_it():
    X, slices, places, _ = donors(ALIKE, batch=0.5)
    plain = batch_correction.correct(X, slices, places, {"harmony": {}}, seed=0)
    np.testing.assert_array_equal(
        plain.features, batch_correction.correct(X, slices, places, "harmony", seed=0).features
    )
    for option in ({"theta": 0.0}, {"lamb": 10.0}, {"sigma": 0.3}, {"nclust": 3}, {"max_iter": 1}):
        other = batch_correction.correct(X, slices, places, {"harmony": option}, seed=0)
        assert np.abs(other.features - plain.features).max() > 1e-3
    assert batch_correction.correct(X, slices, places, {"harmony": {"max_iter": 1}}, seed=0).record["rounds"] == 1


def test_a_correction_that_leaves_slices_apart_warns(caplog):
    X, slices, places, _ = donors(ALIKE, batch=3.0)
    with caplog.at_level(logging.WARNING):
        batch_correction.correct(X, slices, places, "harmony", seed=0, what="rna")
    assert "rna: slices lie apart after batch correction (iLISI 0.0" in caplog.text
    assert "compare batch_correction auto" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        batch_correction.correct(X, slices, places, "auto", seed=0, what="rna")
    assert "rna: batch correction by pair shift" in caplog.text
    assert "lie apart" not in caplog.text


def test_a_small_slice_is_judged_by_its_own_spots(caplog):
    rng = np.random.default_rng(0)
    X, places = rng.normal(size=(1560, 10)), rng.uniform(size=(1560, 2))
    # Mixed with a slice 77 times as large: iLISI can't be more than 0.03.
    slices = np.repeat(["s1", "s2"], [1540, 20])
    record = batch_correction.correct(X, slices, places, "harmony", seed=0).record
    assert (record["ilisi_after"] < batch_correction.APART, record["apart"]) == (True, False)
    assert "lie apart" not in caplog.text
    # Two slices mix, and the third lies elsewhere.
    slices = np.repeat(["s1", "s2", "s3"], [750, 750, 60])
    X[slices == "s3", :5] += 30
    for method in ("none", {"harmony": {"lamb": 1e6}}):
        record = batch_correction.correct(X, slices, places, method, seed=0).record
        assert (record["ilisi_after"] > 0.3, record["apart"]) == (True, True)
    assert "where 1 is evenly mixed; apart from all others: s3)" in caplog.text


def test_slices_without_a_supported_pair(monkeypatch, caplog):
    X, slices, places, _ = donors(ALIKE, batch=1.0)
    monkeypatch.setattr(batch_correction, "tissue_support", lambda pairs, first, second: np.zeros(len(pairs)))
    with pytest.raises(InputError, match=r"share no pairs .*\n.*set batch_correction to harmony"):
        batch_correction.correct(X, slices, places, "pair_shift", seed=0)
    with caplog.at_level(logging.INFO):
        done = batch_correction.correct(X, slices, places, "auto", seed=0)
    assert done.record["method"] == "harmony"
    assert "no supported pairs, so Harmony is taken" in caplog.text


def test_tiny_slices():
    rng = np.random.default_rng(0)
    X, slices = rng.normal(size=(10, 4)).astype(np.float32), np.repeat(["s1", "s2"], 5)
    done = batch_correction.correct(X, slices, rng.normal(size=(10, 2)), "auto", seed=0)
    assert np.isfinite(done.features).all()


def test_none_leaves_features():
    rng = np.random.default_rng(0)
    X, slices = rng.normal(size=(40, 4)).astype(np.float32), np.repeat(["s1", "s2"], 20)
    done = batch_correction.correct(X, slices, rng.normal(size=(40, 2)), "none", seed=0)
    np.testing.assert_array_equal(done.features, X)
    assert done.record["moved"] == 0
