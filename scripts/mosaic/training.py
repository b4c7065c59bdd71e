"""Fitting the encoders, saving and loading them, and embedding spots with them."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy import sparse

from mosaic.encoder import Encoder
from mosaic.errors import InputError
from mosaic.graph import hops, propagation_operator
from mosaic.losses import contrastive_loss, graph_loss, reconstruction_loss
from mosaic.spots import collect_embeddings, paired, slice_names

logger = logging.getLogger(__name__)

_PROGRESS_SECONDS = 2.0


def choose_device(device: str) -> torch.device:
    """The device to train on: ``cpu``, ``cuda``, or ``auto``, which takes a GPU where there is one.

    Raises
    ------
    InputError
        If ``cuda`` is asked for and there is none.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device is cuda, but PyTorch sees no GPU",
            where="train.device",
            hint="set device to auto or cpu, or run where nvidia-smi shows a GPU and torch is a CUDA build",
        )
    return torch.device(device)


def encoder_input(graph: ad.AnnData, *, K: int, w_g: float, symmetric: bool) -> np.ndarray:
    """Propagate a modality's features over its graph.

    Parameters
    ----------
    graph
        Spots x d features in X, with ``obsp["spatial_connectivities"]`` and ``obsp["mutual_nearest_neighbors"]``.
    K, w_g, symmetric
        See ``graph.hops`` and ``graph.propagation_operator``.

    Returns
    -------
    H (spots x (K + 1) d, float32).
    """
    operator = propagation_operator(
        graph.obsp["spatial_connectivities"], graph.obsp["mutual_nearest_neighbors"], w_g=w_g, symmetric=symmetric
    )
    return hops(graph.X, operator, K)


def new_encoders(
    graphs: Mapping[str, ad.AnnData],
    *,
    seed: int,
    K: int = 2,
    n_hidden: int = 128,
    n_latent: int = 32,
    dropout: float = 0.2,
) -> dict[str, Encoder]:
    """Encoders with the weights that a seed gives, those of the published implementation for the same seed.

    Parameters
    ----------
    graphs
        Per modality the AnnData of ``encoder_input``.
    seed
        Of the weights, and of what torch draws next: the dropout of training.
    K, n_hidden, n_latent, dropout
        See ``encoder.Encoder``.
    """
    torch.manual_seed(seed)
    return {
        name: Encoder(graph.n_vars, K=K, n_hidden=n_hidden, n_latent=n_latent, dropout=dropout)
        for name, graph in graphs.items()
    }


class Objective:
    """What an epoch minimises: contrastive loss on bridge slices, reconstruction of features.

    Parameters
    ----------
    graphs, K, w_g, symmetric
        See ``encoder_input``; the graphs with ``obs["slice"]``.
    T
        Temperature of the contrastive loss.
    w_rec_g
        Share of graph reconstruction in the reconstruction loss, 0 to 1.
    reconstruct
        Slices whose features are reconstructed: ``queries``, those that are no bridge, or ``all``.
    full_batch_max, batch_size
        A bridge slice with more paired spots than ``full_batch_max`` is contrasted in shuffled batches of
        ``batch_size`` spots, whose losses are averaged by their spots within the one step of the epoch.
    seed
        Of batches and sampled pairs, drawn on the CPU so that they are the same on every device.
    device
        Where to compute.

    Raises
    ------
    InputError
        If a bridge slice has no paired spots.
    """

    def __init__(
        self,
        graphs: Mapping[str, ad.AnnData],
        *,
        K: int = 2,
        w_g: float = 0.8,
        symmetric: bool = True,
        T: float = 0.01,
        w_rec_g: float = 0.0,
        reconstruct: str = "all",
        full_batch_max: int = 8000,
        batch_size: int = 1024,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ):
        self.T, self.w_rec_g = T, w_rec_g
        self.full_batch_max, self.batch_size = full_batch_max, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self.device = torch.device(device)
        self.features = {name: torch.as_tensor(graph.X, device=device) for name, graph in graphs.items()}
        self.inputs = {
            name: torch.as_tensor(encoder_input(graph, K=K, w_g=w_g, symmetric=symmetric), device=device)
            for name, graph in graphs.items()
        }
        pairs = paired({name: graph.obs for name, graph in graphs.items()})
        # Per bridge slice and modality the rows of its paired spots, -1 where a spot was not measured.
        self.bridges = {
            slice_name: {name: torch.as_tensor(rows.to_numpy(), device=device) for name, rows in table.items()}
            for slice_name, table in pairs.items()
        }
        self.reconstructed = []
        for name, graph in graphs.items():
            slices = graph.obs["slice"].to_numpy(dtype=str)
            for slice_name in slice_names(graph.obs):
                if reconstruct == "all" or slice_name not in pairs:
                    rows = np.flatnonzero(slices == slice_name)
                    edges = _spatial_edges(graph, rows) if w_rec_g else np.empty((2, 0), dtype=np.int64)
                    self.reconstructed.append((name, *(torch.as_tensor(part, device=device) for part in (rows, edges))))

    def __call__(self, encoders: Mapping[str, Encoder]) -> tuple[torch.Tensor, torch.Tensor]:
        """Contrastive and reconstruction loss, whose sum is minimised; 0 where the design has none."""
        outputs = {name: encoders[name](H) for name, H in self.inputs.items()}
        zero = torch.zeros((), device=self.device)
        contrastive = [self._contrast(outputs, rows) for rows in self.bridges.values()]
        reconstruction = []
        for name, rows, edges in self.reconstructed:
            latent, decoded = outputs[name]
            term = (1 - self.w_rec_g) * reconstruction_loss(decoded[rows], self.features[name][rows])
            if self.w_rec_g:
                term = term + self.w_rec_g * graph_loss(latent[rows], edges, self.generator)
            reconstruction.append(term)
        return torch.stack(contrastive or [zero]).mean(), torch.stack(reconstruction or [zero]).mean()

    def _contrast(self, outputs: Mapping, rows: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Contrastive loss of one bridge slice, over all its paired spots or in shuffled batches."""
        n_spots = len(next(iter(rows.values())))
        size, order = n_spots, slice(None)
        if n_spots > self.full_batch_max:
            size, order = self.batch_size, torch.randperm(n_spots, generator=self.generator).to(self.device)
        # All rows are gathered at once: gathered batch by batch, each would get a gradient as large as the modality.
        rows = {name: column[order] for name, column in rows.items()}
        z = {name: outputs[name][0][column.clamp(min=0)].split(size) for name, column in rows.items()}
        measured = {name: (column >= 0).split(size) for name, column in rows.items()}
        losses, weights = [], []
        for batch in range(-(-n_spots // size)):
            spot = [torch.nonzero(parts[batch]).squeeze(1) for parts in measured.values()]
            latent = [parts[batch][own] for parts, own in zip(z.values(), spot, strict=True)]
            losses.append(contrastive_loss(torch.cat(latent), torch.cat(spot), self.T))
            weights.append(sum(map(len, spot)))
        weights = torch.tensor(weights, dtype=losses[0].dtype, device=self.device)
        return (torch.stack(losses) * weights).sum() / weights.sum()


def _spatial_edges(graph: ad.AnnData, rows: np.ndarray) -> np.ndarray:
    """Spatial edges and self loops of one slice (2 x edges), numbered within ``rows``."""
    edges = (graph.obsp["spatial_connectivities"][rows][:, rows] + sparse.eye_array(len(rows))).tocoo()
    return np.vstack([edges.row, edges.col]).astype(np.int64)


def fit(
    graphs: Mapping[str, ad.AnnData],
    *,
    seed: int,
    device: str = "auto",
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    n_epochs: int = 100,
    K: int = 2,
    n_hidden: int = 128,
    n_latent: int = 32,
    dropout: float = 0.2,
    **objective_settings: object,
) -> tuple[dict[str, Encoder], pd.DataFrame]:
    """Train one encoder per modality, as SpaMosaic does (Yan et al., Nature Genetics 2026).

    Every epoch is one step over the whole graph. Bridge slices, which have two modalities or more, are aligned by the
    contrastive loss over their paired spots; features are reconstructed.

    Parameters
    ----------
    graphs
        Per modality the AnnData of ``encoder_input``, with ``obs["slice"]``.
    seed
        Of weights, dropout and batches.
    device
        See ``choose_device``.
    lr, weight_decay, n_epochs
        Of Adam.
    K, n_hidden, n_latent, dropout
        See ``encoder.Encoder``.
    objective_settings
        What else ``Objective`` takes: ``T``, ``w_g``, ``symmetric``, ``w_rec_g``, ``reconstruct``,
        ``full_batch_max``, ``batch_size``.

    Returns
    -------
    Encoders on the CPU in evaluation mode, and the history: ``epoch``, ``loss``, ``contrastive``, ``reconstruction``
    (0 where a run has none).

    Raises
    ------
    InputError
        If a bridge slice has no paired spots, the loss is no longer finite, or the device is missing.
    """
    place = choose_device(device)
    objective = Objective(graphs, K=K, seed=seed, device=place, **objective_settings)
    encoders = new_encoders(graphs, seed=seed, K=K, n_hidden=n_hidden, n_latent=n_latent, dropout=dropout)
    encoders = {name: encoder.to(place).train() for name, encoder in encoders.items()}
    weights = [weight for encoder in encoders.values() for weight in encoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=lr, weight_decay=weight_decay)
    logger.info(
        "training on %s, %d thread(s): %d bridge slices to align, %d slices to reconstruct",
        place,
        torch.get_num_threads(),
        len(objective.bridges),
        len(objective.reconstructed),
    )

    history = []
    begun = shown = time.monotonic()
    for epoch in range(1, n_epochs + 1):
        contrastive, reconstruction = objective(encoders)
        loss = contrastive + reconstruction
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((epoch, loss.item(), contrastive.item(), reconstruction.item()))
        if not np.isfinite(history[-1][1]):
            raise InputError(
                f"the loss is {history[-1][1]} in epoch {epoch}",
                where="train",
                hint="lower train.lr or raise train.T, and look at the features for extreme values",
            )
        now = time.monotonic()
        if now - shown > _PROGRESS_SECONDS or epoch in (1, n_epochs):
            shown = now
            left = (now - begun) / epoch * (n_epochs - epoch)
            logger.info(
                "seed %d, epoch %d/%d: loss %.4f (contrastive %.4f, reconstruction %.4f), %.0f s left",
                seed,
                *history[-1][:1],
                n_epochs,
                *history[-1][1:],
                left,
                extra={"progress": True},
            )
    table = pd.DataFrame(history, columns=["epoch", "loss", "contrastive", "reconstruction"])
    return {name: encoder.cpu().eval() for name, encoder in encoders.items()}, table


def save_model(encoders: Mapping[str, Encoder], settings: Mapping, path: str | Path) -> None:
    """Write the weights as safetensors (names ``{modality}.{parameter}``), with every setting in their metadata."""
    tensors = {
        f"{name}.{parameter}": tensor.contiguous()
        for name, encoder in encoders.items()
        for parameter, tensor in encoder.state_dict().items()
    }
    metadata = {"settings": json.dumps(dict(settings)), "modalities": json.dumps(list(encoders))}
    save_file(tensors, path, metadata=metadata)


def load_model(path: str | Path) -> tuple[dict[str, Encoder], dict]:
    """Read what ``save_model`` wrote: encoders in evaluation mode, and the settings.

    Raises
    ------
    InputError
        If the file is damaged or no model of this workflow.
    """
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads(file.metadata()["settings"])
            modalities = json.loads(file.metadata()["modalities"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise InputError(
            f"can't be read as a model ({type(error).__name__}: {error})",
            where=str(path),
            hint="delete this file and run again: the workflow makes it anew",
        ) from error
    encoders = {}
    for name in modalities:
        state = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        shape = {key: settings[key] for key in ("K", "n_hidden", "n_latent", "dropout")}
        encoders[name] = Encoder(state["decoder.weight"].shape[0], **shape)
        encoders[name].load_state_dict(state)
        encoders[name].eval()
    return encoders, settings


def embed(graphs: Mapping[str, ad.AnnData], encoders: Mapping[str, Encoder], settings: Mapping) -> md.MuData:
    """Embed every spot.

    Parameters
    ----------
    graphs
        As for ``fit``.
    encoders, settings
        As ``load_model`` gives them.

    Returns
    -------
    MuData over all spots, as ``collect_embeddings`` makes it.
    """
    latent = {}
    with torch.inference_mode():
        for name, graph in graphs.items():
            H = encoder_input(graph, **{key: settings[key] for key in ("K", "w_g", "symmetric")})
            latent[name] = encoders[name](torch.as_tensor(H))[0].numpy()
    return collect_embeddings(graphs, latent)
