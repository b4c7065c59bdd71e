"""The encoders that a run may choose from, one for each modality; docs/adding_an_encoder.md says how to add one."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import anndata as ad
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mosaic.errors import InputError
from mosaic.integrate.propagation import hops, propagation_operator


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """The config's section ``encoder``; a model file records it.

    Attributes
    ----------
    net
        Which of ``ENCODERS``.
    K
        How many steps features travel over the graph.
    n_hidden, n_latent
        Widths of the hidden layer and of the embedding.
    dropout
        Probability that a hidden unit is dropped in training.
    """

    net: str = "wlgcn"
    K: int = 2
    n_hidden: int = 128
    n_latent: int = 32
    dropout: float = 0.2


class Encoder(nn.Module):
    """What training and embedding ask of an encoder.

    Parameters
    ----------
    n_features
        Width d of the modality's features.

    Attributes
    ----------
    settings
        Those that ``make_encoder`` made it with.
    """

    settings: EncoderSettings

    def __init__(self, n_features: int):
        super().__init__()
        self.n_features = n_features

    @abstractmethod
    def inputs(self, graph: ad.AnnData) -> np.ndarray:
        """What the encoder reads of a modality, computed once and without weights.

        Parameters
        ----------
        graph
            As ``graph.build_graph`` gives it: features in X (spots x d), ``obsp["connectivities"]``.

        Returns
        -------
        H (spots x any, float32): a row for each spot, whose first d values are the spot's features.
        """

    @abstractmethod
    def forward(self, H: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed spots.

        Parameters
        ----------
        H
            Rows of ``inputs``.

        Returns
        -------
        Embedding (spots x n_latent, unit rows) and reconstruction (spots x d).
        """


class WLGCN(Encoder):
    """Weighted light graph convolution and linear decoder of SpaMosaic (Yan et al., Nature Genetics 2026).

    Propagation has no weights, so it is done once, before training; what is trained is a perceptron.

    Parameters
    ----------
    n_features, K, n_hidden, n_latent, dropout
        See ``Encoder`` and ``EncoderSettings``.
    """

    def __init__(self, n_features: int, *, K: int, n_hidden: int, n_latent: int, dropout: float):
        super().__init__(n_features)
        self.K, self.dropout = K, dropout
        # In this order, which decides what each layer draws from the seed.
        self.fc1 = nn.Linear((K + 1) * n_features, n_hidden)
        self.bn = nn.BatchNorm1d(n_hidden)
        self.fc2 = nn.Linear(n_hidden, n_latent)
        self.decoder = nn.Linear(n_latent, n_features)

    def inputs(self, graph: ad.AnnData) -> np.ndarray:
        """The features and their first K propagations (spots x (K + 1) d)."""
        return hops(graph.X, propagation_operator(graph.obsp["connectivities"]), self.K)

    def forward(self, H: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Encoder``."""
        hidden = self.bn(functional.leaky_relu(self.fc1(H), 0.2))
        latent = self.fc2(functional.dropout(hidden, self.dropout, self.training))
        return functional.normalize(latent), self.decoder(latent)


class Architecture(NamedTuple):
    """What an encoder says of itself.

    Attributes
    ----------
    label
        Its name in the log.
    module
        Its class.
    settings
        The ``EncoderSettings``, beside ``net``, that its class takes.
    """

    label: str
    module: type[Encoder]
    settings: tuple[str, ...]


# The names are those of `encoder.net` in workflow/schemas/config.schema.yaml.
ENCODERS = {
    "wlgcn": Architecture(
        "weighted light graph convolution (WLGCN)", WLGCN, settings=("K", "n_hidden", "n_latent", "dropout")
    ),
}


def make_encoder(n_features: int, settings: EncoderSettings) -> Encoder:
    """An encoder with new weights.

    Raises
    ------
    InputError
        If there is no such encoder.
    """
    if settings.net not in ENCODERS:
        raise InputError(f"{settings.net!r} is not known", where="encoder.net", hint=f"one of: {', '.join(ENCODERS)}")
    chosen = ENCODERS[settings.net]
    encoder = chosen.module(n_features, **{key: getattr(settings, key) for key in chosen.settings})
    encoder.settings = settings
    return encoder
