"""The chain in memory; tests/workflow/test_notebook.py compares it with the rules, bit for bit."""

import os

import numpy as np
import pytest
import torch
import yaml
from chain import THREE_SLICES, simulated

from mosaic import store
from mosaic.errors import InputError
from mosaic.mixing import ilisi
from mosaic.pipeline import Pipeline
from mosaic.simulate.counts import simulate_mosaic

CONFIG = {
    "modalities": {"rna": {"kind": "rna", "n_comps": 10}, "adt": {"kind": "protein", "n_comps": 10}},
    "train": {"T": 0.1, "n_epochs": 5, "device": "cpu", "threads": 1},
    "cluster": {"n_domains": 3},
    "truth": "domain",
}


@pytest.fixture
def slices():
    return simulate_mosaic(THREE_SLICES, seed=3)


@pytest.fixture(scope="module")
def run():
    return Pipeline.from_slices(simulate_mosaic(THREE_SLICES, seed=3), CONFIG)


def test_slices_in_memory_give_what_their_files_give(slices, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["slice\tmodality\tpath"]
    for (name, modality), adata in slices.items():
        store.write(adata, tmp_path / f"{name}.{modality}.h5ad")
        rows.append(f"{name}\t{modality}\t{name}.{modality}.h5ad")
    (tmp_path / "slices.tsv").write_text("\n".join(rows))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"slices": "slices.tsv"}))
    of_files = Pipeline.from_config("config.yaml")
    assert of_files.sheet.missing == run.sheet.missing == [("s2", "adt")]
    np.testing.assert_array_equal(of_files.embedding().obsm["X_latent"], run.embedding().obsm["X_latent"])
    assert of_files.truth().equals(run.truth())
    assert of_files.truth().notna().all()
    assert of_files.metrics().equals(run.metrics())


def test_all_defaults_are_those_of_the_config():
    config = Pipeline.from_slices(simulate_mosaic(THREE_SLICES, seed=3), CONFIG | {"recipe": "published"}).config
    assert config["modalities"]["rna"]["n_top_features"] == 5000
    assert config["modalities"]["rna"]["n_comps"] == 10
    assert config["impute"]["method"] == "nearest"
    assert config["seeds"] == [1234]


def test_a_change_computes_anew_what_hangs_on_it_alone(run):
    clustered = run.changed({"cluster": {"n_domains": 2}})
    assert clustered.embedding() is run.embedding()
    assert clustered.domains()["domain"].nunique() == 2
    assert run.domains()["domain"].nunique() == 3
    linked = run.changed({"graph": {"w_g": 0}})
    assert linked.reduced()["rna"] is run.reduced()["rna"]
    assert linked.graphs()["rna"] is not run.graphs()["rna"]
    assert not np.array_equal(linked.embedding().obsm["X_latent"], run.embedding().obsm["X_latent"])
    one = run.changed({"modalities": {"rna": {"n_comps": 5}}}).reduced()
    assert one["adt"] is run.reduced()["adt"]
    assert one["rna"].obsm["X_reduced"].shape[1] == 5
    assert run.changed({"qc": {"adt": {"min_counts": 1500}}}).passed()["s1", "adt"].adata.n_obs < 144


def test_seeds_are_apart_and_the_first_of_the_config_is_the_default(run):
    assert run.embedding() is run.embedding(1234)
    other = run.embedding(0)
    assert not np.array_equal(other.obsm["X_latent"], run.embedding().obsm["X_latent"])
    assert run.trained(0).history["epoch"].tolist() == [1, 2, 3, 4, 5]


def test_a_run_finds_the_domains_and_mixes_the_slices():
    found = simulated(THREE_SLICES, seed=3, modalities={"rna": {"n_comps": 10}}, train={"n_epochs": 60})
    metrics = found.metrics(0).set_index(["metric", "scope"])["value"]
    assert metrics["ARI", "all"] > 0.6
    latent, slices = found.embedding(0).obsm["X_latent"], found.embedding(0).obs["slice"].to_numpy(dtype=str)
    assert metrics["iLISI", "all"] == ilisi(latent, slices) > 0.3
    imputed = found.imputed("s2", "adt", 0)
    assert imputed.shape == (144, 20)
    assert (imputed.obs["slice"] == "s2").all()


def test_the_number_of_domains_is_chosen():
    found = simulated(THREE_SLICES, train={"n_epochs": 5}, cluster={"n_domains": "auto", "n_domains_range": [2, 4]})
    curve = found.n_domains_curve()
    assert curve["n_domains"].tolist() == [2, 3, 4]
    assert found.domains()["domain"].nunique() == curve.loc[curve["chosen"], "n_domains"].item()


def test_users_slices_stay_as_they_are(slices):
    counts = slices["s1", "rna"].X
    counts.data[:5] = 0  # which are stored
    kept = {key: (adata.X.copy(), adata.obs.copy(), list(adata.obsm)) for key, adata in slices.items()}
    Pipeline.from_slices(slices, CONFIG).reduced()
    for key, adata in slices.items():
        np.testing.assert_array_equal(adata.X.data, kept[key][0].data)
        np.testing.assert_array_equal(adata.X.indices, kept[key][0].indices)
        assert adata.obs.equals(kept[key][1])
        assert list(adata.obsm) == kept[key][2]


def test_threads_are_as_before(run):
    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    run.changed({"train": {"threads": 2, "n_epochs": 1}}).trained()
    assert (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")) == before


def test_faults_are_told(slices, run):
    with pytest.raises(InputError, match=r"slices: there are none"):
        Pipeline.from_slices({}, CONFIG)
    with pytest.raises(InputError, match=r"slices: the key 'rna' is no pair of slice and modality"):
        Pipeline.from_slices({"rna": slices["s1", "rna"]}, CONFIG)
    with pytest.raises(InputError) as told:
        Pipeline.from_slices({("s 1", "rna"): slices["s1", "rna"], ("s2", "atac"): slices["s2", "rna"]}, CONFIG)
    assert "slice s 1, rna: slice 's 1' is not valid" in str(told.value)
    assert "slice s2, atac: modality 'atac' is not in the config" in str(told.value)
    with pytest.raises(InputError, match="no chain of bridge slices joins rna to adt"):
        Pipeline.from_slices({key: slices[key] for key in (("s1", "rna"), ("s3", "adt"))}, CONFIG)
    with pytest.raises(InputError, match=r"cluster\.n_domain: unknown key"):
        run.changed({"cluster": {"n_domain": 3}})
    with pytest.raises(InputError, match=r"nothing to impute[\s\S]*adt in s2"):
        run.imputed("s1", "adt")
    slices["s1", "rna"].X = slices["s1", "rna"].X * 0.5
    with pytest.raises(InputError, match="the AnnData of slice s1: X holds values that are no whole numbers"):
        Pipeline.from_slices(slices, CONFIG).slices()
    with pytest.raises(InputError, match=r"nowhere\.yaml: can't be read"):
        Pipeline.from_config("nowhere.yaml")
