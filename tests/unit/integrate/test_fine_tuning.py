"""Fine-tuning: the new slice's modalities come together, and the reference stays where it is."""

import anndata as ad
import numpy as np
import pytest
import torch
from chain import small_graph

from mosaic.errors import InputError
from mosaic.integrate import fine_tuning, training
from mosaic.integrate.graph import link_to_reference
from mosaic.integrate.model import embed, embed_new

SETTINGS = {"T": 0.1, "lr": 0.01}


def part_of(graph, name, shift=0.0):
    own = graph[(graph.obs["slice"] == name).to_numpy()].copy()
    return ad.AnnData(obs=own.obs, obsm={"X_corrected": np.asarray(own.X) + shift, "spatial": own.obsm["spatial"]})


@pytest.fixture(scope="module")
def trained():
    """Encoders of s1, and graphs of new slices with another relation of the modalities: two with both, one with one."""
    shift = np.array([0, 0, 2, -2, 0, 0], dtype=np.float32)
    made = {"rna": small_graph(["s1", "n1", "n2", "n3"]), "adt": small_graph(["s1", "n1", "n2"], seed=1)}
    known = {"rna": small_graph(["s1"]), "adt": small_graph(["s1"], seed=1)}
    encoder = {"n_hidden": 16, "n_latent": 4}
    encoders, _ = training.fit(known, seed=0, device="cpu", n_epochs=60, T=0.1, encoder=encoder)
    parts = {name: [part_of(graph, own, shift) for own in ("n1", "n2")] for name, graph in made.items()}
    parts["rna"].append(part_of(made["rna"], "n3"))
    graphs = {}
    for name, own in parts.items():
        reference = part_of(known[name], "s1")
        graphs[name] = link_to_reference(ad.concat(own), reference, intra_knns=5, inter_knn_base=5)
    return graphs, encoders


def apart(embedding, spots):
    """Mean cosine distance of the two modalities of spots."""
    one, other = (part[spots].obsm["X_latent"] for part in embedding.mod.values())
    return float(1 - (one * other).sum(axis=1).mean())


def test_pairs_come_together_and_the_reference_stays(trained):
    graphs, encoders = trained
    before = {name: [weight.clone() for weight in encoder.parameters()] for name, encoder in encoders.items()}
    tuned = fine_tuning.fine_tune(graphs, encoders, n_epochs=100, **SETTINGS)
    for name, encoder in encoders.items():
        assert all(map(torch.equal, before[name], encoder.parameters()))
    assert sorted(tuned) == ["n1", "n2"]
    found, plain = embed_new(graphs, encoders, tuned), embed_new(graphs, encoders)
    for name, own in tuned.items():
        seen = set(own.spots)
        unseen = [spot for spot in found["rna"].obs_names if spot.startswith(name) and spot not in seen]
        assert len(unseen) == pytest.approx(fine_tuning.HELD_OUT * 60, abs=3)
        assert apart(found, own.spots) < 0.7 * apart(plain, own.spots)
        assert apart(found, unseen) < apart(plain, unseen)
        # A stripe of the tissue, not spots here and there.
        places = [found["rna"][spots].obsm["spatial"] for spots in (list(seen), unseen)]
        assert any(places[0][:, axis].max() < places[1][:, axis].min() for axis in (0, 1))
        for modality, encoder in own.encoders.items():
            known = graphs[modality].obs_names[~graphs[modality].obs["new"].to_numpy()]
            one, other = (
                embed({modality: graphs[modality]}, {modality: each})[modality][known].obsm["X_latent"]
                for each in (encoder, encoders[modality])
            )
            assert (1 - (one * other).sum(axis=1)).mean() < 0.06  # without the anchor above 0.1
    assert found.obs["tuned"].sum() == sum(len(own.spots) for own in tuned.values())
    # A slice with one modality keeps the encoders of the reference.
    alone = [spot for spot in found.obs_names if spot.startswith("n3")]
    np.testing.assert_array_equal(found[alone].obsm["X_latent"], plain[alone].obsm["X_latent"])


@pytest.mark.parametrize("batches", [{}, {"full_batch_max": 20, "batch_size": 16}])
def test_what_is_mapped_beside_a_slice_changes_nothing_for_it(trained, batches):
    graphs, encoders = trained
    both = fine_tuning.fine_tune(graphs, encoders, n_epochs=3, **SETTINGS, **batches)["n1"]
    one = {name: graph[graph.obs["slice"].isin(["s1", "n1"]).to_numpy()].copy() for name, graph in graphs.items()}
    alone = fine_tuning.fine_tune(one, encoders, n_epochs=3, **SETTINGS, **batches)["n1"]
    for name in encoders:
        for first, second in zip(both.encoders[name].parameters(), alone.encoders[name].parameters(), strict=True):
            np.testing.assert_allclose(first.detach(), second.detach(), atol=1e-6)


def test_without_pairs_nothing_is_tuned(trained):
    graphs, encoders = trained
    with pytest.raises(InputError, match="no new slice has two modalities"):
        fine_tuning.fine_tune({"rna": graphs["rna"]}, encoders)
    few = dict(graphs)
    kept = (~graphs["adt"].obs["new"] | graphs["adt"].obs_names.isin(["n1:BC0", "n2:BC0"])).to_numpy()
    few["adt"] = graphs["adt"][kept].copy()
    with pytest.raises(InputError, match="slice n1: rna and adt share too few spots to tune encoders by"):
        fine_tuning.fine_tune(few, encoders)


def test_the_settings_are_those_of_training():
    train = {"T": 0.2, "lr": 0.05, "full_batch_max": 7, "batch_size": 3, "n_epochs": 1, "device": "cpu"}
    asked = fine_tuning.TuningSettings(**fine_tuning.tuning_settings(9, train))
    assert asked == fine_tuning.TuningSettings(n_epochs=9, T=0.2, lr=0.05, full_batch_max=7, batch_size=3)
