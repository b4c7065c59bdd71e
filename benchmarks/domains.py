"""What each part of the tissue field gains, and which number of domains it chooses, for docs/measurements.md.

    .venv/bin/python benchmarks/domains.py RESULTS OUT.tsv FIGURE.png [DATASET ...]

RESULTS is the folder of the benchmark (``results/benchmark``), whose latent spaces are clustered; all seeds that it has
are used. One thread.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import anndata as ad
import library  # noqa: F401
import matplotlib as mpl
import mudata as md
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from threadpoolctl import threadpool_limits

from mosaic import spots, store
from mosaic.analyse.alignment import aligned_embedding
from mosaic.analyse.mixture import mixture_domains
from mosaic.analyse.n_domains import choose_by_bend, choose_by_silhouette
from mosaic.analyse.random_field import FieldSettings, views_of
from mosaic.analyse.tissue_field import field_domains
from mosaic.embedding import LATENT
from mosaic.figures.style import COLOURS, INK, STYLE
from mosaic.mixing import ilisi

# From the mixture of the latent space to the field, one part more in each.
PARTS = {
    "mixture": "latent space alone (mixture)",
    "without tissue": "+ what modalities measure",
    "without slice penalty": "+ neighbours on the tissue",
    "field": "+ penalty on slices (the field)",
}

# Of the field: the default, and one part left out or changed.
VARIANTS = {
    "field": FieldSettings(),
    "without tissue": FieldSettings(most_strength=1e-6),
    "without slice penalty": FieldSettings(slice_penalty=0),
    "one round": FieldSettings(rounds=1),
    "12 neighbours": FieldSettings(neighbors=12),
    "starts in regions": FieldSettings(most_start_spots=2000),
}


def measure(embedding: md.MuData, graphs: Mapping[str, ad.AnnData], truth: pd.Series, n_domains: int, seed: int):
    """Yield a row of scores for each way."""
    latent, slices = embedding.obsm[LATENT].astype(float), embedding.obs["slice"].to_numpy(dtype=str)
    places = embedding.obsm["spatial"], slices
    known = truth.notna().to_numpy()
    views = {number: views_of(graphs, embedding.obs_names, number) for number in (0, 2)}

    def field(number: int, settings: FieldSettings) -> np.ndarray:
        return field_domains(latent, views[number], *places, n_domains, seed, settings).posterior

    ways = {"mixture": lambda: mixture_domains(latent, n_domains, seed)}
    for name, settings in VARIANTS.items():
        ways[name] = lambda settings=settings: field(2, settings)
    ways["without propagation"] = lambda: field(0, FieldSettings())
    for name, find in ways.items():
        began = time.process_time()
        posterior = find()
        seconds = time.process_time() - began
        labels = posterior.argmax(axis=1)
        own = [
            adjusted_rand_score(truth[rows], labels[rows])
            for rows in ((slices == one) & known for one in np.unique(slices))
        ]
        row = {"way": name, "ARI": adjusted_rand_score(truth[known], labels[known]), "ARI within": np.mean(own)}
        row["NMI with slice"] = normalized_mutual_info_score(slices, labels)
        row["iLISI aligned"] = ilisi(aligned_embedding(embedding, posterior).obsm[LATENT], slices)
        yield row | {"seconds": seconds}
    choices = {
        "auto, by the bend": choose_by_bend(latent, views[2], *places, seed=seed),
        "auto, by the silhouette": choose_by_silhouette(latent, seed=seed),
    }
    for name, choice in choices.items():
        yield {"way": name, "number": choice.n_domains, "true number": n_domains}
    row = {"way": "truth, latent space", "NMI with slice": normalized_mutual_info_score(slices[known], truth[known])}
    yield row | {"iLISI aligned": ilisi(latent, slices)}


def draw(table: pd.DataFrame, path: Path) -> None:
    """ARI of each seed as parts are added, by data set; and what the alignment does to the mixing of slices."""
    names = list(dict.fromkeys(table["data"]))
    mixing = {"truth, latent space": "latent space", "field": "aligned by the field's domains"}
    panels = (
        ("ARI", PARTS, "ARI, all slices pooled"),
        ("iLISI aligned", mixing, "iLISI (1: slices mix as well as can be)"),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.42 * len(names) + 1.3), layout="constrained")
        for axes, (value, ways, label) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
            for place, name in enumerate(names):
                own = table[table["data"] == name]
                for i, (way, text) in enumerate(ways.items()):
                    values = own.loc[own["way"] == way, value]
                    height = np.full(len(values), place + 0.18 * (i - (len(ways) - 1) / 2))
                    colour = COLOURS[i] if len(ways) > 2 else COLOURS[(0, 3)[i]]
                    axes.plot(
                        values, height, "o", ms=4, color=colour, mec=INK, mew=0.3, label=text if place == 0 else None
                    )
                if place:
                    axes.axhline(place - 0.5, color="0.85", lw=0.6)
            axes.set(xlabel=label, ylim=(len(names) - 0.5, -0.5))
            axes.set_yticks(range(len(names)), names)
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
        figure.savefig(path, dpi=150)


def main(results: Path, out: Path, picture: Path, *names: str) -> None:
    """Measure all seeds of the named data sets, or of all."""
    datasets = yaml.safe_load((Path(__file__).parents[1] / "config" / "benchmark.yaml").read_text())["datasets"]
    rows = []
    for name in names or datasets:
        graphs = {path.stem: store.read(path) for path in sorted((results / name / "graph").glob("*.h5ad"))}
        for path in sorted((results / name / "spamosaic").glob("seed-*/embedding.h5mu")):
            embedding, seed = store.read(path), int(path.parent.name.removeprefix("seed-"))
            truth = spots.truth(results / name / "annotations.h5ad", embedding.obs_names, "domain")
            number = datasets[name]["config"]["cluster"]["n_domains"]
            with threadpool_limits(1):
                rows += [{"data": name, "seed": seed} | row for row in measure(embedding, graphs, truth, number, seed)]
            print(name, seed, flush=True)
            table = pd.DataFrame(rows)
            table.to_csv(out, sep="\t", index=False, float_format="%.6g")
    draw(table, picture)
    chosen = table[table["number"].notna()]
    cells = chosen.groupby(["way", "data", "true number"], sort=False)["number"].agg(
        lambda own: " ".join(f"{n:.0f}" for n in own)
    )
    print(cells.unstack("way").to_string())
    for value in ("ARI", "ARI within", "NMI with slice", "iLISI aligned", "seconds"):
        cells = table.pivot_table(index="data", columns="way", values=value, aggfunc=["mean", "std"], sort=False)
        print(f"\n{value}\n{cells['mean'].round(3).to_string()}\n± {cells['std'].max().max():.3f} at most")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *sys.argv[4:])
