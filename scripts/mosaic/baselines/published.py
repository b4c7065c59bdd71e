"""Run the unmodified published package, spamosaic 1.0.3.

Import this before the package: it replaces torch-scatter, which would have to be compiled against torch.
"""

import sys
import types
from collections.abc import Mapping, Sequence
from unittest import mock

import anndata as ad
import numpy as np
import torch

KEY = "features"


def scatter_add(values: torch.Tensor, index: torch.Tensor, dim: int = 0, *, dim_size: int) -> torch.Tensor:
    """The only function of torch-scatter that the package uses, for one-dimensional tensors."""
    return torch.zeros(dim_size, dtype=values.dtype, device=values.device).index_add(0, index, values)


torch_scatter = types.ModuleType("torch_scatter")
vars(torch_scatter)["scatter_add"] = scatter_add
sys.modules.setdefault("torch_scatter", torch_scatter)
from spamosaic import preprocessing  # noqa: E402 - after the stand-in
from spamosaic.framework import SpaMosaic  # noqa: E402
from spamosaic.preprocessing import ADT_preprocess, Epigenome_preprocess, RNA_preprocess  # noqa: E402


def preprocess(
    slices: Sequence[ad.AnnData],
    *,
    kind: str,
    normalization: str,
    feature_selection: str,
    n_top_features: int | None,
    scale: bool,
    reduction: str,
    n_comps: int,
    batch_correction: str | Mapping,
    **_: object,
) -> None:
    """Write features to ``obsm["features"]`` of all slices of a modality, with the package's function for its kind.

    Without normalisation it follows the package's tutorial of the simulation: scaled counts, PCA, Harmony.

    Parameters
    ----------
    slices
        With ``layers["counts"]`` (kind ``features``: X). X becomes counts.
    kind, normalization, feature_selection, n_top_features, scale, reduction, n_comps, batch_correction
        Settings of the modality in the config.
    """
    if kind == "features":
        for adata in slices:
            adata.obsm[KEY] = np.asarray(adata.X, dtype=np.float32)
        return
    for adata in slices:
        counts = adata.layers["counts"]
        # The package's centred log ratio does not accept sparse matrices of SciPy 1.14 or later.
        adata.X = counts.toarray() if kind == "protein" else counts.copy()
    common = {"batch_corr": batch_correction != "none", "n_comps": n_comps, "batch_key": "slice", "key": KEY}
    n_shared = len(set.intersection(*(set(adata.var_names) for adata in slices)))
    most = min(n_top_features or n_shared, n_shared)
    lognorm = normalization == "log"
    if kind == "rna":
        favor = "adapted" if reduction == "lsi" else "scanpy"
        n_hvg = None if feature_selection == "all" else most
        RNA_preprocess(slices, favor=favor, n_hvg=n_hvg, lognorm=lognorm, scale=scale, **common)
    elif kind == "protein":
        favor = "clr" if normalization == "clr" else "lognorm"
        ADT_preprocess(slices, favor=favor, lognorm=lognorm, scale=scale, **common)
    else:
        # The package's search for variable peaks fails on sparse peaks (singular loess). Skip it if all peaks are kept.
        search = every_feature if most == n_shared else preprocessing.sc.pp.highly_variable_genes
        with mock.patch.object(preprocessing.sc.pp, "highly_variable_genes", search):
            Epigenome_preprocess(slices, n_peak=most, **common)


def every_feature(adata: ad.AnnData, **_: object) -> None:
    """Mark every feature as highly variable; replaces ``scanpy.pp.highly_variable_genes``."""
    adata.var["highly_variable"] = True


def by_slice(slices: Mapping[str, Sequence[ad.AnnData]], names: Sequence[str]) -> dict[str, list[ad.AnnData | None]]:
    """Per modality a list over all slices, as the package expects; None if a slice lacks the modality."""
    found = {key: {adata.obs["slice"].iloc[0]: adata for adata in parts} for key, parts in slices.items()}
    return {key: [own.get(name) for name in names] for key, own in found.items()}


def pairs_only(data: Mapping[str, list[ad.AnnData | None]]) -> dict[str, list[ad.AnnData | None]]:
    """Spots of each slice that all its modalities have, in one order, because the package pairs spots by row."""
    rows = []
    for parts in zip(*data.values(), strict=True):
        there = [adata for adata in parts if adata is not None]
        both = there[0].obs_names
        for adata in there[1:]:
            both = both[both.isin(adata.obs_names)]
        rows.append([adata if adata is None or len(there) == 1 else adata[both].copy() for adata in parts])
    return {key: list(parts) for key, parts in zip(data, zip(*rows, strict=True), strict=True)}


def model(data: Mapping, names: Sequence[str], graph: Mapping, *, seed: int, device: str) -> SpaMosaic:
    """The package's untrained model of these slices.

    Parameters
    ----------
    data
        As ``pairs_only`` returns it.
    names
        Slices in the order of ``data``.
    graph
        Section ``graph`` of the config.
    seed, device
        Passed to the package.
    """
    knns = graph["intra_knns"]
    return SpaMosaic(
        data,
        KEY,
        batch_key="slice",
        intra_knns=[knns[name] for name in names] if isinstance(knns, Mapping) else knns,
        **{
            key: graph[key]
            for key in ("inter_knn_base", "inter_auto_knn", "rmv_outlier", "smooth_input", "smooth_L", "w_g")
        },
        # The package limits the distance of neighbours in the unit of the coordinates; the config in multiples of the
        # distance to the nearest spot, or not at all.
        radius_cutoff=np.inf,
        seed=seed,
        device=device,
    )


def embed(trained: SpaMosaic, everything: Mapping[str, list[ad.AnnData | None]]) -> dict[str, np.ndarray]:
    """Latent coordinates of all spots, including those that training excluded.

    Parameters
    ----------
    trained
        The trained model.
    everything
        As ``by_slice`` returns it.

    Returns
    -------
    Per modality spots x n_latent, slice by slice.
    """
    # The package's graphs, now over all spots; edges between slices are those of training.
    for parts in everything.values():
        numbers = (dict.fromkeys(adata.obs_names, n) for n, adata in enumerate(parts) if adata is not None)
        for own in numbers:
            trained.barc2batch |= own
    trained.prepare_intra_graphs(everything)
    if trained.smooth_input:
        trained.apply_smoothing(everything)
    trained.prepare_inputs(everything)
    latent = {}
    with torch.no_grad():
        for name, net in trained.mod_model.items():
            inputs = (trained.mod_graphs[key][name] for key in ("attribute", "edge", "edgeW"))
            latent[name] = net.eval()(*inputs)[0].cpu().numpy()
    return latent
