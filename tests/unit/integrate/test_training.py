"""Fitting, saving and embedding on a small mosaic."""

import inspect
import json
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest
import torch
from chain import small_graph

from mosaic import embedding
from mosaic.errors import InputError
from mosaic.integrate import batches, checkpoint, training
from mosaic.integrate.encoders import EncoderSettings, to_data
from mosaic.integrate.model import embed, load_model, new_encoders, save_model

SMALL = {"n_hidden": 16, "n_latent": 4}


@pytest.fixture(scope="module")
def mosaic_graphs():
    return {"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s1", "s3"], seed=1)}


def run(graphs, dropout=0.2, **changed):
    settings = {"seed": 0, "device": "cpu", "n_epochs": 5, "T": 0.1, "encoder": SMALL | {"dropout": dropout}}
    return training.fit(graphs, **settings | changed)


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
    mdata = embed(graphs, encoders)
    assert mdata.n_obs == 60 * len({name for slices in designs.values() for name in slices})
    for name in graphs:
        np.testing.assert_allclose(np.linalg.norm(mdata[name].obsm[embedding.LATENT], axis=1), 1, rtol=1e-5)


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
        for batch in batches.Batches(mosaic_graphs, encoders, full_batch_max=10, batch_size=30, seed=5):
            for name, data in batch.inputs.items():
                expected[name].append(torch.nn.functional.leaky_relu(encoders[name].fc1(data.x), 0.2).mean(dim=0))
    for name, means in expected.items():
        # Batches of another seed: as near as means of 60 spots are.
        spread = torch.stack(means).std(dim=0).max().item()
        gap = (torch.stack(means).mean(dim=0) - encoders[name].bn.running_mean).abs().max().item()
        assert gap < 3 * spread
        assert encoders[name].bn.momentum == 0.1


def test_reconstruction_is_the_mean_over_slices(mosaic_graphs):
    """By hand, from one forward pass."""
    encoders = new_encoders(mosaic_graphs, seed=0, n_hidden=16, n_latent=4, dropout=0)
    errors = {}
    for name, adata in mosaic_graphs.items():
        H = encoders[name].inputs(to_data(adata))
        squares = (encoders[name](H.x)[1].detach().numpy() - adata.X) ** 2
        for slice_name in adata.obs["slice"].unique():
            errors[name, slice_name] = squares[adata.obs["slice"] == slice_name].mean()
    for which, slices in (("all", errors), ("queries", [("rna", "s2"), ("adt", "s3")])):
        (batch,) = batches.Batches(mosaic_graphs, encoders, reconstruct=which)
        found = training.losses_of(batch, encoders, T=0.1)[1].item()
        assert found == pytest.approx(np.mean([errors[key] for key in slices]), rel=1e-5)


def test_graph_reconstruction_enters_with_its_share(mosaic_graphs):
    _, without = run(mosaic_graphs, n_epochs=1)
    _, half = run(mosaic_graphs, n_epochs=1, w_rec_g=0.5)
    _, alone = run(mosaic_graphs, n_epochs=1, w_rec_g=1.0)
    expected = 0.5 * without["reconstruction"][0] + 0.5 * alone["reconstruction"][0]
    assert half["reconstruction"][0] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_off_is_not_minimised(mosaic_graphs, caplog):
    _, both = run(mosaic_graphs, n_epochs=2)
    _, alone = run(mosaic_graphs, n_epochs=2, losses=["reconstruction"])
    assert "nothing aligns the modalities" in caplog.text
    assert (alone["contrastive"] == 0).all()
    assert alone["reconstruction"][0] == both["reconstruction"][0]
    assert alone["reconstruction"][1] != both["reconstruction"][1]
    _, contrast = run(mosaic_graphs, n_epochs=2, losses=["contrastive"])
    assert (contrast["reconstruction"] == 0).all()
    assert contrast["contrastive"][0] == both["contrastive"][0]


def test_negatives_are_those_asked_for(mosaic_graphs):
    """Of one bridge slice, and of two, whose rows are in one loss or in one each."""

    def value(graphs, negatives):
        encoders = new_encoders(graphs, seed=0, n_hidden=16, n_latent=4, dropout=0)
        (batch,) = batches.Batches(graphs, encoders)
        return training.losses_of(batch, encoders, T=0.1, negatives=negatives)[0].item()

    assert value(mosaic_graphs, "all") == value(mosaic_graphs, "slice")
    assert value(mosaic_graphs, "modality") < value(mosaic_graphs, "slice")  # fewer rows to repel
    two = {"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s1", "s2"], seed=1)}
    assert value(two, "all") > value(two, "slice")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"losses": []}, "nothing is minimised: losses are none"),
        ({"losses": ["contrast"]}, "contrast is not known"),
        ({"negatives": "every"}, "'every' is not known"),
        ({"losses": ["contrastive"], "w_rec_g": 0.5}, "w_rec_g is 0.5, and reconstruction is no loss"),
    ],
)
def test_an_empty_loss_is_an_error(mosaic_graphs, settings, problem):
    with pytest.raises(InputError, match=problem):
        run(mosaic_graphs, n_epochs=1, **settings)
    horizontal = {"rna": mosaic_graphs["rna"]}
    with pytest.raises(InputError, match="nothing is minimised: losses are contrastive, for 0 bridge slices"):
        run(horizontal, n_epochs=1, losses=["contrastive"])


@pytest.fixture
def model(mosaic_graphs, tmp_path):
    encoders, _ = run(mosaic_graphs, n_epochs=1)
    path = tmp_path / "model.safetensors"
    save_model(encoders, {"seed": 0}, mosaic_graphs, path)
    return path, encoders


def test_model_survives_the_disk_with_its_settings(mosaic_graphs, model):
    path, encoders = model
    loaded = load_model(path, mosaic_graphs)
    for encoder in loaded.values():
        assert encoder.settings == EncoderSettings(n_hidden=16, n_latent=4)
    before = embed(mosaic_graphs, encoders).obsm[embedding.LATENT]
    np.testing.assert_array_equal(embed(mosaic_graphs, loaded).obsm[embedding.LATENT], before)
    path.write_bytes(b"half")
    with pytest.raises(InputError, match="can't be read as a model"):
        load_model(path, mosaic_graphs)


def test_a_model_is_embedded_with_the_settings_it_was_trained_with(mosaic_graphs, tmp_path):
    """Not with the defaults: K and dropout leave no trace, or little, in the shapes of the weights."""
    encoders, _ = training.fit(mosaic_graphs, seed=0, device="cpu", n_epochs=1, encoder={"K": 3, "dropout": 0.5})
    path = tmp_path / "model.safetensors"
    save_model(encoders, {}, mosaic_graphs, path)
    loaded = load_model(path, mosaic_graphs)
    assert loaded["rna"].settings == EncoderSettings(K=3, dropout=0.5)
    assert loaded["rna"].dropout == 0.5
    assert loaded["rna"].inputs(to_data(mosaic_graphs["rna"])).x.shape[1] == 4 * mosaic_graphs["rna"].n_vars
    before = embed(mosaic_graphs, encoders).obsm[embedding.LATENT]
    np.testing.assert_array_equal(embed(mosaic_graphs, loaded).obsm[embedding.LATENT], before)


def test_a_model_that_does_not_fit_is_told(mosaic_graphs, model, tmp_path):
    path, encoders = model
    wider = mosaic_graphs | {"adt": small_graph(["s1", "s3"], seed=1)[:, :5]}
    with pytest.raises(InputError, match=r"encoder of adt takes 6 features, and the graph has 5\n.*delete this file"):
        load_model(path, wider)
    with pytest.raises(InputError, match=r"modality adt: the encoder of adt takes 6 features, and the graph has 5"):
        embed(wider, encoders)
    with pytest.raises(InputError, match=r"modality atac: there are encoders of rna, adt, and none of atac"):
        embed({"atac": mosaic_graphs["rna"]}, encoders)
    for settings, message in (
        ({"net": "later"}, r"was trained with an unknown encoder: 'later' is not known"),
        ({"K": 5}, r"can't be read as a model \(RuntimeError"),
        ({"depth": 2}, r"can't be read as a model \(TypeError"),
    ):
        tensors, metadata = checkpoint.read_tensors(path)
        made = json.loads(metadata["encoders"])
        made["adt"]["settings"] |= settings
        other = tmp_path / "other.safetensors"
        checkpoint.write_tensors(tensors, metadata | {"encoders": json.dumps(made)}, other)
        with pytest.raises(InputError, match=message):
            load_model(other, mosaic_graphs)


def test_a_flipped_bit_of_a_model_is_told(mosaic_graphs, model):
    path, _ = model
    whole = path.read_bytes()
    n_header = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    places = [*rng.integers(8, n_header, 30), *rng.integers(n_header, len(whole), 100), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        if whole[place : place + 1] == b" " and place >= n_header - 8:
            continue  # padding, which says nothing
        with pytest.raises(InputError, match=r"can't be read as a model(.|\n)*Hint: delete this file"):
            load_model(path, mosaic_graphs)


def test_a_model_of_another_graph_is_refused(mosaic_graphs, model):
    """Components have no names: a model of others of the same width would embed them without a word."""
    path, _ = model

    def changed(change):
        graphs = {name: adata.copy() for name, adata in mosaic_graphs.items()}
        change(graphs["adt"])
        return graphs

    def other_feature(adata):
        adata.X[3, 2] += 0.5

    def other_edge(adata):
        adata.obsp["mutual_nearest_neighbors"].data[0] *= 2

    for change in (other_feature, other_edge):
        with pytest.raises(InputError, match=r"was trained on another graph of adt than"):
            load_model(path, changed(change))
    swapped = dict(zip(mosaic_graphs, reversed(mosaic_graphs.values()), strict=True))
    with pytest.raises(InputError, match=r"was trained on another graph of rna, adt than"):
        load_model(path, swapped)
    with pytest.raises(InputError, match=r"was trained on rna, adt, not on rna\n.*Hint: delete this file"):
        load_model(path, {"rna": mosaic_graphs["rna"]})


def test_coordinates_that_are_not_finite_are_an_error(mosaic_graphs):
    encoders = new_encoders(mosaic_graphs, seed=0)
    encoders["adt"].eval().fc2.weight.data[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"modality adt: .* not finite"):
        embed({"adt": mosaic_graphs["adt"]}, encoders)


def test_a_design_that_nothing_aligns_is_an_error():
    with pytest.raises(InputError, match=r"no slice has two of rna, adt"):
        run({"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s3"])})


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

        def stopped(state, history, write=checkpoint.State.write):
            write(state, history)
            if len(history) == 8:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(checkpoint.State, "write", stopped)
            with pytest.raises(KeyboardInterrupt):
                run(mosaic_graphs, n_epochs=12, checkpoint=file, checkpoint_every=4, **settings)
        torch.rand(5)  # whatever else drew random numbers
        caplog.clear()
        encoders, resumed = run(mosaic_graphs, n_epochs=12, checkpoint=file, checkpoint_every=4, **settings)
        assert "resuming after epoch 8" in caplog.text
        pd.testing.assert_frame_equal(resumed, history)
        assert_same_weights(encoders, expected)


# What `fit` takes that is no setting: the data; `device`, which is part of the identity beside the settings; and where
# and how often the state is written, which changes nothing in the result.
NO_SETTINGS = {"graphs", "device", "checkpoint", "checkpoint_every"}
# Every single setting, of the encoder and of training.
EVERY = [*fields(EncoderSettings), *(own for own in fields(training.TrainingSettings) if own.name != "encoder")]


def another(setting):
    """Another value than the default of a setting."""
    known = {
        "net": "mlp",
        "losses": ["contrastive"],
        "negatives": "all",
        "seed": 2,
        "n_epochs": 2,
        "w_rec_g": 0.5,
        "reconstruct": "queries",
    }
    if setting.name in known:
        return known[setting.name]
    return type(setting.default)(setting.default / 2)


def with_another(asked, setting):
    """Settings of training with one changed, its own or its encoder's."""
    value = {setting.name: another(setting)}
    if setting in fields(EncoderSettings):
        return replace(asked, encoder=replace(asked.encoder, **value))
    return replace(asked, **value)


def test_identity_covers_every_setting(mosaic_graphs, monkeypatch):
    parameters = inspect.signature(training.fit).parameters
    assert set(parameters) == NO_SETTINGS | {"encoder", "settings"}
    monkeypatch.setattr(training, "versions", lambda _: {"torch": "1"})  # takes its time
    device, asked = torch.device("cpu"), training.TrainingSettings(seed=1)
    first = training._identity(mosaic_graphs, asked, device)
    assert training._identity(mosaic_graphs, replace(asked), device) == first
    found = {first}
    for setting in EVERY:
        found.add(training._identity(mosaic_graphs, with_another(asked, setting), device))
    assert len(found) == 1 + len(EVERY)
    found.add(training._identity(mosaic_graphs, asked, torch.device("cuda")))
    found.add(training._identity(dict(reversed(mosaic_graphs.items())), asked, device))
    with monkeypatch.context() as patched:
        patched.setattr(training, "versions", lambda _: {"torch": "0"})
        found.add(training._identity(mosaic_graphs, asked, device))
    with monkeypatch.context() as patched:
        patched.setattr(training, "imported_modules", lambda *_: ([__file__], set()))
        found.add(training._identity(mosaic_graphs, asked, device))
    assert len(found) == 5 + len(EVERY)


def test_defaults_are_those_of_what_takes_them():
    defaults = {setting.name: setting.default for setting in fields(training.TrainingSettings)}
    for taker in (batches.Batches, new_encoders, training.losses_of):
        for name, parameter in inspect.signature(taker).parameters.items():
            if name in defaults and name != "seed" and parameter.default is not parameter.empty:
                assert parameter.default == defaults[name], f"{name} of {taker.__name__}"


def assert_same_weights(encoders, expected):
    for name, encoder in encoders.items():
        for key, tensor in encoder.state_dict().items():
            assert torch.equal(tensor, expected[name].state_dict()[key]), (name, key)


@pytest.fixture(scope="module")
def left(mosaic_graphs, tmp_path_factory):
    """Settings of a training, and the checkpoint that it left after three of its four epochs."""
    file, asked = tmp_path_factory.mktemp("left") / "checkpoint.safetensors", {"seed": 1, "n_epochs": 4}
    training.fit(mosaic_graphs, device="cpu", checkpoint=file, checkpoint_every=3, **asked)
    return asked, file.read_bytes()


@pytest.mark.parametrize(
    "setting", [setting for setting in EVERY if setting.name != "net"], ids=lambda setting: setting.name
)
def test_a_checkpoint_of_other_settings_is_not_used(mosaic_graphs, left, tmp_path, caplog, setting):
    """Also of fewer epochs than the checkpoint has, and of another width."""
    file, asked = tmp_path / "checkpoint.safetensors", dict(left[0])
    file.write_bytes(left[1])
    changed = {setting.name: another(setting)}
    asked |= {"encoder": changed} if setting in fields(EncoderSettings) else changed
    expected, whole = training.fit(mosaic_graphs, device="cpu", **asked)
    caplog.clear()
    encoders, history = training.fit(mosaic_graphs, device="cpu", checkpoint=file, **asked)
    assert "has other data, settings or versions: training starts from the beginning" in caplog.text
    pd.testing.assert_frame_equal(history, whole)
    assert_same_weights(encoders, expected)


def test_a_checkpoint_of_other_data_is_not_used(mosaic_graphs, tmp_path, caplog):
    file = tmp_path / "checkpoint.safetensors"
    run(mosaic_graphs, n_epochs=4, checkpoint=file, checkpoint_every=2)
    other = {name: adata.copy() for name, adata in mosaic_graphs.items()}
    other["rna"].X[0, 0] += 1
    expected, _ = run(other, n_epochs=4)
    encoders, _ = run(other, n_epochs=4, checkpoint=file)
    assert "has other data, settings or versions: training starts from the beginning" in caplog.text
    assert_same_weights(encoders, expected)


def test_a_damaged_checkpoint_is_not_used(mosaic_graphs, left, tmp_path, caplog):
    file, (asked, whole) = tmp_path / "checkpoint.safetensors", left
    expected, _ = training.fit(mosaic_graphs, device="cpu", **asked)
    rng = np.random.default_rng(0)
    n_header = 8 + int.from_bytes(whole[:8], "little")
    for place in (int(rng.integers(n_header, len(whole) - 1000)), len(whole) - 1000):
        file.write_bytes(whole[:place] + rng.bytes(1000) + whole[place + 1000 :])
        caplog.clear()
        encoders, _ = training.fit(mosaic_graphs, device="cpu", checkpoint=file, **asked)
        assert (
            "can't be read (its checksum is not that of what it holds): training starts from the beginning"
            in caplog.text
        )
        assert_same_weights(encoders, expected)
    file.write_bytes(b"half")
    caplog.clear()
    run(mosaic_graphs, n_epochs=1, checkpoint=file)
    assert "can't be read" in caplog.text
