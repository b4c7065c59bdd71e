"""Run MIDAS, scmidas 0.1.18, on slices.

Import this before the package: it makes torchvision importable beside a torch without CUDA.
"""

import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import anndata as ad
import pandas as pd
import torch

try:
    import torchvision  # noqa: F401 - of torchmetrics, which Lightning imports; MIDAS has no images
except RuntimeError:
    # PyPI has torchvision for Linux with CUDA only. Without CUDA it lacks the two operators that it then describes.
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from scmidas.config import load_config
from scmidas.data import MultiModalDataset
from scmidas.model import MIDAS

# What MIDAS calls them; its settings are by these names.
NAMES = {"rna": "rna", "protein": "adt", "epigenome": "atac"}
# As many as the package's README and tutorials train.
N_EPOCHS = 2000


def chromosomes(peaks: pd.Index) -> pd.Series:
    """The chromosome of each peak, such as chr1 of ``chr1:9-99`` and ``chr1_9_99``; else no text."""
    return peaks.to_series().str.extract(r"^(.+)[:_-]\d+[_-]\d+$")[0].fillna("")


class Inputs(NamedTuple):
    """What MIDAS reads, each under names of modalities that it accepts.

    Attributes
    ----------
    counts
        Per modality spots x features.
    widths
        Per modality the numbers of features that are encoded together: all, or of chromatin those of each chromosome.
    settings
        The package's defaults, and for each modality those of its kind.
    transform
        Per modality of chromatin, that peaks are open or closed.
    """

    counts: dict[str, ad.AnnData]
    widths: dict[str, list[int]]
    settings: dict
    transform: dict[str, str]


def inputs(graphs: Mapping[str, ad.AnnData], kinds: Mapping[str, str]) -> Inputs:
    """Arrange the slices for MIDAS.

    Parameters
    ----------
    graphs
        Per modality all slices, with ``layers["counts"]``.
    kinds
        Per modality ``rna``, ``protein`` or ``epigenome``.
    """
    # Results do not depend on how many processes load the data, and the package starts 20.
    read = Inputs({}, {}, dict(load_config()) | {"num_workers": 0, "persistent_workers": False}, {})
    for number, (name, graph) in enumerate(graphs.items()):
        kind = NAMES[kinds[name]]
        key = f"{kind}{number}"  # two modalities may be of one kind
        own = {setting: value for setting, value in read.settings.items() if setting.endswith(f"_{kind}")}
        read.settings.update({setting.removesuffix(kind) + key: value for setting, value in own.items()})
        parts = pd.Series("", graph.var_names)
        if kind == "atac":
            parts = chromosomes(graph.var_names).sort_values(kind="stable")
            read.transform[key] = "binarize"
        read.counts[key] = ad.AnnData(graph.layers["counts"], graph.obs[[]], graph.var[[]])[:, parts.index]
        read.widths[key] = parts.groupby(parts).size().tolist()
    return read


def train(read: Inputs, batches: Sequence[pd.Index], *, n_epochs: int = N_EPOCHS, accelerator: str) -> MIDAS:
    """Train MIDAS.

    Parameters
    ----------
    read
        As ``inputs`` returns it.
    batches
        Names of the spots of each batch, which have the same modalities.
    n_epochs
        Passes over the largest batch; spots of smaller ones are drawn as often.
    accelerator
        As for ``lightning.Trainer``.
    """
    names = [str(number) for number in range(len(batches))]
    nothing_masked: list[dict] = [{} for _ in batches]
    measured = [_measured(read, own) for own in batches]
    datasets, *sizes = MIDAS.get_datasets_from_adata(measured, nothing_masked, names, read.transform)
    with tempfile.TemporaryDirectory() as folder:
        model = MIDAS.configure_data(read.settings, datasets, read.widths, *sizes, save_model_path=folder)
        model.start_epoch = 0
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        model.train(max_epochs=n_epochs, accelerator=accelerator, devices=1, **quiet)
    return model


def latent(
    model: MIDAS, read: Inputs, batches: Sequence[pd.Index], few: Sequence[tuple[pd.Index, int]]
) -> pd.DataFrame:
    """The biological part of the joint latent space (spots x 32), ``z_c`` of the package.

    Parameters
    ----------
    model, read, batches
        As of ``train``.
    few
        Further spots, which training did not see, each group with the number of the batch that it is embedded as of.
    """
    groups = [*enumerate(batches), *((batch, own) for own, batch in few)]
    model.datalist, model.batch_names = [], [str(number) for number in range(len(groups))]
    for batch, spots in groups:
        own = _measured(read, spots)
        ids = dict.fromkeys(own, 0) | {"joint": batch}
        model.datalist.append(MultiModalDataset(own, ids, dict.fromkeys(own, "anndata"), transform=read.transform))
    found = model.predict(verbose=False)
    return pd.concat(
        pd.DataFrame(found[name]["z_c"]["joint"], spots)
        for name, (_, spots) in zip(model.batch_names, groups, strict=True)
    )


def _measured(read: Inputs, spots: pd.Index) -> dict[str, ad.AnnData]:
    return {key: own[spots] for key, own in read.counts.items() if spots[0] in own.obs_names}
