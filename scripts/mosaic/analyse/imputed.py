"""Write imputed counts block by block."""

from pathlib import Path

import anndata as ad
import h5py
import pandas as pd

from mosaic.analyse.impute import ImputationPlan, JoinedPlan
from mosaic.analyse.intervals import LAYERS
from mosaic.blocks import append_block
from mosaic.files import atomic_write


def write_imputed(
    imputation: ImputationPlan | JoinedPlan, path: str | Path, scores: pd.DataFrame | None = None
) -> None:
    """Write what ``impute_modality`` returns as h5ad, block by block, without holding all of it in memory.

    Parameters
    ----------
    imputation
        As ``impute.plan_modality`` returns it.
    path
        The file.
    scores
        Held-out scores per feature, for ``var`` (see ``scores.summarise``).
    """
    var = pd.DataFrame({"unit": imputation.units, "counted": imputation.counted}, index=imputation.features)
    if scores is not None:
        var = var.join(scores)
        var["better_than_mean"] = var["better_than_mean"].eq(True)
    skeleton = ad.AnnData(obs=imputation.spots.obs, var=var, obsm=dict(imputation.spots.obsm))
    with atomic_write(path) as unfinished:
        skeleton.write_h5ad(unfinished)
        with h5py.File(unfinished, "a") as file:
            most = skeleton.n_obs * skeleton.n_vars
            for block in imputation.blocks():
                for name, part in zip(LAYERS, block, strict=True):
                    # Shuffled bytes compress well: even of values without a zero, the file is no larger than a
                    # dense one.
                    append_block(file["layers"], name, part, most, compression="lzf", shuffle=True)
