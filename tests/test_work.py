"""Counts of work, which are the same on any machine: what the jobs of the demo load, and how many there are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import REPOSITORY, jobs_per_rule

# Rooms that many short jobs import, and packages that take these jobs from half a second to three without need.
LEAN = {
    "mosaic.figures.charts": {"anndata", "scipy.stats", "seaborn", "matplotlib.pyplot"},
    "mosaic.prepare.qc, mosaic.prepare.normalize": {"scanpy", "muon", "numba", "matplotlib", "sklearn"},
    "mosaic.analyse.domains, mosaic.analyse.impute": {"igraph", "numba", "matplotlib", "scanpy"},
    "mosaic.check.scores": {"torch", "scanpy", "matplotlib"},
    "mosaic.tables": {"anndata", "mudata", "scipy"},
}


@pytest.mark.parametrize("rooms", LEAN)
def test_a_short_job_loads_no_package_that_it_does_without(rooms):
    code = f"import sys, {rooms}\nprint(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    loaded = set(done.stdout.split())
    assert set(rooms.split(", ")) <= loaded
    assert not LEAN[rooms] & loaded


def test_the_demo_takes_no_more_jobs_than_it_did(tmp_path):
    """A new figure or table may raise this number: that it does should be known."""
    here = Path.cwd()
    (tmp_path / "config").symlink_to(REPOSITORY / "config")
    try:
        jobs = jobs_per_rule(tmp_path)
    finally:
        os.chdir(here)
    assert sum(jobs.values()) <= 66
    assert jobs["holdout_fold"] == 6
