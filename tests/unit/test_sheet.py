"""The sheet and config to start from, of folders as instruments leave them."""

import instruments
import mudata as md
import pytest
import yaml

from mosaic import sheet
from mosaic.config import settings
from mosaic.config.schema import read_yaml
from mosaic.prepare import inputs

SCHEMAS = [read_yaml(settings.SCHEMAS / f"{name}.schema.yaml") for name in ("config", "slices")]


@pytest.fixture
def lab(tmp_path, monkeypatch, raw_slice):
    """A lab's folder with four slices of four formats."""
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    instruments.visium(runs / "section 1", instruments.counted(instruments.panel(n_genes=12, n_proteins=6)))
    instruments.visium_hd(runs / "hd" / "outs", instruments.panel(n_genes=12), sizes=(16,))
    instruments.xenium(runs / "xenium", instruments.counted(instruments.panel(n_genes=12)))
    for name in ("s4.rna", "s4.adt"):
        raw_slice().write_h5ad(runs / f"{name}.h5ad")
    (runs / "section 1" / "web_summary.html").touch()
    return runs


def test_what_a_lab_has_becomes_a_run_that_loads(lab, capsys):
    assert sheet.main(["runs", "--to", "mine"]) == 0
    told = capsys.readouterr().out
    assert "section_1  rna (rna)      a Space Ranger folder  30 spots, 12 features" in told
    assert "section_1  adt (protein)" in told
    assert "square_016um of square_016um" in told
    assert "the kind is guessed by them" not in told
    rows = (lab.parent / "mine" / "slices.tsv").read_text().splitlines()
    assert rows == [
        "slice\tmodality\tpath",
        "hd\trna\truns/hd#square_016um",
        "s4\tadt\truns/s4.adt.h5ad",
        "s4\trna\truns/s4.rna.h5ad",
        "section_1\trna\truns/section 1",
        "section_1\tadt\truns/section 1",
        "xenium\trna\truns/xenium",
    ]
    config = read_yaml("mine/config.yaml")
    assert config["modalities"] == {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}
    complete, design = settings.load(config, *SCHEMAS)
    assert design.bridges == ["s4", "section_1"]
    kinds = {name: modality["kind"] for name, modality in complete["modalities"].items()}
    rna = [row for row in design if row.modality == "rna" and row.slice != "s4"]
    table = inputs.survey(rna, kinds, None, [])
    assert table["spots"].tolist() == [30, 30, 30]
    assert "Still to do" not in told


def test_nothing_is_overwritten_and_nothing_found_is_told(lab, capsys):
    assert sheet.main(["runs", "--to", "mine"]) == 0
    before = (lab.parent / "mine" / "config.yaml").read_text()
    assert sheet.main(["runs/xenium", "--to", "mine"]) == 1
    assert "slices.tsv: is there already" in capsys.readouterr().err
    assert (lab.parent / "mine" / "config.yaml").read_text() == before
    (lab / "empty").mkdir()
    assert sheet.main(["runs/empty", "gone", "--to", "other"]) == 1
    told = capsys.readouterr().out
    assert "runs/empty: holds nothing that can be read" in told
    assert "gone: is not there" in told
    assert not (lab.parent / "other").exists()


def test_a_damaged_folder_among_others_is_told(lab, capsys):
    (lab / "xenium" / "cell_feature_matrix.h5").write_bytes(b"\x89HDF\r\n\x1a\n cut")
    assert sheet.main(["runs"]) == 0
    told = capsys.readouterr().out
    assert "Not read: runs/xenium/cell_feature_matrix.h5: can't be read as a 10x h5 file" in told
    assert "xenium" not in (lab.parent / "my-run" / "slices.tsv").read_text()


def test_slices_that_no_bridge_links_are_told(tmp_path, monkeypatch, capsys, raw_slice):
    monkeypatch.chdir(tmp_path)
    raw_slice().write_h5ad("a_rna.h5ad")
    instruments.fragments(tmp_path / "b", [("chr1", 10, 20, "ACGT-1")], ["ACGT-1", "AACC-1"])
    assert sheet.main([str(tmp_path / "a_rna.h5ad"), "b"]) == 0
    told = capsys.readouterr().out
    assert "Still to do" in told
    assert "no chain of bridge slices joins" in told
    text = (tmp_path / "my-run" / "config.yaml").read_text()
    assert "# atac: {kind: epigenome, peaks: peaks.bed}" in text
    assert yaml.safe_load(text)["modalities"]["atac"] == {"kind": "epigenome"}


def test_a_modality_that_a_file_calls_otherwise_has_its_name_behind_the_path(tmp_path, monkeypatch, raw_slice):
    monkeypatch.chdir(tmp_path)
    md.set_options(pull_on_update=False)
    for name, modality in (("a", "adt"), ("b", "prot")):
        md.MuData({"rna": raw_slice(), modality: raw_slice(prefix="CD")}).write_h5mu(f"{name}.h5mu")
    found, _ = sheet.sources(["a.h5mu", "b.h5mu"])
    assert [(source.found.modality, source.found.name) for source in found] == [
        ("adt", ""),
        ("rna", ""),
        ("adt", "prot"),
        ("rna", ""),
    ]


def test_two_paths_of_one_name_are_two_slices(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts = instruments.counted(instruments.panel())
    for donor in ("d1", "d2"):
        instruments.visium(tmp_path / donor / "sample", counts)
    found, faults = sheet.sources(["d1", "d2"])
    assert not faults
    assert [source.slice for source in found] == ["sample", "sample_2"]
