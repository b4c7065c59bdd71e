"""What goes wrong in the middle of a run: nothing half-written is taken for good, and a rerun ends the same."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from chain import THREE_SLICES
from running import Checkout, weights

pytestmark = pytest.mark.slow

# Two slices, for fewer jobs: s2 lacks a modality.
DESIGN = THREE_SLICES | {"slices": {"s1": ["rna", "adt"], "s2": ["adt"]}}
MODEL = "results/spamosaic/seed-1234/model.safetensors"
CHECKPOINT = "results/spamosaic/seed-1234/checkpoint.safetensors"
CONFIG = """
slices: config/slices.tsv
modalities: {rna: {kind: rna}, adt: {kind: protein}}
train: {T: 0.1, n_epochs: 600, checkpoint_every: 20, threads: 1}
cluster: {n_domains: 3}
truth: domain
"""


TARGETS = [MODEL, "results/spamosaic/seed-1234/domains.tsv"]
# What a run leaves: its results, and what Snakemake knows of how they were made.
KEPT = ("results", ".snakemake/metadata")


class Undisturbed(NamedTuple):
    """A finished run, whose results can be put back, and the bits that every other run must end with."""

    run: Checkout
    kept: Path
    weights: dict[str, bytes]
    domains: bytes


@pytest.fixture(scope="module")
def undisturbed(make_checkout, tmp_path_factory) -> Undisturbed:
    """A small mosaic of a user's files, run to the domains."""
    run = make_checkout()
    run.simulate(DESIGN, CONFIG)
    done = run.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = tmp_path_factory.mktemp("kept")
    for part in KEPT:
        shutil.copytree(run.folder / part, kept / part)
    return Undisturbed(run, kept, weights(run.folder / MODEL), (run.folder / TARGETS[1]).read_bytes())


@pytest.fixture
def finished(undisturbed) -> Checkout:
    """The run with all results in place; in its folder, as Snakemake knows the library by its path."""
    for part in KEPT:
        shutil.rmtree(undisturbed.run.folder / part)
        shutil.copytree(undisturbed.kept / part, undisturbed.run.folder / part)
    return undisturbed.run


@pytest.fixture
def before_training(finished) -> Checkout:
    shutil.rmtree(finished.folder / "results/spamosaic")
    return finished


@pytest.fixture
def before_all(finished) -> Checkout:
    shutil.rmtree(finished.folder / "results")
    return finished


def assert_same(run: Checkout, undisturbed: Undisturbed) -> None:
    """Weights and domains to the bit, and nothing half-written beside them."""
    assert weights(run.folder / MODEL) == undisturbed.weights
    assert (run.folder / TARGETS[1]).read_bytes() == undisturbed.domains
    assert not list((run.folder / "results").rglob("*.unfinished"))
    assert not (run.folder / CHECKPOINT).exists()


def started(run: Checkout, *targets: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *targets]
    return subprocess.Popen(command, cwd=run.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)


def training_of(process: subprocess.Popen) -> psutil.Process:
    """The process that trains, somewhere below Snakemake."""
    (found,) = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.cmdline() and child.cmdline()[-1].endswith("train.py") and "python" in child.name()
    ]
    return found


def test_a_training_that_is_killed_goes_on(before_training, undisturbed):
    process = started(before_training, *TARGETS)
    wait_for(before_training.folder / CHECKPOINT, process)
    training_of(process).kill()
    text = process.communicate()[0]
    assert process.returncode != 0
    assert "SIGKILL" in text or "signal 9" in text or "exit status 137" in text
    assert "results/logs/train/seed-1234.log" in text
    assert not (before_training.folder / MODEL).exists()
    done = before_training.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming after epoch" in done.stdout + done.stderr
    assert_same(before_training, undisturbed)


def test_a_training_that_is_killed_begins_anew_with_fewer_epochs(before_training):
    """Fewer than the checkpoint may have: the weights are those of an undisturbed run."""
    config = before_training.folder / "config/config.yaml"
    process = started(before_training, MODEL)
    wait_for(before_training.folder / CHECKPOINT, process)
    training_of(process).kill()
    process.communicate()
    try:
        config.write_text(CONFIG.replace("n_epochs: 600", "n_epochs: 20"))
        done = before_training.snakemake(MODEL)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "has other data, settings or versions: training starts from the beginning" in done.stdout + done.stderr
        found = weights(before_training.folder / MODEL)
        shutil.rmtree(before_training.folder / "results/spamosaic")
        assert before_training.snakemake(MODEL).returncode == 0
        assert weights(before_training.folder / MODEL) == found
    finally:
        config.write_text(CONFIG)


def test_a_damaged_model_is_named_and_made_anew_once_deleted(finished, undisturbed):
    path = finished.folder / MODEL
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    (finished.folder / "results/spamosaic/seed-1234/embedding.h5mu").unlink()
    done = finished.snakemake(*TARGETS)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert f"{MODEL}: can't be read as a model" in text
    assert "delete this file and run again" in text
    assert "Traceback" not in text
    path.unlink()
    done = finished.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same(finished, undisturbed)


def test_a_snakemake_that_is_killed_leaves_nothing_behind_that_harms(before_training, undisturbed):
    process = started(before_training, *TARGETS)
    wait_for(before_training.folder / CHECKPOINT, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # The training may still run: the next run takes no notice.
    locked = before_training.snakemake(*TARGETS)
    assert locked.returncode != 0
    assert "--unlock" in locked.stdout + locked.stderr
    assert before_training.snakemake("--unlock", *TARGETS).returncode == 0
    done = before_training.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same(before_training, undisturbed)


@pytest.mark.parametrize("name", ["graph/rna.h5ad", "reduced/adt.h5ad", "qc/s1.rna.h5ad"])
def test_a_truncated_file_is_named_and_made_anew_once_deleted(before_training, name):
    path = before_training.folder / "results" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    done = before_training.snakemake(*TARGETS)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert f"results/{name}: is damaged" in text
    assert "delete this file and run again" in text
    assert "Traceback" not in text
    path.unlink()
    done = before_training.snakemake(f"results/{name}")
    assert done.returncode == 0, done.stdout + done.stderr
    # To the bit: what is made of it is the same as in the other tests, too.
    assert path.read_bytes() == whole


def test_an_input_that_goes_away_is_named(before_all, undisturbed, tmp_path):
    run = before_all
    raw, away = run.folder / "user/s2.adt.h5ad", tmp_path / "away.h5ad"
    process = started(run, "results/qc/s1.rna.h5ad", "results/qc/s2.adt.h5ad", *TARGETS)
    # Jobs have begun, so the sheet was checked with all files there.
    wait_for(run.folder / "results", process)
    shutil.move(raw, away)
    text = process.communicate()[0]
    assert process.returncode != 0
    assert "user/s2.adt.h5ad" in text
    assert "Traceback" not in text
    assert not (run.folder / "results/qc/s2.adt.h5ad").exists()
    shutil.move(away, raw)
    done = run.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same(run, undisturbed)


def test_a_full_disk_is_told_and_leaves_nothing(before_all, undisturbed):
    run = before_all
    results = run.folder / "results"
    results.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(results)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a small disk can't be mounted here")
    try:
        done = run.snakemake(*TARGETS)
        text = done.stdout + done.stderr
        assert done.returncode == 1
        assert "the disk is full" in text, text
        assert "Hint: free space, then run again" in text
        assert not list(results.rglob("*.unfinished"))
        subprocess.run(["mount", "-o", "remount,size=200m", str(results)], check=True)
        done = run.snakemake(*TARGETS)
        assert done.returncode == 0, done.stdout + done.stderr
        assert_same(run, undisturbed)
    finally:
        subprocess.run(["umount", str(results)], check=True)
