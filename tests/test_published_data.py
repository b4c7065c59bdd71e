"""What the library makes of published data: quality to be held, with the time of a coffee."""

import numpy as np
import pytest
from chain import truth_of
from sklearn.metrics import adjusted_rand_score

from datasets import PUBLISHED_GRAPH, PUBLISHED_TRAINING, cortex, fit_embed, simulation, split_lymph_node
from mosaic import embedding, matrices, spots
from mosaic.analyse import domains, impute, metrics
from mosaic.analyse.n_domains import choose_n_domains

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("replicate", ["replicate1", "replicate2"])
@pytest.mark.parametrize(
    ("built", "trained", "least"),
    [(PUBLISHED_GRAPH, PUBLISHED_TRAINING, (0.89, 0.82, 0.79)), ({}, {}, (0.895, 0.82, 0.79))],
)
def test_simulation(shared_data, replicate, built, trained, least):
    mosaic = simulation(shared_data, replicate)
    graphs = mosaic.graphs(mosaic.reduced(), **built)
    mdata = fit_embed(graphs, T=mosaic.T, **trained)
    truth, latent = truth_of(graphs, mdata), mdata.obsm[embedding.LATENT]
    for n_domains, bound in zip((5, 6, 7), least, strict=True):
        labels = domains.cluster_domains(latent, "mixture", n_domains=n_domains, seed=1234).labels
        assert adjusted_rand_score(truth, labels) > bound
    assert 4 <= choose_n_domains(latent, seed=1234)[0] <= 6
    assert adjusted_rand_score(truth, domains.cluster_domains(latent, "kmeans", n_domains=5).labels) > 0.86


def test_two_lymph_nodes_with_the_same_barcodes(shared_data):
    mosaic = split_lymph_node(shared_data)
    whole = mosaic._replace(slices={key: adata for key, adata in mosaic.slices.items() if key[1] == "panel1"})
    graphs = whole.graphs(whole.reduced())
    # One spot of s1 has no counts, and its barcode is among the 3037 that both slices have.
    assert graphs["panel1"].n_obs == 3483 + 3359
    assert graphs["panel1"].obs["barcode"].duplicated().sum() == 3036
    mdata = fit_embed(graphs)
    labels = domains.cluster_domains(mdata.obsm[embedding.LATENT], "mixture", n_domains=10, seed=0).labels
    assert adjusted_rand_score(truth_of(graphs, mdata), labels) > 0.15


def test_cortex_rna_and_atac_from_counts(shared_data):
    mosaic = cortex(shared_data)
    graphs = mosaic.graphs(mosaic.reduced())
    mdata = fit_embed(graphs)
    assert mdata.obs["slice"].value_counts().tolist() == [1600] * 3
    labels = domains.cluster_domains(mdata.obsm[embedding.LATENT], "mixture", n_domains=4, seed=0).labels
    assert adjusted_rand_score(truth_of(graphs, mdata), labels) > 0.76


def test_the_second_panel_of_a_lymph_node_is_imputed(shared_data):
    """Better than the published way, and near to what was measured."""
    mosaic = split_lymph_node(shared_data)
    graphs = mosaic.graphs(mosaic.reduced())
    mdata = fit_embed(graphs, T=mosaic.T)
    slices = {}
    for (_, modality), adata in mosaic.slices.items():
        slices.setdefault(modality, []).append(adata[adata.obs_names.isin(graphs[modality].obs_names)])
    counts = {modality: spots.stack(own, modality) for modality, own in slices.items()}
    scores = {}
    for method, settings in (("matching", {}), ("nearest", {"n_neighbors": 10})):
        done = impute.impute_modality(mdata, "s2", "panel2", counts, method=method, **settings)
        measured = mosaic.measured[done.obs_names].layers["counts"].toarray()
        scores[method] = metrics.imputation_scores(matrices.dense(done.layers["imputed"]), measured)
    assert scores["matching"]["pearson_feature"] > 0.67
    assert scores["matching"]["pearson_feature"] > scores["nearest"]["pearson_feature"] + 0.1
    assert scores["matching"]["cmd_feature"] < scores["nearest"]["cmd_feature"]
    assert np.isfinite(list(scores["matching"].values())).all()
