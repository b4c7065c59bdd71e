"""Fitting, saving and embedding on a small mosaic."""

import numpy as np
import pandas as pd
import pytest
import torch
from chain import small_graph

from mosaic import batches, spots, training
from mosaic.errors import InputError

SETTINGS = {"K": 2, "w_g": 0.8, "symmetric": True, "n_hidden": 16, "n_latent": 4, "dropout": 0.2}


@pytest.fixture(scope="module")
def mosaic_graphs():
    return {"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s1", "s3"], seed=1)}


def run(graphs, **changed):
    return training.fit(graphs, **{"seed": 0, "device": "cpu", "n_epochs": 5, "T": 0.1} | SETTINGS | changed)


def test_losses_fall_and_a_seed_gives_the_same_bits(mosaic_graphs):
    encoders, history = run(mosaic_graphs, n_epochs=30)
    again, history_again = run(mosaic_graphs, n_epochs=30)
    other, _ = run(mosaic_graphs, n_epochs=30, seed=1)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    pd.testing.assert_frame_equal(history, history_again)
    np.testing.assert_allclose(history["loss"], history["contrastive"] + history["reconstruction"], rtol=1e-5)
    for name in encoders:
        for one, two, three in zip(
            encoders[name].parameters(), again[name].parameters(), other[name].parameters(), strict=True
        ):
            assert torch.equal(one, two)
            assert not torch.equal(one, three)


@pytest.mark.parametrize(
    ("designs", "contrastive", "queries"),
    [
        ({"rna": ["s1", "s2"], "adt": ["s1", "s3"]}, True, True),  # mosaic
        ({"rna": ["s1", "s2", "s3"]}, False, True),  # horizontal
        ({"rna": ["s1"], "adt": ["s1"]}, True, False),  # vertical
        ({"rna": ["s1"]}, False, True),  # one slice, one modality
        ({"rna": ["s1", "s2"], "adt": ["s1", "s3"], "atac": ["s1", "s2"]}, True, True),  # three modalities
    ],
)
def test_every_design_trains_on_the_losses_it_has(designs, contrastive, queries):
    graphs = {name: small_graph(slices, seed=number) for number, (name, slices) in enumerate(designs.items())}
    encoders, history = run(graphs)
    assert (history["contrastive"] > 0).all() == contrastive
    assert (history["reconstruction"] > 0).all()
    _, published = run(graphs, reconstruct="queries")
    assert (published["contrastive"] > 0).all() == contrastive
    assert (published["reconstruction"] > 0).all() == queries
    mdata = training.embed(graphs, encoders, SETTINGS)
    assert mdata.n_obs == 60 * len({name for slices in designs.values() for name in slices})
    for name in graphs:
        np.testing.assert_allclose(np.linalg.norm(mdata[name].obsm[spots.LATENT], axis=1), 1, rtol=1e-5)


def test_batches_train_to_the_same_task(mosaic_graphs):
    # One batch of all spots is the same step in another order.
    _, one_batch = run(mosaic_graphs, n_epochs=1, full_batch_max=10, batch_size=60, dropout=0)
    _, whole = run(mosaic_graphs, n_epochs=1, dropout=0)
    for name in ("contrastive", "reconstruction"):
        assert one_batch[name][0] == pytest.approx(whole[name][0], rel=1e-5)
    encoders, batched = run(mosaic_graphs, full_batch_max=10, batch_size=25)
    # Fewer spots to tell apart make the task easier.
    assert batched["contrastive"][0] < whole["contrastive"][0]
    assert batched["loss"].iloc[-1] < batched["loss"][0]
    again, _ = run(mosaic_graphs, full_batch_max=10, batch_size=25)
    for one, two in zip(encoders["rna"].state_dict().values(), again["rna"].state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_epochs_that_are_not_given_make_enough_steps(mosaic_graphs, monkeypatch):
    monkeypatch.setattr(training, "_WHOLE_STEPS", 4)
    monkeypatch.setattr(training, "_BATCH_STEPS", 8)
    assert len(run(mosaic_graphs, n_epochs=None)[1]) == 4
    assert len(run(mosaic_graphs, n_epochs=None, full_batch_max=10, batch_size=20)[1]) == 3  # of three steps each


def test_batch_norm_of_batches_is_the_same_in_inference(mosaic_graphs):
    """What training saw in the last weights' batches is what embedding uses."""
    settings = {"full_batch_max": 10, "batch_size": 30, "dropout": 0}
    encoders, _ = run(mosaic_graphs, n_epochs=20, **settings)
    expected = {name: [] for name in mosaic_graphs}
    with torch.no_grad():
        for batch in batches.Batches(mosaic_graphs, full_batch_max=10, batch_size=30, seed=5):
            for name, H in batch.inputs.items():
                expected[name].append(torch.nn.functional.leaky_relu(encoders[name].fc1(H), 0.2).mean(dim=0))
    for name, means in expected.items():
        # Batches of another seed: as near as means of 60 spots are.
        spread = torch.stack(means).std(dim=0).max().item()
        gap = (torch.stack(means).mean(dim=0) - encoders[name].bn.running_mean).abs().max().item()
        assert gap < 3 * spread
        assert encoders[name].bn.momentum == 0.1


def test_reconstruction_is_the_mean_over_slices(mosaic_graphs):
    """By hand, from one forward pass."""
    encoders = training.new_encoders(mosaic_graphs, seed=0, n_hidden=16, n_latent=4, dropout=0)
    errors = {}
    for name, adata in mosaic_graphs.items():
        H = torch.as_tensor(batches.encoder_input(adata, K=2, w_g=0.8, symmetric=True))
        squares = (encoders[name](H)[1].detach().numpy() - adata.X) ** 2
        for slice_name in adata.obs["slice"].unique():
            errors[name, slice_name] = squares[adata.obs["slice"] == slice_name].mean()
    for which, slices in (("all", errors), ("queries", [("rna", "s2"), ("adt", "s3")])):
        (batch,) = batches.Batches(mosaic_graphs, reconstruct=which)
        found = training.losses_of(batch, encoders, T=0.1)[1].item()
        assert found == pytest.approx(np.mean([errors[key] for key in slices]), rel=1e-5)


def test_graph_reconstruction_enters_with_its_share(mosaic_graphs):
    _, without = run(mosaic_graphs, n_epochs=1)
    _, half = run(mosaic_graphs, n_epochs=1, w_rec_g=0.5)
    _, alone = run(mosaic_graphs, n_epochs=1, w_rec_g=1.0)
    expected = 0.5 * without["reconstruction"][0] + 0.5 * alone["reconstruction"][0]
    assert half["reconstruction"][0] == pytest.approx(expected, rel=1e-5)


def test_model_survives_the_disk_with_its_settings(mosaic_graphs, tmp_path):
    encoders, _ = run(mosaic_graphs)
    training.save_model(encoders, SETTINGS | {"seed": 0}, tmp_path / "model.safetensors")
    loaded, settings = training.load_model(tmp_path / "model.safetensors")
    assert settings == SETTINGS | {"seed": 0}
    before = training.embed(mosaic_graphs, encoders, SETTINGS).obsm[spots.LATENT]
    np.testing.assert_array_equal(training.embed(mosaic_graphs, loaded, settings).obsm[spots.LATENT], before)
    (tmp_path / "model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="can't be read as a model"):
        training.load_model(tmp_path / "model.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_an_error(mosaic_graphs):
    with pytest.raises(InputError, match=r"train.device: device is cuda, but PyTorch sees no GPU"):
        run(mosaic_graphs, device="cuda")


def test_a_loss_that_explodes_is_an_error(mosaic_graphs):
    graphs = {name: adata.copy() for name, adata in mosaic_graphs.items()}
    graphs["rna"].X[:] *= 1e30
    with pytest.raises(InputError, match=r"train: the loss is (nan|inf) in epoch"):
        run(graphs)


def test_a_stopped_training_ends_with_the_same_bits(mosaic_graphs, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="mosaic")
    file = tmp_path / "checkpoint.safetensors"
    for settings in ({}, {"full_batch_max": 10, "batch_size": 25}):
        expected, history = run(mosaic_graphs, n_epochs=12, **settings)

        def stopped(state, history, write=training._State.write):
            write(state, history)
            if len(history) == 8:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(training._State, "write", stopped)
            with pytest.raises(KeyboardInterrupt):
                run(mosaic_graphs, n_epochs=12, checkpoint=file, checkpoint_every=4, **settings)
        torch.rand(5)  # whatever else drew random numbers
        caplog.clear()
        encoders, resumed = run(mosaic_graphs, n_epochs=12, checkpoint=file, checkpoint_every=4, **settings)
        assert "going on after epoch 8" in caplog.text
        pd.testing.assert_frame_equal(resumed, history)
        for name, encoder in encoders.items():
            for key, tensor in encoder.state_dict().items():
                assert torch.equal(tensor, expected[name].state_dict()[key]), (name, key)


def test_a_checkpoint_of_something_else_is_not_used(mosaic_graphs, tmp_path, caplog):
    file = tmp_path / "checkpoint.safetensors"
    run(mosaic_graphs, n_epochs=4, checkpoint=file, checkpoint_every=2)
    other = {name: adata.copy() for name, adata in mosaic_graphs.items()}
    other["rna"].X[0, 0] += 1
    for graphs, changed in ((mosaic_graphs, {"lr": 0.02}), (mosaic_graphs, {"w_g": 0.5}), (other, {})):
        expected, _ = run(graphs, n_epochs=4, **changed)
        caplog.clear()
        encoders, _ = run(graphs, n_epochs=4, checkpoint=file, **changed)
        assert "is of other data or settings, so training begins anew" in caplog.text
        assert torch.equal(encoders["rna"].fc1.weight, expected["rna"].fc1.weight)
    file.write_bytes(b"half")
    caplog.clear()
    run(mosaic_graphs, n_epochs=1, checkpoint=file)
    assert "can't be read" in caplog.text


def test_more_epochs_go_on_from_a_checkpoint(mosaic_graphs, tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    run(mosaic_graphs, n_epochs=5, checkpoint=file, checkpoint_every=4)
    longer, history = run(mosaic_graphs, n_epochs=8, checkpoint=file)
    expected, whole = run(mosaic_graphs, n_epochs=8)
    pd.testing.assert_frame_equal(history, whole)
    assert torch.equal(longer["rna"].fc1.weight, expected["rna"].fc1.weight)
