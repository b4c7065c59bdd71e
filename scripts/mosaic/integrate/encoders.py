"""The encoder of one modality: an MLP over propagated features (a weighted light graph convolution, WLGCN)."""

import torch
from torch import nn
from torch.nn import functional


class Encoder(nn.Module):
    """Encoder and linear decoder of SpaMosaic (Yan et al., Nature Genetics 2026).

    Propagation has no weights, so it is done once, before training (``graph.hops``).

    Parameters
    ----------
    n_features
        Width d of the modality's features.
    K
        Number of propagations in the input.
    n_hidden, n_latent
        Widths of the hidden layer and of the embedding.
    dropout
        Probability that a hidden unit is dropped in training.
    """

    def __init__(self, n_features: int, *, K: int = 2, n_hidden: int = 128, n_latent: int = 32, dropout: float = 0.2):
        super().__init__()
        # In this order, which decides what each layer draws from the seed.
        self.fc1 = nn.Linear((K + 1) * n_features, n_hidden)
        self.bn = nn.BatchNorm1d(n_hidden)
        self.fc2 = nn.Linear(n_hidden, n_latent)
        self.decoder = nn.Linear(n_latent, n_features)
        self.dropout = dropout

    def forward(self, H: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed spots.

        Parameters
        ----------
        H
            Spots x (K + 1) d.

        Returns
        -------
        Embedding (spots x n_latent, unit rows) and reconstruction (spots x d).
        """
        hidden = self.bn(functional.leaky_relu(self.fc1(H), 0.2))
        latent = self.fc2(functional.dropout(hidden, self.dropout, self.training))
        return functional.normalize(latent), self.decoder(latent)
