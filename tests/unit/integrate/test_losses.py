"""The blocked losses against the dense formulas."""

import numpy as np
import pytest
import torch

from mosaic.integrate import losses


def dense_loss(z, spot, T, kind=None):
    similarity = z @ z.T / T
    if kind is not None:
        similarity = similarity.masked_fill(kind[:, None] == kind, -torch.inf)
    similarity = similarity.masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    same = (spot[:, None] == spot[None, :]) & ~torch.eye(len(z), dtype=torch.bool)
    positive = torch.where(same, z @ z.T / T, 0).sum(dim=1) / same.sum(dim=1)
    return (torch.logsumexp(similarity, dim=1) - positive).mean()


def unit_rows(n_rows, dtype=torch.float64, seed=0):
    rows = torch.randn(n_rows, 8, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows)


@pytest.mark.parametrize("T", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("n_modalities", [2, 3])
@pytest.mark.parametrize("of_others", [False, True])
def test_value_and_gradient_are_the_dense_formulas(T, n_modalities, of_others, monkeypatch):
    monkeypatch.setitem(losses.BLOCK_VALUES, "cpu", 7 * 20 * n_modalities)
    spot = torch.arange(20).repeat(n_modalities)
    kind = torch.arange(n_modalities).repeat_interleave(20) if of_others else None
    values, gradients = [], []
    for loss in (dense_loss, losses.contrastive_loss):
        z = unit_rows(20 * n_modalities).requires_grad_()
        value = loss(z, spot, T, kind)
        value.backward()
        values.append(value.item())
        gradients.append(z.grad)
    assert values[1] == pytest.approx(values[0], rel=1e-9)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-7, atol=1e-9)


def test_spots_may_miss_a_modality():
    spot = torch.tensor([0, 1, 2, 0, 1, 2, 1, 2])
    z = unit_rows(8).requires_grad_()
    assert losses.contrastive_loss(z, spot, 0.1).item() == pytest.approx(dense_loss(z, spot, 0.1).item())


def test_gradcheck():
    z = unit_rows(12).requires_grad_()
    spot = torch.arange(6).repeat(2)
    assert torch.autograd.gradcheck(lambda z: losses.contrastive_loss(z, spot, 0.2), (z,))


def test_float32_at_the_lowest_temperature():
    spot = torch.arange(500).repeat(2)
    exact = dense_loss(unit_rows(1000), spot, 0.01).item()
    assert losses.contrastive_loss(unit_rows(1000).float(), spot, 0.01).item() == pytest.approx(exact, rel=1e-5)


def test_graph_loss_written_out():
    z = unit_rows(6)
    edges = torch.tensor([[0, 1, 2], [3, 4, 5]])
    sampled = np.array([[5, 0, 2], [1, 4, 4]])
    value = losses.graph_loss(z, edges, torch.as_tensor(sampled))
    rows = z.numpy()

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    present = sigmoid((rows[[0, 1, 2]] * rows[[3, 4, 5]]).sum(axis=1))
    absent = sigmoid((rows[sampled[0]] * rows[sampled[1]]).sum(axis=1))
    assert value.item() == pytest.approx(-np.log(present).mean() - np.log(1 - absent).mean())
