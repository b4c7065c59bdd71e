"""Regression of the difference in counts between a donor and a spot on the modality that both have."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from mosaic.matrices import BLOCK_VALUES

# Maximum number of components of the source modality in the regression.
_COMPONENTS = 50

_PENALTIES = np.logspace(0, 6, 13)


class Shift(NamedTuple):
    """Shift of the features that a regression explains: ``difference @ coefficients``.

    Attributes
    ----------
    features
        Numbers of the explained features.
    difference
        Difference between the source counts of queries and those of their donors (queries x components).
    coefficients
        Components x explained features.
    """

    features: np.ndarray
    difference: np.ndarray
    coefficients: np.ndarray


def regression_shift(
    source: sparse.csr_matrix,
    counts: sparse.csr_matrix,
    fitted: np.ndarray,
    among: sparse.csr_matrix,
    queries: sparse.csr_matrix,
    weights: sparse.csr_matrix,
    *,
    least_gain: float = 0.05,
) -> Shift:
    """Regression of a bias-corrected matching: correct for the difference between a query and its donors in the source.

    After Abadie & Imbens (JBES 2011). Each donor is matched to the other donors. The residual of the match is regressed
    (ridge, penalty per feature by leave-one-out) on the difference between the source counts of the donor and of its
    matches. The fit is applied to the same difference between a query and its donors. These differences are centred
    over the queries, so that a batch effect between slices has no effect. The shift mostly transfers depth.

    Parameters
    ----------
    source, counts
        The donors' counts of the source modality (donors x source features) and of the one imputed (donors x
        features).
    fitted
        Numbers of the donors that the regression is fitted on.
    among
        Weights of their matches among the other donors (fitted x donors).
    queries
        Counts of the source modality (queries x source features).
    weights
        Of each query's donors (queries x donors).
    least_gain
        Proportion of the residual that the regression must explain, by leave-one-out, to shift a feature.
    """
    scaler = StandardScaler(with_mean=False).fit(source)
    source, queries = scaler.transform(source), scaler.transform(queries)
    if min(source.shape) > _COMPONENTS:
        components = TruncatedSVD(_COMPONENTS, random_state=0).fit(source)
        source, queries = components.transform(source), components.transform(queries)
    else:
        source, queries = source.toarray(), queries.toarray()
    difference = source[fitted] - among @ source
    wanted = queries - weights @ source
    wanted -= wanted.mean(axis=0)
    explained, coefficients = [np.empty(0, dtype=int)], [np.empty((wanted.shape[1], 0))]
    width = max(1, BLOCK_VALUES // len(difference))
    for start in range(0, counts.shape[1], width):
        block = counts[:, start : start + width]
        rest = (block[fitted] - among @ block).toarray()
        varies = np.flatnonzero(rest.var(axis=0) > 0)
        if not varies.size:
            continue
        rest = rest[:, varies]
        fit = RidgeCV(_PENALTIES, alpha_per_target=True).fit(difference, rest)
        gain = 1 + np.atleast_1d(fit.best_score_) / rest.var(axis=0)
        chosen = gain > least_gain
        explained.append(start + varies[chosen])
        coefficients.append(fit.coef_.reshape(rest.shape[1], -1)[chosen].T)
    return Shift(np.concatenate(explained), wanted, np.hstack(coefficients))
