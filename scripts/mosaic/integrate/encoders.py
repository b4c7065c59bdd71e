"""The encoders that a run may choose from, one for each modality; docs/adding_an_encoder.md says how to add one.

An encoder is a torch-geometric module. What of it has no weights is applied once, before training (``inputs``). A
*decoupled* encoder then reads rows, so that training needs no graph; a *coupled* one passes messages in training.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import anndata as ad
import torch
from scipy import sparse
from torch import nn
from torch.nn import functional
from torch_geometric.data import Data
from torch_geometric.nn import GAT, GCN, GraphSAGE, MessagePassing
from torch_geometric.nn.models.basic_gnn import BasicGNN
from torch_geometric.utils import (
    add_remaining_self_loops,
    from_scipy_sparse_matrix,
    k_hop_subgraph,
    scatter,
    spmm,
)

from mosaic.config.encoders import ENCODERS, impossible
from mosaic.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """The config's section ``encoder``; a model file records it.

    Attributes
    ----------
    net
        Which of ``ENCODERS``.
    K
        Number of steps over the graph.
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


def to_data(graph: ad.AnnData) -> Data:
    """The graph of one modality for torch-geometric.

    Parameters
    ----------
    graph
        As ``graph.build_graph`` returns it: features in X (spots x d), ``obsp["connectivities"]``.

    Returns
    -------
    Data with ``x`` (spots x d, float32), ``edge_index`` (2 x edges; features flow from the first row to the second),
    ``edge_weight`` (edges) and ``pos`` (coordinates, spots x 2). Without self loops.
    """
    edge_index, edge_weight = from_scipy_sparse_matrix(sparse.csr_matrix(graph.obsp["connectivities"]))
    return Data(
        x=torch.as_tensor(graph.X, dtype=torch.float32),
        edge_index=edge_index,
        edge_weight=edge_weight.float(),
        pos=torch.as_tensor(graph.obsm["spatial"]),
    )


def normalized(
    edge_index: torch.Tensor, edge_weight: torch.Tensor | None, n_spots: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Edges with self loops of weight 1 and weights D^-1/2 A D^-1/2, D the row sums of A, as published.

    ``torch_geometric.nn.conv.gcn_conv.gcn_norm`` divides by column sums instead, which differ on directed graphs.

    Parameters
    ----------
    edge_index, edge_weight
        2 x edges, and edges (None: all 1).
    n_spots
        Number of spots.
    """
    if edge_weight is None:
        edge_weight = torch.ones(edge_index.shape[1], device=edge_index.device)
    edge_index, edge_weight = add_remaining_self_loops(edge_index, edge_weight, 1.0, n_spots)
    row, column = edge_index
    scale = scatter(edge_weight, row, dim_size=n_spots).pow(-0.5)
    return edge_index, scale[row] * edge_weight * scale[column]


class Propagation(MessagePassing):
    """The features and their first K propagations over the normalised graph, side by side. It has no weights.

    Parameters
    ----------
    K
        Number of propagations.
    """

    def __init__(self, K: int):
        super().__init__(aggr="add")
        self.K = K

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, edge_weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Propagate.

        Parameters
        ----------
        x, edge_index, edge_weight
            Features (spots x d), and edges without self loops, as ``to_data`` returns them.

        Returns
        -------
        H (spots x (K + 1) d).
        """
        (source, target), weight = normalized(edge_index, edge_weight, len(x))
        # Row by row, so that the bits do not depend on the number of threads. SciPy sorts edges by counting, four times
        # as fast as torch-geometric sorts them.
        operator = sparse.coo_matrix((weight.to(x.dtype).cpu(), (target.cpu(), source.cpu())), shape=(len(x),) * 2)
        operator = operator.tocsr()
        with torch.sparse.check_sparse_tensor_invariants(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            indptr, indices, data = map(torch.from_numpy, (operator.indptr, operator.indices, operator.data))
            adjacency = torch.sparse_csr_tensor(indptr, indices, data, size=operator.shape, device=x.device)
        steps = [x]
        for _ in range(self.K):
            steps.append(self.propagate(adjacency, x=steps[-1]))
        return torch.cat(steps, dim=1)

    def message(self, x_j: torch.Tensor) -> torch.Tensor:
        """Never called on its own: ``message_and_aggregate`` does both."""
        return x_j

    def message_and_aggregate(self, adj_t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Weighted sums over the neighbours of each spot."""
        return spmm(adj_t, x, "sum")


class Encoder(nn.Module, ABC):
    """What training and embedding ask of an encoder.

    Attributes
    ----------
    input_size
        Number of features d of the modality.
    n_hops
        From how many edges away a spot's embedding takes messages in training; 0 if the encoder is decoupled.
    settings
        Those that ``make_encoder`` made it with.
    decoder
        From the un-normalised embedding to the features.
    """

    n_hops: int = 0
    settings: EncoderSettings
    decoder: nn.Module

    def __init__(self, input_size: int):
        super().__init__()
        self.input_size = input_size

    def inputs(self, data: Data) -> Data:
        """What ``forward`` reads in training, computed once and without weights.

        Parameters
        ----------
        data
            As ``to_data`` returns it.

        Returns
        -------
        Data whose ``x`` begins with the d features of each spot. Edges only if the encoder is coupled; their weights
        must be right for any subgraph, too.
        """
        return Data(x=data.x)

    @abstractmethod
    def latent(
        self, x: torch.Tensor, edge_index: torch.Tensor | None, edge_weight: torch.Tensor | None
    ) -> torch.Tensor:
        """The embedding before normalisation (spots x n_latent)."""

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor | None = None, edge_weight: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed spots.

        Parameters
        ----------
        x, edge_index, edge_weight
            As ``inputs`` returns them.

        Returns
        -------
        Embedding (spots x n_latent, unit rows) and reconstruction (spots x d).
        """
        latent = self.latent(x, edge_index, edge_weight)
        return functional.normalize(latent), self.decoder(latent)


class MLP(Encoder):
    """A perceptron with one hidden layer over the features, which sees no graph; linear decoder.

    Parameters
    ----------
    input_size, output_size, hidden_size
        Widths: features, embedding, hidden layer.
    dec_l
        Layers of the decoder, 1 or 2.
    dropout
        Probability that a hidden unit is dropped in training.
    slope
        Of the leaky ReLU below zero.
    width
        Of what the hidden layer reads; None: ``input_size``.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        dec_l: int = 1,
        hidden_size: int = 512,
        dropout: float = 0.2,
        slope: float = 0.2,
        *,
        width: int | None = None,
    ):
        super().__init__(input_size)
        self.dropout, self.slope = dropout, slope
        # In this order, which decides what each layer draws from the seed.
        self.fc1 = nn.Linear(width or input_size, hidden_size)
        self.bn = nn.BatchNorm1d(hidden_size)
        self.fc2 = nn.Linear(hidden_size, output_size)
        self.decoder = _decoder(input_size, output_size, dec_l)

    def latent(
        self, x: torch.Tensor, edge_index: torch.Tensor | None = None, edge_weight: torch.Tensor | None = None
    ) -> torch.Tensor:
        """See ``Encoder``; edges are ignored."""
        hidden = self.bn(functional.leaky_relu(self.fc1(x), self.slope))
        return self.fc2(functional.dropout(hidden, self.dropout, self.training))


class WLGCN(MLP):
    """Weighted light graph convolution of SpaMosaic (Yan et al., Nature Genetics 2026): propagation, then a perceptron.

    The call and the names of the weights are those of the published class. Propagation has no weights: training applies
    it once (``inputs``) and calls the encoder on rows; called with edges, as published, the encoder propagates itself.

    Parameters
    ----------
    K
        Number of propagations.
    input_size, output_size, dec_l, hidden_size, dropout, slope
        See ``MLP``.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        K: int = 8,
        dec_l: int = 1,
        hidden_size: int = 512,
        dropout: float = 0.2,
        slope: float = 0.2,
    ):
        super().__init__(input_size, output_size, dec_l, hidden_size, dropout, slope, width=(K + 1) * input_size)
        self.propagation = Propagation(K)

    def inputs(self, data: Data) -> Data:
        """The features and their first K propagations (spots x (K + 1) d)."""
        with torch.no_grad():
            return Data(x=self.propagation(data.x, data.edge_index, data.edge_weight))

    def forward(
        self, feature: torch.Tensor, edge_index: torch.Tensor | None = None, edge_weight: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Encoder``. ``feature`` is what ``inputs`` returns; with edges, the features themselves (spots x d)."""
        if edge_index is not None:
            feature = self.propagation(feature, edge_index, edge_weight)
        return super().forward(feature)


class Coupled(Encoder):
    """K message-passing layers with weights of torch-geometric, batch norm and dropout between them; linear decoder.

    Parameters
    ----------
    network
        Which of ``torch_geometric.nn``: ``GCN`` (Kipf & Welling 2017), ``GraphSAGE`` (Hamilton et al. 2017), ``GAT``
        (Veličković et al. 2018).
    input_size, output_size, K, hidden_size, dropout
        As for ``WLGCN``.
    """

    def __init__(
        self,
        network: type[BasicGNN],
        input_size: int,
        output_size: int,
        K: int = 2,
        hidden_size: int = 512,
        dropout: float = 0.2,
    ):
        super().__init__(input_size)
        own: dict[type[BasicGNN], dict[str, object]] = {
            GCN: {"normalize": False},
            GAT: {"add_self_loops": False, "edge_dim": 1, "heads": ENCODERS["gat"].heads},
        }
        self.body = network(
            input_size,
            hidden_size,
            num_layers=K,
            out_channels=output_size,
            dropout=dropout,
            act="leaky_relu",
            act_kwargs={"negative_slope": 0.2},
            norm="batch_norm",
            **own.get(network, {}),
        )
        self.decoder = _decoder(input_size, output_size)
        self.n_hops = K

    def inputs(self, data: Data) -> Data:
        """The features and the normalised edges with self loops."""
        edge_index, edge_weight = normalized(data.edge_index, data.edge_weight, len(data.x))
        return Data(x=data.x, edge_index=edge_index, edge_weight=edge_weight)

    def latent(
        self, x: torch.Tensor, edge_index: torch.Tensor | None, edge_weight: torch.Tensor | None
    ) -> torch.Tensor:
        """See ``Encoder``. GraphSAGE takes plain means over neighbours, without weights."""
        if self.body.supports_edge_weight:
            return self.body(x, edge_index, edge_weight=edge_weight)
        if self.body.supports_edge_attr:
            return self.body(x, edge_index, edge_attr=edge_weight)
        return self.body(x, edge_index)


def _decoder(input_size: int, output_size: int, n_layers: int = 1) -> nn.Module:
    if n_layers == 1:
        return nn.Linear(output_size, input_size)
    return nn.Sequential(nn.Linear(output_size, output_size), nn.ReLU(), nn.Linear(output_size, input_size))


_MAKERS: dict[str, Callable[[int, EncoderSettings], Encoder]] = {
    "wlgcn": lambda d, s: WLGCN(d, s.n_latent, K=s.K, hidden_size=s.n_hidden, dropout=s.dropout),
    "mlp": lambda d, s: MLP(d, s.n_latent, hidden_size=s.n_hidden, dropout=s.dropout),
    "gcn": lambda d, s: Coupled(GCN, d, s.n_latent, s.K, s.n_hidden, s.dropout),
    "sage": lambda d, s: Coupled(GraphSAGE, d, s.n_latent, s.K, s.n_hidden, s.dropout),
    "gat": lambda d, s: Coupled(GAT, d, s.n_latent, s.K, s.n_hidden, s.dropout),
}


def make_encoder(input_size: int, settings: EncoderSettings) -> Encoder:
    """An encoder with new weights.

    Raises
    ------
    InputError
        If there is no such encoder, or it can't be made with these settings.
    """
    if settings.net not in ENCODERS:
        raise InputError(f"{settings.net!r} is not known", where="encoder.net", hint=f"one of: {', '.join(ENCODERS)}")
    if fault := impossible(settings.net, K=settings.K, n_hidden=settings.n_hidden):
        key, problem, hint = fault
        raise InputError(problem, where=f"encoder.{key}", hint=hint)
    encoder = _MAKERS[settings.net](input_size, settings)
    encoder.settings = settings
    return encoder


def part_of(data: Data, rows: torch.Tensor | slice, n_hops: int) -> Data:
    """What an encoder reads to embed some of the spots.

    Parameters
    ----------
    data
        Of all spots, as ``Encoder.inputs`` returns it.
    rows
        Numbers of the spots (int64), which may repeat; for a decoupled encoder also a range, which copies nothing.
    n_hops
        Of the encoder.

    Returns
    -------
    For a decoupled encoder, the rows. Otherwise the subgraph of these spots and of all from which messages reach them,
    with ``core``, the places of ``rows`` in it: the embeddings there are those of the whole graph.
    """
    if not n_hops:
        return Data(x=data.x[rows])
    spots, edge_index, places, kept = k_hop_subgraph(
        rows, n_hops, data.edge_index, relabel_nodes=True, num_nodes=len(data.x)
    )
    return Data(x=data.x[spots], edge_index=edge_index, edge_weight=data.edge_weight[kept], core=places)


def embed_part(encoder: Encoder, data: Data) -> torch.Tensor:
    """Embedding of the spots of a part, without their reconstruction: see ``encode``."""
    z = functional.normalize(encoder.latent(data.x, data.edge_index, data.edge_weight))
    return z[data.core] if "core" in data else z


def encode(encoder: Encoder, data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    """Embedding and reconstruction of the spots that a step asks for.

    Parameters
    ----------
    encoder
        As ``make_encoder`` returns it.
    data
        As ``Encoder.inputs`` or ``part_of`` returns it.
    """
    z, reconstruction = encoder(data.x, data.edge_index, data.edge_weight)
    return (z[data.core], reconstruction[data.core]) if "core" in data else (z, reconstruction)
