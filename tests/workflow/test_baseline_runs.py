"""Baselines in the workflow: their jobs, what is told where they cannot run, and runs where their environments are."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from running import REPOSITORY, jobs_per_rule

from mosaic import embedding, store
from mosaic.config import methods
from mosaic.simulate.counts import simulate_mosaic

SHAPES = {
    "rna": {"kind": "rna", "n_features": 120, "depth": 800, "markers": 12, "marker_fold": 5.0},
    "adt": {"kind": "protein", "n_features": 20, "depth": 1500, "markers": 3, "marker_fold": 5.0},
    "atac": {"kind": "epigenome", "n_features": 600, "depth": 1500, "markers": 50, "marker_fold": 8.0},
}
MOSAIC = {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["adt"]}
DESIGNS = {
    "spamosaic-published": MOSAIC,
    "mofa": MOSAIC,
    "totalvi": {"s1": ["rna", "adt"], "s2": ["rna"]},
    "multivi": {"s1": ["rna", "atac"], "s2": ["rna"], "s3": ["atac"]},
    "scmomat": MOSAIC,
    "midas": MOSAIC,
    "cellcharter": {"s1": ["rna", "adt"], "s2": ["rna"]},
    "harmony": {"s1": ["rna", "adt"], "s2": ["rna"]},
}


@pytest.fixture(autouse=True)
def _stay_here():
    here = Path.cwd()
    yield
    os.chdir(here)


def dry_jobs(folder, text):
    shutil.copytree(REPOSITORY / "config", folder / "config")
    path = folder / "config/config.yaml"
    path.write_text(path.read_text() + text)
    return jobs_per_rule(folder, path)


def python_in(folder):
    (folder / "bin").mkdir()
    shutil.copy("/bin/true", folder / "bin/python")
    return folder / "bin/python"


def test_baselines_multiply_what_follows(tmp_path):
    python = python_in(tmp_path)
    text = (
        f"\nmethods: [spamosaic, mofa, scmomat]\ninterpreters: {{mofa: {python}, scmomat: {python}}}\nseeds: [0, 1]\n"
    )
    jobs = dry_jobs(tmp_path, text)
    assert jobs["embed_baseline"] == 4
    assert jobs["embed"] == jobs["train"] == 2
    assert jobs["cluster"] == jobs["evaluate"] == jobs["plot_domains"] == jobs["run_checks"] == 6
    assert jobs["consensus"] == 3
    assert jobs["holdout_fold"] == 6


def test_a_baseline_alone_trains_nothing_of_the_own_method(tmp_path):
    jobs = dry_jobs(tmp_path, f"\nmethods: [mofa]\ninterpreters: {{mofa: {python_in(tmp_path)}}}\n")
    assert jobs["embed_baseline"] == jobs["cluster"] == jobs["run_checks"] == jobs["export"] == 1
    assert not {"train", "embed", "holdout_fold", "plot_training"} & set(+jobs)
    # For the tissue field, which finds the domains of every method.
    assert jobs["build_graph"] == 2


def test_own_method_alone_has_no_rule_for_baselines(tmp_path):
    assert "embed_baseline" not in dry_jobs(tmp_path, "")


def test_all_that_is_wrong_is_told_at_once(checkout):
    config = checkout.folder / "config/config.yaml"
    extra = "\nmethods: [mofa, totalvi, scmomat]\ninterpreters: {scmomat: nowhere/python}\n"
    config.write_text(config.read_text() + extra)
    done = checkout.snakemake("--dry-run")
    assert done.returncode == 1
    text = done.stdout + done.stderr
    for words in (
        "totalvi can't integrate these slices: it needs rna in every slice, and s3 did not measure it",
        "mofa needs an environment of its own",
        "make .venv-mofa",
        "'nowhere/python' is no program",
        "make baselines",
    ):
        assert words in text


@pytest.mark.slow
@pytest.mark.parametrize("method", methods.BASELINES)
def test_run(checkout, method):
    baseline = methods.BASELINES[method]
    python = REPOSITORY / f".venv-{baseline.env}" / "bin" / "python"
    if baseline.separate and not python.exists():
        pytest.skip(f"the environment of {method} is not there: make .venv-{baseline.env}")
    slices = DESIGNS[method]
    names = list(dict.fromkeys(name for own in slices.values() for name in own))
    design = {
        "grid": {"rows": 14, "columns": 14, "pitch": 100},
        "domains": {"a": 1, "b": 1, "c": 1},
        "slices": slices,
        "modalities": {name: SHAPES[name] for name in names},
    }
    config = {
        "modalities": {name: {"kind": SHAPES[name]["kind"], "n_comps": 10} for name in names},
        "cluster": {"n_domains": 3},
        "methods": [method],
        "seeds": [0],
        "truth": "domain",
        "interpreters": {method: str(python)} if baseline.separate else {},
    }
    checkout.simulate(design, yaml.safe_dump(config))
    if method == "midas":
        # Its 2,000 epochs take minutes even here.
        library = checkout.folder / "scripts/mosaic/baselines/midas.py"
        text = library.read_text()
        assert "N_EPOCHS = 2000\n" in text
        library.write_text(text.replace("N_EPOCHS = 2000\n", "N_EPOCHS = 300\n"))
    done = checkout.snakemake("results/integrated.h5mu", f"results/{method}/seed-0/metrics.tsv")
    assert done.returncode == 0, done.stdout + done.stderr
    made = store.read(checkout.folder / f"results/{method}/seed-0/embedding.h5mu")
    kept = {path: store.read(path).obs_names for path in (checkout.folder / "results/qc").glob("*.h5ad")}
    assert set(made.obs_names) == set().union(*kept.values())
    assert np.isfinite(made.obsm[embedding.LATENT]).all()
    table = pd.read_csv(checkout.folder / f"results/{method}/seed-0/metrics.tsv", sep="\t")
    separate = method in {"spamosaic-published", "multivi"}
    assert table.loc[table["metric"] == "FOSCTTM (training pairs)", "value"].notna().all() == separate
    ari = table.loc[(table["metric"] == "ARI") & (table["scope"] == "all"), "value"].item()
    print(f"{method}: ARI {ari:.3f}")
    # Better than chance; what each method is worth is no matter of so few spots. With its own training length MultiVI
    # hardly leaves its prior on a few hundred features.
    assert ari > 0.1 or method == "multivi"


# In the environment of MIDAS: what it reads of a mosaic with chromatin, and that all spots get coordinates of its own.
READ_BY_MIDAS = """
import random
import sys
import numpy as np
import torch
from mosaic import spots
from mosaic.baselines import midas
from mosaic.baselines.run import batches

graphs = spots.read_stacked(sys.argv[1:])
# Two spots of the bridge slice lack a modality.
graphs["adt"] = graphs["adt"][~graphs["adt"].obs_names.isin(graphs["rna"].obs_names[:2])].copy()
kinds = {"rna": "rna", "adt": "protein", "atac": "epigenome", "adt2": "protein"}
read = midas.inputs(graphs, kinds)
assert list(read.counts) == ["rna0", "adt1", "atac2", "adt3"], list(read.counts)
for key, graph in zip(read.counts, graphs.values(), strict=True):
    own = read.counts[key]
    assert (own.X != graph[own.obs_names, own.var_names].layers["counts"]).nnz == 0
    assert sum(read.widths[key]) == graph.n_vars
names = read.counts["atac2"].var_names
assert len(read.widths["atac2"]) == 23
begins = np.cumsum([0, *read.widths["atac2"]])
for begin, end in zip(begins, begins[1:]):
    assert len({name.split("-")[0] for name in names[begin:end]}) == 1
assert read.transform == {"atac2": "binarize"}
assert read.settings["distribution_dec_atac2"] == "BERNOULLI" and read.settings["trsf_before_enc_adt3"] == "log1p"
assert not set(midas.chromosomes(graphs["rna"].var_names)) - {""}
index = spots.union({name: graph.obs for name, graph in graphs.items()})
groups, few = batches(index)
assert [(len(own), batch) for own, batch in few] == [(2, 0)]
made = []
for seed in (0, 0, 1):
    random.seed(seed)
    torch.manual_seed(seed)
    model = midas.train(read, groups, n_epochs=2, accelerator="cpu")
    made.append(midas.latent(model, read, groups, few))
assert sorted(made[0].index) == sorted(index.index) and made[0].shape[1] == 32
assert np.isfinite(made[0].to_numpy()).all()
assert len(made[0].drop_duplicates()) == len(made[0])
assert made[0].equals(made[1]) and not np.allclose(made[0], made[2])
"""


@pytest.mark.slow
def test_midas_reads_each_modality_as_what_it_is_and_embeds_all_spots(tmp_path):
    python = REPOSITORY / ".venv-midas" / "bin" / "python"
    if not python.exists():
        pytest.skip("the environment of midas is not there: make .venv-midas")
    design = {
        "grid": {"rows": 8, "columns": 8, "pitch": 100},
        "domains": {"a": 1, "b": 1, "c": 1},
        "slices": {"s1": ["rna", "adt", "atac", "adt2"], "s2": ["rna"], "s3": ["adt", "atac"]},
        "modalities": SHAPES | {"adt2": SHAPES["adt"]},
    }
    paths = []
    for (name, modality), adata in simulate_mosaic(design, seed=0).items():
        adata.obs = pd.DataFrame(
            {"slice": name, "barcode": adata.obs_names}, [f"{name}:{own}" for own in adata.obs_names]
        )
        adata.obs["slice"] = adata.obs["slice"].astype("category")
        adata.layers["counts"] = adata.X
        paths.append(tmp_path / f"{name}.{modality}.h5ad")
        store.write(adata, paths[-1])
    command = [python, "-c", READ_BY_MIDAS, *paths]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
