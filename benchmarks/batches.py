"""Batches: a step for each, or one for the gradient of them all? Quality by steps and time, for docs/measurements.md.

    .venv/bin/python benchmarks/batches.py OUT.tsv [DATA]

On the demo's design with larger slices (17,700 spots each), and on the lymph node of DATA, whose slices are then taken
in batches as if they were large. One thread.
"""

import sys
import time
from pathlib import Path

import library  # noqa: F401
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import adjusted_rand_score

from datasets import DataSet, config_of, split_lymph_node
from mosaic import embedding
from mosaic.analyse import domains, metrics
from mosaic.integrate import batches, model, training
from mosaic.pipeline import Pipeline
from mosaic.simulate.counts import simulate_mosaic
from mosaic.simulate.design import read_design

SEEDS = (0, 1, 2)
BATCH = {"full_batch_max": 100, "batch_size": 1024}
# Epochs: of one step each, and of a step for each batch.
EPOCHS = {"one step an epoch": (30, 100), "a step a batch": (3, 10, 30)}


def demo(**grid: int) -> DataSet:
    """The demo, with so many ``rows`` and ``columns`` of places a slice."""
    design = read_design(Path(__file__).parents[1] / "resources" / "demo.yaml")
    design["grid"] |= grid
    config = config_of({"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}, n_domains=5, T=0.1)
    config["qc"] = {modality: {"min_counts": 100} for modality in config["modalities"]}
    return DataSet(simulate_mosaic(design, seed=7), config)


def fit_accumulated(graphs, *, seed: int, n_epochs: int, T: float) -> dict:
    """Train with one step an epoch, along the mean gradient of its batches."""
    encoders = model.new_encoders(graphs, seed=seed)
    steps = batches.Batches(graphs, encoders, seed=seed, **BATCH)
    weights = [weight for encoder in encoders.values() for weight in encoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.01, weight_decay=5e-4)
    for _ in range(n_epochs):
        optimizer.zero_grad()
        for batch in steps:
            (sum(training.losses_of(batch, encoders, T=T)) / steps.n_steps).backward()
        optimizer.step()
    training.settle_batch_norm(encoders, steps)
    return {name: encoder.eval() for name, encoder in encoders.items()}


def main(out: str, data: str | None) -> None:
    """All seeds and lengths, one line each."""
    torch.set_num_threads(1)
    made = {"large demo": lambda: demo(rows=150, columns=150)} | (
        {"lymph node": lambda: split_lymph_node(Path(data))} if data else {}
    )
    rows = []
    for name, make in made.items():
        dataset = make()
        run = Pipeline.from_slices(dataset.slices, dataset.config)
        graphs, truth, T = run.graphs(), run.truth(), run.config["train"]["T"]
        known, n_domains = truth.notna().to_numpy(), run.config["cluster"]["n_domains"]
        n_steps = batches.Batches(graphs, model.new_encoders(graphs, seed=0), **BATCH).n_steps
        for seed in SEEDS:
            for way, lengths in EPOCHS.items():
                for n_epochs in lengths:
                    begun = time.perf_counter()
                    if way == "one step an epoch":
                        encoders = fit_accumulated(graphs, seed=seed, n_epochs=n_epochs, T=T)
                    else:
                        settings = BATCH | {"seed": seed, "n_epochs": n_epochs, "T": T, "device": "cpu"}
                        encoders, _ = training.fit(graphs, **settings)
                    seconds = time.perf_counter() - begun
                    mdata = model.embed(graphs, encoders)
                    labels = domains.cluster_domains(mdata.obsm[embedding.LATENT], n_domains=n_domains).labels
                    table = metrics.evaluate(mdata, np.zeros(mdata.n_obs, int), None)
                    values = table.groupby("metric")["value"].mean()[["iLISI", metrics.TRAINING_PAIRS]].to_dict()
                    values["ARI"] = adjusted_rand_score(truth[known], labels[known])
                    steps = n_epochs * (1 if way == "one step an epoch" else n_steps)
                    rows.append({"data": name, "way": way, "steps": steps, "seed": seed, "seconds": seconds} | values)
                    print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(out, sep="\t", index=False, float_format="%.4f")
    print(table.groupby(["data", "way", "steps"]).agg(["mean", "std"]).drop(columns="seed").round(3).to_string())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
