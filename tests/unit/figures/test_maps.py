"""What is shown of imputed features; the drawing itself is tested with all figures in test_style.py."""

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.figures import maps


def test_the_most_variable_features_are_those_of_log_counts():
    counts = sparse.csr_matrix(np.array([[4.0, 0, 1], [6, 0, 1], [0, 8, 1], [0, 8, 1]]))
    measured = ad.AnnData(counts, var=pd.DataFrame(index=["a", "b", "c"]), layers={"counts": counts})
    assert maps.most_variable(measured, 2) == ["b", "a"]


def test_held_out_notes_are_of_the_features_asked_for():
    plain = ad.AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["a", "b"]))
    assert maps.held_out_notes(plain, ["a"]) is None
