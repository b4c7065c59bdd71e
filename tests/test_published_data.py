"""What the library makes of published data: quality to be held, with the time of a coffee."""

import numpy as np
import pytest
from chain import embed, graphs_of, truth_of
from sklearn.metrics import adjusted_rand_score

from mosaic import cluster, spots

MOSAIC = {"rna": ["s1", "s2"], "adt": ["s1", "s3"]}


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
    # One spot of s1 has no counts, and its barcode is among the 3037 that both slices have.
    assert graphs["adt"].n_obs == 3483 + 3359
    assert graphs["adt"].obs["barcode"].duplicated().sum() == 3036
    mdata = embed(graphs)
    assert mdata.n_obs == 3483 + 3359
    labels = cluster.cluster_domains(mdata.obsm[spots.LATENT], "mixture", n_domains=10, seed=0).labels
    assert adjusted_rand_score(truth_of(graphs, mdata), labels) > 0.15


def test_cortex_rna_and_atac_from_counts(shared_data):
    folder = shared_data / "cortex_rna_atac"
    design = {"rna": ["s1", "s2"], "atac": ["s1", "s3"]}
    files = {m: {name: folder / f"{name}_{m}.h5ad" for name in slices} for m, slices in design.items()}
    linked = {"rna": [("s1", "s2")], "atac": [("s1", "s3")]}
    graphs = graphs_of(files, {"rna": "rna", "atac": "epigenome"}, linked)
    mdata = embed(graphs)
    assert mdata.obs["slice"].value_counts().tolist() == [1600] * 3
    labels = cluster.cluster_domains(mdata.obsm[spots.LATENT], "mixture", n_domains=4, seed=0).labels
    assert adjusted_rand_score(truth_of(graphs, mdata), labels) > 0.2
    assert np.isfinite(mdata.obsm[spots.LATENT]).all()
