"""All files of a sheet at once: columns gathered from them, and their faults."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest

from mosaic import spots, store
from mosaic.errors import InputError
from mosaic.prepare import inputs, read

KINDS = {"rna": "rna", "adt": "protein"}


@pytest.fixture
def sheet(raw_slice, tmp_path):
    """Write slices, each with some columns of obs; the rows of their sheet."""

    def write(columns, change=lambda name, raw: raw):
        rows = []
        for name, own in columns.items():
            raw = raw_slice(n_spots=4)
            for column, values in own.items():
                raw.obs[column] = values
            slice_name, modality = name.split(".")
            change(name, raw).write_h5ad(tmp_path / f"{name}.h5ad")
            rows.append((slice_name, modality, str(tmp_path / f"{name}.h5ad")))
        return rows

    return write


def test_columns_of_all_files_with_missing_where_one_lacks_them(sheet, tmp_path, caplog):
    rows = sheet(
        {
            "s1.rna": {"domain": ["a", "a", "nan", "b"], "age": [1, 2, 3, 4], "batch": [1, 1, 2, 2]},
            "s1.adt": {"domain": ["a", "b", "c", "b"], "damaged": [True, False, True, False]},
            "s2.rna": {"age": [0.5, np.nan, 1.5, 2.5], "batch": ["x", "x", "y", "y"], "junk": [1, 2, 3, 4]},
        }
    )
    names = ["age", "batch", "damaged"]
    made = inputs.annotate(rows, "domain", names)
    assert made.index.tolist()[:5] == ["s1:BC000-1", "s1:BC001-1", "s1:BC002-1", "s1:BC003-1", "s2:BC000-1"]
    assert made.columns.tolist() == ["domain", *names]
    assert made["domain"].astype(object).fillna("-").tolist() == [*"aacb", *"----"]
    assert made["age"].fillna(-1).tolist() == [1, 2, 3, 4, 0.5, -1, 1.5, 2.5]
    assert made["batch"].tolist() == ["1", "1", "2", "2", "x", "x", "y", "y"]
    assert made["damaged"].isna().tolist() == [False] * 4 + [True] * 4
    assert made.dtypes.astype(str).to_dict() == {
        "domain": "category",
        "age": "float64",
        "batch": "category",
        "damaged": "boolean",
    }
    assert "obs['domain'] has text that means no true domain for 1 of 4 spots ('nan' in 1)" in caplog.text
    assert "obs['domain'] differs between the modalities of 1 spots" in caplog.text
    assert "obs['batch'] is numbers and text in some files: all of it becomes text" in caplog.text
    store.write(ad.AnnData(obs=made), tmp_path / "annotations.h5ad")
    pd.testing.assert_frame_equal(store.read(tmp_path / "annotations.h5ad").obs, made)
    md.MuData({"rna": ad.AnnData(obs=made)}).write_h5mu(tmp_path / "all.h5mu")
    assert md.read_h5mu(tmp_path / "all.h5mu")["rna"].obs["damaged"].dtype == "boolean"
    truth = spots.truth(tmp_path / "annotations.h5ad", made.index[[2, 7]], "domain")
    assert truth.fillna("-").tolist() == ["c", "-"]
    assert spots.truth(None, made.index, None) is None


def test_domains_in_several_spellings_are_told(sheet, caplog):
    rows = sheet({"s1.rna": {"domain": [1, 2, 3, 4]}, "s2.rna": {"domain": ["1.0", "2", "x y", "X y "]}})
    made = inputs.annotate(rows, "domain", [])
    assert made["domain"].tolist() == ["1", "2", "3", "4", "1.0", "2", "x y", "X y "]
    told = "obs['domain'] has domains that differ in capitals, blanks or .0 alone: '1' and '1.0', 'x y' and 'X y '."
    assert told in caplog.text
    caplog.clear()
    inputs.annotate(sheet({"s1.rna": {"domain": ["1.0", "1.1", "10", "a"]}}), "domain", [])
    assert not caplog.text


def test_a_column_that_no_file_has(sheet):
    rows = sheet({"s1.rna": {"domain": list("aabb")}, "s2.rna": {"layer": list("aabb")}})
    with pytest.raises(InputError, match=r"no file has obs\['truth'\]; columns there are: domain, layer\n"):
        inputs.annotate(rows, "truth", [])
    for look in (inputs.annotate, lambda rows, *named: inputs.survey(rows, KINDS, *named)):
        with pytest.raises(InputError, match=r"2 faults in the files of the sheet") as caught:
            look(rows, "truth", ["domain", "region"])
        assert all(f"no file has obs[{name!r}]" in str(caught.value) for name in ("truth", "region"))


def test_what_each_file_holds(sheet):
    rows = sheet({"s1.rna": {"domain": ["a", "b", None, "NA"]}, "s1.adt": {"in_tissue": [1, 1, 0, 1]}})
    table = inputs.survey(rows, KINDS, "domain", []).set_index("modality")
    assert table.loc["rna"].to_dict() == {
        "slice": "s1",
        "path": rows[0][2],
        "spots": 4,
        "features": 12,
        "values_in": "X",
        "in_tissue": 4,
        "spatial": "1 x 1",
        "um_per_unit": None,
        "image": "",
        "truth": 2,
    }
    assert table.loc["adt", ["in_tissue", "truth"]].tolist() == [3, 0]


def test_all_faults_of_all_files_in_the_words_of_the_rules(sheet, tmp_path):
    def change(name, raw):
        if name == "s1.rna":
            raw.X = raw.X.toarray() + 0.5
            raw.obsm["spatial"][1, 1] = np.nan
        elif name == "s1.adt":
            del raw.obsm["spatial"]
        elif name == "s2.rna":
            raw.obs["in_tissue"] = [1.0, 0.0, np.nan, 1.0]
        return raw

    rows = sheet({name: {} for name in ("s1.rna", "s1.adt", "s2.rna")}, change)
    (tmp_path / "text.h5ad").write_text("no file of mine")
    rows.append(("s3", "rna", str(tmp_path / "text.h5ad")))
    with pytest.raises(InputError) as caught:
        inputs.survey(rows, KINDS, None, [])
    text = str(caught.value)
    assert text.startswith("5 faults in the files of the sheet:\n  1. ")
    for slice_name, modality, path in rows:
        with pytest.raises(InputError) as alone:
            read.read_slice(path, slice_name, KINDS[modality])
        assert str(alone.value) in text
    assert "s1.rna.h5ad: X holds values that are no whole numbers" in text
    with pytest.raises(InputError, match="1 fault in the files of the sheet"):
        inputs.survey(rows[-1:], KINDS, None, [])


def test_what_files_do_not_share_is_a_fault_too(sheet):
    def change(name, raw):
        if name == "s1.adt":
            raw.obs_names = [f"other{number}" for number in range(raw.n_obs)]
            raw.obs["in_tissue"] = ["perhaps"] * raw.n_obs
        return raw

    with pytest.raises(InputError) as caught:
        inputs.survey(sheet({"s1.rna": {}, "s1.adt": {}}, change), KINDS, None, [])
    text = str(caught.value)
    assert text.startswith("2 faults in the files of the sheet")
    assert "slice s1: " in text
    assert "other0" in text
