"""What the library makes of published data: quality to be held, with the time of a coffee."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from mosaic import cluster, graph, normalize, reduce, settings, spots, training

MOSAIC = {"rna": ["s1", "s2"], "adt": ["s1", "s3"]}


def graphs_of(files, kinds, linked, **changed):
    """From files (modality -> slice -> path) to graphs, with the defaults of each modality's kind."""
    graphs = {}
    for modality, slices in files.items():
        chosen = settings.KIND_DEFAULTS[kinds[modality]] | changed
        normalization = chosen.pop("normalization")
        read = [spots.read_slice(path, name, kinds[modality]) for name, path in slices.items()]
        done = [normalize.normalize_slice(adata, normalization) for adata in read]
        reduced = reduce.reduce_modality(done, modality, kind=kinds[modality], **chosen)
        features = reduced.obsm[reduced.uns["features_key"]]
        names = reduced.obs["slice"].to_numpy(dtype=str)
        edges = {"intra_knns": 10, "radius": None, "inter_knn_base": 10}
        spatial, mutual = graph.build_graph(features, reduced.obsm["spatial"], names, linked[modality], **edges)
        obsp = {"spatial_connectivities": spatial, "mutual_nearest_neighbors": mutual}
        graphs[modality] = ad.AnnData(features, obs=reduced.obs, obsm={"spatial": reduced.obsm["spatial"]}, obsp=obsp)
    return graphs


def embed(graphs, **changed):
    encoders, _ = training.fit(graphs, seed=1234, device="cpu", **changed)
    return training.embed(graphs, encoders, {"K": 2, "w_g": 0.8, "symmetric": False})


def truth_of(graphs, mdata, column="domain"):
    return spots.annotation({name: adata.obs for name, adata in graphs.items()}, mdata.obs_names, column)


@pytest.mark.parametrize("replicate", ["replicate1", "replicate2"])
def test_simulation_with_published_settings(shared_data, replicate):
    folder = shared_data / "simulation" / replicate
    files = {m: {name: folder / f"{name}_{m}.h5ad" for name in slices} for m, slices in MOSAIC.items()}
    linked = {"rna": [("s1", "s2")], "adt": [("s1", "s3")]}
    plain = {"normalization": "none", "feature_selection": "all", "scale": True}
    graphs = graphs_of(files, {"rna": "rna", "adt": "protein"}, linked, **plain)
    mdata = embed(graphs, T=0.1)
    truth, latent = truth_of(graphs, mdata), mdata.obsm[spots.LATENT]
    for n_domains, least in ((5, 0.89), (6, 0.82), (7, 0.79)):
        labels = cluster.cluster_domains(latent, "mixture", n_domains=n_domains, seed=1234).labels
        assert adjusted_rand_score(truth, labels) > least
    assert adjusted_rand_score(truth, cluster.cluster_domains(latent, "kmeans", n_domains=5).labels) > 0.86


def test_two_lymph_nodes_with_the_same_barcodes(shared_data):
    folder = shared_data / "lymph_node_adt"
    files = {"adt": {name: folder / f"{name}_adt.h5ad" for name in ("s1", "s2")}}
    graphs = graphs_of(files, {"adt": "protein"}, {"adt": [("s1", "s2")]})
    assert graphs["adt"].n_obs == 3484 + 3359
    assert graphs["adt"].obs["barcode"].duplicated().sum() == 3037
    mdata = embed(graphs)
    assert mdata.n_obs == 3484 + 3359
    labels = cluster.cluster_domains(mdata.obsm[spots.LATENT], "mixture", n_domains=10, seed=0).labels
    assert adjusted_rand_score(truth_of(graphs, mdata), labels) > 0.15


def test_cortex_rna_and_atac_from_counts(shared_data):
    folder = shared_data / "cortex_rna_atac"
    design = {"rna": ["s1", "s2"], "atac": ["s1", "s3"]}
    files = {m: {name: folder / f"{name}_{m}.h5ad" for name in slices} for m, slices in design.items()}
    linked = {"rna": [("s1", "s2")], "atac": [("s1", "s3")]}
    graphs = graphs_of(files, {"rna": "rna", "atac": "epigenome"}, linked)
    mdata = embed(graphs)
    assert pd.Series(mdata.obs["slice"]).value_counts().tolist() == [1600] * 3
    labels = cluster.cluster_domains(mdata.obsm[spots.LATENT], "mixture", n_domains=4, seed=0).labels
    assert adjusted_rand_score(truth_of(graphs, mdata), labels) > 0.2
    assert np.isfinite(mdata.obsm[spots.LATENT]).all()
