"""Measure batch correction on the benchmark's data sets, paired over seeds: a table of docs/measurements.md.

    .venv/bin/python benchmarks/batch_correction.py OUT.tsv [--data DATA] [DATASET ...]

Without ``--data``, the simulated data sets alone. One thread per process; run two parts side by side on two cores.
"""

import argparse
import time
import warnings
from pathlib import Path

import library  # noqa: F401
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

import datasets
from mosaic.config.schema import read_yaml, with_changes
from mosaic.pipeline import Pipeline
from mosaic.simulate.counts import simulate_mosaic
from mosaic.simulate.design import read_design

ROOT = Path(__file__).parents[1]
SEEDS = datasets.SEEDS
# What is compared: harmonypy with its own tolerance, which ends after a round or two; Harmony until it converges; auto.
CHOICES = {
    "stopped": {"batch_correction": {"harmony": {"epsilon": 0.01, "max_iter": 10}}},
    "converged": {"batch_correction": "harmony"},
    "auto": {"batch_correction": "auto"},
    "auto, 5,000 genes": {"batch_correction": "auto", "n_top_features": 5000},
}
METRICS = ("ARI", "iLISI", "iLISI within shared domains")


def load(spec: dict, data: Path | None) -> Pipeline:
    """A run on a data set of config/benchmark.yaml."""
    if "simulate" in spec:
        design = with_changes(read_design(ROOT / "resources" / "demo.yaml"), spec["simulate"])
        design["slices"] = {key: [*own, *spec["hidden"].get(key, [])] for key, own in spec["slices"].items()}
        made = simulate_mosaic(design, seed=1234)
        slices = {(key, modality): made[key, modality] for key, own in spec["slices"].items() for modality in own}
    else:
        slices = getattr(datasets, spec["published"])(data, **spec.get("arguments", {})).slices
    return Pipeline.from_slices(slices, with_changes(spec["config"], {"train": datasets.ALONE, "truth": "domain"}))


def measure(name: str, default: Pipeline) -> list[dict]:
    """All choices and seeds on one data set; a choice that gives the features of another is not trained again."""
    rows, known = [], {}
    for choice, changes in CHOICES.items():
        kinds = {modality: own["kind"] for modality, own in default.config["modalities"].items()}
        if "n_top_features" in changes and "epigenome" in kinds.values():
            continue  # it would choose among peaks, too
        # All proteins are kept.
        own = {
            name: {key: changes[key] for key in changes if key != "n_top_features" or kinds[name] == "rna"}
            for name in kinds
        }
        run = default.changed({"modalities": own})
        reduced = run.reduced()
        features = tuple(adata.obsm["X_corrected"].tobytes() for adata in reduced.values())
        methods = "+".join(str(adata.uns["batch_correction"]["method"]) for adata in reduced.values())
        first = known.setdefault(features, run)
        for seed in SEEDS:
            begun = time.monotonic()
            rows.append({"data": name, "choice": choice, "methods": methods, "seed": seed} | score(first, seed))
            print(*rows[-1].values(), f"{time.monotonic() - begun:.0f} s", sep="\t", flush=True)
    return rows


def score(run: Pipeline, seed: int) -> dict[str, float]:
    """The metrics of one seed."""
    truth, labels = run.truth(), run.domains(seed)["domain"]
    found = truth.notna().to_numpy()
    mixed = run.metrics(seed).set_index(["metric", "scope"])["value"]
    values = (adjusted_rand_score(truth[found], labels[found]), *(mixed[metric, "all"] for metric in METRICS[1:]))
    return dict(zip(METRICS, map(float, values), strict=True))


def summary(table: pd.DataFrame) -> str:
    """Markdown: means and standard deviations over seeds, data sets x choices, for each metric."""
    lines = []
    for metric in METRICS:
        lines += [f"\n| {metric} | {' | '.join(CHOICES)} |", "|---" * (len(CHOICES) + 1) + "|"]
        for name, own in table.groupby("data", sort=False):
            groups = own.groupby("choice")[metric]
            mean, spread = groups.mean(), groups.std()
            cells = [f"{mean[key]:.3f} ± {spread[key]:.3f}" if key in mean else "" for key in CHOICES]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    known = read_yaml(ROOT / "config" / "benchmark.yaml")["datasets"]
    names = asked.names or [name for name, spec in known.items() if asked.data or "simulate" in spec]
    found = [row for name in names for row in measure(name, load(known[name], asked.data))]
    table = pd.DataFrame(found).replace({None: np.nan})
    table.to_csv(asked.out, sep="\t", index=False, float_format="%.6g")
    print(summary(table))
