"""Losses: contrastive between modalities, reconstruction of the features and of the graph."""

import torch
from torch.nn import functional

# Values per block of rows of the similarity matrix: fits the caches of a CPU, keeps a GPU busy.
BLOCK_VALUES = {"cpu": 2**22, "cuda": 2**27}

# Smallest exponent, after the shift by a row's largest similarity. Smaller terms change the sum by less than 1e-20 for
# a million spots, and would be denormal numbers, which slow CPUs down many times.
_FLOOR = -60.0

# From this temperature on, exp(s - 1/T) lies between exp(-2/T) and 1 for unit rows, so no row needs its own maximum.
_BOUNDED = 0.025


class _Contrastive(torch.autograd.Function):
    """The loss in blocks of rows. Computes the gradient in the forward pass, so memory is linear in the rows."""

    @staticmethod
    def forward(ctx, z, spot, T, kind):
        n_rows = len(z)
        count = torch.bincount(spot).to(z.dtype)
        sums = torch.zeros(len(count), z.shape[1], dtype=z.dtype, device=z.device).index_add_(0, spot, z)
        others = sums[spot] - z
        n_positives = count[spot] - 1
        positive = (z * others).sum(dim=1) / (n_positives * T)
        totals, peaks = torch.empty_like(z[:, :1]), torch.full_like(z[:, :1], 1 / T)
        gradient = torch.zeros_like(z)
        # A column of ones beside z shifts the product.
        bounded = T >= _BOUNDED
        columns = torch.cat([z, torch.ones_like(z[:, :1])], dim=1) if bounded else z
        queries = torch.cat([z, -torch.ones_like(z[:, :1])], dim=1) / T if bounded else z / T
        n_block = max(1, BLOCK_VALUES[z.device.type] // n_rows)
        for start in range(0, n_rows, n_block):
            rows = slice(start, start + n_block)
            E = queries[rows] @ columns.T
            if not bounded:
                E[:, rows].fill_diagonal_(-torch.inf)
                peaks[rows] = E.amax(dim=1, keepdim=True)
                E.sub_(peaks[rows]).clamp_(min=_FLOOR)
            E.exp_()
            E[:, rows].fill_diagonal_(0)
            if kind is not None:
                E.masked_fill_(kind[rows, None] == kind, 0)
            total = totals[rows] = E.sum(dim=1, keepdim=True)
            # d loss / d s_ij = E_ij / total_i - Q_ij, and s_ij holds both z_i and z_j.
            gradient[rows] += (E @ z) / total
            gradient.addmm_(E.T, z[rows] / total)
        gradient -= 2 * others / n_positives.unsqueeze(1)
        ctx.save_for_backward(gradient.div_(n_rows * T))
        return ((peaks + totals.log()).squeeze(1) - positive).mean()

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None, None


def contrastive_loss(z: torch.Tensor, spot: torch.Tensor, T: float, kind: torch.Tensor | None = None) -> torch.Tensor:
    """Contrastive loss (InfoNCE) over all rows of a slice: attracts the modalities of a spot, repels all other rows.

    With s = z z' / T: mean over rows i of log sum_{j != i} exp(s_ij), minus the mean of s_ip over the other rows p of
    the same spot. Exact, with memory linear in the rows.

    Parameters
    ----------
    z
        Embeddings of all modalities of a slice, stacked (rows x d, unit rows).
    spot
        Spot number of each row (rows, int64); each spot must have at least two rows.
    T
        Temperature.
    kind
        Modality of each row (rows, int64): only rows of other modalities are negatives then. None: all rows are.

    Returns
    -------
    Scalar.
    """
    return _Contrastive.apply(z, spot, T, kind)


def reconstruction_loss(reconstruction: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the decoder (spots x d both)."""
    return functional.mse_loss(reconstruction, features)


def graph_loss(z: torch.Tensor, edges: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of edges against sampled pairs, by inner product (Kipf & Welling 2016, GAE).

    Parameters
    ----------
    z
        Embeddings (spots x d).
    edges, absent
        Row numbers of the ends of edges, and of random pairs as negatives (2 x edges both, int64).
    """
    present = (z[edges[0]] * z[edges[1]]).sum(dim=1)
    apart = (z[absent[0]] * z[absent[1]]).sum(dim=1)
    return -(functional.logsigmoid(present).mean() + functional.logsigmoid(-apart).mean())
