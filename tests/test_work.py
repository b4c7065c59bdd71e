"""Counts of work, which are the same on any machine: what jobs load and how many there are, rows, products, calls."""

import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from chain import small_graph
from running import REPOSITORY, jobs_per_rule
from scipy import sparse

from mosaic import blocks, manhattan, mnn, store
from mosaic.analyse import export
from mosaic.analyse.intervals import LAYERS
from mosaic.integrate import encoders, model

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


def test_embedding_propagates_once_and_reconstructs_nothing(monkeypatch):
    graphs = {name: small_graph(["s1", "s2"], seed=seed) for seed, name in enumerate(("rna", "adt"))}
    made = {name: encoder.eval() for name, encoder in model.new_encoders(graphs, seed=0).items()}
    propagated, propagate = [], encoders.Propagation.forward
    monkeypatch.setattr(
        encoders.Propagation, "forward", lambda self, *given: propagated.append(self) or propagate(self, *given)
    )
    for encoder in made.values():
        encoder.decoder.register_forward_hook(lambda *_: pytest.fail("a reconstruction, which nobody asked for"))
    model.embed(graphs, made)
    assert propagated == [encoder.propagation for encoder in made.values()]


def test_mutual_neighbours_take_each_distance_once(monkeypatch):
    pairs, scan = [], manhattan.scan_both
    monkeypatch.setattr(manhattan, "scan_lists", lambda *_: pytest.fail("a search one way"))
    monkeypatch.setattr(
        manhattan,
        "scan_both",
        lambda rows, columns, *more: pairs.append(len(rows) * columns.size) or scan(rows, columns, *more),
    )
    rng = np.random.default_rng(0)
    mnn.mutual_nearest_neighbors(rng.normal(size=(300, 8)), rng.normal(size=(200, 8)), 5)
    assert sum(pairs) == 300 * 200 * 8


def test_export_holds_one_block_of_a_matrix_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 60)
    path, spots = tmp_path / "s1.adt.h5ad", [f"s1:{number}" for number in range(50)]
    values = sparse.csr_matrix(np.ones((50, 6), np.float32))
    adata = ad.AnnData(obs=pd.DataFrame({"slice": "s1"}, index=spots), layers=dict.fromkeys(LAYERS, values))
    adata.write_h5ad(path)
    written, append = [], export.append_block
    monkeypatch.setattr(
        export,
        "append_block",
        lambda group, name, block, *most, **kept: (
            written.append((name, block.shape)) or append(group, name, block, *most, **kept)
        ),
    )
    run = export.Run("spamosaic", 0, None, None, None, None, {"adt": [path]}, None)
    export.write_mudata(md.MuData({"adt_imputed": store.read_outline(path)}), {}, [run], tmp_path / "result.h5mu")
    assert written == [(name, (10, 6)) for name in ("X", *LAYERS) for _ in range(5)]
    assert (values != store.read(tmp_path / "result.h5mu")["adt_imputed"].X).nnz == 0
