"""What does mapping a slice onto a reference lose against a joint run? For docs/reference.md.

    .venv/bin/python benchmarks/new_slices.py DATA OUT.tsv [--tune] [SEEDS [SET ...]]

DATA as for ``datasets.py``, plus simulated mosaics: of five slices, the benchmark's `real_size` and `other_donors`, and
simulation 1 with its bridge slice cut in two. Each slice is left out in turn: a reference is trained on the others, and
the slice is mapped; with --tune, one with two modalities also with fine-tuning. Beside it stand the joint run of all
slices, and nearest neighbours in features that Harmony corrected over all slices. One thread.
"""

import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import library  # noqa: F401
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from datasets import ALONE, DataSet, simulation, with_truth
from mosaic.analyse.metrics import foscttm
from mosaic.config.schema import read_yaml, with_changes
from mosaic.embedding import LATENT
from mosaic.errors import InputError
from mosaic.mixing import ilisi_between
from mosaic.pipeline import Pipeline
from mosaic.prepare.batch_correction import harmony
from mosaic.reference import Mapped, Reference
from mosaic.simulate.counts import simulate_mosaic
from mosaic.simulate.design import read_design

REPOSITORY = Path(__file__).parents[1]
DEMO = REPOSITORY / "resources" / "demo.yaml"
NEIGHBORS = 15


def five_slices() -> DataSet:
    """The demo's tissue in five slices of 500 spots, of which two have both modalities."""
    design = read_design(DEMO)
    design["slices"] = {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["adt"], "s4": ["rna", "adt"], "s5": ["rna"]}
    design["grid"] |= {"rows": 26, "columns": 24}
    config = {
        "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
        "train": ALONE,
        "cluster": {"n_domains": 5},
        "truth": "domain",
    }
    return DataSet(simulate_mosaic(design, seed=1), config)


def of_the_benchmark(name: str) -> DataSet:
    """A simulated data set of config/benchmark.yaml."""
    spec = read_yaml(REPOSITORY / "config" / "benchmark.yaml")["datasets"][name]
    design = with_changes(read_design(DEMO), spec["simulate"])
    design["slices"] = spec["slices"]
    config = with_changes(spec["config"], {"train": ALONE, "truth": "domain"})
    return DataSet(simulate_mosaic(design, seed=1234), config)


def two_halves(data: Path) -> DataSet:
    """Simulation 1 with two bridge slices, the halves of the one that it has."""
    made = simulation(data, "replicate1")
    slices = {}
    for (name, modality), adata in made.slices.items():
        if name == "s1":
            left = adata.obsm["spatial"][:, 0] < np.median(adata.obsm["spatial"][:, 0])
            slices |= {("s1a", modality): adata[left].copy(), ("s1b", modality): adata[~left].copy()}
        else:
            slices[name, modality] = adata
    return DataSet(slices, made.config)


def timed(make):
    """What a function returns, and its CPU time in seconds."""
    start = time.process_time()
    return make(), time.process_time() - start


def nearest_in_harmony(joint: Pipeline, reference: Pipeline, name: str, seed: int) -> pd.Series:
    """Domains of a slice by the nearest spots of the others in features of one modality that Harmony corrected."""
    modality = joint.sheet.modalities_of(name)[0]
    reduced = joint.reduced()[modality]
    slices = reduced.obs["slice"].to_numpy(dtype=str)
    features = harmony(reduced.obsm["X_reduced"], slices, seed=seed).features
    own, known = slices == name, reduced.obs_names[slices != name]
    near = NearestNeighbors(n_neighbors=NEIGHBORS).fit(features[~own]).kneighbors(features[own])[1]
    labels = reference.domains(seed).loc[known, "domain"].to_numpy()[near]
    return pd.Series([np.bincount(row).argmax() for row in labels], index=reduced.obs_names[own])


def of_latent(mapped: Mapped, held_out: pd.Index, truth: pd.Series) -> dict[str, float]:
    """FOSCTTM of pairs, iLISI with the reference, and ARI of the nearest spots of the reference in the latent space."""
    spots, latent = mapped.reference.spots, np.asarray(mapped.embedding.obsm[LATENT])
    near = NearestNeighbors(n_neighbors=NEIGHBORS).fit(spots.obsm[LATENT]).kneighbors(latent)[1]
    labels = [np.bincount(row).argmax() for row in spots.obs["domain"].to_numpy()[near]]
    parts = [np.asarray(part[held_out].obsm[LATENT]) for part in mapped.embedding.mod.values()]
    known = truth.loc[mapped.embedding.obs_names]
    return {
        "FOSCTTM": foscttm(*parts),
        "iLISI": ilisi_between(latent, np.asarray(spots.obsm[LATENT])),
        "ARI latent": adjusted_rand_score(known[known.notna()], np.array(labels)[known.notna()]),
    }


def pearson(imputed, measured) -> float:
    """Median correlation of log1p counts over features."""
    spots = imputed.obs["barcode"].isin(measured.obs_names).to_numpy()
    imputed = imputed[spots]
    rows = measured[imputed.obs["barcode"].to_numpy(), imputed.var_names]
    pairs = zip(np.log1p(np.asarray(rows.X.todense()).T), np.log1p(imputed.layers["imputed"].toarray().T), strict=True)
    with np.errstate(invalid="ignore"):
        return float(np.nanmedian([np.corrcoef(*pair)[0, 1] for pair in pairs]))


def tuning(reference: Reference, mapped: Mapped, own: Mapping, truth: pd.Series, seconds: float) -> dict[str, float]:
    """What fine-tuning changes in the latent space, and its time as a share of the joint run's."""
    tuned, taken = timed(lambda: reference.map(own, fine_tune=True))
    held_out = tuned.embedding.obs_names[~tuned.embedding.obs["tuned"].to_numpy()]
    held_out = held_out[[all(spot in part.obs_names for part in tuned.embedding.mod.values()) for spot in held_out]]
    row = {"time ratio, tuned": taken / seconds}
    for way, found in (("mapped", mapped), ("tuned", tuned)):
        row |= {f"{key}, {way}": value for key, value in of_latent(found, held_out, truth).items()}
    return row


def scores(
    made: DataSet, joint: Pipeline, seconds: float, name: str, seed: int, *, tune: bool
) -> Mapping[str, float] | None:
    """A row of the table; None if the other slices are no reference for this one."""
    rest = {key: adata for key, adata in made.slices.items() if key[0] != name}
    own = {key: adata for key, adata in made.slices.items() if key[0] == name}
    try:
        run = Pipeline.from_slices(rest, made.config)
        reference = run.reference(seed)
        mapped, taken = timed(lambda: reference.map(own))
    except InputError as error:
        print(f"{name} is not left out: {error}", flush=True)
        return None
    table = mapped.domains.table
    truth = joint.truth().loc[table.index]
    known = truth.notna().to_numpy()
    embedding = joint.embedding(seed)
    here = (embedding.obs["slice"] == name).to_numpy()
    latent = np.asarray(embedding.obsm[LATENT])

    def ari(labels: pd.Series) -> float:
        return adjusted_rand_score(truth[known], labels.loc[table.index][known])

    told = mapped.domains.slices.iloc[0]
    row = {
        "ARI, joint": ari(joint.domains(seed)["domain"]),
        "ARI, mapped": ari(table["domain"]),
        "ARI, nearest": ari(nearest_in_harmony(joint, run, name, seed).reindex(table.index).fillna(-2)),
        "iLISI, joint": ilisi_between(latent[here], latent[~here]),
        "iLISI, mapped": told["ilisi"],
        "near": told["near"],
        "relative agreement": told["relative"],
        "time ratio": taken / seconds,
    }
    if len(own) > 1:
        if tune:
            row |= tuning(reference, mapped, own, truth, seconds)
        source, hidden = list(own)[:2]
        found = reference.map({source: own[source]}).imputed(name, hidden[1])
        without = Pipeline.from_slices({key: x for key, x in made.slices.items() if key != hidden}, made.config)
        row["Pearson, joint"] = pearson(without.imputed(name, hidden[1], seed), made.slices[hidden])
        row["Pearson, mapped"] = pearson(found, made.slices[hidden])
    return row


def main() -> None:
    """All sets, seeds and slices, one line each."""
    tune = "--tune" in sys.argv
    data, out, *rest = (word for word in sys.argv[1:] if word != "--tune")
    seeds = [int(seed) for seed in (rest[0] if rest else "1").split(",")]
    sets = {"five slices": five_slices, **with_truth(Path(data)), "two halves": lambda: two_halves(Path(data))}
    sets |= {name: lambda name=name: of_the_benchmark(name) for name in ("real_size", "other_donors")}
    rows = []
    for which in rest[1:] or sets:
        made = sets[which]()
        for seed in seeds:
            joint = Pipeline.from_slices(made.slices, made.config)
            _, seconds = timed(lambda joint=joint, seed=seed: joint.domains(seed))
            for name in joint.sheet.slices:
                row = scores(made, joint, seconds, name, seed, tune=tune)
                if row is not None:
                    rows.append({"data": which, "seed": seed, "slice": name, **row})
                    print(rows[-1], flush=True)
                    pd.DataFrame(rows).to_csv(out, sep="\t", index=False, float_format="%.4g")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
