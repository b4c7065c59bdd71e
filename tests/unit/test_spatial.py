"""How dense spots lie, and which lie nowhere near the tissue."""

import numpy as np
import pytest

from mosaic import spatial

GRID = np.column_stack(np.divmod(np.arange(144), 12)).astype(float) * 55


def test_pitch_is_that_of_the_grid_whatever_lies_twice():
    assert spatial.median_spot_distance(GRID) == 55
    assert (
        spatial.median_spot_distance(np.vstack([GRID, GRID[:30]]))
        == spatial.median_spot_distance(np.vstack([GRID, GRID]))
        == 55
    )
    assert spatial.median_spot_distance(GRID[:1]) == spatial.median_spot_distance(np.zeros((5, 2))) == 1


@pytest.mark.parametrize("far", [[(1e9, 0)], [(-1e6, -1e6), (-1e6, -1e6), (7e4, 100)]])
def test_spots_far_from_all_others_are_astray(far):
    assert np.flatnonzero(spatial.astray(np.vstack([far, GRID]))).tolist() == list(range(len(far)))


def test_no_spot_of_a_tissue_is_astray():
    rng = np.random.default_rng(0)
    pieces = np.vstack([GRID[:20] + np.array((4000, 0)), GRID])  # of a section that broke
    strip = np.column_stack([np.arange(500) * 55, np.zeros(500)])
    for coordinates in (GRID, pieces, strip, rng.normal(size=(2000, 2)), GRID[:1], GRID[:2], np.zeros((9, 2))):
        assert not spatial.astray(coordinates).any()
