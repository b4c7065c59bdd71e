"""`snakemake check`: all files of the sheet, before anything else is run."""

import json

import anndata as ad
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
