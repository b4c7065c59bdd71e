"""Which criterion finds the number of domains? On data with truth, for docs/measurements.md.

    .venv/bin/python benchmarks/n_domains.py DATA OUT.tsv [EMBEDDINGS]

DATA as for ``datasets.py``, plus the repository's demo. All criteria see the same mixtures: of eight subsets, as in
``n_domains.choose_n_domains``. EMBEDDINGS is a folder that keeps what was trained for a next time. One thread.
"""

import sys
import warnings
from itertools import combinations
from pathlib import Path

import library  # noqa: F401
import numpy as np
import pandas as pd
import torch
from batches import demo
from scipy.cluster.hierarchy import linkage
from sklearn.metrics import adjusted_rand_score, pairwise_distances

from datasets import SEEDS, with_truth
from mosaic.analyse import mixture, n_domains
from mosaic.embedding import LATENT
from mosaic.pipeline import Pipeline

NUMBERS = np.arange(2, 16)
CRITERIA = {
    "BIC": "BIC",
    "ICL": "ICL",
    "likelihood of left-out spots": "likelihood",
    "its largest bend": "bend",
    "stability": "stability",
    "elbow of Ward's merges": "elbow",
    "silhouette, whitened": "silhouette_white",
    "silhouette": "silhouette",
}
CHOICE = "silhouette, one standard error (the choice)"


def curves(embedding: np.ndarray, truth: pd.Series, seed: int) -> tuple[pd.DataFrame, int]:
    """Every criterion, the more the better, for every number of domains: means over the subsets; and the choice.

    ``ARI`` is the agreement of all spots with the truth, of the same mixtures. The choice is that of
    ``n_domains.choose_n_domains``.
    """
    rng = np.random.default_rng(seed)
    white = mixture.whitened(embedding)
    known = truth.notna().to_numpy()
    numbers = np.arange(NUMBERS[0] - 1, NUMBERS[-1] + 2)
    found, labels = [], []
    for subset in range(n_domains.SUBSETS):
        seen, left_out = n_domains.two_subsets(len(white), rng)
        distances = {"": pairwise_distances(embedding[left_out]), "_white": pairwise_distances(white[left_out])}
        heights = linkage(white[seen], "ward")[::-1, 2]  # the k-th joins k + 1 clusters to k
        for number, fit in zip(numbers, n_domains.mixtures(white[seen], numbers), strict=True):
            if fit is None:
                continue
            labels.append((number, fit.predict(white)))
            posterior = fit.predict_proba(white[seen])
            entropy = -(posterior * np.log(np.maximum(posterior, 1e-300))).sum()
            row = {"subset": subset, "number": number}
            row |= {"likelihood": fit.score(white[left_out]), "BIC": -fit.bic(white[seen])}
            row["ICL"] = row["BIC"] - 2 * entropy  # Biernacki, Celeux and Govaert, 2000
            row["ARI"] = adjusted_rand_score(truth[known], labels[-1][1][known])
            row["elbow"] = heights[number - 2] - heights[number - 1] if number > 1 else np.nan
            for name, matrix in distances.items():
                row[f"silhouette{name}"] = n_domains.silhouette(matrix, labels[-1][1][left_out])
            found.append(row)
    each = pd.DataFrame(found)
    silhouettes = each.pivot(index="subset", columns="number", values="silhouette")
    choice = n_domains.largest_within_one_error(silhouettes[NUMBERS])
    table = each.groupby("number").mean().reindex(numbers)
    # What one domain more gains, less what the next gains (Evanno, Regnaut and Goudet, 2005).
    table["bend"] = -table["likelihood"].diff().shift(-1) + table["likelihood"].diff()
    # Agreement of mixtures of different subsets (Ben-Hur, Elisseeff and Guyon, 2002).
    table["stability"] = [
        np.mean([adjusted_rand_score(*pair) for pair in combinations([own for k, own in labels if k == number], 2)])
        for number in numbers
    ]
    return table.loc[NUMBERS], choice


def embedding_of(run: Pipeline, seed: int, path: Path | None) -> tuple[np.ndarray, pd.Series]:
    """The latent space of one seed and the true domains, from ``path`` where it is there."""
    if path is not None and path.exists():
        kept = pd.read_csv(path, sep="\t", index_col=0)
    else:
        embedding = run.embedding(seed)
        kept = pd.DataFrame(embedding.obsm[LATENT], index=embedding.obs_names).assign(truth=run.truth())
        if path is not None:
            kept.to_csv(path, sep="\t")
    return kept.drop(columns="truth").to_numpy(dtype=float), kept["truth"]


def summary(table: pd.DataFrame) -> str:
    """Markdown: the numbers that each criterion chose, seed by seed, and the mean ARI there."""
    sets = list(dict.fromkeys(zip(table["data"], table["true"], strict=True)))
    lines = ["| criterion | " + " | ".join(f"{name} ({true})" for name, true in sets) + " |"]
    lines.append("|---" * (len(sets) + 1) + "|")
    for criterion in dict.fromkeys(table["criterion"]):
        cells = []
        for name, _ in sets:
            rows = table[(table["data"] == name) & (table["criterion"] == criterion)]
            cells.append(f"{' '.join(map(str, rows['number']))}; {rows['ARI'].mean():.2f}")
        lines.append(f"| {criterion} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(data: str, out: str, embeddings: str | None) -> None:
    """All data sets, seeds and criteria."""
    rows = []
    for name, make in ({"demo": demo} | with_truth(Path(data))).items():
        dataset = make()
        run = Pipeline.from_slices(dataset.slices, dataset.config)
        true = run.config["cluster"]["n_domains"]
        for seed in SEEDS:
            path = Path(embeddings) / f"{name}.{seed}.tsv" if embeddings else None
            embedding, truth = embedding_of(run, seed, path)
            scores, choice = curves(embedding, truth, seed)
            chosen = {label: int(scores[column].idxmax()) for label, column in CRITERIA.items()}
            chosen |= {CHOICE: choice, "the truth": true}
            for criterion, number in chosen.items():
                row = {"data": name, "true": true, "seed": seed, "criterion": criterion, "number": number}
                rows.append(row | {"ARI": scores["ARI"][number]})
            print(name, seed, chosen, flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(out, sep="\t", index=False, float_format="%.6g")
    print(summary(table))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
