"""The latent space aligned domain by domain: what a slice or a modality adds to a domain is taken away."""

from collections.abc import Sequence

import mudata as md
import numpy as np
from sklearn.preprocessing import normalize

from mosaic.embedding import LATENT, collect_embeddings

# Spots of a domain in a slice at which half of its difference from the other slices is taken away.
_PRIOR_SPOTS = 10


def align_domains(
    latent: Sequence[tuple[np.ndarray, np.ndarray]],
    slices: np.ndarray,
    posterior: np.ndarray,
    onto: np.ndarray | None = None,
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
    onto
        Where the domains lie (domains x n_latent), as ``domain_centres`` returns it of other slices; None: where they
        lie on average over these slices and modalities.

    Returns
    -------
    The aligned coordinates of each modality, rows of length 1 (n x n_latent, float32).
    """
    whole, trust, centre = domain_centres(latent, slices, posterior)
    shift = trust[..., None] * ((whole if onto is None else onto) - centre)
    aligned = []
    for (rows, coordinates), own_shift in zip(latent, shift, strict=True):
        moved = np.array(coordinates, dtype=np.float64)
        for number in range(slices.max() + 1):
            among = slices[rows] == number
            moved[among] += posterior[rows[among]] @ own_shift[number]
        aligned.append(normalize(moved).astype(np.float32))
    return aligned


def domain_centres(
    latent: Sequence[tuple[np.ndarray, np.ndarray]], slices: np.ndarray, posterior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres of the domains, over all slices and modalities and in each.

    Parameters
    ----------
    latent, slices, posterior
        See ``align_domains``.

    Returns
    -------
    Mean of each domain over all slices and modalities (domains x n_latent); what each slice and modality weighs in it
    (modalities x slices x domains); and its centre there (modalities x slices x domains x n_latent).
    """
    n_slices = slices.max() + 1
    n_domains, n_latent = posterior.shape[1], latent[0][1].shape[1]
    size = np.zeros((len(latent), n_slices, n_domains))
    total = np.zeros((*size.shape, n_latent))
    for modality, (rows, coordinates) in enumerate(latent):
        for number in range(n_slices):
            among = slices[rows] == number
            weight = posterior[rows[among]]
            size[modality, number] = weight.sum(axis=0)
            total[modality, number] = weight.T @ coordinates[among]
    centre = total / np.maximum(size, np.finfo(float).tiny)[..., None]
    trust = size / (size + _PRIOR_SPOTS)
    whole = np.einsum("msk,mskd->kd", trust, centre)
    whole /= np.maximum(trust.sum(axis=(0, 1)), np.finfo(float).tiny)[:, None]
    return whole, trust, centre


def aligned_embedding(embedding: md.MuData, posterior: np.ndarray) -> md.MuData:
    """The embedding with each modality's coordinates aligned domain by domain, in the same format.

    Parameters
    ----------
    embedding
        As ``embedding.collect_embeddings`` returns it.
    posterior
        Probability of each domain, shape (spots, domains); rows sum to 1.
    """
    slices = embedding.obs["slice"].cat.remove_unused_categories().cat.codes.to_numpy()
    latent = {name: adata.obsm[LATENT] for name, adata in embedding.mod.items()}
    rows = [embedding.obs_names.get_indexer(adata.obs_names) for adata in embedding.mod.values()]
    aligned = align_domains(list(zip(rows, latent.values(), strict=True)), slices, posterior)
    return collect_embeddings(embedding.mod, dict(zip(latent, aligned, strict=True)))
