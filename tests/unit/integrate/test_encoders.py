"""What every encoder must do, whichever it is."""

import inspect
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from chain import small_graph

from mosaic.errors import InputError
from mosaic.integrate import training
from mosaic.integrate.encoders import ENCODERS, EncoderSettings, make_encoder
from mosaic.integrate.model import embed

EVERY = pytest.mark.parametrize("net", ENCODERS)


@pytest.fixture(scope="module")
def graphs():
    return {"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s1", "s3"], seed=1)}


@EVERY
def test_what_an_encoder_says_of_itself(net):
    known = {setting.name for setting in fields(EncoderSettings)}
    assert set(ENCODERS[net].settings) < known
    takes = inspect.signature(ENCODERS[net].module).parameters
    assert list(takes) == ["n_features", *ENCODERS[net].settings]


@EVERY
def test_an_encoder_keeps_to_the_contract(graphs, net):
    graph = graphs["rna"]
    encoder = make_encoder(graph.n_vars, EncoderSettings(net=net, n_latent=5)).eval()
    assert encoder.n_features == graph.n_vars
    H = encoder.inputs(graph)
    assert H.dtype == np.float32
    np.testing.assert_array_equal(H[:, : graph.n_vars], graph.X)
    latent, reconstruction = encoder(torch.as_tensor(H))
    assert latent.shape == (graph.n_obs, 5)
    torch.testing.assert_close(latent.norm(dim=1), torch.ones(graph.n_obs))
    assert reconstruction.shape == graph.shape


@EVERY
@pytest.mark.parametrize("batched", [{}, {"full_batch_max": 10, "batch_size": 25}])
def test_an_encoder_learns(graphs, net, batched):
    encoders, history = training.fit(
        graphs, seed=0, device="cpu", n_epochs=20, T=0.1, encoder={"net": net, "n_latent": 4}, **batched
    )
    assert history["loss"].iloc[-1] < 0.9 * history["loss"].iloc[0]
    assert encoders["rna"].settings == EncoderSettings(net=net, n_latent=4)
    mdata = embed(graphs, encoders)
    # The features show two halves of the tissue.
    half = mdata.obs["barcode"].str.removeprefix("BC").astype(int).to_numpy() < 30
    z = mdata.obsm["X_latent"]
    within = np.mean([z[own] @ z[own].T for own in (half, ~half)])
    assert within > 0.1 + (z[half] @ z[~half].T).mean()


def test_an_unknown_encoder_is_an_error(graphs):
    with pytest.raises(InputError, match=r"encoder.net: 'gcnn' is not known\n    Hint: one of: wlgcn"):
        training.fit(graphs, seed=0, device="cpu", encoder={"net": "gcnn"})


def test_the_config_knows_every_encoder_and_has_its_defaults():
    """The config is read without torch, so the schema repeats them."""
    yaml = pytest.importorskip("yaml", reason="the environment of training reads no YAML")
    path = Path(__file__).parents[3] / "workflow" / "schemas" / "config.schema.yaml"
    section = yaml.safe_load(path.read_text())["properties"]["encoder"]["properties"]
    assert section["net"]["enum"] == list(ENCODERS)
    assert {key: rule["default"] for key, rule in section.items()} == asdict(EncoderSettings())
