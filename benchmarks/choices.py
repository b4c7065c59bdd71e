"""Measure the design choices on data with truth, paired over seeds: the tables of choices in docs/measurements.md.

    .venv/bin/python benchmarks/choices.py DATA OUT.tsv [DATASET ...]

One thread per process; run two data sets side by side on two cores. The approximate search needs ``annoy==1.17.3``.
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from datasets import PUBLISHED_GRAPH, PUBLISHED_TRAINING, SEEDS, fit_embed, with_truth
from mosaic import spots
from mosaic.analyse import domains, metrics
from mosaic.config.defaults import PUBLISHED_KINDS
from mosaic.embedding import LATENT


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


# What differs from the defaults: in reduction, graph and training.
CHOICES = {
    "default": {},
    "directed spatial graph": {"symmetric": False},
    "reconstruct queries": {"reconstruct": "queries"},
    "K 1": {"encoder": {"K": 1}},
    "K 3": {"encoder": {"K": 3}},
    "K 4": {"encoder": {"K": 4}},
    "pairs weigh the same": {"weight_mnn": False},
    "pairs searched twice": {"mnn_on_smoothed": True},
    "approximate neighbours": {"search": annoy_neighbors},
    "first component dropped after z-scores": {"drop_first": "after_zscore"},
    "published": PUBLISHED_GRAPH
    | PUBLISHED_TRAINING
    | {"drop_first": PUBLISHED_KINDS["epigenome"]["drop_first"], "search": annoy_neighbors},
}
OF_GRAPH = ("mnn_on_smoothed", "weight_mnn", "symmetric", "search")
METRICS = ("ARI", "ARI, k-means", "ARI, unit rows", "iLISI", metrics.TRAINING_PAIRS)


def score(mdata, graphs, n_domains: int, seed: int) -> dict[str, float]:
    """The metrics of one run."""
    truth = spots.annotation({name: adata.obs for name, adata in graphs.items()}, mdata.obs_names, "domain")
    known = truth.notna().to_numpy()
    latent = mdata.obsm[LATENT]

    def ari(embedding: np.ndarray, method: str) -> float:
        labels = domains.cluster_domains(embedding, method, n_domains=n_domains, seed=seed).labels
        return adjusted_rand_score(truth[known], labels[known])

    table = metrics.evaluate(mdata, np.zeros(mdata.n_obs, dtype=int), None).groupby("metric")["value"].mean()
    values = (
        ari(latent, "mixture"),
        ari(latent, "kmeans"),
        ari(normalize(latent), "mixture"),
        *table[list(METRICS[3:])],
    )
    return dict(zip(METRICS, map(float, values), strict=True))


def measure(name: str, mosaic) -> list[dict]:
    """All choices and seeds on one data set."""
    rows = []
    for choice, changed in CHOICES.items():
        changed = dict(changed)
        if choice.startswith("first component") and "epigenome" not in mosaic.kinds.values():
            continue
        reduced = mosaic.reduced(drop_first=changed.pop("drop_first", "before_zscore"))
        of_graph = {key: changed.pop(key) for key in OF_GRAPH if key in changed}
        graphs = mosaic.graphs(reduced, **of_graph)
        for seed in SEEDS:
            begun = time.monotonic()
            mdata = fit_embed(graphs, seed=seed, T=mosaic.T, **changed)
            rows.append({"data": name, "choice": choice, "seed": seed} | score(mdata, graphs, mosaic.n_domains, seed))
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
