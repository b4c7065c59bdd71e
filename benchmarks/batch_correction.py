"""Measure batch correction on the benchmark's data sets, paired over seeds: a table of docs/measurements.md.

    .venv/bin/python benchmarks/batch_correction.py OUT.tsv [--data DATA] [DATASET ...]

Without ``--data``, the simulated data sets alone. One thread per process; run two parts side by side on two cores.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from sklearn.metrics import adjusted_rand_score

import datasets
from mosaic import embedding, mixing, spots
from mosaic.analyse import domains
from mosaic.prepare import qc
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


def load(name: str, spec: dict, data: Path | None) -> datasets.Mosaic:
    """A data set of config/benchmark.yaml as the workflow would see it, after quality control."""
    config = spec["config"]
    kinds = {modality: own["kind"] for modality, own in config["modalities"].items()}
    if "simulate" in spec:
        design = datasets.changed(read_design(ROOT / "resources" / "demo.yaml"), spec["simulate"])
        design["slices"] = {key: [*own, *spec["hidden"].get(key, [])] for key, own in spec["slices"].items()}
        mosaic = datasets.simulated(design, kinds, seed=1234)
        shown = {(key, modality) for key, own in spec["slices"].items() for modality in own}
        mosaic = mosaic._replace(slices={key: adata for key, adata in mosaic.slices.items() if key in shown})
    else:
        mosaic = getattr(datasets, spec["published"])(data, **spec.get("arguments", {}))
    thresholds = {modality: {"mito_prefix": "mt-"} | own for modality, own in config.get("qc", {}).items()}
    slices = {
        (key, modality): qc.filter_slice(adata, **thresholds.get(modality, {"min_counts": 1}))[0]
        for (key, modality), adata in mosaic.slices.items()
    }
    return mosaic._replace(slices=slices)


def measure(name: str, mosaic: datasets.Mosaic) -> list[dict]:
    """All choices and seeds on one data set; a choice that gives the features of another is not trained again."""
    rows, known = [], {}
    for choice, changed in CHOICES.items():
        if "n_top_features" in changed and "epigenome" in mosaic.kinds.values():
            continue  # it would choose among peaks, too
        reduced = mosaic.reduced(**changed)
        features = tuple(adata.obsm["X_corrected"].tobytes() for adata in reduced.values())
        methods = "+".join(str(adata.uns["batch_correction"]["method"]) for adata in reduced.values())
        graphs = None if features in known else mosaic.graphs(reduced)
        for seed in SEEDS:
            begun = time.monotonic()
            if graphs is not None:
                known.setdefault(features, {})[seed] = score(graphs, mosaic, seed)
            rows.append({"data": name, "choice": choice, "methods": methods, "seed": seed} | known[features][seed])
            print(*rows[-1].values(), f"{time.monotonic() - begun:.0f} s", sep="\t", flush=True)
    return rows


def score(graphs: dict, mosaic: datasets.Mosaic, seed: int) -> dict[str, float]:
    """The metrics of one run."""
    mdata = datasets.fit_embed(graphs, seed=seed, T=mosaic.T)
    latent, slices = mdata.obsm[embedding.LATENT], mdata.obs["slice"].to_numpy(dtype=str)
    truth = spots.annotation({key: adata.obs for key, adata in graphs.items()}, mdata.obs_names, "domain")
    found = truth.notna().to_numpy()
    labels = domains.cluster_domains(latent, "mixture", n_domains=mosaic.n_domains, seed=seed).labels
    values = (
        adjusted_rand_score(truth[found], labels[found]),
        mixing.ilisi(latent, slices),
        mixing.ilisi_within(latent, slices, truth),
    )
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
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    known = yaml.safe_load((ROOT / "config" / "benchmark.yaml").read_text())["datasets"]
    names = asked.names or [name for name, spec in known.items() if asked.data or "simulate" in spec]
    found = [row for name in names for row in measure(name, load(name, known[name], asked.data))]
    table = pd.DataFrame(found).replace({None: np.nan})
    table.to_csv(asked.out, sep="\t", index=False, float_format="%.6g")
    print(summary(table))
