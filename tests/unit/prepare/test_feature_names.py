"""Features of slices that name genes otherwise: by symbols, by identifiers, or by both."""

import numpy as np
import pandas as pd
import pytest

from mosaic.errors import InputError
from mosaic.prepare import feature_names, inputs, read
from mosaic.prepare.feature_names import match_features

GENES = [f"gene{number}" for number in range(12)]
IDS = [f"ENSG{number:011d}" for number in range(12)]


def table(names, ids=None, symbols=None):
    made = {"gene_id": ids if ids is not None else "", "symbol": symbols if symbols is not None else ""}
    return pd.DataFrame(made, index=pd.Index(names))


def names_of(found, slice_name, given):
    """What the features of a slice are called after matching."""
    own = found.renamed[found.renamed["slice"] == slice_name]
    new = dict(zip(own["name_in_file"], own["feature"], strict=True))
    return [new.get(name, name) for name in given]


VERSIONED = [f"{name}.{number}" for number, name in enumerate(IDS)]
BY_SYMBOL, BY_BOTH, BY_ID, BY_ID_WITH_SYMBOL, BY_VERSION = (
    table(GENES),
    table(GENES, IDS),
    table(IDS),
    table(IDS, symbols=GENES),
    table(VERSIONED),
)


@pytest.mark.parametrize(
    ("first", "second", "called"),
    [
        (BY_BOTH, BY_ID, GENES),
        (BY_ID, BY_BOTH, IDS),
        (BY_SYMBOL, BY_ID_WITH_SYMBOL, GENES),
        (BY_ID_WITH_SYMBOL, BY_SYMBOL, IDS),
        (BY_BOTH, BY_VERSION, GENES),
        (BY_VERSION, BY_ID, VERSIONED),
        (BY_BOTH, table([name.upper() for name in GENES], VERSIONED), GENES),
        (BY_BOTH, BY_BOTH, GENES),
        (BY_SYMBOL, BY_ID, None),
    ],
)
def test_one_gene_has_one_name(first, second, called):
    found = match_features({"s1": first, "s2": second.iloc[::-1]}, "rna")
    assert found.listed["n_slices"].tolist() == ([1] * 24 if called is None else [2] * 12)
    assert names_of(found, "s1", first.index) == first.index.tolist()
    assert names_of(found, "s2", second.index) == (second.index.tolist() if called is None else called)


def test_each_slice_takes_the_names_of_a_reference_by_itself():
    known = feature_names.features_of_reference(pd.DataFrame(index=GENES[:2]), BY_BOTH.iloc[2:9][["gene_id"]])
    assert known["gene_id"].tolist() == ["", "", *IDS[2:9]]
    one, two = table([f"x{name}" for name in GENES], IDS), table(["xgene3", "xgene10", "gene11"])
    found = match_features({"s1": one, "s2": two}, "rna", known)
    assert names_of(found, "s1", one.index) == ["xgene0", "xgene1", *GENES[2:9], *one.index[9:]]
    # Only s1 says that xgene3 is gene3.
    assert names_of(found, "s2", two.index) == two.index.tolist()
    # The reference is no slice.
    assert set(",".join(found.listed["slices"]).split(",")) == {"s1", "s2"}
    assert len(found.listed) == 14
    assert found.listed.set_index("feature").loc["xgene10", "slices"] == "s1,s2"


def test_what_is_shared_is_listed():
    found = match_features({"s1": BY_BOTH, "s2": BY_ID.iloc[:3], "s3": table(["gene1", "other"])}, "rna")
    listed = found.listed.set_index("feature")
    assert listed.index.tolist()[:3] == ["gene1", "gene0", "gene2"]
    assert listed.loc["gene1"].tolist() == [IDS[1], 3, "s1,s2,s3"]
    assert listed.loc["gene2"].tolist() == [IDS[2], 2, "s1,s2"]
    assert listed.loc["gene5"].tolist() == [IDS[5], 1, "s1"]
    assert listed.loc["other"].tolist() == ["", 1, "s3"]
    assert len(listed) == 13


def test_the_third_slice_is_matched_by_what_the_second_told():
    old = table(["SEPT9"], [IDS[0]])
    found = match_features({"s1": table(["x"]), "s2": old, "s3": table(["SEPTIN9"], [IDS[0]])}, "rna")
    assert found.renamed.to_numpy().tolist() == [["s3", "SEPTIN9", "SEPT9"]]


def test_names_win_over_identifiers_and_a_slice_never_has_a_name_twice(caplog):
    one = table(["a", "b", "c"], [IDS[0], IDS[1], IDS[2]])
    # d is c by its identifier, but the slice has a c; a has another identifier; e and f share one.
    other = table(["a", "c", "d", "e", "f"], [IDS[9], "", IDS[2], IDS[1], IDS[1]])
    found = match_features({"s1": one, "s2": other}, "rna")
    assert found.renamed.empty
    assert "rna: 1 features of s2 have names of earlier slices and other identifiers" in caplog.text


def test_two_genes_of_one_symbol_stay_two():
    found = match_features({"s1": table(["x"], [IDS[0]], ["TBCE"]), "s2": table(["TBCE"], [IDS[1]])}, "rna")
    assert found.renamed.empty
    assert match_features({"s1": table(["x"], symbols=["TBCE"]), "s2": table(["TBCE"])}).renamed.shape == (1, 3)


def test_from_files_to_features_of_one_name(raw_slice, written, tmp_path):
    one, other = raw_slice(prefix="gene"), raw_slice(seed=1)
    one.var["gene_ids"] = IDS
    other.var_names = VERSIONED
    paths = {"s1": written(one, "1.h5ad"), "s2": written(other, "2.h5ad")}
    tables = {name: read.read_features(path, name, "rna") for name, path in paths.items()}
    pd.testing.assert_frame_equal(tables["s1"], read.read_features(one, "s1", "rna"))
    found = match_features(tables, "rna")
    found.renamed.to_csv(tmp_path / "renamed.tsv", sep="\t", index=False)
    renamed = feature_names.read_renamed(tmp_path / "renamed.tsv")
    slices = {name: read.read_slice(path, name, "rna") for name, path in paths.items()}
    second = feature_names.with_names(slices["s2"], renamed)
    assert second.var_names.tolist() == GENES
    assert second.var["gene_id"].tolist() == VERSIONED
    np.testing.assert_array_equal(second.layers["counts"].toarray(), other.X.toarray())
    assert feature_names.with_names(slices["s1"], renamed) is slices["s1"]
    # Without matching they share nothing, which is a fault.
    rows = [(name, "rna", str(path)) for name, path in paths.items()]
    assert inputs.survey(rows, {"rna": "rna"}, None, [])["features"].tolist() == [12, 12]
    other.var_names = [f"peak{number}" for number in range(12)]
    written(other, "2.h5ad")
    with pytest.raises(InputError, match=r"the slices share 0 of 12 features"):
        inputs.survey(rows, {"rna": "rna"}, None, [])
    with pytest.raises(InputError, match=r"does not have features that were matched: ENSG"):
        feature_names.with_names(read.read_slice(paths["s2"], "s2", "rna"), renamed)
