"""The results of a run as SpatialData: its tables, the spots as circles, and the tissue images."""

import json
from collections.abc import Mapping
from typing import Any

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Identity, Scale

from mosaic.embedding import LATENT
from mosaic.frame import Frame
from mosaic.spatial import median_spot_distance

# Columns of each table that say where a row's circle is: names that no user's column is likely to have.
_REGION, _INSTANCE = "mosaic_region", "mosaic_spot"
# The table with what all modalities have in common.
_JOINT = "integrated"


def to_spatial_data(mdata: md.MuData, frames: Mapping[str, Frame]) -> SpatialData:
    """The results of a run as SpatialData (Marconato et al., Nature Methods 2024).

    Parameters
    ----------
    mdata
        As ``export.assemble_mudata`` returns it.
    frames
        Per slice its image and the unit of its coordinates.

    Returns
    -------
    SpatialData in which each slice is a coordinate system of its own, in the unit of its coordinates, or in micrometres
    where the unit is known; y points down. Per slice the circles ``{slice}_spots``, with the radius of a spot or half
    of the distance between spots, and the image ``{slice}_image`` if there is one. Per modality, measured or imputed, a
    table of its name, whose rows annotate the circles; and the table ``integrated``, with the latent space of the first
    run in X and, in ``obs`` and ``obsm``, domains, latent spaces and UMAPs of all runs. ``attrs["mosaic"]`` has version
    and configuration.
    """
    slices = mdata.obs["slice"].astype(str)
    shapes, images = {}, {}
    for name in dict.fromkeys(slices):
        frame = frames[name]
        unit = frame.microns_per_unit
        rows = (slices == name).to_numpy()
        places = mdata.obsm["spatial"][rows]
        shapes[f"{name}_spots"] = ShapesModel.parse(
            places,
            geometry=0,
            radius=(frame.spot_diameter or median_spot_distance(places)) / 2,
            index=mdata.obs_names[rows],
            transformations={name: Identity() if unit is None else Scale([unit, unit], axes=("x", "y"))},
        )
        if frame.image is not None:
            height, width = frame.image.shape[:2]
            scale = np.array([frame.width / width, frame.height / height]) * (unit or 1.0)
            images[f"{name}_image"] = Image2DModel.parse(
                frame.image,
                dims=("y", "x", "c"),
                c_coords=["r", "g", "b"],
                transformations={name: Scale(scale, axes=("x", "y"))},
            )
    latent = ad.AnnData(np.asarray(mdata.obsm[LATENT]), obs=mdata.obs.copy())
    latent.var_names = [f"{LATENT}_{number}" for number in range(1, latent.n_vars + 1)]
    for key, values in mdata.obsm.items():
        # MuData adds a mask of the spots of each modality.
        if key not in mdata.mod:
            latent.obsm[key] = np.asarray(values)
    tables = {_JOINT: latent} | {name: own.copy() for name, own in mdata.mod.items()}
    return SpatialData(
        images=images,
        shapes=shapes,
        tables={name: _table(own) for name, own in tables.items()},
        attrs={"mosaic": {key: _plain(value) for key, value in mdata.uns["mosaic"].items()}},
    )


def _table(adata: ad.AnnData) -> ad.AnnData:
    """A table whose rows name their circles."""
    regions = adata.obs["slice"].astype(str) + "_spots"
    adata.obs[_REGION] = pd.Categorical(regions)
    adata.obs[_INSTANCE] = adata.obs_names.to_numpy(dtype=object)
    return TableModel.parse(
        adata, region=sorted(regions.unique()), region_key=_REGION, instance_key=_INSTANCE, overwrite_metadata=True
    )


def _plain(value: Any) -> Any:
    """What JSON can hold."""
    return json.loads(json.dumps(value, default=str))
