"""The measurements that the documentation quotes still run; their results are in docs/."""

import ast
import sys
from pathlib import Path

import imputation
import numpy as np
import pandas as pd
import pytest
import reliability
import roofline
import speed
from chain import THREE_SLICES

import datasets
from mosaic.simulate.counts import simulate_mosaic

REPOSITORY = Path(__file__).parents[1]
PROGRAMS = sorted(
    path for folder in ("benchmarks", "workflow/benchmark/scripts") for path in (REPOSITORY / folder).glob("*.py")
)


def liberties(source: str) -> list[str]:
    """What a program takes of the library that is not its to take: private names, and modules to patch."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {
        alias.asname or alias.name
        for node in imports
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mosaic"
        for alias in node.names
    }
    taken = [alias.name for node in imports for alias in node.names if alias.name.split(".")[-1].startswith("_")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            if node.attr.startswith("_") or isinstance(node.ctx, ast.Store):
                taken.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call):
            names = [ast.unparse(node.func), *map(ast.unparse, node.args[:1])]
            if names[0] == "setattr" or "patch" in names[0].split("."):
                taken += [name for name in names[1:] if name.split(".")[0].strip("'") in {*modules, "mosaic"}]
    return taken


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_benchmarks_use_what_the_library_offers(path):
    assert liberties(path.read_text()) == []


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("impute._LEAST_GAIN", "impute._LEAST_GAIN"),
        ("impute.nearest_donors = print", "impute.nearest_donors"),
        ("setattr(impute, 'prepare', print)", "impute"),
        ("mock.patch.multiple(impute, prepare=print)", "impute"),
        ("mock.patch('mosaic.mnn.nearest')", "'mosaic.mnn.nearest'"),
        ("from mosaic.analyse.impute import _match", "_match"),
    ],
)
def test_what_a_benchmark_may_not_take_is_found(line, taken):
    assert liberties(f"from mosaic.analyse import impute\n{line}\nimpute.prepare()") == [taken]


def test_imputation_measures_every_variant(monkeypatch):
    """Each is another prediction: a setting without effect would repeat a row."""
    bridges = THREE_SLICES | {"slices": {name: ["rna", "adt"] for name in ("s1", "s2", "s3")}}
    slices = simulate_mosaic(bridges, seed=0)
    measured = slices.pop(("s2", "adt"))
    config = datasets.config_of({"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}, n_domains=3, T=0.1)
    monkeypatch.setattr(imputation, "SEEDS", (0,))
    rows = imputation.measure("small", datasets.DataSet(slices, config, ("s2", "adt"), measured))
    table = pd.DataFrame(rows).set_index("method")
    assert set(imputation.VARIANTS) <= set(table.index)
    assert table["rmse"].is_unique
    # A regression carries depth over; of ten nearest, the mean varies most.
    assert table.loc["matching", "rmse"] < table.loc["matching, no regression", "rmse"] < table.loc["published", "rmse"]


def test_speed_measures_every_stage(tmp_path):
    found = speed.measure(sys.executable, "ours", 400, 2)
    assert set(found["stages"]) == set(speed.STAGES)
    assert all(wall > 0 for wall, _ in found["stages"].values())
    assert found["peak_mib"] > found["base_mib"] > 0
    assert found["fault"] == ""


def test_speed_measures_the_whole_from_counts():
    found = speed.measure(sys.executable, "ours", 200, 1, whole=True)
    assert set(found["stages"]) == {speed.WHOLE}
    assert found["peak_mib"] > found["base_mib"] > 0
    assert found["fault"] == ""


def test_speed_keeps_a_history_of_ratios(tmp_path):
    rows = [
        (implementation, 1000, stage, cpu * factor)
        for implementation, factor in (("published", 10), ("ours", 1))
        for stage, cpu in (("spatial graph", 2.0), (speed.WHOLE, 4.0), ("clustering", 1.0))
        if (implementation, stage) != ("published", "clustering")
    ]
    table = pd.DataFrame(rows, columns=["implementation", "spots", "stage", "cpu_s"])
    limits = speed.machine()
    assert all(value > 0 for value in limits.values())
    for _ in range(2):
        speed.record(table, limits, tmp_path / "history.tsv")
    history = pd.read_csv(tmp_path / "history.tsv", sep="\t")
    assert len(history) == 4
    assert (history["ratio"] == 10).all()
    assert set(history["stage"]) == {"spatial graph", speed.WHOLE}
    assert {"commit", "spots", *limits} < set(history)


def test_a_kernel_takes_longer_than_its_least_work():
    found = roofline.kernels(400)
    # The forward products of the encoder once, and twice more for the gradients, but for the input's.
    forward = 2 * 800 * (150 * 128 + 128 * 32 + 32 * 50)
    assert 2.1 * forward < found["encoder's step"].products < 3 * forward
    # Rates of no machine: a work of each kind takes a second, and a sum as long as two operations of a product.
    rates = {"gemm_gflops": 1e-9, "exp_g": 1e-9, "copy_gb": 1e-9}
    assert roofline.Kernel(print, products=1, exponentials=1, traffic=1, sums=1).least_seconds(rates) == pytest.approx(
        5
    )
    for name, kernel in found.items():
        kernel.call()
        assert kernel.least_seconds(rates) > 0, name


def test_speed_shows_who_ran_out_of_memory(tmp_path):
    rows = []
    for implementation, factor in (("published", 10), ("ours", 1)):
        for spots in (1000, 2000, 4000):
            lost = implementation == "published" and spots == 4000
            for stage in ("spatial graph", "training epoch"):
                wall = np.nan if lost and stage == "training epoch" else factor * spots / 1000
                rows.append(
                    (implementation, spots, 0, 400, 400 + spots * factor, "out of memory" * lost, stage, wall, wall)
                )
    columns = ["implementation", "spots", "repeat", "base_mib", "peak_mib", "fault", "stage", "wall_s", "cpu_s"]
    table = pd.DataFrame(rows, columns=columns)
    text = speed.summary(table)
    assert "| training epoch | 2,000 | 20 s | 2 s | 10 |" in text
    assert "| training epoch | 4,000 | out of memory | 4 s | – |" in text
    assert "| memory over imports and data | 4,000 | out of memory | 4e+03 MiB | – |" in text
    assert "- training epoch: 1.00" in text
    speed.draw(table, tmp_path / "speed.svg")
    assert (tmp_path / "speed.svg").stat().st_size > 1000


def test_reliability_counts_who_is_right():
    names = [f"s1:{number}" for number in range(8)]
    table = pd.DataFrame(
        {
            "domain": [1, 1, 1, 0, 0, 0, 0, 0],
            "probability": 0.95,
            "agreement": [0.5] * 4 + [np.nan] * 4,
            "confidence": [0.4] * 4 + [0.95] * 4,
        },
        index=names,
    )
    truth = pd.Series(["a", "a", "b", "b", "b", "b", "b", None], index=names)
    found = reliability.reliability(table, truth).set_index(["spots", "by", "up_to"])
    assert found.loc[("checked", "probability", 1.0)].tolist() == [0.75, 4]
    assert found.loc[("checked", "confidence", 0.5)].tolist() == [0.75, 4]
    assert found.loc[("all", "confidence", 1.0)].tolist() == [1, 3]
    assert found.loc[("all", "confidence", 0.9), "n_spots"] == 0
