"""Measure on the demo what the main parameters do when they are small or large: the table of docs/parameters.md.

    .venv/bin/python benchmarks/parameters.py OUT.tsv

Needs no data. One thread, a quarter of an hour; all else is the demo's.
"""

import sys
import warnings
from functools import cache
from pathlib import Path

import anndata as ad
import pandas as pd
import torch
import yaml
from sklearn.metrics import adjusted_rand_score

from datasets import Mosaic, fit_embed, simulated
from mosaic import embedding, spots
from mosaic.analyse import domains, metrics
from mosaic.prepare import qc

SEEDS = (1234, 0, 1)
REPOSITORY = Path(__file__).parents[1]
DESIGN = yaml.safe_load((REPOSITORY / "resources" / "demo.yaml").read_text())
QC = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())["qc"]
KINDS = {"rna": "rna", "adt": "protein"}
# What is tried beside the demo's own: T 0.1, inter_knn_base 10, w_g 0.8, five domains, all 300 genes.
VALUES = {
    "T": (0.01, 0.5, 2),
    "inter_knn_base": (2, 5, 20, 50),
    "w_g": (0, 0.2, 3),
    "n_top_features": (15, 50, 150),
    "n_domains": (3, 4, 6, 8),
}


@cache
def demo() -> Mosaic:
    """The demo's slices after its quality control."""
    mosaic = simulated(DESIGN, KINDS, seed=1234)
    passed = {key: qc.filter_slice(adata, mito_prefix="mt-", **QC[key[1]])[0] for key, adata in mosaic.slices.items()}
    return mosaic._replace(slices=passed)


@cache
def graphs_of(n_top_features: int | None, inter_knn_base: int, w_g: float) -> dict[str, ad.AnnData]:
    """The demo's graphs, from so many genes (None: all)."""
    reduced = demo().reduced(**({} if n_top_features is None else {"n_top_features": n_top_features}))
    return demo().graphs(reduced, inter_knn_base=inter_knn_base, w_g=w_g)


def measure(changed: dict[str, float], seed: int) -> dict[str, float]:
    """ARI and iLISI of the demo with one parameter changed."""
    mosaic = demo()
    graphs = graphs_of(changed.get("n_top_features"), changed.get("inter_knn_base", 10), changed.get("w_g", 0.8))
    mdata = fit_embed(graphs, seed=seed, T=changed.get("T", mosaic.T))
    truth = spots.annotation({name: adata.obs for name, adata in graphs.items()}, mdata.obs_names, "domain")
    n_domains = changed.get("n_domains", mosaic.n_domains)
    labels = domains.cluster_domains(mdata.obsm[embedding.LATENT], "mixture", n_domains=n_domains, seed=seed).labels
    known = truth.notna().to_numpy()
    table = metrics.evaluate(mdata, labels, None).groupby("metric")["value"].mean()
    return {"ARI": adjusted_rand_score(truth[known], labels[known]), "iLISI": table["iLISI"]}


def summary(table: pd.DataFrame) -> str:
    """A Markdown table: mean ± standard deviation over the seeds."""
    lines = ["| changed | ARI | iLISI |", "|---|---|---|"]
    for changed, rows in table.groupby("changed", sort=False):
        cells = [f"{rows[key].mean():.3f} ± {rows[key].std():.3f}" for key in ("ARI", "iLISI")]
        lines.append(f"| {changed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(out: str) -> None:
    """Measure, a seed at a time, and write what there is as it comes."""
    trials = [{}] + [{key: value} for key, values in VALUES.items() for value in values]
    rows = []
    for seed in SEEDS:
        for changed in trials:
            name = ", ".join(f"{key} {value:g}" for key, value in changed.items()) or "the demo's own"
            rows.append({"changed": name, "seed": seed, **measure(changed, seed)})
            pd.DataFrame(rows).to_csv(out, sep="\t", index=False, float_format="%.4g")
    print(summary(pd.DataFrame(rows)))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    main(sys.argv[1])
