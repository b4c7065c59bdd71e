"""The latent space aligned domain by domain: what a slice or a modality adds to a domain's coordinates is taken away."""

from collections.abc import Sequence

import numpy as np
from sklearn.preprocessing import normalize

# Spots of a domain in a slice at which half of its difference from the other slices is taken away.
_PRIOR_SPOTS = 10


def align_domains(
    latent: Sequence[tuple[np.ndarray, np.ndarray]], slices: np.ndarray, posterior: np.ndarray
) -> list[np.ndarray]:
    """Move each domain of each slice and modality to where the domain lies on average.

    Per modality and slice, each domain has a centre: the mean of its spots, weighted by their probability. Spots move
    by the difference between the domain's mean over all slices and modalities and this centre, shrunk where the slice
    has few spots of the domain; a domain that a slice lacks moves nothing. A spot between two domains moves by
    the mean of both, weighted by its probabilities. This is the correction step of Harmony (Korsunsky et al., Nature
    Methods 2019) with the domains in the place of its clusters, once.

    Parameters
    ----------
    latent
        Per modality the places of its spots among all spots, ascending, and their coordinates (n x n_latent).
    slices
        Number of each spot's slice, from 0, shape (spots,).
    posterior
        Probability of each domain, shape (spots, domains); rows sum to 1.

    Returns
    -------
    The aligned coordinates of each modality, rows of length 1 (n x n_latent, float32).
    """
    n_slices = slices.max() + 1
    moments = []
    for rows, coordinates in latent:
        weight, own = posterior[rows], slices[rows]
        size, total = [], []
        for number in range(n_slices):
            among = own == number
            size.append(weight[among].sum(axis=0))
            total.append(weight[among].T @ coordinates[among])
        moments.append((np.array(size), np.array(total)))
    size, total = (
        np.stack(parts) for parts in zip(*moments, strict=True)
    )  # modalities x slices x domains (x n_latent)
    centre = total / np.maximum(size, np.finfo(float).tiny)[..., None]
    trust = size / (size + _PRIOR_SPOTS)
    whole = np.einsum("msk,mskd->kd", trust, centre)
    whole /= np.maximum(trust.sum(axis=(0, 1)), np.finfo(float).tiny)[:, None]
    shift = trust[..., None] * (whole - centre)
    aligned = []
    for (rows, coordinates), own_shift in zip(latent, shift, strict=True):
        moved = np.array(coordinates, dtype=np.float64)
        for number in range(n_slices):
            among = slices[rows] == number
            moved[among] += posterior[rows[among]] @ own_shift[number]
        aligned.append(normalize(moved).astype(np.float32))
    return aligned


def mean_of_modalities(latent: Sequence[tuple[np.ndarray, np.ndarray]], n_spots: int) -> np.ndarray:
    """Mean over the modalities of each spot, as a row of length 1 (spots x n_latent, float32)."""
    total = np.zeros((n_spots, latent[0][1].shape[1]))
    for rows, coordinates in latent:
        total[rows] += coordinates
    return normalize(total).astype(np.float32)
