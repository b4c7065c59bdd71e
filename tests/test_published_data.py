"""What the library makes of published data: quality to be held, with the time of a coffee."""

import numpy as np
import pandas as pd
import pytest
from other_tissue import of_both_panels
from sklearn.metrics import adjusted_rand_score

from datasets import cortex, simulation, split_lymph_node
from mosaic import embedding, matrices
from mosaic.analyse import domains, metrics
from mosaic.analyse.n_domains import choose_by_silhouette
from mosaic.check import checks
from mosaic.config.defaults import PUBLISHED
from mosaic.pipeline import Pipeline
from mosaic.prepare.read import read_slice

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("replicate", ["replicate1", "replicate2"])
@pytest.mark.parametrize(
    ("changes", "least"),
    [
        ({"graph": PUBLISHED["graph"], "train": PUBLISHED["train"]}, (0.89, 0.82, 0.79)),
        ({}, (0.895, 0.82, 0.79)),
    ],
)
def test_simulation(shared_data, replicate, changes, least):
    data = simulation(shared_data, replicate)
    run = Pipeline.from_slices(data.slices, data.config).changed(changes)
    truth, latent = run.truth(), run.embedding(1234).obsm[embedding.LATENT]
    for n_domains, bound in zip((5, 6, 7), least, strict=True):
        labels = domains.cluster_domains(latent, "mixture", n_domains=n_domains, seed=1234).labels
        assert adjusted_rand_score(truth, labels) > bound
    assert 4 <= choose_by_silhouette(latent, seed=1234).n_domains <= 6
    assert adjusted_rand_score(truth, domains.cluster_domains(latent, "kmeans", n_domains=5).labels) > 0.86


def test_two_lymph_nodes_with_the_same_barcodes(shared_data):
    data = split_lymph_node(shared_data)
    slices = {key: adata for key, adata in data.slices.items() if key[1] == "panel1"}
    run = Pipeline.from_slices(slices, data.config)
    obs = run.graphs()["panel1"].obs
    # One spot of s1 has no counts, and its barcode is among the 3037 that both slices have.
    assert len(obs) == 3483 + 3359
    assert obs["barcode"].duplicated().sum() == 3036
    assert adjusted_rand_score(run.truth(), run.domains()["domain"]) > 0.15


def test_cortex_rna_and_atac_from_counts(shared_data):
    data = cortex(shared_data)
    run = Pipeline.from_slices(data.slices, data.config)
    assert run.embedding().obs["slice"].value_counts().tolist() == [1600] * 3
    assert adjusted_rand_score(run.truth(), run.domains()["domain"]) > 0.76


def test_the_second_panel_of_a_lymph_node_is_imputed(shared_data):
    """Better than the published way, and near to what was measured."""
    data = split_lymph_node(shared_data)
    default = Pipeline.from_slices(data.slices, data.config)
    measured = read_slice(data.measured, "s2", "protein")
    scores = {}
    for method, settings in (("matching", {}), ("nearest", PUBLISHED["impute"])):
        done = default.changed({"impute": settings}).imputed("s2", "panel2")
        hidden = measured[done.obs_names].layers["counts"].toarray()
        scores[method] = metrics.imputation_scores(matrices.dense(done.layers["imputed"]), hidden)
    assert scores["matching"]["pearson_feature"] > 0.67
    assert scores["matching"]["pearson_feature"] > scores["nearest"]["pearson_feature"] + 0.1
    assert scores["matching"]["cmd_feature"] < scores["nearest"]["cmd_feature"]
    assert np.isfinite(list(scores["matching"].values())).all()


@pytest.mark.parametrize("of_blood", [True, False])
def test_another_tissue_with_protein_alone_lights_red(shared_data, of_blood):
    """Blood cells on a reference of a lymph node, whose distances miss them, and the other way round."""
    lymph, blood = of_both_panels(shared_data)
    known, same, other = ({"s1": lymph["s1"]}, lymph["s2"], blood["s4"])
    if of_blood:
        known, same, other = ({name: blood[name] for name in ("s1", "s3")}, blood["s4"], lymph["s1"])
    config = {"modalities": {"adt": {"kind": "protein"}}, "train": {"device": "cpu"}, "cluster": {"n_domains": 4}}
    reference = Pipeline.from_slices({(name, "adt"): adata for name, adata in known.items()}, config).reference()
    told = reference.map({("same", "adt"): same, ("other", "adt"): other}).domains.slices.set_index("slice")
    assert told.loc["same", "relative"] > 0.95
    assert told.loc["other", "relative"] < 0.4
    if not of_blood:
        assert told.loc["other", "near"] > 0.8
    for name, status in (("same", "pass"), ("other", "fail")):
        none = pd.DataFrame({"metric": [], "scope": [], "value": []})
        domains_of_none = pd.DataFrame({"slice": ["a"], "domain": [0]})
        lights = checks.run_checks(none, domains_of_none, [], [], mapping=told.loc[[name]].reset_index())
        assert lights.set_index("check").loc["mapping", "status"] == status
