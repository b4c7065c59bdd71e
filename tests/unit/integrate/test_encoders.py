"""What every encoder must do, whichever it is."""

from dataclasses import asdict, fields
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from chain import small_graph
from scipy import sparse

from mosaic.errors import InputError
from mosaic.integrate import model, training
from mosaic.integrate.encoders import (
    _MAKERS,
    ENCODERS,
    WLGCN,
    EncoderSettings,
    Propagation,
    encode,
    make_encoder,
    part_of,
    to_data,
)

EVERY = pytest.mark.parametrize("net", ENCODERS)


@pytest.fixture(scope="module")
def graphs():
    return {"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s1", "s3"], seed=1)}


def embedded(data, train=False, **settings):
    """Embedding by new weights, always of the same seed."""
    torch.manual_seed(0)
    encoder = make_encoder(data.x.shape[1], EncoderSettings(**settings)).train(train)
    with torch.no_grad():
        return encode(encoder, encoder.inputs(data))[0]


@EVERY
def test_an_encoder_takes_the_settings_that_it_says(graphs, net):
    data = to_data(graphs["rna"])
    other = EncoderSettings(K=3, n_hidden=64, n_latent=7, dropout=0.6)
    before = embedded(data, train=True, net=net)
    for setting in fields(EncoderSettings):
        if setting.name != "net":
            after = embedded(data, train=True, net=net, **{setting.name: getattr(other, setting.name)})
            assert torch.equal(before, after) == (setting.name not in ENCODERS[net].settings), setting.name


@EVERY
def test_an_encoder_keeps_to_the_contract(graphs, net):
    graph = graphs["rna"]
    encoder = make_encoder(graph.n_vars, EncoderSettings(net=net, n_latent=5)).eval()
    assert encoder.input_size == graph.n_vars
    data = encoder.inputs(to_data(graph))
    assert data.x.dtype == torch.float32
    assert ("edge_index" in data) == (encoder.n_hops > 0)
    np.testing.assert_array_equal(data.x[:, : graph.n_vars], graph.X)
    latent, reconstruction = encode(encoder, data)
    assert latent.shape == (graph.n_obs, 5)
    torch.testing.assert_close(latent.norm(dim=1), torch.ones(graph.n_obs))
    assert reconstruction.shape == graph.shape


@EVERY
def test_an_encoder_sees_the_graph_or_does_not(graphs, net):
    graph = graphs["rna"]
    other = graph.copy()
    order = np.random.default_rng(0).permutation(graph.n_obs)
    other.obsp["connectivities"] = graph.obsp["connectivities"][order][:, order]
    assert torch.equal(embedded(to_data(graph), net=net), embedded(to_data(other), net=net)) == (net == "mlp")


@EVERY
def test_a_part_of_the_spots_is_embedded_as_within_all(graphs, net):
    graph = graphs["rna"]
    encoder = make_encoder(graph.n_vars, EncoderSettings(net=net)).eval()
    data = encoder.inputs(to_data(graph))
    rows = torch.tensor([3, 50, 3, 117])
    with torch.no_grad():
        whole, part = encode(encoder, data), encode(encoder, part_of(data, rows, encoder.n_hops))
    for one, other in zip(whole, part, strict=True):
        torch.testing.assert_close(one[rows], other)
    assert len(part_of(data, rows, encoder.n_hops).x) < graph.n_obs


@EVERY
def test_a_large_graph_is_embedded_piece_by_piece(graphs, net, monkeypatch):
    graph = graphs["rna"]
    encoder = make_encoder(graph.n_vars, EncoderSettings(net=net)).eval()
    whole = model.embed_modality(graph, encoder)
    monkeypatch.setattr(model, "_EMBED_ROWS", 17)
    np.testing.assert_allclose(model.embed_modality(graph, encoder), whole, atol=1e-6)


def test_propagation_written_out():
    A = np.array([[1, 1, 0.8], [0, 1, 0], [0.8, 1, 1]], dtype=np.float32)
    S = A / np.sqrt(np.outer(A.sum(axis=1), A.sum(axis=1)))
    X = np.array([[1.0, 2], [3, 4], [5, 6]], dtype=np.float32)
    graph = ad.AnnData(X, obsm={"spatial": X}, obsp={"connectivities": sparse.csr_matrix(A - np.eye(3, dtype="f"))})
    data = to_data(graph)
    H = Propagation(2)(data.x, data.edge_index, data.edge_weight)
    np.testing.assert_allclose(H, np.hstack([X, S.T @ X, S.T @ S.T @ X]), rtol=1e-5)


def test_propagation_has_the_same_bits_on_any_number_of_threads():
    graph = small_graph(["s1", "s2"], n_spots=3000)
    data, bits = to_data(graph), []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        bits.append(Propagation(2)(data.x, data.edge_index, data.edge_weight))
    torch.set_num_threads(before)
    assert torch.equal(*bits)


def test_the_published_call_without_weights_is_with_weights_of_one(graphs):
    data = to_data(graphs["rna"])
    net = WLGCN(data.x.shape[1], 8, K=3, dec_l=2, hidden_size=16).eval()
    found = net(data.x, data.edge_index)
    for one, other in zip(found, net(data.x, data.edge_index, torch.ones(data.num_edges)), strict=True):
        torch.testing.assert_close(one, other)
    assert [tuple(part.shape) for part in found] == [(data.num_nodes, 8), (data.num_nodes, data.num_features)]
    assert len(net.decoder) == 3


@EVERY
@pytest.mark.parametrize("batched", [{}, {"full_batch_max": 10, "batch_size": 25}])
def test_an_encoder_learns(graphs, net, batched):
    encoders, history = training.fit(
        graphs, seed=0, device="cpu", n_epochs=20, T=0.1, encoder={"net": net, "n_latent": 4}, **batched
    )
    assert history["loss"].iloc[-1] < 0.9 * history["loss"].iloc[0]
    assert encoders["rna"].settings == EncoderSettings(net=net, n_latent=4)
    mdata = model.embed(graphs, encoders)
    # The features show two halves of the tissue.
    half = mdata.obs["barcode"].str.removeprefix("BC").astype(int).to_numpy() < 30
    z = mdata.obsm["X_latent"]
    within = np.mean([z[own] @ z[own].T for own in (half, ~half)])
    assert within > 0.1 + (z[half] @ z[~half].T).mean()


def test_an_unknown_encoder_is_an_error(graphs):
    with pytest.raises(InputError, match=r"encoder.net: 'gcnn' is not known\n    Hint: one of: wlgcn"):
        training.fit(graphs, seed=0, device="cpu", encoder={"net": "gcnn"})


def test_coupled_encoders_need_a_step_over_the_graph(graphs):
    with pytest.raises(InputError, match=r"encoder.K: gcn takes 1 step\(s\) over the graph or more, not 0"):
        training.fit(graphs, seed=0, device="cpu", encoder={"net": "gcn", "K": 0})
    with pytest.raises(InputError, match=r"encoder.n_hidden: gat has 4 attention heads"):
        training.fit(graphs, seed=0, device="cpu", encoder={"net": "gat", "n_hidden": 30})
    assert list(_MAKERS) == list(ENCODERS)


def test_the_config_knows_every_encoder_and_has_its_defaults():
    """The config is read without torch, so the schema repeats them."""
    yaml = pytest.importorskip("yaml", reason="the environment of training reads no YAML")
    path = Path(__file__).parents[3] / "workflow" / "schemas" / "config.schema.yaml"
    section = yaml.safe_load(path.read_text())["properties"]["encoder"]["properties"]
    assert section["net"]["enum"] == list(ENCODERS)
    assert {key: rule["default"] for key, rule in section.items()} == asdict(EncoderSettings())
