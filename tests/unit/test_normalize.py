"""Normalisation against the formulas written out."""

import numpy as np
import pytest

from mosaic import normalize, spots
from mosaic.errors import InputError


@pytest.fixture
def adata(raw_slice, tmp_path):
    raw_slice().write_h5ad(tmp_path / "raw.h5ad")
    return spots.read_slice(tmp_path / "raw.h5ad", "s1", "rna")


def values(adata):
    return adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X


def test_formulas(adata):
    counts = adata.layers["counts"].toarray().astype(float)
    share = counts / counts.sum(axis=1, keepdims=True)
    geometric = np.exp(np.log1p(counts).mean(axis=1, keepdims=True))
    for name, expected in {
        "log": np.log1p(1e4 * share),
        "tfidf": share,
        "clr": np.log1p(counts / geometric),
        "none": counts,
    }.items():
        done = normalize.normalize_slice(adata, name)
        np.testing.assert_allclose(values(done), expected, rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(done.layers["counts"].toarray(), counts)
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts)


def test_a_spot_without_counts_is_an_error(adata):
    adata.layers["counts"][3] = 0
    with pytest.raises(InputError, match="slice s1: 1 spots have no counts"):
        normalize.normalize_slice(adata, "log")
    with pytest.raises(InputError, match="unknown normalization 'sctransform'"):
        normalize.normalize_slice(adata, "sctransform")
