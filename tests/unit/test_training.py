"""Fitting, saving and embedding on a small mosaic."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from mosaic import graph, spots, training
from mosaic.errors import InputError

SETTINGS = {"K": 2, "w_g": 0.8, "symmetric": True, "n_hidden": 16, "n_latent": 4, "dropout": 0.2}


def modality(design, n_spots=60, seed=0):
    """A graph of the slices in ``design`` whose features show two halves of the tissue."""
    rng = np.random.default_rng(seed)
    slices = np.repeat(list(design), n_spots)
    places = np.vstack([np.column_stack(np.divmod(np.arange(n_spots), 10)) for _ in design]).astype(float)
    half = np.tile(np.arange(n_spots) < n_spots // 2, len(design))
    features = (rng.normal(size=(len(slices), 6)) + 3 * half[:, None]).astype(np.float32)
    barcodes = [f"BC{number}" for _ in design for number in range(n_spots)]
    obs = pd.DataFrame({"slice": pd.Categorical(slices), "barcode": barcodes})
    obs.index = [f"{name}:{barcode}" for name, barcode in zip(slices, barcodes, strict=True)]
    pairs = [(design[0], name) for name in design[1:]]
    stacked = ad.AnnData(obs=obs, obsm={"spatial": places})
    return graph.build_graph(stacked, features, pairs, intra_knns=5, inter_knn_base=5)


@pytest.fixture(scope="module")
def mosaic_graphs():
    return {"rna": modality(["s1", "s2"]), "adt": modality(["s1", "s3"], seed=1)}


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
    graphs = {name: modality(slices, seed=number) for number, (name, slices) in enumerate(designs.items())}
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


def test_batches_cover_every_paired_spot(mosaic_graphs):
    _, whole = run(mosaic_graphs, n_epochs=1)
    _, batched = run(mosaic_graphs, n_epochs=1, full_batch_max=10, batch_size=25)
    # Fewer spots to tell apart make the task easier, not another one.
    assert batched["contrastive"][0] < whole["contrastive"][0]
    assert batched["reconstruction"][0] == pytest.approx(whole["reconstruction"][0])
    _, one_batch = run(mosaic_graphs, n_epochs=1, full_batch_max=10, batch_size=60)
    assert one_batch["contrastive"][0] == pytest.approx(whole["contrastive"][0], rel=1e-5)


def test_reconstruction_is_the_mean_over_slices(mosaic_graphs):
    """By hand, from one forward pass."""
    encoders = training.new_encoders(mosaic_graphs, seed=0, n_hidden=16, n_latent=4, dropout=0)
    errors = {}
    for name, adata in mosaic_graphs.items():
        H = torch.as_tensor(training.encoder_input(adata, K=2, w_g=0.8, symmetric=True))
        squares = (encoders[name](H)[1].detach().numpy() - adata.X) ** 2
        for slice_name in adata.obs["slice"].unique():
            errors[name, slice_name] = squares[adata.obs["slice"] == slice_name].mean()
    for which, slices in (("all", errors), ("queries", [("rna", "s2"), ("adt", "s3")])):
        objective = training.Objective(mosaic_graphs, reconstruct=which, T=0.1)
        found = objective(encoders)[1].item()
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
