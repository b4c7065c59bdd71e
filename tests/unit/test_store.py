"""The workflow's own files: whole, or damaged and told."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from mosaic import store
from mosaic.errors import InputError


def test_layers_may_stay_behind(raw_slice, written):
    raw = raw_slice()
    raw.layers["other"] = raw.X.copy()
    path = written(raw)
    assert list(store.read(path).layers) == ["other"]
    without = store.read(path, layers=False)
    assert not list(without.layers)
    np.testing.assert_array_equal(without.X.toarray(), raw.X.toarray())
    pd.testing.assert_frame_equal(without.obs, raw.obs)


@pytest.mark.parametrize("content", [b"", b"spot,gene\n", b"\x89HDF\r\n\x1a\n truncated"])
def test_a_damaged_file_is_told(tmp_path, content):
    path = tmp_path / "slice.h5ad"
    path.write_bytes(content)
    with pytest.raises(InputError, match="delete this file and run again"):
        store.read(path)


def test_interrupted_write_leaves_nothing(raw_slice, tmp_path, monkeypatch):
    def disk_full(self, path, **kwargs):
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ad.AnnData, "write_h5ad", disk_full)
    with pytest.raises(OSError, match="No space left"):
        store.write(raw_slice(), tmp_path / "slice.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_spots_and_features_are_read_without_the_matrices(raw_slice, tmp_path):
    first, second = raw_slice(), raw_slice(prefix="h")
    second.var_names = [*first.var_names[:3], *second.var_names[3:]]
    first.uns["mosaic_domain_colors"] = np.array(["#000000"], dtype=object)
    paths = [tmp_path / "first.h5ad", tmp_path / "second.h5ad"]
    for adata, path in zip((first, second), paths, strict=True):
        adata.write_h5ad(path)
    found = store.read_spots(paths[0])
    pd.testing.assert_frame_equal(found.obs, first.obs)
    np.testing.assert_array_equal(found.obsm["spatial"], first.obsm["spatial"])
    assert list(found.uns["mosaic_domain_colors"]) == ["#000000"]
    assert found.n_vars == 0
    assert list(store.read_features(*paths)) == [*first.var_names, *second.var_names[3:]]
