"""Stacking, pairing and naming of spots."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from mosaic import embedding, spots, store
from mosaic.errors import InputError
from mosaic.prepare import read

COLUMNS = {
    "whole": [1, 2],
    "floating": [0.5, np.nan],
    "nullable whole": pd.array([3, None], dtype="Int64"),
    "yes or no": [True, False],
    "nullable yes or no": pd.array([True, None], dtype="boolean"),
    "text": ["x", "y"],
    "text with missing": ["x", None],
    "categories": pd.Categorical(["u", None]),
}


@pytest.mark.parametrize("second", [*COLUMNS, None])
@pytest.mark.parametrize("first", COLUMNS)
def test_a_column_of_different_types_is_stacked_and_written(raw_slice, written, tmp_path, caplog, first, second):
    slices = []
    for name, kind in (("s1", first), ("s2", second)):
        raw = raw_slice(n_spots=2)
        if kind:
            raw.obs["x"] = COLUMNS[kind]
        slices.append(read.read_slice(written(raw, f"{name}.h5ad"), name, "rna", keep_obs=["x"]))
    store.write(spots.stack(slices, "rna"), tmp_path / "stacked.h5ad")
    column = store.read(tmp_path / "stacked.h5ad").obs["x"]

    def kind_of(name):
        for kind in ("yes or no", "text", "categories"):
            if kind in name:
                return kind.replace("categories", "text")
        return "numbers"

    kinds = {kind_of(name) for name in (first, second) if name}
    given = [value for name in (first, second) for value in (COLUMNS[name] if name else [None, None])]
    assert column.isna().tolist() == [value is None or value is pd.NA or value != value for value in given]
    assert ("all of it becomes text" in caplog.text) == (len(kinds) > 1)
    known = column.dropna().tolist()
    if kinds == {"numbers"}:
        assert known == [value for value, lost in zip(given, column.isna(), strict=True) if not lost]
    elif kinds == {"yes or no"}:
        assert str(column.dtype) in ("bool", "boolean")
    else:
        expected = [value for value, lost in zip(given, column.isna(), strict=True) if not lost]
        assert known == list(map(str, expected))


def stacked_obs(**slices):
    """An obs as of a stacked modality, from slice=barcodes."""
    rows = [(name, barcode) for name, barcodes in slices.items() for barcode in barcodes]
    table = pd.DataFrame(rows, columns=["slice", "barcode"], index=[f"{name}:{barcode}" for name, barcode in rows])
    return table.astype({"slice": "category"})


def test_pairing_goes_by_barcode_not_by_row():
    obs = {"rna": stacked_obs(s1=["a", "b", "c"], s2=["a", "b"]), "adt": stacked_obs(s1=["c", "d", "a"])}
    pairs = spots.paired(obs)
    assert list(pairs) == ["s1"]
    assert pairs["s1"].loc["s1:a"].to_dict() == {"rna": 0, "adt": 2}
    assert pairs["s1"].loc["s1:c"].to_dict() == {"rna": 2, "adt": 0}
    assert pairs["s1"].index.tolist() == ["s1:a", "s1:c"]


def test_pairing_keeps_spots_of_two_out_of_three():
    obs = {"x": stacked_obs(s1=["a", "b"]), "y": stacked_obs(s1=["a", "b"]), "z": stacked_obs(s1=["b"])}
    assert spots.paired(obs)["s1"].loc["s1:a"].to_dict() == {"x": 0, "y": 0, "z": -1}


def test_modalities_without_shared_barcodes():
    with pytest.raises(InputError, match=r"slice s1: rna and adt share no barcode: s1:a against s1:A"):
        spots.paired({"rna": stacked_obs(s1=["a"]), "adt": stacked_obs(s1=["A"])})


def test_union_has_each_spot_once():
    obs = {"rna": stacked_obs(s2=["a"], s1=["a", "b"]), "adt": stacked_obs(s1=["b", "c"], s3=["a"])}
    table = spots.union(obs)
    assert table.index.tolist() == ["s1:a", "s1:b", "s1:c", "s2:a", "s3:a"]
    assert table["modalities"].tolist() == ["rna", "rna+adt", "adt", "rna", "adt"]


def test_stack_keeps_shared_features_and_says_which_share_none(raw_slice, written):
    first = read.read_slice(written(raw_slice(n_features=12)), "s1", "rna")
    second = read.read_slice(written(raw_slice(n_features=9, seed=1)[:, ::-1].copy()), "s2", "rna")
    both = spots.stack([first, second], "rna")
    assert both.shape == (60, 9)
    assert both.obs["in_tissue"].dtype == bool
    np.testing.assert_array_equal(both.layers["counts"][30:, 0].toarray(), second[:, "g0"].layers["counts"].toarray())
    other = read.read_slice(written(raw_slice(prefix="ENSG")), "s3", "rna")
    with pytest.raises(InputError, match=r"modality rna: the slices share no features: s1 has g0.*s3 has ENSG0"):
        spots.stack([first, other], "rna")


def test_counts_are_read_stacked(raw_slice, written, tmp_path):
    slices = {}
    for seed, (name, kind) in enumerate([("s1", "rna"), ("s1", "protein"), ("s2", "rna")]):
        slices[name, kind] = read.read_slice(written(raw_slice(seed=seed)), name, kind)
        store.write(slices[name, kind], tmp_path / f"{name}.{kind}.h5ad")
    found = spots.read_stacked([tmp_path / f"{name}.{kind}.h5ad" for name, kind in slices])
    assert list(found) == ["rna", "protein"]
    expected = spots.stack([slices["s1", "rna"], slices["s2", "rna"]], "rna")
    pd.testing.assert_frame_equal(found["rna"].obs, expected.obs)
    assert (found["rna"].layers["counts"] != expected.layers["counts"]).nnz == 0
    assert found["protein"].obs_names.equals(slices["s1", "protein"].obs_names)


def test_annotation_takes_the_first_value_there_is():
    rna, adt = stacked_obs(s1=["a", "b"]), stacked_obs(s1=["b", "c"])
    rna["domain"], adt["domain"] = ["x", None], ["y", "z"]
    names = pd.Index(["s1:c", "s1:b", "s1:a", "s1:d"])
    values = spots.annotation({"rna": rna, "adt": adt}, names, "domain")
    assert values.fillna("none").tolist() == ["z", "y", "x", "none"]
    with pytest.raises(InputError, match=r"no file has obs\['truth'\]; columns there are: domain"):
        spots.annotation({"rna": rna}, names, "truth")


def test_collected_embedding_is_the_mean_over_modalities():
    def modality(obs, places):
        return ad.AnnData(np.zeros((len(obs), 1), np.float32), obs=obs, obsm={"spatial": np.asarray(places, float)})

    graphs = {
        "rna": modality(stacked_obs(s1=["a", "b"]), [[0, 0], [1, 1]]),
        "adt": modality(stacked_obs(s1=["b"], s3=["a"]), [[1, 1], [2, 2]]),
    }
    latent = {"rna": np.array([[1.0, 0], [1, 0]]), "adt": np.array([[0.0, 1], [0, 1]])}
    mdata = embedding.collect_embeddings(graphs, latent)
    table = pd.DataFrame(mdata.obsm[embedding.LATENT], index=mdata.obs_names)
    np.testing.assert_allclose(table.loc["s1:a"], [1, 0])
    np.testing.assert_allclose(table.loc["s1:b"], [0.5, 0.5])
    np.testing.assert_allclose(table.loc["s3:a"], [0, 1])
    np.testing.assert_allclose(mdata.obsm["spatial"][mdata.obs_names.get_loc("s3:a")], [2, 2])
    np.testing.assert_allclose(mdata["adt"]["s3:a"].obsm[embedding.LATENT], [[0, 1]])
