"""Prediction intervals of imputed values."""

from collections.abc import Sequence

import anndata as ad
import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from mosaic.errors import InputError
from mosaic.matrices import dense

# Layers of imputed data, in this order: predicted counts, and the standard deviation of the donors' counts.
LAYERS = ("imputed", "imputed_sd")

# Weight of a spot's donors in the variance that scales errors; the rest comes from all donors.
_OWN_SPREAD = 0.8


def unit_of(values: sparse.csr_matrix) -> np.ndarray:
    """Standard deviation of each feature over all donors (features); 1 if it does not vary."""
    variance = mean_variance_axis(sparse.csr_matrix(values, dtype=np.float64), axis=0)[1]
    return np.where(variance > 0, np.sqrt(variance), 1)


def error_scale(spread: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Scale of the errors of imputed counts: the spread of a spot's donors, shrunk towards that of all donors.

    Without shrinkage, a few donors that agree by chance would give intervals that are too narrow.

    Parameters
    ----------
    spread
        ``layers["imputed_sd"]`` (spots x features).
    unit
        See ``unit_of`` (features).
    """
    return np.sqrt(_OWN_SPREAD * spread**2 + (1 - _OWN_SPREAD) * unit**2)


def interval(adata: ad.AnnData, features: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Bounds that would enclose 90 % of measured counts, from the errors on hidden spots.

    Parameters
    ----------
    adata
        Imputed counts of a run with ``checks.imputation``, as ``write_imputed`` writes them.
    features
        Names of the features; None: all.

    Returns
    -------
    Lower and upper bounds (spots x features both), not below zero where ``var["counted"]``.

    Raises
    ------
    InputError
        If ``var`` has no errors of hidden spots.
    """
    adata = adata if features is None else adata[:, list(features)]
    if "error_low" not in adata.var:
        raise InputError("has no errors of hidden spots in var", hint="run with checks.imputation and a bridge slice")
    mean, spread = (dense(adata.layers[name]) for name in LAYERS)
    scale = error_scale(spread, adata.var["unit"].to_numpy())
    bounds = [mean + adata.var[name].to_numpy() * scale for name in ("error_low", "error_high")]
    counted = adata.var["counted"].to_numpy(dtype=bool)
    return tuple(np.where(counted, np.maximum(bound, 0), bound) for bound in bounds)
