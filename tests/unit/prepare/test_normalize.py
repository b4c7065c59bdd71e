"""Normalisation against the formulas written out."""

import anndata as ad
import muon as mu
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from mosaic.errors import InputError
from mosaic.prepare import normalize, read


@pytest.fixture
def adata(raw_slice, tmp_path):
    raw_slice().write_h5ad(tmp_path / "raw.h5ad")
    return read.read_slice(tmp_path / "raw.h5ad", "s1", "rna")


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


def test_the_bits_are_those_of_scanpy_and_muon(adata):
    """With counts that are no whole numbers, too, as a correction of ambient counts leaves them."""
    adata.layers["counts"].data *= np.random.default_rng(0).uniform(0.3, 2, adata.layers["counts"].nnz).astype("f4")
    expected = {name: ad.AnnData(adata.layers["counts"].copy()) for name in ("log", "tfidf")}
    sc.pp.normalize_total(expected["log"], target_sum=1e4)
    sc.pp.log1p(expected["log"])
    sc.pp.normalize_total(expected["tfidf"], target_sum=1)
    expected["clr"] = ad.AnnData(adata.layers["counts"].toarray())
    mu.prot.pp.clr(expected["clr"], axis=1)
    for name, own in expected.items():
        done = normalize.normalize_slice(adata, name)
        assert done.X.dtype == own.X.dtype
        np.testing.assert_array_equal(values(done), values(own), err_msg=name)


@pytest.mark.parametrize("normalization", ["log", "tfidf", "clr", "none"])
def test_a_slice_whose_spots_are_all_alike_is_an_error(adata, normalization):
    adata.layers["counts"] = sparse.csr_matrix(np.tile(np.arange(12, dtype=np.float32), (30, 1)))
    with pytest.raises(InputError, match="slice s1: no feature varies: all 30 spots have the same values"):
        normalize.normalize_slice(adata, normalization)
    adata.layers["counts"][4, 4] = 9
    normalize.normalize_slice(adata, normalization)


@pytest.mark.parametrize("normalization", ["log", "tfidf"])
def test_spots_that_differ_in_depth_alone_are_alike_where_depth_is_divided_out(adata, normalization):
    depth = np.arange(1, 31)[:, None]
    adata.layers["counts"] = sparse.csr_matrix((depth * np.arange(12)).astype(np.float32))
    with pytest.raises(InputError, match="no feature varies"):
        normalize.normalize_slice(adata, normalization)


def test_ready_features_without_variance_are_an_error(adata):
    features = ad.AnnData(np.full((30, 4), 0.3, dtype=np.float32), obs=adata.obs)
    with pytest.raises(InputError, match="no feature varies"):
        normalize.normalize_slice(features, "none")


def test_a_spot_without_counts_is_an_error(adata):
    adata.layers["counts"][3] = 0
    with pytest.raises(InputError, match="slice s1: 1 spots have no counts"):
        normalize.normalize_slice(adata, "log")
    with pytest.raises(InputError, match="unknown normalization 'sctransform'"):
        normalize.normalize_slice(adata, "sctransform")
