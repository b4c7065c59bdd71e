"""Matrices in blocks of rows, against the same in memory."""

import tracemalloc

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic import blocks

KEY = "layers/counts"


def matrix(n_rows, n_columns, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return sparse.csr_matrix(rng.poisson(0.7, (n_rows, n_columns)).astype(dtype))


@pytest.fixture
def stored(tmp_path):
    """Writer of a matrix as the layer of an h5ad, or as X if it is dense."""

    def write(values, name):
        path = tmp_path / f"{name}.h5ad"
        dense = isinstance(values, np.ndarray)
        adata = ad.AnnData(values) if dense else ad.AnnData(shape=values.shape, layers={"counts": values})
        adata.write_h5ad(path)
        return path, "X" if dense else KEY

    return write


def joined(tmp_path, sources, places, columns, n_columns):
    path = tmp_path / "joined.h5"
    with h5py.File(path, "w") as file:
        for block in blocks.stacked_blocks(sources, places, columns, n_columns):
            blocks.append_block(file, "X", block, blocks.n_values(sources), compression="lzf")
        return ad.io.read_elem(file["X"])


@pytest.mark.parametrize("most", [1, 60, 10**9])
@pytest.mark.parametrize("dense", [False, True])
def test_rows_of_several_files_in_any_order_with_columns_at_other_places(tmp_path, stored, monkeypatch, most, dense):
    monkeypatch.setattr(blocks, "BLOCK_VALUES", most)
    first, second = matrix(30, 6), matrix(20, 4, seed=1)
    columns = [np.array([0, 1, 2, 3, 4, 5]), np.array([4, -1, 0, 2])]
    wide = np.zeros((20, 6), np.float32)
    wide[:, [4, 0, 2]] = second.toarray()[:, [0, 2, 3]]
    sources = [stored(own.toarray() if dense else own, name) for own, name in ((first, "a"), (second, "b"))]
    rng = np.random.default_rng(0)
    places = rng.permutation([(0, row) for row in range(30)] + [(1, row) for row in range(5, 20)])
    found = joined(tmp_path, sources, places, columns, 6)
    assert isinstance(found, np.ndarray) == dense
    expected = np.array([(first.toarray(), wide)[source][row] for source, row in places])
    np.testing.assert_array_equal(found if dense else found.toarray(), expected)
    assert found.dtype == np.float32


def test_types_that_differ_become_one_that_holds_both(tmp_path, stored):
    sources = [stored(matrix(3, 2, dtype=np.float64) / 3, "a"), stored(matrix(3, 2), "b")]
    places = np.array([(source, row) for source in (1, 0) for row in range(3)])
    found = joined(tmp_path, sources, places, [np.arange(2)] * 2, 2)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(
        found.toarray(), np.vstack([matrix(3, 2).toarray(), matrix(3, 2, dtype=np.float64).toarray() / 3])
    )


def test_no_rows_are_a_matrix_without_rows(tmp_path, stored):
    found = joined(tmp_path, [stored(matrix(3, 2), "a")], np.empty((0, 2), dtype=int), [np.arange(2)], 2)
    assert found.shape == (0, 2)


def test_a_matrix_of_many_values_has_wide_pointers(tmp_path):
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        for most, name in ((2**31, "wide"), (2**31 - 1, "narrow")):
            for _ in range(2):
                blocks.append_block(file, name, matrix(4, 3), most)
        assert file["wide/indptr"].dtype == np.int64
        assert file["narrow/indptr"].dtype == np.int32
        for name in ("wide", "narrow"):
            np.testing.assert_array_equal(
                ad.io.read_elem(file[name]).toarray(), np.vstack([matrix(4, 3).toarray()] * 2)
            )


def test_blocks_of_a_file_are_its_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 21)
    values = matrix(17, 3)
    adata = ad.AnnData(values, layers={"counts": values * 2, "other": values})
    adata.obs["number"] = np.arange(17)
    adata.write_h5ad(tmp_path / "slice.h5ad")
    found = list(blocks.read_blocks(tmp_path / "slice.h5ad", "X", KEY, "layers/absent"))
    assert [own.n_obs for own in found] == [7, 7, 3]
    whole = ad.concat(found)
    assert list(whole.layers) == ["counts"]
    pd.testing.assert_frame_equal(whole.obs, adata.obs)
    assert (values != whole.X).nnz == 0
    assert (whole.layers["counts"] != values * 2).nnz == 0


def test_memory_does_not_grow_with_the_rows(tmp_path, stored, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 20_000)

    def peak(n_rows):
        sources = [stored(matrix(n_rows, 100), f"{n_rows}")]
        places = np.column_stack([np.zeros(n_rows, dtype=int), np.arange(n_rows)])
        values = blocks.n_values(sources)
        tracemalloc.start()
        with h5py.File(tmp_path / f"{n_rows}.h5", "w") as file:
            for block in blocks.stacked_blocks(sources, places, [np.arange(100)], 100):
                blocks.append_block(file, "X", block, values, compression="lzf")
            assert file["X/data"].size == values
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, values * 8

    few, _ = peak(1_000)
    many, size = peak(16_000)
    assert size > 6_000_000
    # The pointers of all rows, once for each of the two files.
    assert many < few + 16_000 * 8 * 4 < size / 4
