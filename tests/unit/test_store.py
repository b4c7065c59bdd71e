"""The workflow's own files and tables: whole, or damaged and told."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from mosaic import files, store
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


def test_a_table_that_was_cut_is_damaged(tmp_path):
    path, names = tmp_path / "domains.tsv", pd.Index(["s1:a", "s1:b", "s1:c"])
    path.write_text("spot\tslice\tdomain\ns1:b\ts1\t1\ns1:a\ts1\t0\ns1:c\ts1\t2\n")
    assert store.read_table(path, names)["domain"].tolist() == [0, 1, 2]
    path.write_text(path.read_text()[:30])
    with pytest.raises(InputError, match=r"domains.tsv: is damaged: it lacks 2 of 3 spots\n.*delete this file"):
        store.read_table(path, names)
    path.write_text("")
    with pytest.raises(InputError, match=r"domains.tsv: is damaged \(.*\)\n.*delete this file"):
        store.read_table(path, names)


@pytest.mark.parametrize("names", [["NA", "nan", "", "<b>", "a\nb", "'\"", "x" * 300], ["001", "1e3", "2"]])
def test_names_in_a_table_stay_names(tmp_path, names):
    table = pd.DataFrame({"pearson": [0.5, np.nan, *range(len(names) - 2)]}, index=pd.Index(names, name="feature"))
    files.write_table(table, tmp_path / "features.tsv", index_label="feature")
    pd.testing.assert_frame_equal(store.read_table(tmp_path / "features.tsv", index="feature"), table)


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
