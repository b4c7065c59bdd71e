"""The results as SpatialData: where spatialdata is installed, in an environment of its own (`make envs`)."""

import json

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

pytest.importorskip(
    "spatialdata", reason="spatialdata is in an environment of its own: python envs/prove.py spatialdata"
)

from spatialdata import read_zarr
from spatialdata.transformations import get_transformation

from mosaic.analyse import spatial_data
from mosaic.frame import Frame


@pytest.fixture
def mdata():
    """Two slices of four spots; the second lacks ADT, which is imputed."""
    names = [f"{name}:BC{number}" for name in ("s1", "s2") for number in range(4)]
    places = np.tile([(10.0, 20), (30, 20), (10, 40), (30, 40)], (2, 1))
    slices = pd.Categorical(["s1"] * 4 + ["s2"] * 4)
    obs = pd.DataFrame({"slice": slices, "barcode": [name[3:] for name in names]}, index=names)

    def modality(rows, features):
        counts = sparse.csr_matrix(np.arange(len(rows) * len(features), dtype=np.float32).reshape(len(rows), -1))
        own = obs.loc[rows].assign(slice=lambda table: table["slice"].cat.remove_unused_categories())
        made = ad.AnnData(counts, obs=own, var=pd.DataFrame(index=features), layers={"counts": counts})
        made.obsm["spatial"] = places[obs.index.get_indexer(rows)]
        return made

    parts = {"rna": modality(names, ["a", "b"]), "adt": modality(names[:4], ["c"])}
    parts["adt_imputed"] = modality(names[4:], ["c"])
    found = md.MuData(parts)
    found.obs = obs.assign(mosaic_domain=pd.Categorical(list("12121212")), old=pd.array([True, None] * 4, "boolean"))
    found.obsm["spatial"] = places
    found.obsm["X_latent"] = np.arange(24, dtype=np.float32).reshape(8, 3)
    found.uns["mosaic"] = {"version": "0.1.0", "config": json.dumps({"seeds": [1]})}
    return found


@pytest.mark.filterwarnings("default")
def test_it_opens_with_spatialdata_and_holds_the_run(mdata, tmp_path):
    image = np.zeros((10, 20, 3), np.uint8)
    image[2, 3] = (1, 2, 3)
    frames = {"s1": Frame(image, 200.0, 100.0, 0.5, 12.0), "s2": Frame()}
    spatial_data.to_spatial_data(mdata, frames).write(tmp_path / "integrated.zarr")
    found = read_zarr(tmp_path / "integrated.zarr")
    assert set(found.shapes) == {"s1_spots", "s2_spots"}
    assert set(found.images) == {"s1_image"}
    assert set(found.tables) == {"integrated", "rna", "adt", "adt_imputed"}
    assert set(found.coordinate_systems) == {"s1", "s2"}
    circles = found.shapes["s1_spots"]
    assert circles.index.tolist() == mdata.obs_names[:4].tolist()
    assert (circles.geometry.x.tolist(), circles.geometry.y.tolist()) == ([10, 30, 10, 30], [20, 20, 40, 40])
    assert set(circles["radius"]) == {6.0}
    assert set(found.shapes["s2_spots"]["radius"]) == {10.0}
    assert found.images["s1_image"].dims == ("c", "y", "x")
    assert found.images["s1_image"].to_numpy()[:, 2, 3].tolist() == [1, 2, 3]
    # One pixel is 10 units, a unit half a micrometre; both elements of a slice are in its own frame.
    shown = get_transformation(found.images["s1_image"], "s1").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(np.diag(shown), [5, 5, 1])
    spots = get_transformation(circles, "s1").to_affine_matrix(("x", "y"), ("x", "y"))
    np.testing.assert_allclose(np.diag(spots), [0.5, 0.5, 1])
    for name in ("rna", "adt", "adt_imputed"):
        table = found.tables[name]
        np.testing.assert_array_equal(table.X.toarray(), mdata[name].X.toarray())
        assert table.obs["mosaic_spot"].tolist() == table.obs_names.tolist() == mdata[name].obs_names.tolist()
    assert found.tables["adt_imputed"].obs["mosaic_region"].unique().tolist() == ["s2_spots"]
    joint = found.tables["integrated"]
    np.testing.assert_array_equal(joint.X, mdata.obsm["X_latent"])
    assert joint.obs["mosaic_domain"].tolist() == list("12121212")
    assert json.loads(found.attrs["mosaic"]["config"]) == {"seeds": [1]}
    # A table's rows annotate the circles.
    from spatialdata import join_spatialelement_table

    elements, rows = join_spatialelement_table(sdata=found, spatial_element_names="s2_spots", table_name="adt_imputed")
    assert len(elements["s2_spots"]) == rows.n_obs == 4
