"""Training of the encoders."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from torch import nn

from mosaic.errors import InputError
from mosaic.imports import imported_modules, versions
from mosaic.integrate.batches import Batch, Batches, Positions
from mosaic.integrate.checkpoint import State, fingerprint
from mosaic.integrate.encoders import ENCODERS, Encoder, EncoderSettings, encode
from mosaic.integrate.losses import contrastive_loss, graph_loss, reconstruction_loss
from mosaic.integrate.model import choose_device, new_encoders

logger = logging.getLogger(__name__)

_PROGRESS_SECONDS = 2.0
# Number of steps if n_epochs is not given: over all spots, and over batches.
_WHOLE_STEPS, _BATCH_STEPS = 100, 200


# The terms of the loss.
LOSSES = ("contrastive", "reconstruction")
NEGATIVES = ("slice", "modality", "all")


def losses_of(
    batch: Batch,
    encoders: Mapping[str, Encoder],
    *,
    T: float = 0.01,
    w_rec_g: float = 0.0,
    losses: Sequence[str] = LOSSES,
    negatives: str = "slice",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrastive and reconstruction loss of one step, whose sum is minimised; 0 where it has none.

    Parameters
    ----------
    batch
        Data of the step.
    encoders
        Per modality.
    T
        Temperature of the contrastive loss, whose mean over the bridge slices is returned.
    w_rec_g
        Proportion of graph reconstruction in the reconstruction loss, 0 to 1. The mean over modalities and slices is
        returned.
    losses
        Which of the two to compute.
    negatives
        Rows that the contrastive loss repels: ``slice``, all others of the bridge slice, as published; ``modality``,
        those of other modalities alone; ``all``, all others of all bridge slices, in one loss.
    """
    outputs = {name: encode(encoders[name], data) for name, data in batch.inputs.items()}
    zero = torch.zeros((), device=next(iter(batch.inputs.values())).x.device)
    contrastive, reconstruction = [], []
    for parts in _contrasted(batch, negatives) if "contrastive" in losses else ():
        z = torch.cat([outputs[name][0][places] for name, places, _ in parts])
        kind = None
        if negatives == "modality":
            kind = torch.cat([torch.full_like(spot, number) for number, (_, _, spot) in enumerate(parts)])
        contrastive.append(contrastive_loss(z, torch.cat([spot for _, _, spot in parts]), T, kind))
    for number, (name, places) in enumerate(batch.reconstructed if "reconstruction" in losses else ()):
        latent, decoded = outputs[name]
        data = batch.inputs[name]
        # The features are the first part of what an encoder reads.
        features = (data.x[data.core] if "core" in data else data.x)[places, : decoded.shape[1]]
        term = (1 - w_rec_g) * reconstruction_loss(decoded[places], features)
        if w_rec_g:
            term = term + w_rec_g * graph_loss(latent, batch.edges[number], batch.absent[number])
        reconstruction.append(term)
    return torch.stack(contrastive or [zero]).mean(), torch.stack(reconstruction or [zero]).mean()


def _contrasted(batch: Batch, negatives: str) -> list[list[tuple[str, Positions, torch.Tensor]]]:
    """Per contrastive loss its parts: modality, positions of the rows, and number of each row's spot."""
    slices = [[(name, *rows) for name, rows in positives.items()] for positives in batch.contrasted]
    if negatives != "all" or not slices:
        return slices
    parts, first = [], 0
    for own in slices:
        parts += [(name, places, spot + first) for name, places, spot in own]
        first += 1 + max(int(spot.max()) for _, _, spot in own)
    return [parts]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """All settings that change the result of training. A checkpoint with other settings is not used.

    Attributes
    ----------
    seed
        Of weights, dropout and batches.
    lr, weight_decay
        Of Adam.
    n_epochs
        None: 100 if an epoch is one step, as published; in batches, enough for 200 steps. The number of steps decides
        the quality (table in docs/measurements.md).
    T, w_rec_g, losses, negatives
        See ``losses_of``.
    reconstruct, full_batch_max, batch_size
        See ``batches.Batches``.
    encoder
        See ``encoders.EncoderSettings``.
    """

    seed: int
    lr: float = 0.01
    weight_decay: float = 5e-4
    n_epochs: int | None = None
    T: float = 0.01
    w_rec_g: float = 0.0
    losses: Sequence[str] = LOSSES
    negatives: str = "slice"
    reconstruct: str = "all"
    full_batch_max: int = 8000
    batch_size: int = 1024
    encoder: EncoderSettings = field(default_factory=EncoderSettings)


def fit(
    graphs: Mapping[str, ad.AnnData],
    *,
    encoder: Mapping[str, Any] | None = None,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    **settings: Any,
) -> tuple[dict[str, Encoder], pd.DataFrame]:
    """Train one encoder per modality, as SpaMosaic does (Yan et al., Nature Genetics 2026).

    The contrastive loss over the paired spots of bridge slices (slices with two or more modalities) aligns the
    modalities; the reconstruction loss keeps the features. An epoch is one step over all spots, or many steps over
    batches (``batches.Batches``).

    Parameters
    ----------
    graphs
        Per modality, as ``graph.build_graph`` returns it.
    encoder
        Fields of ``encoders.EncoderSettings`` that differ from the defaults.
    device
        See ``choose_device``.
    checkpoint, checkpoint_every
        File to which the state is written every ``checkpoint_every`` epochs. If the file exists and has the same data,
        settings, threads, versions and code, training resumes from it and ends with the same weights as an
        uninterrupted run. Otherwise training starts from the beginning, and the log says why. The caller removes the
        file after saving the result.
    settings
        The other fields of ``TrainingSettings``.

    Returns
    -------
    Encoders on the CPU in evaluation mode, and the history: ``epoch``, ``loss``, ``contrastive``, ``reconstruction``
    (0 without that loss; means over the steps of the epoch).

    Raises
    ------
    InputError
        If no bridge slice joins the modalities, a bridge slice has no paired spots, the loss is empty or becomes
        infinite, or the device is missing.
    """
    place = choose_device(device)
    asked = TrainingSettings(encoder=EncoderSettings(**(encoder or {})), **settings)
    encoders = new_encoders(graphs, seed=asked.seed, **asdict(asked.encoder))
    batches = Batches(
        graphs,
        encoders,
        reconstruct=asked.reconstruct,
        with_edges=asked.w_rec_g > 0,
        full_batch_max=asked.full_batch_max,
        batch_size=asked.batch_size,
        seed=asked.seed,
        device=place,
    )
    if len(graphs) > 1 and not batches.n_bridges:
        raise InputError(
            f"no slice has two of {', '.join(graphs)}, so nothing aligns them",
            where="train",
            hint="add a bridge slice, or integrate the modalities apart",
        )
    _check_losses(asked, batches)
    encoders = {name: encoder.to(place).train() for name, encoder in encoders.items()}
    weights = [weight for encoder in encoders.values() for weight in encoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=asked.lr, weight_decay=asked.weight_decay)
    logger.info(
        "training a %s on %s, %d thread(s): %d bridge slices to align, %d slices to reconstruct, %d step(s) an epoch",
        ENCODERS[asked.encoder.net].label,
        place,
        torch.get_num_threads(),
        batches.n_bridges,
        batches.n_reconstructed,
        batches.n_steps,
    )

    n_epochs = asked.n_epochs
    if n_epochs is None:
        steps = _WHOLE_STEPS if batches.n_steps == 1 else _BATCH_STEPS
        n_epochs = -(-steps // batches.n_steps)
        asked = replace(asked, n_epochs=n_epochs)
    history = []
    state = None
    if checkpoint is not None:
        state = State(Path(checkpoint), _identity(graphs, asked, place), encoders, optimizer, batches.generator)
        history = state.resume()
    first = len(history) + 1
    begun = shown = time.monotonic()
    for epoch in range(first, n_epochs + 1):
        sums = torch.zeros(3, device=place)
        for step, batch in enumerate(batches, start=1):
            contrastive, reconstruction = losses_of(
                batch, encoders, T=asked.T, w_rec_g=asked.w_rec_g, losses=asked.losses, negatives=asked.negatives
            )
            loss = contrastive + reconstruction
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums += torch.stack([loss, contrastive, reconstruction]).detach()
            now = time.monotonic()
            if now - shown > _PROGRESS_SECONDS or (step == batches.n_steps and epoch in (1, n_epochs)):
                shown = now
                done = (epoch - first) * batches.n_steps + step
                logger.info(
                    "seed %d, epoch %d/%d%s: loss %.4f (contrastive %.4f, reconstruction %.4f), %.0f s left",
                    asked.seed,
                    epoch,
                    n_epochs,
                    f", step {step}/{batches.n_steps}" if batches.n_steps > 1 else "",
                    *(sums / step).tolist(),
                    (now - begun) / done * ((n_epochs - first + 1) * batches.n_steps - done),
                    extra={"progress": True},
                )
        history.append((epoch, *(sums / batches.n_steps).tolist()))
        if not np.isfinite(history[-1][1]):
            raise InputError(
                f"the loss is {history[-1][1]} in epoch {epoch}",
                where="train",
                hint="lower train.lr or raise train.T, and look at the features for extreme values",
            )
        if state and checkpoint_every and epoch % checkpoint_every == 0 and epoch < n_epochs:
            state.write(history)
    if batches.n_steps > 1:
        settle_batch_norm(encoders, batches)
    table = pd.DataFrame(history, columns=["epoch", "loss", "contrastive", "reconstruction"])
    return {name: encoder.cpu().eval() for name, encoder in encoders.items()}, table


def _check_losses(settings: TrainingSettings, batches: Batches) -> None:
    """Raise InputError if nothing is minimised, or a setting belongs to a loss that is off."""
    if unknown := set(settings.losses) - set(LOSSES):
        raise InputError(f"{', '.join(sorted(unknown))} is not known", where="train.losses", hint=", ".join(LOSSES))
    if settings.negatives not in NEGATIVES:
        raise InputError(f"{settings.negatives!r} is not known", where="train.negatives", hint=", ".join(NEGATIVES))
    n_terms = {"contrastive": batches.n_bridges, "reconstruction": batches.n_reconstructed}
    if not any(n_terms[name] for name in settings.losses):
        raise InputError(
            f"nothing is minimised: losses are {', '.join(settings.losses) or 'none'}, for {batches.n_bridges} bridge "
            f"slices and {batches.n_reconstructed} slices to reconstruct",
            where="train.losses",
            hint="contrastive needs a bridge slice; reconstruction with reconstruct: queries a slice that is none",
        )
    if settings.w_rec_g and "reconstruction" not in settings.losses:
        raise InputError(
            f"w_rec_g is {settings.w_rec_g:g}, and reconstruction is no loss of this run",
            where="train.w_rec_g",
            hint="leave it out, or add reconstruction to train.losses",
        )
    if batches.n_bridges and "contrastive" not in settings.losses:
        logger.warning("without the contrastive loss nothing aligns the modalities")


def settle_batch_norm(encoders: Mapping[str, Encoder], batches: Batches) -> None:
    """Recompute the statistics of batch norm as means over the batches of one epoch, with fixed weights.

    The running means lag behind weights that change at every step (Wu & Johnson, arXiv:2105.07576).
    """
    modules = [module for encoder in encoders.values() for module in encoder.modules()]
    layers = [module for module in modules if isinstance(module, nn.BatchNorm1d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean
    with torch.no_grad():
        for batch in batches:
            for name, data in batch.inputs.items():
                encode(encoders[name], data)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _identity(graphs: Mapping[str, ad.AnnData], settings: TrainingSettings, device: torch.device) -> str:
    """Hash of everything that changes the result: settings, data, kind of device, threads, code and versions."""
    modules, packages = imported_modules(__file__, Path(__file__).parents[2])
    decisive = [
        asdict(settings),
        {name: fingerprint(graph) for name, graph in graphs.items()},
        device.type,
        torch.get_num_threads(),
        versions(packages),
    ]
    digest = hashlib.sha256(json.dumps(decisive).encode())
    for module in (__file__, *modules):
        digest.update(Path(module).read_bytes())
    return digest.hexdigest()
