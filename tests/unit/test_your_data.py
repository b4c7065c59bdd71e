"""The recipes of docs/your_data.md: each sheet is read, from folders and files as the page names them."""

import re
from pathlib import Path

import instruments
import mudata as md
import pandas as pd
import pytest
import yaml
import zarr

from mosaic.config import settings
from mosaic.config.schema import read_yaml
from mosaic.prepare import inputs

PAGE = (Path(__file__).parents[2] / "docs" / "your_data.md").read_text()
RECIPES = {
    title: re.findall(r"```(tsv|yaml)\n(.*?)```", text, flags=re.DOTALL)
    for title, text in re.findall(r"\n## (.*?)\n(.*?)(?=\n## |\Z)", PAGE, flags=re.DOTALL)
}
SCHEMAS = [read_yaml(settings.SCHEMAS / f"{name}.schema.yaml") for name in ("config", "slices")]
KINDS = {"rna": "rna", "protein": "protein", "atac": "epigenome"}
BARCODES = [f"{'ACGT' * 3}{letters}-1" for letters in ("AA", "AC", "AG", "AT", "CA")]


def both(n_proteins=4):
    return instruments.counted(instruments.panel(n_proteins=n_proteins))


def xenium(path):
    proteins = [(f"CD{number}", "Protein Expression") for number in range(3)]
    instruments.xenium(path, instruments.counted(instruments.panel(controls=proteins)))


def atac(path):
    instruments.fragments(path, [("chr1", 10, 60, name) for name in BARCODES], BARCODES)


def atac_apart(path):
    atac(path.parent / "f")
    next((path.parent / "f").glob("*.gz")).rename(path)
    table = pd.DataFrame({"barcode": BARCODES, "x": range(5), "y": range(5)})
    table.to_csv(path.parent / "GSM2_positions.csv", index=False)


def placed(path):
    counts = instruments.counted(instruments.panel())
    places = pd.DataFrame({"barcode": counts.obs_names, "x": range(30), "y": range(1, 31)})
    places.to_csv(path.parent / "GSM3_positions.csv", index=False)
    return counts


def slide_seq(path):
    path.mkdir()
    counts = placed(path / "BeadLocations")
    (path / "GSM3_positions.csv").rename(path / "BeadLocationsForR.csv")
    names = [*instruments.REPEATED, *counts.var["name"][2:]]
    instruments.dense(counts).T.set_axis(names).to_csv(path / "digital_expression.csv")


def curio(path):
    counts = placed(path)
    instruments.tenx_mtx(path, counts, genes=True)
    (path.parent / "GSM3_positions.csv").rename(path / "run_MatchedBeadLocation.csv")


def adt(path):
    counts = instruments.counted(pd.DataFrame({"name": ["CD3", "CD4"], "id": ["CD3", "CD4"], "type": ""}))
    instruments.dense(counts).to_csv(path)


def anndata(n_spots=30):
    made = instruments.counted(instruments.panel(n_genes=2), n_spots)
    made.obsm["spatial"] = instruments.visium_positions(made.obs_names, off_tissue=0).iloc[:, 4:].to_numpy(float)
    return made


def mudata(path):
    md.set_options(pull_on_update=False)
    md.MuData({"rna": anndata(), "prot": anndata()}).write_h5mu(path)


def study(path):
    table = anndata()
    table.obs["region"] = pd.Categorical(["s1", "s2", "s3"] * 10)
    table.uns["spatialdata_attrs"] = {"region": ["s1", "s2", "s3"], "region_key": "region", "instance_key": "region"}
    zarr.open_group(path, mode="w", zarr_format=3).create_group("tables")
    table.write_zarr(path / "tables" / "table")


def gef(path):
    table = pd.read_csv(instruments.gem(path.parent / "of.gem.gz"), sep="\t", comment="#")
    instruments.gef(path, table, (1,))


# What each path of the page is made by.
MAKERS = {
    r"runs/section_\d/outs": lambda path: instruments.visium(path.parent, both()),
    r"runs/hd_\d/outs": lambda path: instruments.visium_hd(path, instruments.panel(), cells=6),
    r"runs/output-XETG1__region_\d": xenium,
    r"runs/merscope_1": lambda path: instruments.merscope(path, instruments.counted(instruments.panel(n_genes=2))),
    r"runs/cosmx_1": lambda path: instruments.cosmx(path, instruments.counted(instruments.panel(n_genes=2))),
    r"runs/SS\d\.tissue\.gem\.gz": instruments.gem,
    r"runs/SS2\.gef": gef,
    r"runs/atac_1": atac,
    r"runs/GSM2_fragments\.tsv\.gz": atac_apart,
    r"runs/peaks\.bed": lambda path: path.write_text("chr1\t0\t100\n"),
    r"runs/curio_1": curio,
    r"runs/slideseq_2": slide_seq,
    r"runs/GSM3_counts\.h5": lambda path: instruments.tenx_h5(path, placed(path)),
    r"runs/GSM3_positions\.csv": placed,
    r"runs/GSM3_adt\.csv\.gz": adt,
    r"runs/s\d\.h5ad": lambda path: anndata().write_h5ad(path),
    r"runs/s2\.h5mu": mudata,
    r"runs/s3\.zarr": lambda path: anndata().write_zarr(path),
    r"runs/study\.zarr": study,
}


def test_each_technology_has_a_recipe():
    assert sum(bool(blocks) for blocks in RECIPES.values()) == len(RECIPES) - 1 >= 11


@pytest.mark.parametrize("title", [title for title, blocks in RECIPES.items() if blocks])
@pytest.mark.filterwarnings("ignore:.*zarr:UserWarning", "ignore:Consolidated metadata:UserWarning")
def test_a_recipe_is_read(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    blocks = dict(RECIPES[title])
    for path in dict.fromkeys(re.findall(r"runs/[^\s#]+?(?=[\s#}])", blocks["tsv"] + blocks.get("yaml", ""))):
        if not Path(path).exists():
            next(maker for pattern, maker in MAKERS.items() if re.fullmatch(pattern, path))(tmp_path / path)
    Path("slices.tsv").write_text(blocks["tsv"])
    config = {"slices": "slices.tsv", "cluster": {"n_domains": 2}}
    config["modalities"] = {name: {"kind": kind} for name, kind in KINDS.items()}
    config |= yaml.safe_load(blocks.get("yaml", "")) or {}
    _, sheet = settings.load(config, *SCHEMAS)
    table = inputs.survey([tuple(row) for row in sheet], KINDS, None, [])
    assert len(table) == blocks["tsv"].count("\n") - 1
    assert (table["spots"] > 2).all()
