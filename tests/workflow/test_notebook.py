"""In a notebook, the published names and the pipeline give what the workflow's rules write."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from chain import THREE_SLICES
from threadpoolctl import threadpool_limits

from mosaic import matrices, store, tables
from mosaic.api import ADT_preprocess, RNA_preprocess, SpaMosaic
from mosaic.pipeline import Pipeline
from mosaic.simulate.counts import simulate_mosaic

pytestmark = pytest.mark.slow


def test_the_same_embeddings_and_imputed_counts(checkout):
    made = simulate_mosaic(THREE_SLICES, seed=3)
    rows, slices = ["slice\tmodality\tpath"], {"rna": [], "adt": []}
    for modality, listed in slices.items():
        for name in THREE_SLICES["slices"]:
            adata = made.get((name, modality))
            listed.append(adata)
            if adata is not None:
                adata.layers["counts"] = adata.X.copy()
                adata.write_h5ad(checkout.folder / f"{name}.{modality}.h5ad")
                rows.append(f"{name}\t{modality}\t{name}.{modality}.h5ad")
                adata.obs["src"] = name
    (checkout.folder / "config" / "slices.tsv").write_text("\n".join(rows) + "\n")
    config = {
        "slices": "config/slices.tsv",
        "recipe": "published",
        "modalities": {"rna": {"kind": "rna", "n_comps": 12}, "adt": {"kind": "protein", "n_comps": 12}},
        "graph": {"intra_knns": {"s1": 10, "s2": 8, "s3": 6}},
        "train": {"T": 0.1, "n_epochs": 30, "threads": 1},
        "cluster": {"n_domains": 3},
    }
    (checkout.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    folder = "results/spamosaic/seed-1234"
    done = checkout.snakemake(f"{folder}/embedding.h5mu", f"{folder}/imputed/s2.adt.h5ad")
    assert done.returncode == 0, done.stdout + done.stderr
    rules = md.read_h5mu(checkout.folder / folder / "embedding.h5mu")
    imputed = ad.read_h5ad(checkout.folder / folder / "imputed" / "s2.adt.h5ad")

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        RNA_preprocess(slices["rna"], batch_corr=True, favor="scanpy", n_comps=12)
        ADT_preprocess(slices["adt"], batch_corr=True, n_comps=12)
        model = SpaMosaic(slices, batch_key="src", intra_knns=[10, 8, 6], device="cpu")
        model.train(T=0.1, n_epochs=30)
        merged = model.infer_emb(slices)
        values = model.impute(slices)["adt"][1]
    torch.set_num_threads(before)
    for modality, graph in model.graphs.items():
        built = ad.read_h5ad(checkout.folder / "results" / "graph" / f"{modality}.h5ad")
        np.testing.assert_array_equal(built.X, graph.X)
        for key in graph.obsp:
            assert (built.obsp[key] != graph.obsp[key]).nnz == 0
    for name, adata in zip(THREE_SLICES["slices"], merged, strict=True):
        own = rules[(rules.obs["slice"] == name).to_numpy()]
        assert own.obs["barcode"].tolist() == adata.obs_names.tolist()
        # The graphs are equal to the bit; training rounds otherwise in a process with other threads.
        np.testing.assert_allclose(own.obsm["X_latent"], adata.obsm["merged_emb"], atol=1e-5)
    equal = np.isclose(matrices.dense(imputed.layers["imputed"]), values, rtol=1e-5).all(axis=1)
    assert equal.mean() > 0.98  # a neighbour as near as the next may change places with it


CONFIG = """
slices: config/slices.tsv
modalities: {rna: {kind: rna, n_comps: 12}, adt: {kind: protein, n_comps: 12}}
qc: {rna: {min_counts: 300, min_spots: 2}}
graph: {inter_knn_base: 8}
train: {T: 0.1, n_epochs: 30, device: cpu}
cluster: {n_domains: auto, n_domains_range: [2, 4]}
truth: domain
"""


def test_the_pipeline_gives_the_bits_that_the_rules_write(checkout, monkeypatch):
    checkout.simulate(THREE_SLICES, CONFIG)
    folder, seed_folder = checkout.folder / "results", checkout.folder / "results/spamosaic/seed-1234"
    files = ("embedding.h5mu", "domains.tsv", "metrics.tsv", "umap.tsv", "imputed/s2.adt.h5ad")
    done = checkout.snakemake(*(f"results/spamosaic/seed-1234/{name}" for name in files))
    assert done.returncode == 0, done.stdout + done.stderr

    monkeypatch.chdir(checkout.folder)
    run = Pipeline.from_config("config/config.yaml")
    for (name, modality), passed in run.passed().items():
        kept = store.read(folder / "qc" / f"{name}.{modality}.h5ad")
        assert passed.adata.obs_names.equals(kept.obs_names)
        assert (passed.adata.layers["counts"] != kept.layers["counts"]).nnz == 0
    for modality, adata in run.reduced().items():
        kept = store.read(folder / "reduced" / f"{modality}.h5ad")
        for key in ("X_reduced", "X_corrected"):
            np.testing.assert_array_equal(adata.obsm[key], kept.obsm[key])
    for modality, graph in run.graphs().items():
        kept = store.read(folder / "graph" / f"{modality}.h5ad")
        for key in graph.obsp:
            assert (kept.obsp[key] != graph.obsp[key]).nnz == 0
    history = pd.read_csv(seed_folder / "history.tsv", sep="\t", float_precision="round_trip")
    np.testing.assert_array_equal(run.trained().history, history)
    kept = store.read(seed_folder / "embedding.h5mu")
    np.testing.assert_array_equal(run.embedding().obsm["X_latent"], kept.obsm["X_latent"])
    assert run.embedding().obs_names.equals(kept.obs_names)

    domains = tables.read_table(seed_folder / "domains.tsv", kept.obs_names)
    assert run.domains()["domain"].tolist() == domains["domain"].tolist()
    np.testing.assert_allclose(run.domains()["probability"], domains["probability"], rtol=1e-5)
    umap = tables.read_table(seed_folder / "umap.tsv", kept.obs_names)
    np.testing.assert_array_equal(run.umap(), umap.astype("float32"))
    curve = pd.read_csv(seed_folder / "n_domains.tsv", sep="\t")
    pd.testing.assert_frame_equal(run.n_domains_curve(), curve, rtol=1e-5, check_dtype=False)
    metrics = pd.read_csv(seed_folder / "metrics.tsv", sep="\t", na_values="NA")
    pd.testing.assert_frame_equal(run.metrics().reset_index(drop=True), metrics, rtol=1e-5)

    (missing,) = run.sheet.missing
    imputed, kept = run.imputed(*missing), store.read(seed_folder / "imputed/s2.adt.h5ad")
    for layer in ("imputed", "imputed_sd"):
        np.testing.assert_array_equal(*(matrices.dense(adata.layers[layer]) for adata in (imputed, kept)))
