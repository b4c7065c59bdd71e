"""The same on a GPU as on a CPU, to rounding. Skipped where PyTorch sees no GPU."""

import numpy as np
import pytest
import torch
from chain import THREE_SLICES, simulated, small_graph
from sklearn.metrics import adjusted_rand_score

from mosaic import embedding
from mosaic.integrate import checkpoint, losses, model, training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU"),
]


@pytest.mark.parametrize("T", [0.01, 0.1])
def test_contrastive_loss_and_gradient(T):
    found = []
    for device in ("cpu", "cuda"):
        z = torch.nn.functional.normalize(torch.randn(4000, 32, generator=torch.Generator().manual_seed(0)))
        z = z.to(device).requires_grad_()
        loss = losses.contrastive_loss(z, torch.arange(2000, device=device).repeat(2), T)
        loss.backward()
        found.append((loss.item(), z.grad.cpu()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-3 * float(found[0][1].abs().max()), rtol=1e-3)


@pytest.mark.parametrize("batched", [{}, {"full_batch_max": 10, "batch_size": 25}])
def test_embeddings_after_one_epoch(batched):
    """Without dropout, whose random numbers are a device's own."""
    graphs = {"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s1", "s3"], seed=1)}
    found = []
    for device in ("cpu", "cuda"):
        settings = {"n_epochs": 1, "T": 0.1, "encoder": {"dropout": 0}} | batched
        encoders, _ = training.fit(graphs, seed=0, device=device, **settings)
        found.append(model.embed(graphs, encoders).obsm[embedding.LATENT])
    np.testing.assert_allclose(*found, atol=1e-3)


def test_quality_after_a_hundred_epochs():
    run = simulated(THREE_SLICES)
    scores = []
    for device in ("cpu", "cuda"):
        labels = run.changed({"train": {"device": device}}).domains(0)["domain"]
        scores.append(adjusted_rand_score(run.truth(), labels))
    assert scores[1] == pytest.approx(scores[0], abs=0.05)


def test_a_stopped_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    graphs = {"rna": small_graph(["s1", "s2"]), "adt": small_graph(["s1", "s3"], seed=1)}
    settings = {"seed": 0, "device": "cuda", "T": 0.1, "n_epochs": 8}
    file = tmp_path / "checkpoint.safetensors"

    def stopped(state, history, write=checkpoint.State.write):
        write(state, history)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.State, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            training.fit(graphs, checkpoint=file, checkpoint_every=4, **settings)
    resumed, _ = training.fit(graphs, checkpoint=file, **settings)
    expected, _ = training.fit(graphs, **settings)
    torch.testing.assert_close(resumed["rna"].fc1.weight, expected["rna"].fc1.weight, atol=1e-4, rtol=1e-4)
