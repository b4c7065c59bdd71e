"""Write imputed counts block by block."""

import shutil
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from mosaic.analyse.impute import ImputationPlan
from mosaic.analyse.intervals import LAYERS, unit_of
from mosaic.errors import InputError
from mosaic.files import atomic_write


def write_imputed(imputation: ImputationPlan, path: str | Path, scores: pd.DataFrame | None = None) -> None:
    """Write what ``impute_modality`` returns as h5ad, block by block, without holding all of it in memory.

    Parameters
    ----------
    imputation
        As ``prepare`` returns it.
    path
        The file.
    scores
        Held-out scores per feature, for ``var`` (see ``folds.summarise``).

    Raises
    ------
    InputError
        If the result would be larger than the free space on the disk.
    """
    free, needed = shutil.disk_usage(Path(path).parent).free, imputation.n_bytes()
    if needed > free:
        raise InputError(
            f"{imputation.spots.n_obs} spots x {len(imputation.features)} imputed features take up to "
            f"{needed / 1e9:.1f} GB, but the disk has {free / 1e9:.1f} GB left",
            where=str(path),
            hint="free the disk, or impute fewer features: min_spots under qc drops rare ones",
        )
    var = pd.DataFrame({"unit": unit_of(imputation.values), "counted": imputation.counted}, index=imputation.features)
    if scores is not None:
        var = var.join(scores)
        var["better_than_mean"] = var["better_than_mean"].eq(True)
    skeleton = ad.AnnData(obs=imputation.spots.obs, var=var, obsm=dict(imputation.spots.obsm))
    with atomic_write(path) as unfinished:
        skeleton.write_h5ad(unfinished)
        with h5py.File(unfinished, "a") as file:
            start = 0
            for block in imputation.blocks():
                for name, part in zip(LAYERS, block, strict=True):
                    _append(file["layers"], name, part, start, skeleton.n_obs)
                start += block[0].shape[0]


def _append(layers: h5py.Group, name: str, part: np.ndarray | sparse.csr_matrix, start: int, n_spots: int) -> None:
    """Append rows to a layer of an h5ad file; the first rows create it."""
    if sparse.issparse(part):
        if start:
            ad.io.sparse_dataset(layers[name]).append(part)
        else:
            ad.io.write_elem(layers, name, part, dataset_kwargs={"compression": "lzf"})
        return
    if not start:
        layer = layers.create_dataset(name, (n_spots, part.shape[1]), part.dtype, chunks=True, compression="lzf")
        layer.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    layers[name][start : start + len(part)] = part
