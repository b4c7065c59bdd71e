"""What training minimises: contrastive loss between modalities, reconstruction of features and of the graph."""

import torch
from torch.nn import functional

# Values in a block of rows of the similarity matrix: few enough for the caches of a CPU, enough to keep a GPU busy.
BLOCK_VALUES = {"cpu": 2**22, "cuda": 2**27}

# After the shift by a row's largest similarity, terms below exp(-60) of the sum are held there: they change it by less
# than 1e-20 for a million spots, while smaller ones would be denormal numbers, on which CPUs are many times slower.
_FLOOR = -60.0

# From this temperature on, exp(s - 1/T), which unit rows keep between exp(-2/T) and 1, needs no row's own maximum.
_BOUNDED = 0.025


class _Contrastive(torch.autograd.Function):
    """The loss in row blocks, with the gradient made on the way: memory grows with the rows, not their square."""

    @staticmethod
    def forward(ctx, z, spot, T):
        n_rows = len(z)
        count = torch.bincount(spot).to(z.dtype)
        sums = torch.zeros(len(count), z.shape[1], dtype=z.dtype, device=z.device).index_add_(0, spot, z)
        others = sums[spot] - z
        n_positives = count[spot] - 1
        positive = (z * others).sum(dim=1) / (n_positives * T)
        totals, peaks = torch.empty_like(z[:, :1]), torch.full_like(z[:, :1], 1 / T)
        gradient = torch.zeros_like(z)
        # With a column of ones beside z, the product comes shifted already.
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
        return upstream * gradient, None, None


def contrastive_loss(z: torch.Tensor, spot: torch.Tensor, T: float) -> torch.Tensor:
    """Pull together what modalities say of one spot, push apart all else (InfoNCE over all rows of a slice).

    With s = z z' / T: the mean over rows i of log sum_{j != i} exp(s_ij) minus the mean of s_ip over the other rows p
    of the same spot. Exact, and O(rows) in memory.

    Parameters
    ----------
    z
        Embeddings of all modalities of a slice, stacked (rows x d, unit rows).
    spot
        Number of each row's spot (rows, int64); each spot must have two rows or more.
    T
        Temperature.

    Returns
    -------
    Scalar.
    """
    return _Contrastive.apply(z, spot, T)


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
        Row numbers of the ends of edges, and of pairs that stand for non-edges (2 x edges both, int64).
    """
    present = (z[edges[0]] * z[edges[1]]).sum(dim=1)
    apart = (z[absent[0]] * z[absent[1]]).sum(dim=1)
    return -(functional.logsigmoid(present).mean() + functional.logsigmoid(-apart).mean())
