"""`snakemake check`: all files of the sheet, before anything else is run."""

import json
import re

import anndata as ad
import instruments
import numpy as np
import pandas as pd
import pytest

CONFIG = {
    "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
    "cluster": {"n_domains": 2},
    "truth": "domain",
    "keep_obs": ["age"],
}


@pytest.fixture
def placed(checkout, raw_slice):
    """A checkout with a sheet of three files of the user's."""

    def place(change=lambda name, raw: raw):
        rows = ["slice\tmodality\tpath"]
        for name in ("s1.rna", "s1.adt", "s2.rna"):
            raw = raw_slice()
            raw.obs["domain"], raw.obs["age"] = ["a", "b"] * 15, np.arange(30) / 2
            change(name, raw).write_h5ad(checkout.folder / f"{name}.h5ad")
            rows.append("\t".join([*name.split("."), f"{name}.h5ad"]))
        (checkout.folder / "config/slices.tsv").write_text("\n".join(rows))
        (checkout.folder / "config/config.yaml").write_text(json.dumps(CONFIG))
        return checkout

    return place


def test_it_says_what_each_file_holds(placed):
    checkout = placed()
    done = checkout.snakemake("check")
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(checkout.folder / "results/inputs.tsv", sep="\t")
    assert table["path"].tolist() == ["s1.rna.h5ad", "s1.adt.h5ad", "s2.rna.h5ad"]
    assert table["truth"].tolist() == table["spots"].tolist() == [30, 30, 30]
    assert not (checkout.folder / "results/qc").exists()


def test_it_tells_all_faults_in_the_words_of_the_rules(placed):
    def change(name, raw):
        if name == "s1.adt":
            raw.X = np.log1p(raw.X.toarray())
        elif name == "s2.rna":
            del raw.obsm["spatial"]
        return raw

    checkout = placed(change)
    done = checkout.snakemake("check")
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "2 faults in the files of the sheet" in text
    assert "Traceback" not in text
    for name in ("s1.adt", "s2.rna"):
        alone = checkout.snakemake(f"results/qc/{name}.h5ad")
        error = next(line for line in (alone.stdout + alone.stderr).splitlines() if line.startswith("InputError: "))
        assert error.removeprefix("InputError: ") in text


def test_a_truth_that_no_file_has_is_told_before_training(placed):
    def change(name, raw):
        del raw.obs["domain"]
        return raw

    checkout = placed(change)
    for target in ("check", "results/annotations.h5ad"):
        done = checkout.snakemake(target)
        assert done.returncode == 1
        assert "no file has obs['domain']; columns there are: age" in done.stdout + done.stderr
    done = checkout.snakemake("--cores", "1", cores=None)
    assert done.returncode == 1
    assert "no file has obs['domain']" in done.stdout + done.stderr
    assert not (checkout.folder / "results/qc").exists()


def test_named_columns_are_gathered(placed):
    def change(name, raw):
        if name == "s2.rna":
            raw.obs["age"] = "unknown"
        return raw

    checkout = placed(change)
    done = checkout.snakemake("results/annotations.h5ad")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "obs['age'] is numbers and text in some files: all of it becomes text" in done.stdout + done.stderr
    obs = ad.read_h5ad(checkout.folder / "results/annotations.h5ad").obs
    assert obs["age"].tolist()[-1] == "unknown"
    assert obs["age"].tolist()[:2] == ["0", "0.5"]


def test_folders_of_instruments_beside_h5ad_files(checkout, raw_slice):
    """One folder in two rows, a part of another by its name, and an h5ad beside the sheet."""
    counts = instruments.counted(instruments.panel(n_proteins=6))
    instruments.visium(checkout.folder / "runs" / "s1", counts)
    instruments.visium_hd(checkout.folder / "runs" / "hd", instruments.panel(), sizes=(16,))
    rows = [
        "slice\tmodality\tpath\tformat",
        "s1\trna\truns/s1/outs\t",
        "s1\tadt\truns/s1\tvisium",
        "s2\trna\truns/hd#square_016um\tauto",
    ]
    (checkout.folder / "config/slices.tsv").write_text("\n".join(rows))
    (checkout.folder / "config/config.yaml").write_text(
        json.dumps({**CONFIG, "truth": None, "keep_obs": ["array_row"]})
    )
    done = checkout.snakemake("check", "results/qc/s1.adt.json", "results/qc/s2.rna.h5ad", "results/annotations.h5ad")
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_csv(checkout.folder / "results/inputs.tsv", sep="\t")
    assert table["features"].tolist() == [12, 4, 12]
    summary = json.loads((checkout.folder / "results/qc/s1.adt.json").read_text())
    assert list(summary["controls"]) == instruments.ISOTYPES
    assert ad.read_h5ad(checkout.folder / "results/qc/s2.rna.h5ad").obs["barcode"].str.startswith("s_016um_").all()
    assert ad.read_h5ad(checkout.folder / "results/annotations.h5ad").obs["array_row"].notna().all()
    # Only what reads an edited file is run again.
    (checkout.folder / "runs/s1/outs/web_summary.html").touch()
    assert "Nothing to be done" in checkout.snakemake("results/qc/s1.adt.json", "--dry-run").stdout
    positions = checkout.folder / "runs/s1/outs/spatial/tissue_positions.csv"
    positions.write_text(positions.read_text() + "\n")
    assert re.search(r"updated input files:\s+qc", checkout.snakemake("results/qc/s1.adt.json", "--dry-run").stdout)
