"""Measure on the demo what the main parameters do when they are small or large: the table of docs/parameters.md.

    .venv/bin/python benchmarks/parameters.py OUT.tsv

Needs no data. One thread, a quarter of an hour; all else is the demo's.
"""

import sys
import warnings
from pathlib import Path

import library  # noqa: F401
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from datasets import ALONE
from mosaic.config.schema import read_yaml, with_changes
from mosaic.pipeline import Pipeline
from mosaic.simulate.counts import simulate_mosaic
from mosaic.simulate.design import read_design

SEEDS = (1234, 0, 1)
REPOSITORY = Path(__file__).parents[1]
# What is tried beside the demo's own: T 0.1, inter_knn_base 10, w_g 0.8, five domains, all 300 genes.
VALUES = {
    ("train", "T"): (0.01, 0.5, 2),
    ("graph", "inter_knn_base"): (2, 5, 20, 50),
    ("graph", "w_g"): (0, 0.2, 3),
    ("modalities", "rna", "n_top_features"): (15, 50, 150),
    ("cluster", "n_domains"): (3, 4, 6, 8),
}


def demo() -> Pipeline:
    """The demo, on one thread."""
    config = with_changes(read_yaml(REPOSITORY / "config" / "config.yaml"), {"train": ALONE})
    return Pipeline.from_slices(simulate_mosaic(read_design(REPOSITORY / "resources" / "demo.yaml"), seed=1234), config)


def measure(run: Pipeline, seed: int) -> dict[str, float]:
    """ARI and iLISI of a run."""
    truth, labels = run.truth(), run.domains(seed)["domain"]
    known = truth.notna().to_numpy()
    table = run.metrics(seed).groupby("metric")["value"].mean()
    return {"ARI": adjusted_rand_score(truth[known], labels[known]), "iLISI": table["iLISI"]}


def nested(keys: tuple[str, ...], value: float) -> dict:
    """A config with one key, which lies in the sections before it."""
    return {keys[0]: nested(keys[1:], value) if keys[1:] else value}


def summary(table: pd.DataFrame) -> str:
    """A Markdown table: mean ± standard deviation over the seeds."""
    lines = ["| changed | ARI | iLISI |", "|---|---|---|"]
    for changed, rows in table.groupby("changed", sort=False):
        cells = [f"{rows[key].mean():.3f} ± {rows[key].std():.3f}" for key in ("ARI", "iLISI")]
        lines.append(f"| {changed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(out: str) -> None:
    """Measure, a seed at a time, and write what there is as it comes."""
    run, rows = demo(), []
    trials = {"the demo's own": run}
    for keys, values in VALUES.items():
        trials |= {f"{keys[-1]} {value:g}": run.changed(nested(keys, value)) for value in values}
    for seed in SEEDS:
        for name, trial in trials.items():
            rows.append({"changed": name, "seed": seed, **measure(trial, seed)})
            pd.DataFrame(rows).to_csv(out, sep="\t", index=False, float_format="%.4g")
    print(summary(pd.DataFrame(rows)))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main(sys.argv[1])
