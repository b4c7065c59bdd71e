"""What each part of the tissue field gains, on the latent spaces of `make benchmark`: a table of docs/measurements.md.

    .venv/bin/python benchmarks/domains.py RESULTS OUT.tsv [DATASET ...]

RESULTS is the folder of the benchmark (``results/benchmark``); all seeds that it has are used. One thread.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import anndata as ad
import library  # noqa: F401
import mudata as md
import numpy as np
import pandas as pd
import yaml
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from threadpoolctl import threadpool_limits

from mosaic import spots, store
from mosaic.analyse.alignment import aligned_embedding
from mosaic.analyse.mixture import mixture_domains
from mosaic.analyse.tissue_field import FieldSettings, field_domains, views_of
from mosaic.embedding import LATENT
from mosaic.mixing import ilisi

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
    row = {"way": "truth, latent space", "NMI with slice": normalized_mutual_info_score(slices[known], truth[known])}
    yield row | {"iLISI aligned": ilisi(latent, slices)}


def main(results: Path, out: Path, *names: str) -> None:
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
    for value in ("ARI", "ARI within", "NMI with slice", "iLISI aligned", "seconds"):
        cells = table.pivot_table(index="data", columns="way", values=value, aggfunc=["mean", "std"], sort=False)
        print(f"\n{value}\n{cells['mean'].round(3).to_string()}\n± {cells['std'].max().max():.3f} at most")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
