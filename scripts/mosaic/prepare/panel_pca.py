"""PCA, also of slices that measured different features: a feature counts where it was measured, and nowhere else."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA

logger = logging.getLogger(__name__)

# Relative change of the variance of the noise at which the fit has converged, and the maximum number of rounds.
_TOLERANCE, _ROUNDS = 1e-5, 60


class PanelComponents(NamedTuple):
    """Result of ``panel_pca``.

    Attributes
    ----------
    scores
        Per slice its spots x components.
    loadings
        Features x components, orthonormal, by decreasing variance.
    """

    scores: list[np.ndarray]
    loadings: np.ndarray


def pca(matrix: np.ndarray | sparse.csr_matrix, n_comps: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal components, with the solver and the rounding of ``scanpy.pp.pca``.

    Parameters
    ----------
    matrix
        Spots x features; centred without making sparse data dense.
    n_comps
        Components returned.
    seed
        Of the first vector of the solver.

    Returns
    -------
    Coordinates (spots x n_comps, float32) and loadings (features x n_comps).
    """
    model = PCA(n_comps, svd_solver="arpack", random_state=seed)
    return model.fit_transform(matrix).astype(np.float32), model.components_.T


def feature_means(parts: Sequence[sparse.csr_matrix], measured: np.ndarray) -> np.ndarray:
    """Mean of each feature over the spots of the slices that measured it (features)."""
    totals = np.sum([np.asarray(part.sum(axis=0)).ravel() for part in parts], axis=0)
    return totals / _n_measured(parts, measured)


def feature_scales(parts: Sequence[sparse.csr_matrix], measured: np.ndarray) -> np.ndarray:
    """Standard deviation of each feature over the same spots (features); 1 if it does not vary."""
    number = _n_measured(parts, measured)
    squares = np.sum([np.asarray(part.multiply(part).sum(axis=0)).ravel() for part in parts], axis=0)
    variance = (squares - number * feature_means(parts, measured) ** 2) / np.maximum(number - 1, 1)
    return np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1)


def panel_shares(parts: Sequence[sparse.csr_matrix], measured: np.ndarray) -> np.ndarray:
    """Share of all counts that the features of each slice would have, if it had measured those of all slices.

    Slices are compared by the features that all share: of the others, each slice that measured one says how many counts
    it has relative to these.

    Parameters
    ----------
    parts
        Per slice counts, or proportions of them (spots x features of all slices, zero where not measured).
    measured
        Slices x features.

    Returns
    -------
    Slices; 1 for one that measured all features.
    """
    means = np.array([np.asarray(part.mean(axis=0)).ravel() for part in parts])
    relative = means / means[:, measured.all(axis=0)].sum(axis=1, keepdims=True)
    profile = (relative * measured).sum(axis=0) / measured.sum(axis=0)
    return measured @ profile / profile.sum()


def panel_pca(
    parts: Sequence[sparse.csr_matrix], measured: np.ndarray, means: np.ndarray, n_comps: int, *, seed: int = 0
) -> PanelComponents:
    """Probabilistic PCA in which the features that a slice did not measure are missing, fitted by EM.

    A missing value adds nothing to the loadings of its feature (Tipping & Bishop, Journal of the Royal Statistical
    Society B 1999, with missing data), and the scores of a spot are their posterior mean given what was measured in it:
    those of a small panel are drawn towards the mean, by as much as it leaves open. The fit begins with the PCA of the
    features that all slices measured.

    Parameters
    ----------
    parts
        Per slice its values (spots x features of all slices, zero where not measured).
    measured
        Whether a slice measured a feature (slices x features), some features in all slices.
    means
        What to subtract from each feature in each slice (slices x features).
    n_comps
        Number of components.
    seed
        Of the first fit.
    """
    measured, means = np.asarray(measured, dtype=bool), np.where(measured, means, 0)
    scores = _first_scores(parts, measured, means, n_comps, seed)
    # Features that the same slices measured are fitted together.
    patterns, group = np.unique(measured, axis=1, return_inverse=True)
    sums = [np.asarray(part.sum(axis=0)).ravel() for part in parts]
    squares = [
        part.multiply(part).sum() - 2 * total @ mean + part.shape[0] * (mean @ mean)
        for part, total, mean in zip(parts, sums, means, strict=True)
    ]
    spread = [np.zeros((n_comps, n_comps)) for _ in parts]
    loadings, noise = np.zeros((measured.shape[1], n_comps)), 1.0
    rounds = 0
    while rounds < _ROUNDS:
        rounds += 1
        for number, pattern in enumerate(patterns.T):
            columns, own = np.flatnonzero(group.ravel() == number), np.flatnonzero(pattern).tolist()
            gram, moment = np.zeros((n_comps, n_comps)), np.zeros((len(columns), n_comps))
            for i in own:
                gram += scores[i].T @ scores[i] + parts[i].shape[0] * spread[i]
                moment += parts[i][:, columns].T @ scores[i] - np.outer(means[i, columns], scores[i].sum(axis=0))
            ridge = 1e-9 * np.trace(gram) / n_comps * np.eye(n_comps)
            loadings[columns] = np.linalg.solve(gram + ridge, moment.T).T
        residual, n_values = 0.0, 0
        for i, part in enumerate(parts):
            there = loadings * measured[i][:, None]
            inner = there.T @ there
            projected = part @ there - means[i] @ there
            precision = inner + noise * np.eye(n_comps)
            scores[i] = np.linalg.solve(precision, projected.T).T
            spread[i] = noise * np.linalg.inv(precision)
            residual += squares[i] - 2 * (scores[i] * projected).sum() + ((scores[i] @ inner) * scores[i]).sum()
            residual += part.shape[0] * np.trace(spread[i] @ inner)
            n_values += part.shape[0] * int(measured[i].sum())
        before, noise = noise, residual / n_values
        if abs(before - noise) < _TOLERANCE * before:
            break
    logger.info("PCA of different panels: %d rounds", rounds)
    axes, lengths, turn = np.linalg.svd(loadings, full_matrices=False)
    # The sign of a singular vector is arbitrary: its largest entry is positive.
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(n_comps)])
    return PanelComponents([own @ turn.T * lengths * signs for own in scores], axes * signs)


def place_means(loadings: np.ndarray, measured: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Scores of the differences of slices, by least squares over the features that each measured (slices x components).

    Parameters
    ----------
    loadings
        Features x components.
    measured, differences
        Slices x features.
    """
    pairs = zip(measured, differences, strict=True)
    return np.array([np.linalg.lstsq(loadings[there], own[there], rcond=None)[0] for there, own in pairs])


def _first_scores(
    parts: Sequence[sparse.csr_matrix], measured: np.ndarray, means: np.ndarray, n_comps: int, seed: int
) -> list[np.ndarray]:
    """Scores of the PCA of shared features, and small random ones for the components that these do not have."""
    shared = measured.all(axis=0)
    stacked = sparse.vstack([part[:, shared] for part in parts], format="csr")
    most = min(n_comps, *(length - 1 for length in stacked.shape))
    known, axes = pca(stacked, most, seed=seed)
    known = known.astype(np.float64)
    # `means` may be those of slices; the PCA subtracts those of all spots.
    number = np.repeat(np.arange(len(parts)), [part.shape[0] for part in parts])
    overall = np.asarray(stacked.mean(axis=0)).ravel()
    known = known - ((means[:, shared] - overall) @ axes)[number]
    rest = np.random.default_rng(seed).normal(scale=1e-3 * known.std(), size=(len(known), n_comps - most))
    scores = np.hstack([known, rest])
    return [scores[number == i] for i in range(len(parts))]


def _n_measured(parts: Sequence[sparse.csr_matrix], measured: np.ndarray) -> np.ndarray:
    return np.array([part.shape[0] for part in parts]) @ measured
