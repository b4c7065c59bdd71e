"""The embedding that every method writes: latent coordinates per modality and per spot, as embedding.h5mu."""

from collections.abc import Mapping

import anndata as ad
import mudata as md
import numpy as np

from mosaic.spots import union

# Key of the latent coordinates in embedding.h5mu, of each modality and of the whole.
LATENT = "X_latent"


def collect_embeddings(graphs: Mapping[str, ad.AnnData], latent: Mapping[str, np.ndarray]) -> md.MuData:
    """Collect the latent coordinates of all modalities in the format of ``embedding.h5mu``.

    Parameters
    ----------
    graphs
        Per modality an AnnData with ``obs["slice"]`` and ``obsm["spatial"]``.
    latent
        Per modality its spots' coordinates (spots x n_latent).

    Returns
    -------
    MuData over all spots, slice by slice. ``obsm["X_latent"]`` of a modality holds its coordinates; that of the
    whole, the mean over the modalities of the spot. ``obs`` is that of ``union``; ``obsm["spatial"]`` are
    the coordinates on the tissue.
    """
    spots = union({name: graph.obs for name, graph in graphs.items()})
    width = next(iter(latent.values())).shape[1]
    total, count = np.zeros((len(spots), width)), np.zeros(len(spots))
    spatial = np.full((len(spots), 2), np.nan)
    modalities = {}
    for name, graph in graphs.items():
        where = spots.index.get_indexer(graph.obs_names)
        total[where] += latent[name]
        count[where] += 1
        spatial[where] = graph.obsm["spatial"]
        obsm = {LATENT: latent[name].astype(np.float32), "spatial": np.array(graph.obsm["spatial"])}
        modalities[name] = ad.AnnData(obs=graph.obs[["slice", "barcode"]], obsm=obsm)
    mdata = md.MuData(modalities)
    if not mdata.obs_names.equals(spots.index):
        mdata = mdata[spots.index].copy()
    mdata.obs = spots
    mdata.obsm[LATENT] = (total / count[:, None]).astype(np.float32)
    mdata.obsm["spatial"] = spatial
    return mdata
