"""Make, save, load and apply encoders."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import torch
from scipy.spatial import KDTree

from mosaic.embedding import LATENT, collect_embeddings
from mosaic.errors import InputError
from mosaic.integrate.checkpoint import fingerprint, of_modality, read_tensors, weights_of, write_tensors
from mosaic.integrate.encoders import Encoder, EncoderSettings, embed_part, make_encoder, part_of, to_data
from mosaic.spots import beside_reference, slice_names

# Spots embedded at once; limits the memory of the hidden layer.
_EMBED_ROWS = 65_536


def choose_device(device: str) -> torch.device:
    """The device to train on: ``cpu``, ``cuda``, or ``auto`` (a GPU if there is one).

    Raises
    ------
    InputError
        If the device is ``cuda`` and PyTorch sees no GPU.
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


def new_encoders(graphs: Mapping[str, ad.AnnData], *, seed: int, **settings: Any) -> dict[str, Encoder]:
    """Encoders with new weights: for a seed, those of the published implementation with the same seed.

    Parameters
    ----------
    graphs
        Per modality, as ``graph.build_graph`` returns it.
    seed
        Of the weights, and of torch's next random numbers: the dropout of training.
    settings
        Fields of ``encoders.EncoderSettings`` that differ from the defaults.

    Raises
    ------
    InputError
        If there is no such encoder.
    """
    torch.manual_seed(seed)
    return {name: make_encoder(graph.n_vars, EncoderSettings(**settings)) for name, graph in graphs.items()}


def save_model(
    encoders: Mapping[str, Encoder], settings: Mapping, graphs: Mapping[str, ad.AnnData], path: str | Path
) -> None:
    """Write the weights as safetensors (``weights.{modality}.{parameter}``).

    The metadata contain the settings and number of features of each encoder, from which ``load_model`` makes it; the
    settings of training, as a record; fingerprints of the training graphs; and a checksum.
    """
    made = {name: {"n_features": own.input_size, "settings": asdict(own.settings)} for name, own in encoders.items()}
    metadata = {
        "encoders": json.dumps(made),
        "settings": json.dumps(dict(settings)),
        "graphs": json.dumps({name: fingerprint(graph) for name, graph in graphs.items()}),
    }
    write_tensors(weights_of(encoders), metadata, path)


def load_model(path: str | Path, graphs: Mapping[str, ad.AnnData], *, new: bool = False) -> dict[str, Encoder]:
    """Read the encoders that ``save_model`` wrote.

    Parameters
    ----------
    path
        The model.
    graphs
        Per modality the graph to embed.
    new
        Whether these are of other spots than training saw, of some of its modalities or of none.

    Returns
    -------
    Encoders in evaluation mode, by modality.

    Raises
    ------
    InputError
        If the file is damaged or no model of this workflow, if its encoder or number of features does not fit, or if it
        was trained on other graphs.
    """
    anew = "delete this file and run again: the workflow will rebuild it"
    encoders = {}
    try:
        tensors, metadata = read_tensors(path)
        made, trained_on = (json.loads(metadata[key]) for key in ("encoders", "graphs"))
        for name in made:
            encoders[name] = make_encoder(made[name]["n_features"], EncoderSettings(**made[name]["settings"]))
            encoders[name].load_state_dict(of_modality(tensors, name))
            encoders[name].eval()
    except InputError as error:
        problem = f"was trained with an unknown encoder: {error.problem}"
        raise InputError(problem, where=str(path), hint=anew) from error
    except Exception as error:
        raise InputError(
            f"can't be read as a model ({type(error).__name__}: {error})", where=str(path), hint=anew
        ) from error
    if not new and set(trained_on) != set(graphs):
        problem = f"was trained on {', '.join(trained_on)}, not on {', '.join(graphs)}"
        raise InputError(problem, where=str(path), hint=anew)
    for name, graph in graphs.items():
        if fault := _misfit(name, graph, encoders):
            raise InputError(fault, where=str(path), hint=anew)
    others = [name for name, graph in graphs.items() if not new and fingerprint(graph) != trained_on[name]]
    if others:
        problem = f"was trained on another graph of {', '.join(others)} than the one to embed"
        raise InputError(problem, where=str(path), hint=anew)
    return encoders


def _misfit(name: str, graph: ad.AnnData, encoders: Mapping[str, Encoder]) -> str | None:
    """Why these encoders can't embed a graph; None if they can."""
    if name not in encoders:
        return f"there are encoders of {', '.join(encoders)}, and none of {name}"
    if graph.n_vars != encoders[name].input_size:
        return f"the encoder of {name} takes {encoders[name].input_size} features, and the graph has {graph.n_vars}"
    return None


def embed(graphs: Mapping[str, ad.AnnData], encoders: Mapping[str, Encoder]) -> md.MuData:
    """Embed every spot.

    Parameters
    ----------
    graphs
        As for ``fit``.
    encoders
        As ``fit`` or ``load_model`` returns them.

    Returns
    -------
    MuData over all spots, as ``collect_embeddings`` returns it.

    Raises
    ------
    InputError
        If a graph does not fit its encoder, or coordinates are not finite.
    """
    for name, graph in graphs.items():
        if fault := _misfit(name, graph, encoders):
            hint = "embed the graphs that the encoders were trained on, or train encoders on these"
            raise InputError(fault, where=f"modality {name}", hint=hint)
    latent = {name: embed_modality(graph, encoders[name]) for name, graph in graphs.items()}
    for name, coordinates in latent.items():
        if not np.isfinite(coordinates).all():
            hint = "lower train.lr or raise train.T, and look at the features for extreme values"
            raise InputError("the latent coordinates are not finite", where=f"modality {name}", hint=hint)
    return collect_embeddings(graphs, latent)


class Tuned(NamedTuple):
    """Encoders that were tuned to a new slice, by modality, and the names of the spots whose pairs they have seen."""

    encoders: Mapping[str, Encoder]
    spots: pd.Index


def embed_new(
    graphs: Mapping[str, ad.AnnData], encoders: Mapping[str, Encoder], tuned: Mapping[str, Tuned] = MappingProxyType({})
) -> md.MuData:
    """Embed the new spots of graphs that ``graph.link_to_reference`` made, each slice by itself: see ``embed``.

    Parameters
    ----------
    graphs, encoders
        Per modality.
    tuned
        As ``fine_tuning.fine_tune`` returns it: slices with encoders of their own. ``obs["tuned"]`` then tells the
        spots whose pairs these have seen.
    """
    new = {name: graph[graph.obs["new"].to_numpy()] for name, graph in graphs.items()}
    latent: dict[str, list[np.ndarray]] = {name: [] for name in new}
    for name, graph in new.items():
        for own in slice_names(graph.obs):
            spots = graph.obs_names[(graph.obs["slice"] == own).to_numpy()]
            using = tuned[own].encoders if own in tuned else encoders
            linked = embed({name: beside_reference(graphs[name], own)}, using)
            latent[name].append(np.asarray(linked[name][spots].obsm[LATENT]))
    embedding = collect_embeddings(new, {name: np.vstack(parts) for name, parts in latent.items()})
    if tuned:
        embedding.obs["tuned"] = embedding.obs_names.isin([spot for own in tuned.values() for spot in own.spots])
    return embedding


def embed_modality(graph: ad.AnnData, encoder: Encoder) -> np.ndarray:
    """Latent coordinates of one modality's spots (spots x n_latent, unit rows).

    Parameters
    ----------
    graph
        As for ``fit``; it may contain spots that training has not seen.
    encoder
        As ``fit`` or ``load_model`` returns it.
    """
    with torch.inference_mode():
        data = encoder.inputs(to_data(graph))
        starts = range(0, graph.n_obs, _EMBED_ROWS)
        blocks: list[slice | torch.Tensor] = [slice(first, first + _EMBED_ROWS) for first in starts]
        if encoder.n_hops:
            # Spots near each other go together, because coupled encoders also need the spots around.
            order = torch.from_numpy(KDTree(graph.obsm["spatial"]).indices)
            blocks = list(order.split(_EMBED_ROWS))
        z = torch.empty(graph.n_obs, encoder.settings.n_latent)
        for rows in blocks:
            z[rows] = embed_part(encoder, part_of(data, rows, encoder.n_hops))
    return z.numpy()
