"""Measure imputation against held-out counts and baselines, over seeds: a table of docs/measurements.md.

    .venv/bin/python benchmarks/imputation.py DATA OUT.tsv

Every method predicts the same spots from the same slices. Baselines: the mean profile of the bridge slice; the mean of
its 10 spatially nearest spots (in the simulation alone, where both lie in one frame); that of the 10 and 30 nearest in
Harmony's space, without spatial edges; linear regression of counts on counts. Bounds: the mean profile of each spot's
true domain, and the same where the two domains that the source can hardly tell apart count as one.
"""

import sys
import warnings
from itertools import combinations
from pathlib import Path

import library  # noqa: F401
import mudata as md
import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from datasets import SEEDS, DataSet, with_hidden_counts
from mosaic import matrices
from mosaic.analyse import impute, metrics
from mosaic.analyse.donors import nearest_donors
from mosaic.config.defaults import PUBLISHED
from mosaic.pipeline import Pipeline
from mosaic.prepare.read import read_slice

NEAREST = {"method": "nearest", "n_neighbors": 10}
# Of the default way, one part at a time left out or changed: settings of the imputation.
VARIANTS = {
    "matching": {},
    "matching, not smoothed": {"smooth_neighbors": 0},
    "matching, not corrected for hubs": {"candidates": 1},
    "matching, no regression": {"least_gain": np.inf},
    "matching, 10 donors": {"n_neighbors": 10},
    "matching, 25 donors": {"n_neighbors": 25},
    "nearest, on our embedding": NEAREST,
}
METRICS = {
    "pearson_feature": "Pearson per feature, more is better",
    "pearson_spot": "Pearson per spot, more is better",
    "cmd_spot": "CMD between spots, less is better",
    "cmd_feature": "CMD between features, less is better",
}
BASELINES = ("mean profile", "spatially nearest", "Harmony, 10 nearest", "Harmony, 30 nearest", "linear regression")
BOUNDS = ("true domain's profile", "profile of what the source can tell")


def baselines(run: Pipeline, hidden: tuple[str, str], spots: pd.Index) -> dict[str, np.ndarray]:
    """Predictions without a trained model (spots x features)."""
    name, modality = hidden
    sheet, slices, reduced = run.sheet, run.slices(), run.reduced()
    (source,) = sheet.modalities_of(name)
    bridge = next(key for key in sheet.bridges if modality in sheet.modalities_of(key))
    donors, seen, queries = (slices[key] for key in ((bridge, modality), (bridge, source), (name, source)))
    both = donors.obs_names[donors.obs_names.isin(seen.obs_names) & donors.obs_names.isin(reduced[source].obs_names)]
    counts, seen, queries = donors[both].layers["counts"], seen[both], queries[spots]
    latent = pd.DataFrame(reduced[source].obsm["X_corrected"], index=reduced[source].obs_names)
    made = {"mean profile": np.tile(np.asarray(counts.mean(axis=0)), (len(spots), 1))}
    if name == "s1b":
        near = nearest_donors(queries.obsm["spatial"], seen.obsm["spatial"], 10)
        made["spatially nearest"] = near @ counts.toarray()
    for k in (10, 30):
        near = nearest_donors(latent.loc[spots].to_numpy(), latent.loc[both].to_numpy(), k)
        made[f"Harmony, {k} nearest"] = near @ counts.toarray()
    X, X_queries = (adata.layers["counts"].toarray() for adata in (seen, queries))
    made["linear regression"] = LinearRegression().fit(X, counts.toarray()).predict(X_queries)
    domains, wanted = (adata.obs["domain"].astype(str).to_numpy() for adata in (seen, queries))
    made[BOUNDS[0]] = _profiles(counts.toarray(), domains, wanted)
    if name == "s1b":
        means = {key: np.log1p(X)[domains == key].mean(axis=0) for key in np.unique(domains)}
        one, other = min(combinations(means, 2), key=lambda pair: np.linalg.norm(means[pair[0]] - means[pair[1]]))
        told = [np.where(labels == one, other, labels) for labels in (domains, wanted)]
        made[BOUNDS[1]] = _profiles(counts.toarray(), *told)
    return made


def _profiles(counts: np.ndarray, domains: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Mean counts of the donors of each wanted domain, of all donors where it has none."""
    means = {key: counts[domains == key].mean(axis=0) for key in np.unique(domains)}
    return np.array([means.get(key, counts.mean(axis=0)) for key in wanted])


def measure(name: str, dataset: DataSet) -> list[dict]:
    """All methods and seeds on one data set."""
    run = Pipeline.from_slices(dataset.slices, dataset.config)
    published_run = run.changed({"graph": PUBLISHED["graph"], "train": PUBLISHED["train"]})
    slice_name, modality = dataset.hidden
    measured = read_slice(dataset.measured, slice_name, run.config["modalities"][modality]["kind"])
    (source,) = run.sheet.modalities_of(slice_name)
    asked = run.passed()[slice_name, source].adata.obs_names
    spots = asked[asked.isin(measured.obs_names)]
    truth = measured[spots].layers["counts"].toarray()
    rows = []

    def add(method: str, seed: int | None, values: np.ndarray) -> None:
        scores = metrics.imputation_scores(values, truth)
        rows.append({"data": name, "method": method, "seed": seed} | scores)

    for method, values in baselines(run, dataset.hidden, spots).items():
        add(method, None, values)

    def imputed(embedding: md.MuData, **settings: object) -> np.ndarray:
        done = impute.impute_modality(embedding, slice_name, modality, run.counts(), **settings)
        return matrices.dense(done[spots].layers["imputed"])

    for seed in SEEDS:
        add("published", seed, imputed(published_run.embedding(seed), **NEAREST))
        for method, settings in VARIANTS.items():
            add(method, seed, imputed(run.embedding(seed), **settings))
        print(name, seed, flush=True)
    return rows


def summary(table: pd.DataFrame) -> str:
    """Markdown: means over seeds and the two simulations, and the largest standard deviation over seeds of any cell."""
    lines = []
    spreads = table.groupby(["method", "data"])[list(METRICS)].std().max()
    table = table.assign(data=table["data"].str.replace(r"simulation \d", "simulation", regex=True))
    sets = list(dict.fromkeys(table["data"]))
    for metric, meaning in METRICS.items():
        mean = table.groupby(["method", "data"])[metric].mean().unstack()
        heading = f"{meaning} (± {spreads[metric]:.3f} over seeds at most)"
        lines += [f"\n| {heading} | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
        for method in ("published", *BASELINES, *VARIANTS, *BOUNDS):
            cells = [f"{mean.loc[method].get(key, np.nan):.3f}".replace("nan", "–") for key in sets]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    found = [row for name, make in with_hidden_counts(Path(sys.argv[1])).items() for row in measure(name, make())]
    table = pd.DataFrame(found)
    table.to_csv(sys.argv[2], sep="\t", index=False, float_format="%.6g")
    print(summary(table))
