"""Encoders made, saved, loaded and used."""

import json
from collections.abc import Mapping
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import torch

from mosaic.embedding import collect_embeddings
from mosaic.errors import InputError
from mosaic.integrate.checkpoint import fingerprint, of_modality, read_tensors, weights_of, write_tensors
from mosaic.integrate.encoders import Encoder
from mosaic.integrate.propagation import encoder_input

# Spots that are embedded at once: bounds the memory of the hidden layer.
_EMBED_ROWS = 65_536


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
        Per modality the AnnData of ``batches.encoder_input``.
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


def save_model(
    encoders: Mapping[str, Encoder], settings: Mapping, graphs: Mapping[str, ad.AnnData], path: str | Path
) -> None:
    """Write the weights as safetensors (``weights.{modality}.{parameter}``).

    Their metadata hold every setting, fingerprints of the graphs they were trained on, and a checksum of it all.
    """
    metadata = {
        "settings": json.dumps(dict(settings)),
        "graphs": json.dumps({name: fingerprint(graphs[name]) for name in encoders}),
    }
    write_tensors(weights_of(encoders), metadata, path)


def load_model(path: str | Path, graphs: Mapping[str, ad.AnnData]) -> tuple[dict[str, Encoder], dict]:
    """Read what ``save_model`` wrote.

    Parameters
    ----------
    path
        The model.
    graphs
        Per modality what is to be embedded.

    Returns
    -------
    Encoders in evaluation mode, and the settings.

    Raises
    ------
    InputError
        If the file is damaged, no model of this workflow, or was trained on other graphs.
    """
    anew = "delete this file and run again: the workflow makes it anew"
    encoders = {}
    try:
        tensors, metadata = read_tensors(path)
        settings, trained_on = (json.loads(metadata[key]) for key in ("settings", "graphs"))
        shape = {key: settings[key] for key in ("K", "n_hidden", "n_latent", "dropout")}
        for name in trained_on:
            state = of_modality(tensors, name)
            encoders[name] = Encoder(state["decoder.weight"].shape[0], **shape)
            encoders[name].load_state_dict(state)
            encoders[name].eval()
    except Exception as error:
        raise InputError(
            f"can't be read as a model ({type(error).__name__}: {error})", where=str(path), hint=anew
        ) from error
    if set(trained_on) != set(graphs):
        problem = f"was trained on {', '.join(trained_on)}, not on {', '.join(graphs)}"
        raise InputError(problem, where=str(path), hint=anew)
    others = [name for name, graph in graphs.items() if fingerprint(graph) != trained_on[name]]
    if others:
        problem = f"was trained on another graph of {', '.join(others)} than the one to embed"
        raise InputError(problem, where=str(path), hint=anew)
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

    Raises
    ------
    InputError
        If coordinates are not finite.
    """
    latent = {name: embed_modality(graph, encoders[name], settings) for name, graph in graphs.items()}
    for name, coordinates in latent.items():
        if not np.isfinite(coordinates).all():
            hint = "lower train.lr or raise train.T, and look at the features for extreme values"
            raise InputError("the latent coordinates are not finite", where=f"modality {name}", hint=hint)
    return collect_embeddings(graphs, latent)


def embed_modality(graph: ad.AnnData, encoder: Encoder, settings: Mapping) -> np.ndarray:
    """Latent coordinates of one modality's spots (spots x n_latent, unit rows).

    Parameters
    ----------
    graph
        As for ``fit``; it may hold spots that training has not seen.
    encoder, settings
        As ``load_model`` gives them.
    """
    H = encoder_input(graph, **{key: settings[key] for key in ("K", "w_g", "symmetric")})
    with torch.inference_mode():
        return torch.cat([encoder(part)[0] for part in torch.as_tensor(H).split(_EMBED_ROWS)]).numpy()
