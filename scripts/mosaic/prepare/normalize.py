"""Normalisation within one modality of one slice."""

import anndata as ad
import numpy as np
from scipy import sparse

from mosaic.errors import InputError
from mosaic.matrices import dense

# Relative difference below which float32 values differ only by rounding.
_ROUNDING = 1e-5


def normalize_slice(adata: ad.AnnData, normalization: str) -> ad.AnnData:
    """Normalise the counts of one slice into X; ``layers["counts"]`` keeps them.

    Parameters
    ----------
    adata, normalization
        See ``normalize_spots``.

    Returns
    -------
    A new AnnData of the same shape.

    Raises
    ------
    InputError
        If ``normalize_spots`` raises it, or all spots have the same values.
    """
    adata = normalize_spots(adata, normalization)
    _check_varies(adata)
    return adata


def normalize_spots(adata: ad.AnnData, normalization: str) -> ad.AnnData:
    """Normalise the counts of some spots, each by its own counts alone.

    Parameters
    ----------
    adata
        Spots x features with ``layers["counts"]`` (kind ``features``: with X alone).
    normalization
        ``log``: counts per 10,000 of the spot, then log1p. ``clr``: centred log ratio over the proteins of a spot
        (Stoeckius et al., Nature Methods 2017, with log1p as in Seurat). ``tfidf``: the term frequency, a peak's
        proportion of the spot's counts; ``reduce`` applies the inverse document frequency, which covers all slices.
        ``none``: counts or ready features, unchanged.

    Returns
    -------
    A new AnnData of the same shape.

    Raises
    ------
    InputError
        If the normalization is unknown, or a spot has no counts.
    """
    if normalization not in {"log", "clr", "tfidf", "none"}:
        raise InputError(f"unknown normalization {normalization!r}", hint="use log, clr, tfidf or none")
    if "counts" not in adata.layers:
        return adata.copy()
    counts = adata.layers["counts"]
    empty = int((counts.sum(axis=1) == 0).sum())
    if empty and normalization != "none":
        raise InputError(
            f"{empty} spots have no counts",
            where=f"slice {adata.obs['slice'].iloc[0]}",
            hint="set min_counts under qc to 1 or more",
        )
    if normalization == "clr":
        # Proteins are few and rarely zero: dense is smaller than sparse here.
        values = counts.toarray()
        values /= np.exp(np.log1p(values).mean(axis=1, keepdims=True))
        return _with_x(adata, np.log1p(values, out=values))
    if normalization == "none":
        return _with_x(adata, counts.copy())
    shares = _to_total(counts, 1e4 if normalization == "log" else 1)
    return _with_x(adata, shares.log1p() if normalization == "log" else shares)


def _to_total(counts: sparse.csr_matrix, target: float) -> sparse.csr_matrix:
    """Counts scaled to the same sum in each spot, with the rounding of ``scanpy.pp.normalize_total``."""
    # scanpy and muon take seconds to import, in each of many jobs; tests compare with both, to the bit.
    totals = (counts @ np.ones(counts.shape[1])).astype(counts.dtype) / target
    totals[totals == 0] = 1
    values = counts.data / np.repeat(totals, np.diff(counts.indptr))
    return sparse.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)


def _check_varies(adata: ad.AnnData) -> None:
    """Fail if all spots are identical: reduction would amplify rounding errors.

    A single feature passes here; reduction reports that it is too few.
    """
    low, high = (dense(getattr(adata.X, side)(axis=0)) for side in ("min", "max"))
    if min(adata.shape) > 1 and (high - low).max() <= _ROUNDING * np.abs([low, high]).max():
        raise InputError(
            f"no feature varies: all {adata.n_obs} spots have the same values after normalisation",
            where=f"slice {adata.obs['slice'].iloc[0]}",
            hint="check that the file has the counts of this slice, or remove its row from the sample sheet",
        )


def _with_x(adata: ad.AnnData, X: np.ndarray | sparse.csr_matrix) -> ad.AnnData:
    """The same spots and features with another X; shares the counts without copying."""
    return ad.AnnData(
        X, obs=adata.obs.copy(), var=adata.var.copy(), obsm=dict(adata.obsm), layers={"counts": adata.layers["counts"]}
    )
