"""Measure the design choices on data with truth, paired over seeds: the tables of choices in docs/measurements.md.

    .venv/bin/python benchmarks/choices.py DATA OUT.tsv [DATASET ...]

One thread per process; run two data sets side by side on two cores. The approximate search needs ``annoy==1.17.3``.
"""

import sys
import time
import warnings
from pathlib import Path

import library  # noqa: F401
import mudata as md
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from datasets import SEEDS, DataSet, with_truth
from mosaic.analyse import domains, metrics
from mosaic.config.defaults import PUBLISHED, PUBLISHED_KINDS
from mosaic.embedding import LATENT
from mosaic.integrate import graph, model, training
from mosaic.pipeline import Pipeline

# What differs from the defaults in the config; "drop_first" is of chromatin, and "search" finds mutual neighbours.
CHOICES = {
    "default": {},
    "directed spatial graph": {"graph": {"symmetric": False}},
    "reconstruct queries": {"train": {"reconstruct": "queries"}},
    "K 1": {"encoder": {"K": 1}},
    "K 3": {"encoder": {"K": 3}},
    "K 4": {"encoder": {"K": 4}},
    "pairs weigh the same": {"graph": {"weight_mnn": False}},
    "pairs searched twice": {"graph": {"mnn_on_smoothed": True}},
    "approximate neighbours": {"search": "annoy"},
    "first component dropped after z-scores": {"drop_first": "after_zscore"},
    "published": {
        "graph": PUBLISHED["graph"],
        "train": PUBLISHED["train"],
        "drop_first": PUBLISHED_KINDS["epigenome"]["drop_first"],
        "search": "annoy",
    },
}
METRICS = ("ARI", "ARI, k-means", "ARI, unit rows", "iLISI", metrics.TRAINING_PAIRS)


def annoy_neighbors(first: np.ndarray, second: np.ndarray, n_neighbors: int, **_: object) -> np.ndarray:
    """Mutual neighbours as the published implementation finds them: Annoy, ten trees, Manhattan distance."""
    from annoy import AnnoyIndex

    first, second = normalize(first), normalize(second)

    def nearest(queries: np.ndarray, among: np.ndarray) -> set[tuple[int, int]]:
        index = AnnoyIndex(among.shape[1], "manhattan")
        for number, row in enumerate(among):
            index.add_item(number, row)
        index.build(10, n_jobs=1)
        return {(i, j) for i, row in enumerate(queries) for j in index.get_nns_by_vector(row, n_neighbors)}

    return np.array(sorted(nearest(first, second) & {(i, j) for j, i in nearest(second, first)}))


def score(embedding: md.MuData, run: Pipeline, seed: int) -> dict[str, float]:
    """The metrics of one run."""
    truth = run.truth()
    known = truth.notna().to_numpy()
    latent, n_domains = embedding.obsm[LATENT], run.config["cluster"]["n_domains"]

    def ari(coordinates: np.ndarray, method: str) -> float:
        labels = domains.cluster_domains(coordinates, method, n_domains=n_domains, seed=seed).labels
        return adjusted_rand_score(truth[known], labels[known])

    table = metrics.evaluate(embedding, np.zeros(len(latent), dtype=int), None).groupby("metric")["value"].mean()
    values = (
        ari(latent, "mixture"),
        ari(latent, "kmeans"),
        ari(normalize(latent), "mixture"),
        *table[list(METRICS[3:])],
    )
    return dict(zip(METRICS, map(float, values), strict=True))


def chosen(run: Pipeline, choice: dict) -> Pipeline | None:
    """The run with a choice of the config; None where it is the default, as there is no chromatin."""
    changes = {key: value for key, value in choice.items() if key not in ("drop_first", "search")}
    if "drop_first" in choice:
        kinds = {name: own["kind"] for name, own in run.config["modalities"].items()}
        own = {name: {"drop_first": choice["drop_first"]} for name, kind in kinds.items() if kind == "epigenome"}
        if not own and len(choice) == 1:
            return None
        changes |= {"modalities": own} if own else {}
    return run.changed(changes)


def measure(name: str, dataset: DataSet) -> list[dict]:
    """All choices and seeds on one data set."""
    default, rows = Pipeline.from_slices(dataset.slices, dataset.config), []
    for label, choice in CHOICES.items():
        run = chosen(default, choice)
        if run is None:
            continue
        graphs = run.graphs()
        if "search" in choice:
            graphs = {
                key: graph.build_graph(
                    adata,
                    adata.obsm["X_corrected"],
                    run.sheet.mnn_pairs(key),
                    search=annoy_neighbors,
                    **run.config["graph"],
                )
                for key, adata in run.reduced().items()
            }
        settings = {key: value for key, value in run.config["train"].items() if key != "threads"}
        for seed in SEEDS:
            begun = time.monotonic()
            encoders, _ = training.fit(graphs, seed=seed, encoder=run.config["encoder"], **settings)
            found = score(model.embed(graphs, encoders), run, seed)
            rows.append({"data": name, "choice": label, "seed": seed} | found)
            print(*rows[-1].values(), f"{time.monotonic() - begun:.0f} s", sep="\t", flush=True)
    return rows


def summary(table: pd.DataFrame) -> str:
    """Markdown: the default's values, and of each choice the paired differences, mean ± standard deviation."""
    lines = []
    for metric in METRICS:
        wide = table.pivot_table(index=["data", "seed"], columns="choice", values=metric).reindex(columns=CHOICES)
        sets = list(dict.fromkeys(table["data"]))
        lines += [f"\n| {metric} | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
        for choice in CHOICES:
            cells = []
            for name in sets:
                values = wide.loc[name, choice] - (0 if choice == "default" else wide.loc[name, "default"])
                sign = "" if choice == "default" else "+"
                cells.append(f"{values.mean():{sign}.3f} ± {values.std():.3f}" if values.notna().all() else "–")
            lines.append(f"| {choice} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    makers = with_truth(Path(sys.argv[1]))
    found = [row for name in sys.argv[3:] or makers for row in measure(name, makers[name]())]
    table = pd.DataFrame(found)
    table.to_csv(sys.argv[2], sep="\t", index=False, float_format="%.6g")
    print(summary(table))
