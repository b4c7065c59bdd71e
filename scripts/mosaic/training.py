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

from mosaic.encoder import Encoder
from mosaic.errors import InputError
from mosaic.graph import hops, propagation_operator
from mosaic.losses import contrastive_loss, graph_loss, reconstruction_loss
from mosaic.spots import collect_embeddings, paired

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


def fit(
    graphs: Mapping[str, ad.AnnData],
    *,
    seed: int,
    device: str = "auto",
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    n_epochs: int = 100,
    T: float = 0.01,
    w_g: float = 0.8,
    w_rec_g: float = 0.0,
    K: int = 2,
    n_hidden: int = 128,
    n_latent: int = 32,
    dropout: float = 0.2,
    symmetric: bool = False,
    full_batch_max: int = 8000,
    batch_size: int = 1024,
) -> tuple[dict[str, Encoder], pd.DataFrame]:
    """Train one encoder per modality, as SpaMosaic does (Yan et al., Nature Genetics 2026).

    Every epoch is one step over the whole graph. Bridge slices, which have two modalities or more, are aligned by the
    contrastive loss over their paired spots; the other slices are reconstructed.

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
    T
        Temperature of the contrastive loss.
    w_g, K, symmetric
        See ``encoder_input``.
    w_rec_g
        Share of graph reconstruction in the reconstruction loss, 0 to 1.
    n_hidden, n_latent, dropout
        See ``encoder.Encoder``.
    full_batch_max, batch_size
        A bridge slice with more paired spots than ``full_batch_max`` is contrasted in shuffled batches of
        ``batch_size`` spots, whose losses are averaged by their spots within the one step of the epoch.

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
    pairs = paired({name: graph.obs for name, graph in graphs.items()})
    # Shuffling and sampling draw on the CPU, so that they are the same on every device.
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    encoders = {
        name: Encoder(graph.n_vars, K=K, n_hidden=n_hidden, n_latent=n_latent, dropout=dropout).to(place)
        for name, graph in graphs.items()
    }
    features = {name: torch.as_tensor(graph.X, device=place) for name, graph in graphs.items()}
    inputs = {
        name: torch.as_tensor(encoder_input(graph, K=K, w_g=w_g, symmetric=symmetric), device=place)
        for name, graph in graphs.items()
    }
    bridges = {name: _positives(table, place) for name, table in pairs.items()}
    queries = [
        (name, torch.as_tensor(np.flatnonzero(graph.obs["slice"] == slice_name), device=place))
        for name, graph in graphs.items()
        for slice_name in graph.obs["slice"].unique()
        if slice_name not in pairs
    ]
    edges = {}
    if w_rec_g:
        for name, graph in graphs.items():
            merged = (graph.obsp["spatial_connectivities"] + graph.obsp["mutual_nearest_neighbors"]).tocoo()
            edges[name] = torch.as_tensor(np.vstack([merged.row, merged.col]).astype(np.int64), device=place)
    optimizer = torch.optim.Adam(
        [weight for encoder in encoders.values() for weight in encoder.parameters()], lr=lr, weight_decay=weight_decay
    )
    logger.info(
        "training on %s, %d thread(s): %d bridge slices, %d slices to reconstruct",
        place,
        torch.get_num_threads(),
        len(bridges),
        len(queries),
    )

    history = []
    begun = shown = time.monotonic()
    for epoch in range(1, n_epochs + 1):
        outputs = {name: encoders[name].train()(H) for name, H in inputs.items()}
        zero = torch.zeros((), device=place)
        contrastive = torch.stack(
            [
                _bridge_loss(outputs, rows, spots, T, full_batch_max, batch_size, generator)
                for rows, spots in bridges.values()
            ]
            or [zero]
        ).mean()
        terms = []
        for name, rows in queries:
            terms.append((1 - w_rec_g) * reconstruction_loss(outputs[name][1][rows], features[name][rows]))
        for name in edges if queries else ():
            share = sum(query == name for query, _ in queries)
            terms.extend([w_rec_g * graph_loss(outputs[name][0], edges[name], generator)] * share)
        reconstruction = torch.stack(terms).sum() / len(queries) if queries else zero
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


def _positives(table: pd.DataFrame, place: torch.device) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Per modality the rows of a slice's paired spots, -1 where not measured, and the number of spots."""
    return {name: torch.as_tensor(column.to_numpy(), device=place) for name, column in table.items()}, len(table)


def _bridge_loss(outputs, rows, n_spots, T, full_batch_max, batch_size, generator) -> torch.Tensor:
    """Contrastive loss of one bridge slice, over all its paired spots or in shuffled batches."""
    if n_spots <= full_batch_max:
        batches = [slice(None)]
    else:
        batches = torch.randperm(n_spots, generator=generator).split(batch_size)
    losses, weights = [], []
    for batch in batches:
        z, spot = [], []
        for name, column in rows.items():
            chosen = column[batch if isinstance(batch, slice) else batch.to(column.device)]
            measured = torch.nonzero(chosen >= 0).squeeze(1)
            z.append(outputs[name][0][chosen[measured]])
            spot.append(measured)
        spot = torch.cat(spot)
        losses.append(contrastive_loss(torch.cat(z), spot, T))
        weights.append(len(spot))
    weights = torch.tensor(weights, dtype=losses[0].dtype, device=losses[0].device)
    return (torch.stack(losses) * weights).sum() / weights.sum()


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
