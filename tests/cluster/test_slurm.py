"""The workflow on a SLURM that really schedules: what SLURM recorded, and results to the bit those of a local run."""

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import instruments
import mudata as md
import numpy as np
import pandas as pd
import pytest
from chain import THREE_SLICES
from one_node import Slurm, installed_or_skip
from running import Checkout, weights

from mosaic import store

pytestmark = pytest.mark.slow

# Two slices do, for fewer jobs: s2 lacks a modality.
DESIGN = THREE_SLICES | {"slices": {"s1": ["rna", "adt"], "s2": ["rna"]}}
CONFIG = """
slices: config/slices.tsv
modalities: {rna: {kind: rna}, adt: {kind: protein}}
train: {T: 0.1, n_epochs: 20, threads: 1}
cluster: {n_domains: 3}
checks: {imputation: false}
seeds: [0, 1]
export: {reference: true}
"""
RUN = "results/spamosaic/seed-0"
# One run to its end, and a second training beside its own.
MODELS = [f"{RUN}/model.safetensors", "results/spamosaic/seed-1/model.safetensors"]
TARGETS = [f"{RUN}/domains.tsv", f"{RUN}/imputed/s2.adt.h5ad", MODELS[1]]
# Of SLURM alone: these need most other rules.
REFERENCE, EXPLORER = "results/reference/seed-0", "results/explorer"
# As a user calls it; beyond the profile only what hangs on this cluster: no accounting, and jobs of seconds.
SUBMIT = ["--profile", "profiles/slurm", "--slurm-status-command", "squeue"]
# Each look that finds no job at its end is followed by a pause longer by 10 s: after 4, 14 and 24 s.
SUBMIT += ["--slurm-init-seconds-before-status-checks", "4"]


def prepare(run: Checkout) -> None:
    """Two slices, of which s2 is a folder as Space Ranger leaves it."""
    run.simulate(DESIGN, CONFIG)
    counts = store.read(run.folder / "user/s2.rna.h5ad")
    (run.folder / "user/s2.rna.h5ad").unlink()
    genes = counts.var_names.tolist()
    counts.var = pd.DataFrame({"id": genes, "name": genes, "type": "Gene Expression"}, index=genes)
    instruments.visium(run.folder / "user/s2", counts)
    sheet = run.folder / "config/slices.tsv"
    sheet.write_text(sheet.read_text().replace("user/s2.rna.h5ad", "user/s2"))


class Submitted(NamedTuple):
    """A run through SLURM: its folder, what the user saw, and what SLURM recorded of its jobs."""

    run: Checkout
    terminal: str
    jobs: list[dict[str, str]]
    gpus: dict[str, str]

    def trainings(self, state: str) -> list[dict[str, str]]:
        return [job for job in self.jobs if job["Rule"] == "train" and job["JobState"] == state]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Slurm:
    installed_or_skip()
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Checkout:
    run = Checkout(tmp_path_factory.mktemp("local"))
    prepare(run)
    done = run.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    return run


@pytest.fixture(scope="module")
def submitted(slurm, tmp_path_factory) -> Submitted:
    """Run the workflow with a profile in which training asks for too little memory at first."""
    run = Checkout(tmp_path_factory.mktemp("submitted"))
    prepare(run)
    profile = run.folder / "profiles/slurm/config.yaml"
    text = profile.read_text()
    assert text.count("  train:\n") == 1
    profile.write_text(text.replace("  train:\n", "  train:\n    mem_mb: 250 if attempt == 1 else 2500\n"))
    done = run.snakemake(*TARGETS, REFERENCE, EXPLORER, *SUBMIT, cores=None)
    assert done.returncode == 0, done.stdout + done.stderr
    return Submitted(run, done.stdout + done.stderr, slurm.jobs(run.folder), slurm.gpus_handed_out())


def test_every_job_goes_through_slurm(submitted):
    jobs = {
        "match_features": 1,
        "qc": 3,
        "read_tissue": 1,
        "pair": 1,
        "normalize": 3,
        "reduce": 2,
        "build_graph": 2,
        "evaluate": 1,
        "consensus": 1,
        "run_checks": 1,
        "export_reference": 1,
        "export": 1,
        "explore": 1,
    }
    twice = ("train", "embed", "cluster", "impute", "name_domains", "project_latent", "confidence", "rank_markers")
    jobs |= dict.fromkeys(twice, 2)
    assert Counter(job["Rule"] for job in submitted.jobs if job["JobState"] == "COMPLETED") == jobs


def test_training_gets_a_gpu_and_nothing_else_does(submitted):
    trainings = {job["JobId"] for job in submitted.jobs if job["Rule"] == "train"}
    assert {number for number, gpus in submitted.gpus.items() if gpus} == trainings
    assert {job["JobId"] for job in submitted.jobs if "gpu" in job.get("TresPerJob", "")} == trainings


def test_trainings_share_the_gpus_of_the_cluster(submitted):
    """The default profile's limit of one GPU at a time is for one machine."""
    # Those that are killed count, too: which of them overlap depends on how busy the machine is.
    trainings = submitted.trainings("FAILED") + submitted.trainings("COMPLETED")
    together = [
        (first, second)
        for first, second in combinations(trainings, 2)
        if max(first["StartTime"], second["StartTime"]) < min(first["EndTime"], second["EndTime"])
    ]
    assert together
    for pair in together:
        assert {submitted.gpus[job["JobId"]] for job in pair} == {"0", "1"}


def test_a_job_that_outgrows_its_memory_is_killed_and_gets_more(submitted):
    killed, again = submitted.trainings("FAILED"), submitted.trainings("COMPLETED")
    assert len(killed) == len(again) == 2
    for job in killed:
        assert "mem=250M" in job["TRES"]
        assert "exceeded memory limit" in Path(job["StdOut"]).read_text()
        assert job["StdOut"] in submitted.terminal
    assert all("mem=2500M" in job["TRES"] for job in again)
    assert {job["TimeLimit"] for job in killed} == {"04:00:00"}
    assert {job["TimeLimit"] for job in again} == {"08:00:00"}


def test_results_are_those_of_a_local_run_to_the_bit(submitted, local):
    for model in MODELS:
        assert weights(local.folder / model) == weights(submitted.run.folder / model)
    here, there = local.folder / RUN, submitted.run.folder / RUN
    for name in ("history.tsv", "domains.tsv"):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    first, second = (md.read_h5mu(folder / "embedding.h5mu") for folder in (here, there))
    assert len(first.obsm) > 0
    for key in first.obsm:
        np.testing.assert_array_equal(first.obsm[key], second.obsm[key], err_msg=key)
    first, second = (store.read(folder / "imputed/s2.adt.h5ad") for folder in (here, there))
    assert len(first.layers) > 0
    for key in first.layers:
        np.testing.assert_array_equal(dense(first.layers[key]), dense(second.layers[key]), err_msg=key)
    assert weights(submitted.run.folder / REFERENCE / "model.safetensors") == weights(local.folder / MODELS[0])
    assert (submitted.run.folder / EXPLORER / "data/run.js").stat().st_size > 1000


def dense(matrix) -> np.ndarray:
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def test_a_fault_in_a_job_is_told_on_the_terminal(slurm, tmp_path, raw_slice):
    run = Checkout(tmp_path)
    raw = raw_slice()
    raw.X = raw.X.toarray() + 0.5
    raw.write_h5ad(run.folder / "bad.h5ad")
    (run.folder / "config/slices.tsv").write_text("slice\tmodality\tpath\ns1\trna\tbad.h5ad\n")
    done = run.snakemake("results/qc/s1.rna.h5ad", *SUBMIT, "--retries", "0", cores=None)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "InputError: bad.h5ad: X holds values that are no whole numbers" in text
    assert "Hint: put the raw counts into" in text
    assert "Traceback" not in text
    (job,) = slurm.jobs(run.folder)
    assert job["JobState"] == "FAILED"
    assert job["StdOut"] in text
