"""iLISI within the domains that slices share."""

import numpy as np
import pandas as pd
import pytest

from mosaic import mixing


def test_a_domain_of_one_slice_alone_counts_for_nothing():
    """Two slices mix in domain a; b is of one slice alone: overall they mix less, within what they share fully."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(200, 3))
    alone = rng.normal(size=(200, 3)) + 50
    X = np.vstack([shared, alone])
    slices = np.array(["s1", "s2"] * 100 + ["s1"] * 200)
    labels = pd.Series(["a"] * 200 + ["b"] * 200)
    assert mixing.ilisi_within(X, slices, labels) == pytest.approx(mixing.ilisi(X[:200], slices[:200]))
    assert mixing.ilisi_within(X, slices, labels) > 0.8 > 0.6 > mixing.ilisi(X, slices)
    # Nine spots of the other slice are too few to count.
    few = slices.copy()
    few[200:209] = "s2"
    assert mixing.ilisi_within(X, few, labels) == mixing.ilisi_within(X, slices, labels)
    assert np.isnan(mixing.ilisi_within(X[200:], slices[200:], labels[200:].reset_index(drop=True)))


def test_domains_mixed_up_do_not_count_as_mixed():
    """Slices that lie on each other domain on other domain: even overall, apart within each domain."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(200, 3)), rng.normal(size=(200, 3)) + 50])
    slices = np.array(["s1", "s2"] * 200)
    labels = pd.Series(np.where((slices == "s1") == (np.arange(400) < 200), "a", "b"))
    assert mixing.ilisi(X, slices) > 0.8
    assert mixing.ilisi_within(X, slices, labels) < 0.05


def test_two_sets_mix_whatever_their_sizes():
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(150, 3)), rng.normal(size=(2000, 3))
    assert mixing.ilisi_between(few, many) > 0.8  # of all 2,150 spots, few would have few of their own about them
    assert mixing.ilisi_between(few, many + 20) < 0.01
