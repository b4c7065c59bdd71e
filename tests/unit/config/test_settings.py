"""The configuration and the sheet: one test per fault, and what they become when complete."""

import copy
import math
import re
from pathlib import Path

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st

from mosaic.config import defaults, settings
from mosaic.config.clusterers import CLUSTERERS, going_by, taking
from mosaic.config.readers import READERS, Reader
from mosaic.config.schema import read_yaml
from mosaic.errors import InputError

SCHEMAS = Path(__file__).parents[3] / "workflow" / "schemas"
CONFIG_SCHEMA, SHEET_SCHEMA = (
    yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text()) for name in ("config", "slices")
)
ADT = {"kind": "protein"}
MOSAIC = [("s1", "rna"), ("s1", "adt"), ("s2", "rna"), ("s3", "adt")]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a config beside a sheet whose files exist."""
    monkeypatch.chdir(tmp_path)

    def run(rows=MOSAIC, *, text=None, config=None, **changed):
        if text is None:
            text = "slice\tmodality\tpath\n"
            for slice_name, modality in rows:
                (tmp_path / f"{slice_name}.{modality}.h5ad").touch()
                text += f"{slice_name}\t{modality}\t{slice_name}.{modality}.h5ad\n"
        (tmp_path / "slices.tsv").write_bytes(text.encode() if isinstance(text, str) else text)
        if config is None:
            config = {
                "slices": "slices.tsv",
                "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
                "cluster": {"n_domains": 5},
            } | changed
        return settings.load(config, CONFIG_SCHEMA, SHEET_SCHEMA)

    return run


def faults(load, *args, **kwargs):
    with pytest.raises(InputError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


def test_defaults_follow_kind_recipe_and_user(load):
    config, _ = load(modalities={"rna": {"kind": "rna", "n_comps": 20}, "adt": {"kind": "protein"}})
    assert config["modalities"]["rna"] == defaults.KIND_DEFAULTS["rna"] | {"kind": "rna", "n_comps": 20}
    assert config["modalities"]["adt"]["normalization"] == "clr"
    assert config["qc"]["adt"]["min_counts"] == 1
    assert config["train"]["T"] == 0.01
    assert config["seeds"] == [1234]
    rows = [("s1", "atac"), ("s2", "atac")]
    atac = {"atac": {"kind": "epigenome"}}
    assert load(rows, modalities=atac)[0]["modalities"]["atac"]["feature_selection"] == "prevalence"
    published, _ = load(rows, modalities=atac, recipe="published")
    assert published["modalities"]["atac"]["feature_selection"] == "seurat_v3"
    assert published["modalities"]["atac"]["drop_first"] == "after_zscore"


def test_recipe_published_replaces_defaults_alone(load):
    ours, published = load()[0], load(recipe="published")[0]
    changed = {
        (section, key): (ours[section][key], value)
        for section in ("graph", "encoder", "train", "cluster", "impute")
        for key, value in published[section].items()
        if ours[section][key] != value
    }
    assert changed == {
        ("graph", "symmetric"): (True, False),
        ("graph", "weight_mnn"): (True, False),
        ("train", "reconstruct"): ("all", "queries"),
        ("impute", "method"): ("matching", "nearest"),
        ("cluster", "method"): ("tissue", "mixture"),
        ("impute", "n_neighbors"): (50, 10),
    }
    own, _ = load(recipe="published", impute={"n_neighbors": 7}, graph={"w_g": 3})
    assert own["impute"] == published["impute"] | {"n_neighbors": 7}
    assert own["graph"] == published["graph"] | {"w_g": 3}


def test_design_of_a_mosaic(load):
    _, sheet = load()
    assert sheet.slices == ["s1", "s2", "s3"]
    assert sheet.modalities == ["rna", "adt"]
    assert sheet.bridges == ["s1"]
    assert sheet.missing == [("s2", "adt"), ("s3", "rna")]
    assert sheet.slices_of("adt") == ["s1", "s3"]
    assert sheet.path("s3", "adt") == "s3.adt.h5ad"


def test_links_need_a_bridge_where_there_is_one(load):
    rows = [("s1", "rna"), ("s1", "adt"), ("s2", "rna"), ("s3", "rna"), ("s4", "adt"), ("s4", "rna")]
    _, sheet = load(rows)
    assert sheet.mnn_pairs("rna") == [("s1", "s2"), ("s1", "s3"), ("s1", "s4"), ("s2", "s4"), ("s3", "s4")]
    horizontal = load([("s1", "rna"), ("s2", "rna"), ("s3", "rna")], modalities={"rna": {"kind": "rna"}})[1]
    assert horizontal.mnn_pairs("rna") == [("s1", "s2"), ("s1", "s3"), ("s2", "s3")]


def test_sheet_with_bom_crlf_and_blank_lines(load):
    load()
    text = "\ufeffslice\tmodality\tpath\r\n\r\ns1\trna\ts1.rna.h5ad\r\n"
    assert [row[:3] for row in load(text=text)[1]] == [("s1", "rna", "s1.rna.h5ad")]


@pytest.mark.parametrize(
    ("changed", "where", "problem", "hint"),
    [
        ({"tain": {}}, "config key tain", "unknown key", "did you mean train?"),
        ({"train": {"learning_rate": 1}}, "config key train.learning_rate", "unknown key", "known here: lr"),
        ({"train": {"lr": "1e-3"}}, "config key train.lr", "'1e-3' is text", "write 0.001"),
        ({"train": {"lr": -1}}, "config key train.lr", "-1", "Learning rate"),
        ({"train": None}, "config key train", "null is not a mapping, as in {key: value}", "Training of the encoders"),
        ({"train": {"device": "gpu"}}, "config key train.device", "'gpu' is not known", "auto, cpu, cuda"),
        (
            {"modalities": {"rna": {}, "adt": {"kind": "protein"}}},
            "config key modalities.rna.kind",
            "is missing",
            "one of: rna, protein",
        ),
        (
            {"modalities": {"rna/x": {"kind": "rna"}, "rna": {"kind": "rna"}, "adt": {"kind": "protein"}}},
            "config key modalities",
            "'rna/x'",
            "letters",
        ),
        ({"qc": {"rna": {"min_counts": "many"}}}, "config key qc.rna.min_counts", "no threshold", "{mads: 3}"),
        ({"qc": {"rn": {}}}, "config key qc.rn", "is no modality", "rna, adt"),
        ({"cluster": {}}, "config key cluster.n_domains", "tissue needs it", "you expect"),
        ({"cluster": {"n_domains": "5"}}, "config key cluster.n_domains", "'5' is not valid", "2 or more, or auto"),
        ({"cluster": {"n_domains": 1}}, "config key cluster.n_domains", "1 is not valid", "2 or more, or auto"),
        (
            {"cluster": {"n_domains": "auto", "n_domains_range": [7, 3]}},
            "config key cluster.n_domains_range",
            "7 is not below 3",
            "[2, 15]",
        ),
        (
            {"cluster": {"n_domains": "auto", "method": "leiden", "resolution": 1.0}},
            "config key cluster.n_domains",
            f"auto is for {going_by('n_domains')}",
            "leave it out",
        ),
        (
            {"cluster": {"n_domains": 5, "method": "leiden", "resolution": 1.0}},
            "config key cluster.n_domains",
            f"5 is for {going_by('n_domains')}; leiden goes by resolution",
            "set it to null",
        ),
        (
            {"cluster": {"n_domains": 5, "resolution": 1.0}},
            "config key cluster.resolution",
            f"1.0 is for {going_by('resolution')}; tissue goes by n_domains",
            "leave it out",
        ),
        (
            {"cluster": {"n_domains": 5, "spatial_weight": 0.2}},
            "config key cluster.spatial_weight",
            f"0.2 is for {taking('spatial_weight')}, and tissue would not use it",
            "set it to 0",
        ),
        ({"cluster": {"method": "leiden"}}, "config key cluster.resolution", "leiden needs it", "1.0 is a start"),
        ({"seeds": 1}, "config key seeds", "1 is not a list, as in [a, b]", "Each seed"),
        ({"graph": {"symmetric": "yes"}}, "config key graph.symmetric", "'yes' is not true or false", "undirected"),
        ({"truth": True}, "config key truth", "true is not text or null", "The obs column"),
        ({"seeds": [1, 1]}, "config key seeds", "non-unique", "Each seed"),
        (
            {"truth": "barcode"},
            "config key truth",
            "'barcode' is a column of the workflow's own",
            "mosaic_domain, _index",
        ),
        ({"truth": "mosaic_domain"}, "config key truth", "of the workflow's own", "rename the column"),
        ({"keep_obs": ["x", "modalities"]}, "config key keep_obs.1", "of the workflow's own", "rename the column"),
        ({"keep_obs": ["domain_spamosaic_1234"]}, "config key keep_obs.0", "of the workflow's own", "rename"),
        ({"truth": "consensus_spamosaic"}, "config key truth", "of the workflow's own", "confidence_spamosaic"),
        ({"truth": "/away/x"}, "config key truth", "HDF5 takes '/away/x' for another place", "without slashes"),
        ({"truth": "slice/x"}, "config key truth", "HDF5 takes 'slice/x' for another place", "without slashes"),
        ({"truth": "a/b", "keep_obs": ["a"]}, "config key truth", "HDF5 takes 'a/b'", "without slashes"),
        ({"keep_obs": ["<b>"]}, "config key keep_obs.0", "'<b>' is not valid", "in one line"),
        ({"methods": ["magic"]}, "config key methods.0", "'magic' is not known", "spamosaic"),
        (
            {"modalities": {"rna": {"kind": "rna", "normalization": "clr"}, "adt": {"kind": "protein"}}},
            "config key modalities.rna.normalization",
            "does not go with kind rna",
            "log, none",
        ),
        (
            {"modalities": {"rna": {"kind": "rna", "normalization": "none"}, "adt": {"kind": "protein"}}},
            "config key modalities.rna.feature_selection",
            "log-normalised",
            "seurat_v3",
        ),
        (
            {"modalities": {"rna": {"kind": "rna", "drop_first": "before_zscore"}, "adt": {"kind": "protein"}}},
            "config key modalities.rna.drop_first",
            "the kind is rna",
            "leave it out",
        ),
        (
            {
                "modalities": {
                    "rna": {"kind": "rna", "normalization": "none", "feature_selection": "all", "reduction": "lsi"},
                    "adt": {"kind": "protein"},
                }
            },
            "config key modalities.rna.reduction",
            "normalization is none",
            "set reduction to pca",
        ),
        ({"um_per_unit": {"s1": 1, "s9": 2}}, "config key um_per_unit.s9", "is no slice of the sheet", "by its name"),
        ({"um_per_unit": {"s1": 0}}, "config key um_per_unit", "is not valid", "one per slice by its name"),
        (
            {"export": {"spatialdata": True}, "interpreters": {"spatialdata": "nowhere/python"}},
            "config key interpreters.spatialdata",
            "is no program",
            "make .venv-spatialdata",
        ),
        (
            {"modalities": {"rna": {"kind": "rna", "features": "union", "reduction": "lsi"}, "adt": ADT}},
            "config key modalities.rna.features",
            "here log and lsi",
            "leave it out",
        ),
        (
            {"modalities": {"rna": {"kind": "epigenome", "features": "union"}, "adt": ADT}},
            "config key modalities.rna.features",
            "'union' does not go with kind epigenome",
            "one of: shared",
        ),
        ({"figures": {"image_opacity": 2}}, "config key figures.image_opacity", "2 is greater", "maximum"),
        ({"graph": {"intra_knns": 0}}, "config key graph.intra_knns", "0 is not valid", "one per slice by its name"),
        (
            {"graph": {"intra_knns": {"s1": 10, "s2": 6, "s3": 6, "s4": 2}}},
            "config key graph.intra_knns.s4",
            "is no slice",
            "one for each of s1, s2, s3",
        ),
        ({"graph": {"intra_knns": {"s1": 10, "s2": 6}}}, "config key graph.intra_knns.s3", "is missing", "one number"),
        ({"slices": "nowhere.tsv"}, "config key slices", "can't be read", "relative to the working directory"),
        ({"slices": "."}, "config key slices", "can't be read (Is a directory)", "relative to the working directory"),
        ({"train": {"lr": math.nan}}, "config key train.lr", "nan is not a number", "Learning rate"),
        ({"train": {"lr": "1e999"}}, "config key train.lr", "'1e999' is not a number", "Learning rate"),
        ({"train": {"n_epochs": 5.0}}, "config key train.n_epochs", "5.0 is not a whole number or null", "Epochs"),
        ({"qc": {"rna": {"min_counts": math.inf}}}, "config key qc.rna.min_counts", "inf is no threshold", "number"),
        ({"seeds": [True]}, "config key seeds.0", "true is not a whole number", "from 0"),
        ({"truth": "<b>"}, "config key truth", "'<b>' is not valid", "without < > { and }"),
        ({"truth": "{seed}"}, "config key truth", "'{seed}' is not valid", "without < > { and }"),
        ({"truth": "slice"}, "config key truth", "of the workflow's own", "rename the column"),
        ({"truth": "domain_spamosaic_1234"}, "config key truth", "of the workflow's own", "rename the column"),
        ({"train\u00a0": {}}, r"config key 'train\xa0'", "unknown key", "did you mean train?"),
        ({"train": {"lr ": 1}}, "config key train.'lr '", "unknown key", "did you mean lr?"),
        ({"truth": "a\n"}, "config key truth", r"'a\n' is not valid", "without < > { and }"),
        *(
            ({"truth": f"a{end}.. include:: b"}, "config key truth", "b' is not valid", "in one line")
            for end in ("\x85", "\u2028", "\u2029")  # Python splits lines at these, and docutils with it
        ),
        (
            {"graph": {"intra_knns": {"s1": 10, "s2": 6, "s3": 6, None: 2}}},
            "config key graph.intra_knns.None",
            "is no slice",
            "one for each of s1, s2, s3",
        ),
        *(
            (
                {"modalities": {name: {"kind": "rna"}, "rna": {"kind": "rna"}, "adt": {"kind": "protein"}}},
                "config key modalities",
                problem,
                "begins with a letter",
            )
            for name, problem in ((1, "1 is not text"), ("a\n", r"'a\n' is"), ("a" * 101, "aa… is not valid"))
        ),
    ],
)
def test_config_fault(load, changed, where, problem, hint):
    text = faults(load, **changed)
    assert text.startswith("1 fault in the configuration:\n  1. " + where), text
    assert problem in text
    assert hint in text


@pytest.mark.parametrize(
    ("text", "where", "problem", "hint"),
    [
        ("", "slices.tsv", "the sheet is empty", "slice, modality, path"),
        ("slice\tmodality\tpath\n", "slices.tsv", "no rows", "one row per slice"),
        ("slice,modality,path\n", "slices.tsv, line 1", "the columns are slice,modality,path", "tabs"),
        ("slice\tslice\tpath\n", "slices.tsv, line 1", "slice, slice, path", "once each"),
        ("slice\tmodality\tpath\ns1\trna\n", "slices.tsv, line 2", "2 cells instead of 3", "tabs"),
        ("slice\tmodality\tpath\n../s1\trna\ts1.rna.h5ad\n", "slices.tsv, line 2", "slice '../s1' is not", "letters"),
        ("slice\tmodality\tpath\ns1\trns\ts1.rna.h5ad\n", "slices.tsv, line 2", "'rns' is not in", "mean rna?"),
        ("slice\tmodality\tpath\ns1\trna\tgone.h5ad\n", "slices.tsv, line 2", "gone.h5ad is not there", "relative"),
        ("slice\tmodality\tpath\ns1\trna\t.\n", "slices.tsv, line 2", ". is a folder", "h5ad"),
        (b"slice\tmodality\tpath\n\xff\xfe", "config key slices", "can't be read", "UTF-8"),
        ("slice\tmodality\tpath\n".encode("utf-16"), "config key slices", "can't be read", "UTF-8"),
        ("slice\tmodality\tpath\t\n", "slices.tsv, line 1", "column (no name) is not valid", "begins with a letter"),
        ("slice\tmodality\tpath\ta\ta\n", "slices.tsv, line 1", "slice, modality, path, a, a", "once each"),
        ("slice\tmodality\tpath\ta/b\n", "slices.tsv, line 1", "column a/b is not valid", "begins with a letter"),
        ("slice\tmodality\u00a0\tpath \n", "slices.tsv, line 1", r"slice, 'modality\xa0', 'path '", "once each"),
        (
            "slice\tmodality\tpath\ns1\u200b\trna\ts1.rna.h5ad\n",
            "slices.tsv, line 2",
            r"slice 's1\u200b' is",
            "letters",
        ),
        ("slice\tmodality\tpath\ns1\trna\tgone.h5ad \n", "slices.tsv, line 2", "'gone.h5ad ' is not there", "relative"),
        (
            "slice\tmodality\tpath\tage\ns1\trna\ts1.rna.h5ad\t<5\n",
            "slices.tsv, line 2",
            "age '<5' is not",
            "without <",
        ),
        (
            "slice\tmodality\tpath\tstate\ns1\trna\ts1.rna.h5ad\tcontrol \n",
            "slices.tsv, line 2",
            "state 'control ' is not",
            "without a blank",
        ),
        (
            "slice\tmodality\tpath\tPositions\ns1\trna\ts1.rna.h5ad\tp.csv\n",
            "slices.tsv, line 1",
            "column Positions would only describe the slices",
            "write positions",
        ),
        ("slice\tmodality\tpath\tslice_\ns1\trna\ts1.rna.h5ad\n", "slices.tsv, line 2", "3 cells instead of 4", "tabs"),
        (
            "slice\tmodality\tpath\tdonor\ns1\trna\ts1.rna.h5ad\tA\ns1\tadt\ts1.adt.h5ad\tB\n",
            "slices.tsv, line 3",
            "donor of slice s1 is 'B', and 'A' in line 2",
            "one value",
        ),
        (
            "slice\tmodality\tpath\tmosaic_domain\ns1\trna\ts1.rna.h5ad\tA\n",
            "slices.tsv, column mosaic_domain",
            "of the workflow's own",
            "another name",
        ),
        ("slice\tmodality\tpath\n\ns1\trna\ts1.rna.h5ad\t\n", "slices.tsv, line 3", "4 cells", "tabs"),
        ("slice\tmodality\tpath\ns1,rna,s1.rna.h5ad\n", "slices.tsv, line 2", "1 cell instead of 3", "tabs"),
        ('slice\tmodality\tpath\n"s1\trna\ts1.rna.h5ad\n', "slices.tsv, line 2", "can't be read", "close it"),
        (f"slice\tmodality\tpath\ns1\trna\t{'x' * 200000}\n", "slices.tsv, line 2", "field limit", "tabs"),
        (f"slice\tmodality\tpath\ns1\trna\t{'x' * 5000}\n", "slices.tsv, line 2", "xxx is not there", "relative"),
        ("slice\tmodality\tpath\ns1\trna\ta\u2028b\n", "slices.tsv, line 2", r"'a\u2028b' is not there", "relative"),
        (f"slice\tmodality\tpath\n{'s' * 101}\trna\ts1.rna.h5ad\n", "slices.tsv, line 2", "is not valid", "100"),
        (
            "slice\tmodality\tpath\ns1\trna\ts1.rna.h5ad\ns1\trna\ts2.rna.h5ad\n",
            "slices.tsv, line 3",
            "there already, in line 2",
            "one row",
        ),
        (
            "slice\tmodality\tpath\ns1\trna\ts1.rna.h5ad\ns2\trna\ts1.rna.h5ad\n",
            "slices.tsv, line 3",
            "the same file as in line 2",
            "its own file",
        ),
        *(
            (
                f"slice\tmodality\tpath\ns1\trna\ts1.rna.h5ad\ns2\trna\t{other}\n",
                "slices.tsv, line 3",
                f"{other} is the same file as in line 2, s1.rna.h5ad",
                "its own file",
            )
            for other in ("./s1.rna.h5ad", "link.h5ad", "folder/../s1.rna.h5ad")
        ),
        (
            "slice\tmodality\tpath\ns1\trna\ts1.rna.h5ad\ns3\tadt\ts3.adt.h5ad\n",
            "slices.tsv",
            "no chain of bridge slices joins rna to adt",
            "add a slice",
        ),
    ],
)
def test_sheet_fault(load, tmp_path, text, where, problem, hint):
    load()  # the files that the sheets above name
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.h5ad").symlink_to("s1.rna.h5ad")
    found = faults(load, text=text)
    assert found.startswith("1 fault in the configuration:\n  1. " + where), found
    assert problem in found
    assert hint in found


def test_sheet_with_comments_and_further_columns(load):
    load()
    text = (
        "# my slices\nslice\tdonor\tmodality\tpath\tage\n#s0\tA\trna\ts0.rna.h5ad\t7\n"
        "s1\tA\trna\ts1.rna.h5ad\t\ns1\t\tadt\ts1.adt.h5ad\t007\ns2\t\trna\ts2.rna.h5ad\t\n"
    )
    sheet = load(text=text)[1]
    rows = (("s1", "rna", "s1.rna.h5ad"), ("s1", "adt", "s1.adt.h5ad"), ("s2", "rna", "s2.rna.h5ad"))
    assert tuple(row[:3] for row in sheet) == rows
    assert sheet.columns == {"donor": {"s1": "A"}, "age": {"s1": "007"}}
    assert load()[1].columns == {}
    assert "column age: is named by truth, too" in faults(load, text=text, truth="age")
    assert "column donor: is named by keep_obs.0, too" in faults(load, text=text, keep_obs=["donor"])


def test_a_slice_in_two_spellings_is_a_fault(load):
    rows = [*MOSAIC, ("S2", "adt")]
    assert "slices s2 and S2 differ in upper and lower case alone, and share no modality: s2 has rna" in faults(
        load, rows
    )
    assert "S2" in load([*MOSAIC, ("S2", "rna")])[1].slices


def test_a_path_that_was_not_measured_is_none(load):
    with pytest.raises(InputError, match=r"slice s2 did not measure adt\n    Hint: it measured rna"):
        load()[1].path("s2", "adt")


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("train: {T: 1}\nqc: {}\ntrain: {lr: 1}\n", "line 3, key train", "is there already, in line 1"),
        ("train:\n  lr: 1\n  T: 1\n  lr: 1\n", "line 4, key train.lr", "in line 2"),
        ("a:\n- b: 1\n  'b': 2\n", "line 3, key a.0.b", "in line 2"),
        ('{"seeds": [1],\n\t"seeds": [2]}', "line 2, key seeds", "in line 1"),
        ("a: {b: 1\nc: 2\n", "line 2, column 2", "is no YAML (while parsing a flow mapping"),
        ("a:\n\tb: 1\n", "line 2, column 1", "is no YAML (while scanning for the next token"),
        (b"a: \xff\n", "config.yaml", "can't be read"),
        (None, "config.yaml", "can't be read (No such file"),
    ],
)
def test_yaml_that_is_broken_or_says_a_thing_twice(tmp_path, text, where, problem):
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    found = str(caught.value)
    assert where in found
    assert problem in found
    assert str(path) in found
    assert "\n    Hint: " in found


def test_yaml_that_is_sound(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    # The same names in different places, an anchor that is used twice, and one key laid over a merged one.
    path.write_text("a: &a {b: 1, c: &c [1]}\nd: {<<: *a, b: 2}\ne: *a\n1: x\n'1': y\n")
    assert read_yaml(path) == {
        "a": {"b": 1, "c": [1]},
        "d": {"b": 2, "c": [1]},
        "e": {"b": 1, "c": [1]},
        1: "x",
        "1": "y",
    }
    path.write_text('{\n\t"a": 1}')
    assert read_yaml(path) == {"a": 1}
    path.write_text("&a {b: *a}")
    assert read_yaml("config.yaml").keys() == {"b"}
    path.write_text("# nothing\n")
    assert read_yaml(path) is None


def test_spatialdata_needs_an_environment_and_names_that_differ(load, tmp_path):
    rows = [("s1", "rna"), ("S1", "rna"), ("s1", "adt")]
    given = {"slices": "slices.tsv", "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}}
    given |= {"cluster": {"n_domains": 5}}
    load(rows)  # writes the sheet
    for with_conda, count in ((False, 2), (True, 1)):
        with pytest.raises(InputError) as caught:
            settings.load(given | {"export": {"spatialdata": True}}, CONFIG_SCHEMA, SHEET_SCHEMA, with_conda=with_conda)
        assert str(caught.value).startswith(f"{count} fault")
        assert "SpatialData can't hold s1 and S1" in str(caught.value)
        assert ("make .venv-spatialdata" in str(caught.value)) != with_conda


def test_command_line_gives_numbers_where_the_schema_wants_them():
    # On the right what Snakemake's BaseLoader makes of --config.
    read = settings.from_command_line(
        {
            "seeds": ["1", "2"],
            "cluster": {"n_domains": "4", "n_domains_range": ["2", "6"], "method": "mixture", "resolution": "null"},
            "graph": {"intra_knns": {"1": "10"}, "symmetric": "false", "radius": "2.5"},
            "qc": {"rna": {"min_counts": "100", "max_mito_percent": {"mads": "3"}, "mito_prefix": "1"}},
            "modalities": {"rna": {"kind": "rna", "n_top_features": "null"}},
            "check_files": "false",
            "truth": "1",
            "um_per_unit": 0.5,
        },
        CONFIG_SCHEMA,
    )
    assert read == {
        "seeds": [1, 2],
        "cluster": {"n_domains": 4, "n_domains_range": [2, 6], "method": "mixture", "resolution": None},
        "graph": {"intra_knns": {"1": 10}, "symmetric": False, "radius": 2.5},
        "qc": {"rna": {"min_counts": 100, "max_mito_percent": {"mads": 3}, "mito_prefix": "1"}},
        "modalities": {"rna": {"kind": "rna", "n_top_features": None}},
        "check_files": False,
        "truth": "1",
        "um_per_unit": 0.5,
    }
    read = settings.from_command_line(
        {"truth": "null", "cluster": {"n_domains": "auto"}, "seeds": ["a: ["]}, CONFIG_SCHEMA
    )
    assert read == {"truth": None, "cluster": {"n_domains": "auto"}, "seeds": ["a: ["]}


@pytest.mark.parametrize(("old", "new"), settings.RENAMED.items())
def test_an_old_name_of_a_key_is_the_new_one(load, old, new):
    (section, key), (new_section, new_key) = old.split("."), new.split(".")
    assert key not in CONFIG_SCHEMA["properties"][section]["properties"]
    default = CONFIG_SCHEMA["properties"][new_section]["properties"][new_key]["default"]
    value = not default if isinstance(default, bool) else type(default)(default * 2)
    given = {section: {key: value}}
    assert settings.renamed_keys(given) == {old: new}
    config, _ = load(**given)
    assert config == load(**{new_section: {new_key: value}})[0]
    assert config[new_section][new_key] == value
    assert given == {section: {key: value}}
    # The publication's choices give way to it, too.
    published, _ = load(recipe="published", **given)
    assert published[new_section][new_key] == value
    # What Snakemake's BaseLoader makes of --config.
    typed = settings.from_command_line({section: {key: str(value).lower()}}, CONFIG_SCHEMA)
    assert typed == given


def test_an_old_name_beside_the_new_one_is_an_error(load):
    found = faults(load, graph={"K": 3, "weigh_pairs": True, "weight_mnn": True}, encoder={"K": 3})
    assert found.startswith("2 faults in the configuration:")
    for old, new in (("graph.K", "encoder.K"), ("graph.weigh_pairs", "graph.weight_mnn")):
        assert f"config key {old}: is now {new}, and both are given\n    Hint: keep {new} alone" in found


def test_a_value_under_an_old_name_is_checked_as_under_the_new(load):
    assert "config key encoder.dropout: 2 is greater than" in faults(load, train={"dropout": 2})
    assert "config key encoder: 5 is not a mapping" in faults(load, train={"dropout": 0.1}, encoder=5)
    assert "config key train: null is not a mapping" in faults(load, train=None)
    assert settings.renamed_keys({"train": None, "graph": {"w_g": 1}}) == {}


def test_all_faults_at_once(load):
    text = faults(load, text="slice\tmodality\tpath\ns 1\trna\tgone.h5ad\n", train={"lr": 0}, recipe="old")
    assert text.startswith("4 faults in the configuration:")
    for part in ("train.lr", "recipe", "slice 's 1'", "gone.h5ad"):
        assert part in text


def test_missing_modalities_alone(load):
    assert "modalities: is missing" in faults(load, config={"slices": "slices.tsv"})


def test_a_file_that_the_workflow_makes_need_not_exist(load, tmp_path):
    load()
    (tmp_path / "s1.rna.h5ad").unlink()
    config = {"slices": "slices.tsv", "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}}
    config["cluster"] = {"n_domains": 5}
    settings.load(config, CONFIG_SCHEMA, SHEET_SCHEMA, made=["s1.rna.h5ad"])
    with pytest.raises(InputError, match=r"s1\.rna\.h5ad is not there"):
        settings.load(config, CONFIG_SCHEMA, SHEET_SCHEMA)
    config["check_files"] = False
    assert settings.load(config, CONFIG_SCHEMA, SHEET_SCHEMA)[0]["check_files"] is False


def test_names_that_look_like_something_else_stay_names(load):
    rows = [(name, "rna") for name in ("001", "1e3", "NA", "nan", "None", "true")]
    _, sheet = load(rows, graph={"intra_knns": dict.fromkeys((name for name, _ in rows), 4)})
    assert sheet.slices == ["001", "1e3", "NA", "nan", "None", "true"]
    text = "slice\tmodality\tpath\n" + '"001"\t"rna"\t"001.rna.h5ad"\n'
    assert [row[:3] for row in load(text=text)[1]] == [("001", "rna", "001.rna.h5ad")]
    found = faults(load, [("1", "rna")], graph={"intra_knns": {1: 4}})
    assert "intra_knns.1: is no text, as names of slices are\n    Hint: write it in quotes: '1'" in found


def test_a_modality_can_not_be_called_as_the_imputed_counts_of_another(load):
    modalities = {"rna": {"kind": "rna"}, "rna_imputed": {"kind": "rna"}}
    found = faults(load, [("s1", "rna"), ("s1", "rna_imputed")], modalities=modalities)
    assert "config key modalities.rna_imputed: is what the imputed counts of rna are called" in found


def check_any(load, **given):
    """Whatever is given, it is complete, or all its faults have hints and nothing in them moves the cursor."""
    try:
        config, _ = load(**given)
    except InputError as error:
        text = str(error)
    else:
        again, _ = load(**given | {"config": config})
        assert again == config
        return
    assert int(text.split()[0]) == len(re.findall(r"(?m)^  \d+\. ", text)) == text.count("\n    Hint: ") > 0, text
    assert text.replace("\n", "").isprintable()


any_input = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],  # `load` keeps nothing
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["rna", "s1", "1e-3", "all", "none", "\x1b[31m", "<script>", "x" * 300]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.none() | st.just("kind"), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damaged(draw, config):
    """A config in which a few values are replaced, at any depth, or added."""
    config = copy.deepcopy(config)
    for _ in range(draw(st.integers(1, 3))):
        place = config
        while True:
            key = draw(st.sampled_from([*place, "new", None]))
            if not isinstance(place.get(key), dict) or not place[key] or draw(st.integers(0, 3)) == 0:
                break
            place = place[key]
        place[key] = draw(JUNK)
    return config


@any_input
@hypothesis.given(data=st.data())
def test_any_config_is_complete_or_its_faults_have_hints(load, data):
    whole, _ = load()
    check_any(load, config=data.draw(damaged(whole)))


CELLS = st.sampled_from(
    [
        "slice",
        "modality",
        "path",
        "s1",
        "s2",
        "rna",
        "adt",
        "s1.rna.h5ad",
        "s2.rna.h5ad",
        "s1.adt.h5ad",
        "",
        "NA",
        "001",
    ]
) | st.text(max_size=4)
LINES = st.lists(CELLS, max_size=4).map("\t".join) | st.text(max_size=12) | st.just("s1\trna\ts1.rna.h5ad")
SHEETS = st.tuples(
    st.sampled_from(["", "\ufeff", "\n"]),
    st.sampled_from(["slice\tmodality\tpath", "path\tslice\tmodality", "slice,modality,path"]) | LINES,
    st.lists(LINES, max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-16-le"]),
).map(lambda parts: (parts[0] + parts[3].join([parts[1], *parts[2]])).encode(parts[4]))


@any_input
@hypothesis.given(text=SHEETS | st.binary(max_size=40))
def test_any_sheet_is_read_or_its_faults_have_hints(load, text):
    load()  # the files that the sheets may name
    check_any(load, text=text)


def keys(schema, path=""):
    for key, rule in schema.get("properties", {}).items():
        yield f"{path}{key}", rule
        yield from keys(rule, f"{path}{key}.")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from keys(schema["additionalProperties"], f"{path}*.")


def test_every_key_is_described_and_in_the_documentation():
    documentation = (SCHEMAS.parents[1] / "config" / "README.md").read_text()
    for path, rule in [*keys(CONFIG_SCHEMA), *keys(SHEET_SCHEMA)]:
        assert rule.get("description"), f"{path} has no description"
        assert path.split(".")[-1] in documentation, f"{path} is not in config/README.md"
    assert len([*keys(CONFIG_SCHEMA)]) > 40


def test_defaults_and_the_demo_pass_their_own_schema(load):
    config, _ = load()
    again, _ = load(config=config)
    assert again == config


def test_schema_names_the_ways_to_find_domains():
    cluster = CONFIG_SCHEMA["properties"]["cluster"]["properties"]
    assert cluster["method"]["enum"] == list(CLUSTERERS)
    for name, clusterer in CLUSTERERS.items():
        assert name in cluster["method"]["description"]
        assert name in cluster[clusterer.needs]["description"]


def test_a_path_may_be_a_folder_where_a_reader_takes_one(load, tmp_path, monkeypatch):
    (tmp_path / "s1").mkdir()
    sheet = "slice\tmodality\tpath\ns1\trna\ts1\n"
    told = faults(load, text=sheet)
    assert "s1 is a folder that is not known: it is empty\n    Hint: give the path of a Visium HD folder, " in told
    (tmp_path / "s1" / "notes.txt").touch()
    assert "it holds notes.txt\n" in faults(load, text=sheet)
    reader = Reader("an instrument's folder", lambda path: Path(path).is_dir(), several=True)
    monkeypatch.setitem(READERS, "folder", reader)
    assert load(text=sheet)[1].path("s1", "rna") == "s1"
    gone = sheet.replace("\ts1\n", "\ts2\n")
    assert " or an instrument's folder, relative to" in faults(load, text=gone)
    both = sheet + "s1\tadt\ts1\n"
    assert [row.path for row in load(text=both)[1]] == ["s1", "s1"]
    assert "s1 is the same file as in line 2" in faults(load, text=sheet + "s2\trna\ts1\n")
    monkeypatch.setitem(READERS, "folder", reader._replace(slices=True))
    assert load(text=sheet + "s2\trna\ts1\n")[1].slices == ["s1", "s2"]


def test_a_part_of_a_path_and_further_files_are_options(load, tmp_path):
    load()
    (tmp_path / "places.csv").touch()
    (tmp_path / "a#b.h5ad").touch()
    text = "slice\tmodality\tpath\tformat\tpositions\n"
    text += "s1\trna\ts1.rna.h5ad#x/y\th5ad\tplaces.csv\ns2\trna\ta#b.h5ad\tauto\t\n"
    sheet = load(text=text)[1]
    assert sheet[0].path == "s1.rna.h5ad"
    assert sheet[0].options == {"name": "x/y", "format": "h5ad", "positions": "places.csv"}
    assert sheet[1] == ("s2", "rna", "a#b.h5ad", {})
    assert not sheet.columns
    assert "format 'h5' is not valid" in faults(load, text=text.replace("\th5ad\tplaces", "\th5\tplaces"))
    assert "the table of positions gone.csv is not there" in faults(load, text=text.replace("places", "gone"))
    twice = text + "s1\tadt\ts1.rna.h5ad#x/y\t\t\n"
    assert "s1.rna.h5ad#x/y is the same file as in line 2" in faults(load, text=twice)
    apart = load(text=twice.replace("adt\ts1.rna.h5ad#x/y", "adt\ts1.rna.h5ad#z"))[1]
    assert apart.row("s1", "adt").options == {"name": "z"}


def test_a_path_is_found_at_home_and_beside_the_sheet(load, tmp_path, monkeypatch):
    load()
    home, beside = tmp_path / "home", tmp_path / "runs"
    for folder in (home, beside):
        folder.mkdir()
        (folder / f"{folder.name}.h5ad").touch()
    monkeypatch.setenv("HOME", str(home))
    text = "slice\tmodality\tpath\ns1\trna\t~/home.h5ad\ns2\trna\truns.h5ad\n"
    assert "runs.h5ad is not there" in faults(load, text=text)
    (beside / "slices.tsv").write_text(text)
    config = {"slices": "runs/slices.tsv", "modalities": {"rna": {"kind": "rna"}}, "cluster": {"n_domains": 5}}
    sheet = settings.load(config, CONFIG_SCHEMA, SHEET_SCHEMA)[1]
    assert [row.path for row in sheet] == [str(home / "home.h5ad"), "runs/runs.h5ad"]
    (tmp_path / "runs.h5ad").touch()
    with pytest.raises(InputError, match=r"runs\.h5ad is there twice, in .* and beside the sheet"):
        settings.load(config, CONFIG_SCHEMA, SHEET_SCHEMA)


def test_the_schema_of_the_sheet_names_the_readers():
    assert SHEET_SCHEMA["properties"]["format"]["enum"] == ["", "auto", *READERS]


def test_what_fragments_are_counted_in_is_the_epigenome_s_alone(load, tmp_path):
    (tmp_path / "peaks.bed").touch()
    (tmp_path / "s1.tsv").write_text("chr1\t5\t9\tAAAC-1\t1\n")
    (tmp_path / "s1.h5ad").touch()
    text = "slice\tmodality\tpath\ns1\trna\ts1.h5ad\ns1\tatac\ts1.tsv\n"

    def modalities(**counted):
        return {"rna": {"kind": "rna"}, "atac": {"kind": "epigenome", **counted}}

    for counted in ({"peaks": "peaks.bed"}, {"bin_size": 500}):
        sheet = load(text=text, modalities=modalities(**counted))[1]
        assert sheet.row("s1", "atac").options == counted
        assert sheet.row("s1", "rna").options == {}
    both = modalities(peaks="gone.bed", bin_size=500)
    found = faults(load, text=text, modalities=both)
    assert "modalities.atac.peaks: 'gone.bed' is not there" in found
    assert "modalities.atac.bin_size: fragments are counted in peaks" in found
    both["rna"]["bin_size"] = 500
    assert "modalities.rna.bin_size: fragments of chromatin alone" in faults(load, text=text, modalities=both)
    (tmp_path / "atac.h5ad").touch()
    found = faults(load, text=text.replace("s1.tsv", "atac.h5ad"), modalities=modalities(bin_size=500))
    assert "modalities.atac.bin_size: none of its paths holds fragments, which alone are counted by it" in found


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"modalities": {"rna": {"kind": "rna", "reduction": "lsi", "scale": True}}}, "modalities.rna.scale"),
        ({"modalities": {"rna": {"kind": "features", "n_comps": 10}}}, "modalities.rna.n_comps: ready features"),
        ({"modalities": {"rna": {"kind": "protein", "n_top_features": 9}}}, "n_top_features: feature_selection all"),
        (
            {"modalities": {"rna": {"kind": "protein", "feature_selection": "prevalence"}}},
            "feature_selection: prevalence keeps every feature without n_top_features",
        ),
        (
            {"modalities": {"rna": {"kind": "features"}}, "qc": {"rna": {"min_counts": 5}}},
            "qc.rna.min_counts: ready features have no counts",
        ),
        ({"graph": {"smooth_L": 3}}, "graph.smooth_L: nothing is smoothed"),
        ({"impute": {"method": "nearest", "smooth_neighbors": 9}}, "impute.smooth_neighbors: nearest does not smooth"),
        ({"cluster": {"n_domains": 4, "n_domains_range": [3, 5]}}, "n_domains_range: the number is not chosen"),
        ({"mapping": {"fine_tune": True}}, "mapping.fine_tune: nothing is mapped"),
    ],
)
def test_a_setting_that_would_do_nothing_is_a_fault(load, changed, told):
    assert told in faults(load, [("s1", "rna")], **{"modalities": {"rna": {"kind": "rna"}}, **changed})


def test_settings_that_repeat_the_defaults_are_no_fault(load):
    config, _ = load()
    repeated = {"slices": "slices.tsv", **{key: value for key, value in config.items() if value is not None}}
    repeated["cluster"] = {key: value for key, value in config["cluster"].items() if value is not None}
    assert load(config=repeated)[0] == config
    for recipe in ("default", "published"):
        for more in ({}, {"n_top_features": None}):
            modalities = {"rna": {"kind": "rna", "feature_selection": "all", **more}, "adt": ADT}
            assert load(recipe=recipe, modalities=modalities)[0]["modalities"]["rna"]["feature_selection"] == "all"


def test_a_setting_that_the_encoder_ignores_is_a_fault(load):
    assert "encoder.K: mlp does not take it\n    Hint: leave it out; it is for wlgcn, gcn, sage, gat" in faults(
        load, encoder={"net": "mlp", "K": 3}
    )
    assert load(encoder={"net": "mlp", "n_hidden": 9})[0]["encoder"]["n_hidden"] == 9
    assert load(encoder={"K": 0})[0]["encoder"]["K"] == 0
    assert "encoder.K: gat takes 1 step(s) over the graph or more, not 0" in faults(
        load, encoder={"net": "gat", "K": 0}
    )
    found = faults(load, encoder={"net": "gat", "n_hidden": 30})
    assert "encoder.n_hidden: gat has 4 attention heads, which can't share a hidden layer of 30 evenly" in found
    assert "'gcnn' is not known" in faults(load, encoder={"net": "gcnn"})


def test_a_loss_that_the_design_does_not_have_is_a_fault(load):
    assert "train.losses" in faults(load, train={"losses": []})
    assert "'contrast' is not known" in faults(load, train={"losses": ["contrast"]})
    assert "train.w_rec_g: 0.5 is a share of the reconstruction, which is no loss of this run" in faults(
        load, train={"losses": ["contrastive"], "w_rec_g": 0.5}
    )
    horizontal = [("s1", "rna"), ("s2", "rna")]
    rna = {"rna": {"kind": "rna"}}
    assert "train.losses: nothing would be minimised" in faults(
        load, horizontal, modalities=rna, train={"losses": ["contrastive"]}
    )
    vertical = [("s1", "rna"), ("s1", "adt")]
    only = {"losses": ["reconstruction"]}
    assert "nothing would be minimised" in faults(load, vertical, train=only | {"reconstruct": "queries"})
    assert load(vertical, train=only)[0]["train"]["losses"] == ["reconstruction"]


def test_names_of_domains_come_from_the_config_or_from_a_table(load, tmp_path):
    given = {0: "germinal centre", "3": "T zone (CD3+)"}
    wanted = {"0": "germinal centre", "3": "T zone (CD3+)"}
    assert load(domains={"names": given})[0]["domains"]["names"] == wanted
    (tmp_path / "names.tsv").write_text("domain\tname\n# by Anna\n0\tgerminal centre\n\n3\tT zone (CD3+)\n")
    assert load(domains={"names": "names.tsv"})[0]["domains"]["names"] == wanted
    assert load()[0]["domains"]["names"] == {}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"follicle": "a"}, "names.follicle: 'follicle' is no number of a domain"),
        ({-1: "a"}, "'-1' is no number of a domain"),
        ({0: "a", 1: "a"}, "names.1: another domain is called 'a' already"),
        ({0: "a", "0": "b"}, "domain 0 has a name already"),
        ({0: "7"}, "{0: '7'} is not valid"),
        ({0: " "}, "{0: ' '} is not valid"),
        ({0: "<b>x</b>"}, "{0: '<b>x</b>'} is not valid"),
        ({0: "x" * 101}, "is not valid"),
        ({0: "a\nb"}, "is not valid"),
        (["a"], "config key domains.names: ['a'] is not valid"),
        ("gone.tsv", "'gone.tsv' can't be read (No such file or directory)"),
        ("bad.tsv", "bad.tsv: the columns are not domain and name"),
        ("lines.tsv", "lines.tsv, line 3: 'a\\tb' is not valid"),
        ("lines.tsv", "lines.tsv, line 4: '03' is no number of a domain"),
    ],
)
def test_a_fault_in_a_name_of_a_domain_is_told(load, tmp_path, given, problem):
    (tmp_path / "bad.tsv").write_text("number\tname\n0\ta\n")
    (tmp_path / "lines.tsv").write_text("domain\tname\n0\tx\n1\ta\tb\n03\tc\n")
    assert problem in faults(load, domains={"names": given})


CONDITIONS = "slice\tmodality\tpath\tcondition\tdonor\tday\n" + "".join(
    f"s{number}\trna\ts{number}.rna.h5ad\t{'old' if number < 3 else 'young'}\td{number // 2}\t{number % 2}\n"
    for number in range(1, 5)
)


@pytest.fixture
def load_conditions(load, tmp_path):
    """Load a config beside a sheet of four slices with condition, donor and day."""
    for number in range(1, 5):
        (tmp_path / f"s{number}.rna.h5ad").touch()
    return lambda **conditions: load(text=CONDITIONS, modalities={"rna": {"kind": "rna"}}, conditions=conditions)


def test_conditions_name_columns_of_the_sheet(load, load_conditions):
    empty = {"column": None, "reference": None, "donor": None, "covariates": []}
    assert load()[0]["conditions"] == empty
    given = {"column": "condition", "reference": "young", "donor": None, "covariates": ["day"]}
    config, sheet = load_conditions(**given)
    assert config["conditions"] == given
    assert sheet.columns["condition"]["s4"] == "young"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"column": "conditions_of"}, "conditions.column: slices.tsv has no column 'conditions_of'"),
        ({"column": "condition", "donor": "patient"}, "further columns are: condition, donor, day"),
        ({"column": "condition", "covariates": ["run"]}, "conditions.covariates.0: slices.tsv has no column 'run'"),
        ({"column": "condition", "reference": "olde"}, "'olde' is no level of condition"),
        ({"reference": "old"}, "conditions.reference: nothing is compared"),
        ({"covariates": ["day"]}, "conditions.covariates: nothing is compared"),
        (
            {"column": "condition", "donor": "condition", "covariates": ["day"]},
            "day differs between the slices of old that are old, whose counts are summed",
        ),
    ],
)
def test_a_fault_in_the_conditions_is_told(load_conditions, given, problem):
    assert problem in faults(load_conditions, **given)


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        (["rna:CD4", "adt:CD4:"], None),
        (["rna:CD4", "rna:CD8"], "both features are of one modality"),
        (["rna:CD4", "prot:CD4"], "prot is no modality with counts"),
        (["rna:CD4", "ready:x"], "ready is no modality with counts"),
        (["rna:CD4", "atac:chr1"], "no slice has both rna and atac"),
        (["rna", "adt:CD4"], "'rna' is not valid"),
        (["rna:CD4"], "spatial.pairs.0"),
        (["rna:<b>", "adt:CD4"], "'rna:<b>' is not valid"),
    ],
)
def test_pairs_of_features_are_of_modalities_that_a_slice_shares(load, pair, problem):
    rows = [*MOSAIC, ("s3", "atac"), ("s1", "ready")]
    kinds = {"rna": "rna", "adt": "protein", "atac": "epigenome", "ready": "features"}
    given = {"modalities": {name: {"kind": kind} for name, kind in kinds.items()}, "spatial": {"pairs": [pair]}}
    if problem is None:
        assert load(rows, **given)[0]["spatial"] == {"n_features": 3000, "pairs": [pair]}
        # As the modality itself, of which the workflow warns.
        assert load([("s1", "rna")], **given)[0]["spatial"]["pairs"] == []
    else:
        assert problem in faults(load, rows, **given)
