"""Fine-tuning: the pairs of a new slice with two or more modalities adapt the encoders of a reference to it."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch

from mosaic.errors import InputError
from mosaic.integrate.encoders import Encoder, embed_part, part_of, to_data
from mosaic.integrate.losses import contrastive_loss
from mosaic.integrate.model import Tuned
from mosaic.spots import beside_reference, paired

logger = logging.getLogger(__name__)

# Share of a slice's pairs, a stripe of its tissue, that tuning does not see: the check `modalities align` is theirs.
HELD_OUT = 0.2
# Of the rate of training: the weights are nearly right.
_RATE = 0.5
# Weight of the distance that spots of the reference move, beside the contrastive loss.
_ANCHOR = 200.0


@dataclass(frozen=True, kw_only=True)
class TuningSettings:
    """How encoders are tuned; all but ``n_epochs`` are settings of the reference's training.

    Attributes
    ----------
    n_epochs
        Each is one step over all pairs of the slice or, if these are more than ``full_batch_max``, one over each batch.
    T, lr
        See ``training.TrainingSettings``; the rate is half that of training.
    full_batch_max, batch_size
        See ``batches.Batches``; as many spots of the reference are drawn at most.
    """

    n_epochs: int = 50
    T: float = 0.01
    lr: float = 0.01
    full_batch_max: int = 8000
    batch_size: int = 1024


def tuning_settings(n_epochs: int, train: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``TuningSettings`` by the section ``train`` of a reference's config."""
    return {"n_epochs": n_epochs, **{key: train[key] for key in ("T", "lr", "full_batch_max", "batch_size")}}


def fine_tune(graphs: Mapping[str, ad.AnnData], encoders: Mapping[str, Encoder], **settings: Any) -> dict[str, Tuned]:
    """Tune the encoders of a reference for each new slice that has two or more modalities, by itself.

    The contrastive loss of the slice's own pairs is minimised, plus 200 times the mean cosine distance that spots of
    the reference move: so the encoders stay what they were for the reference, whose latent coordinates hold (as in
    learning without forgetting, Li & Hoiem, IEEE TPAMI 2018). Batch norm keeps its statistics, and there is no dropout.

    Parameters
    ----------
    graphs
        Per modality, as ``graph.link_to_reference`` returns it.
    encoders
        Of the reference, which stay as they are.
    settings
        Those of ``TuningSettings`` that differ from its defaults.

    Returns
    -------
    Per slice its encoders.

    Raises
    ------
    InputError
        If no new slice has two modalities, one has too few pairs, or the loss becomes infinite.
    """
    asked = TuningSettings(**settings)
    pairs = paired({name: graph.obs[graph.obs["new"].to_numpy()] for name, graph in graphs.items()})
    if not pairs:
        problem = "no new slice has two modalities, so that nothing tunes the encoders"
        raise InputError(problem, where="mapping.fine_tune", hint="set fine_tune to false, or add a slice with two")
    return {name: _tuned(name, graphs, encoders, list(table), asked) for name, table in pairs.items()}


def _tuned(
    slice_name: str,
    graphs: Mapping[str, ad.AnnData],
    encoders: Mapping[str, Encoder],
    modalities: list[str],
    asked: TuningSettings,
) -> Tuned:
    """The encoders of the modalities of one slice."""
    own = {name: beside_reference(graphs[name], slice_name) for name in modalities}
    table = paired({name: graph.obs for name, graph in own.items()})[slice_name]
    spots, rows = _trained_on(table, own, slice_name)
    tuned = {name: copy.deepcopy(encoders[name]).eval() for name in modalities}
    with torch.no_grad():
        data = {name: tuned[name].inputs(to_data(graph)) for name, graph in own.items()}

    def embedded(name: str, which: torch.Tensor) -> torch.Tensor:
        return embed_part(tuned[name], part_of(data[name], which, tuned[name].n_hops))

    n_pairs = len(spots)
    n_steps = -(-n_pairs // asked.batch_size) if n_pairs > asked.full_batch_max else 1
    n_known = asked.full_batch_max if n_steps == 1 else asked.batch_size
    known = {name: torch.from_numpy(np.flatnonzero(~graph.obs["new"].to_numpy())) for name, graph in own.items()}
    with torch.no_grad():
        places = {
            name: torch.cat([embedded(name, part) for part in which.split(asked.full_batch_max)])
            for name, which in known.items()
        }
    generator = torch.Generator().manual_seed(0)
    weights = [weight for encoder in tuned.values() for weight in encoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=_RATE * asked.lr)
    history = []
    for _ in range(asked.n_epochs):
        for batch in torch.randperm(n_pairs, generator=generator).tensor_split(n_steps):
            parts, moved = [], []
            for name in modalities:
                anchors = torch.randperm(len(known[name]), generator=generator)[:n_known]
                z = embedded(name, torch.cat([rows[name][batch], known[name][anchors]]))
                parts.append(z[: len(batch)])
                moved.append((1 - (z[len(batch) :] * places[name][anchors]).sum(dim=1)).mean())
            contrast = contrastive_loss(torch.cat(parts), torch.arange(len(batch)).repeat(len(modalities)), asked.T)
            loss = contrast + _ANCHOR * torch.stack(moved).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append((float(contrast.detach()), float(torch.stack(moved).detach().mean())))
    if not np.isfinite(history[-1]).all():
        problem = f"the loss of fine-tuning is {history[-1][0]}"
        raise InputError(problem, where=f"slice {slice_name}", hint="set mapping.fine_tune to false")
    logger.info(
        "%s: encoders tuned by %d pairs in %d steps: contrastive loss %.4f before, %.4f after; spots of the reference "
        "moved by a cosine distance of %.4f",
        slice_name,
        n_pairs,
        len(history),
        history[0][0],
        *history[-1],
    )
    return Tuned(tuned, spots)


def _trained_on(
    table: pd.DataFrame, graphs: Mapping[str, ad.AnnData], slice_name: str
) -> tuple[pd.Index, dict[str, torch.Tensor]]:
    """Names of the spots that tune the encoders, and their rows in each modality: all but a stripe of the tissue."""
    # A spot counts if it has all modalities of the slice.
    rows = table[(table >= 0).all(axis=1)]
    first = graphs[rows.columns[0]]
    places = np.asarray(first.obsm["spatial"])[rows.iloc[:, 0]]
    if len(rows):
        along = places[:, np.ptp(places, axis=0).argmax()]
        rows = rows[along <= np.quantile(along, 1 - HELD_OUT)]
    if len(rows) < 2:
        problem = f"{' and '.join(table)} share too few spots to tune encoders by"
        raise InputError(problem, where=f"slice {slice_name}", hint="set mapping.fine_tune to false")
    spots = first.obs_names[rows.iloc[:, 0].to_numpy()]
    return spots, {name: torch.from_numpy(column.to_numpy(copy=True)) for name, column in rows.items()}
