"""Stores of zarr: an AnnData, and a SpatialData in the layout of spatialdata."""

import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from pyarrow import Table, parquet

from mosaic.config.readers import reader_of, source_files
from mosaic.errors import InputError
from mosaic.prepare import read

pytestmark = pytest.mark.filterwarnings(
    "ignore:Writing zarr v2 data:UserWarning",
    "ignore:zarr v3 autosharding:UserWarning",
    "ignore:Consolidated metadata:UserWarning",
)


@pytest.fixture(autouse=True, params=[2, 3])
def version(request):
    """Of zarr."""
    with ad.settings.override(zarr_write_format=request.param):
        yield request.param


def refused(path, *texts, kind="rna", **asked):
    with pytest.raises(InputError) as caught:
        read.read_slice(path, "s1", kind, **asked)
    for text in texts:
        assert text in str(caught.value)


def spatialdata(path, tables, circles=None):
    """A SpatialData as it lies on disk: tables below `tables`, circles as points in parquet."""
    zarr.open_group(path, mode="w", zarr_format=ad.settings.zarr_write_format).create_group("tables")
    for name, table in tables.items():
        table.write_zarr(path / "tables" / name)
    for name, centres in (circles or {}).items():
        folder = path / "shapes" / name
        folder.mkdir(parents=True)
        points = [b"\x01\x01\0\0\0" + np.array(centre, "<f8").tobytes() for centre in centres]
        table = pd.DataFrame({"geometry": points, "radius": 1.0}, index=range(len(points)))
        parquet.write_table(Table.from_pandas(table), folder / "shapes.parquet")
    return path


def of_regions(raw, regions):
    raw.obs["region"] = pd.Categorical(regions)
    raw.obs["spot_id"] = np.arange(raw.n_obs)
    attributes = {"region": sorted(set(regions)), "region_key": "region", "instance_key": "spot_id"}
    raw.uns["spatialdata_attrs"] = attributes
    return raw


def test_an_anndata(raw_slice, tmp_path):
    raw = raw_slice()
    raw.obs["domain"] = ["a", "b"] * 15
    raw.write_zarr(tmp_path / "s1.zarr")
    adata = read.read_slice(tmp_path / "s1.zarr", "s1", "rna", truth="domain")
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), raw.X.toarray())
    np.testing.assert_array_equal(adata.obsm["spatial"], raw.obsm["spatial"])
    assert adata.obs["domain"].tolist() == ["a", "b"] * 15
    assert read.read_columns(tmp_path / "s1.zarr", "s1", "domain", [])["domain"].tolist() == ["a", "b"] * 15
    assert read.FUNCTIONS["zarr"].contents(str(tmp_path / "s1.zarr"))[0].kind == "protein"
    files = source_files(str(tmp_path / "s1.zarr"), {})
    assert any("/X/data/" in path for path in files)


def test_genes_and_proteins_of_one_anndata_are_told_apart(raw_slice, tmp_path):
    raw = raw_slice()
    raw.var["feature_types"] = ["Gene Expression"] * 8 + ["Antibody Capture"] * 4
    raw.var["gene_ids"] = [f"ENSG{number}" for number in range(12)]
    raw.write_zarr(tmp_path / "s1.zarr")
    adata = read.read_slice(tmp_path / "s1.zarr", "s1", "protein")
    assert adata.var_names.tolist() == ["g8", "g9", "g10", "g11"]
    assert adata.var["gene_id"].tolist() == ["ENSG8", "ENSG9", "ENSG10", "ENSG11"]
    assert read.read_slice(tmp_path / "s1.zarr", "s1", "rna").n_vars == 8


@pytest.mark.parametrize("place", ["X/data", "obsm/spatial"])
def test_a_store_without_some_chunks_is_not_read_as_zeros(raw_slice, tmp_path, place):
    raw_slice().write_zarr(tmp_path / "s1.zarr")
    array = tmp_path / "s1.zarr" / place
    removed = [path for path in array.rglob("*") if path.is_file() and not path.name.startswith((".", "zarr.json"))]
    assert removed
    for path in removed:
        path.unlink()
    refused(tmp_path / "s1.zarr", f"{place} has 0 of 1 chunks", "copied or downloaded whole")


def test_a_damaged_store(raw_slice, tmp_path):
    path = tmp_path / "s1.zarr"
    raw_slice().write_zarr(path)
    shutil.rmtree(path / "var")
    refused(path, "var/_index has 0 of 1 chunks")
    for name in (".zmetadata", "zarr.json", ".zattrs"):
        (path / name).unlink(missing_ok=True)
    assert reader_of(path) is None


def test_the_only_table_of_a_spatialdata(raw_slice, tmp_path):
    raw = raw_slice()
    path = spatialdata(tmp_path / "s.zarr", {"table": of_regions(raw, ["whole"] * 30)})
    assert reader_of(path) == "spatialdata"
    adata = read.read_slice(path, "s1", "rna", modality="rna")
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), raw.X.toarray())
    assert all("/tables/table/" in file for file in source_files(str(path), {}))


def test_a_table_of_several_slices_is_split(raw_slice, tmp_path):
    raw = of_regions(raw_slice(), ["s1"] * 10 + ["s2"] * 20)
    path = spatialdata(tmp_path / "s.zarr", {"table": raw})
    for name, rows in (("s1", slice(0, 10)), ("s2", slice(10, 30))):
        adata = read.read_slice(path, name, "rna")
        np.testing.assert_array_equal(adata.layers["counts"].toarray(), raw.X[rows].toarray())
        np.testing.assert_array_equal(adata.obsm["spatial"], raw.obsm["spatial"][rows])
    assert read.read_slice(path, "other", "rna", options={"name": "s2"}).n_obs == 20
    with pytest.raises(InputError, match=r"its table has the slices s1, s2, and none is named s3\n.*s\.zarr#s1"):
        read.read_slice(path, "s3", "rna")
    found = read.FUNCTIONS["spatialdata"].contents(str(path))
    assert [(part.slice, part.name) for part in found] == [("s1", "s1"), ("s2", "s2")]


def test_several_tables_by_name_and_by_modality(raw_slice, tmp_path):
    tables = {"rna": raw_slice(), "adt": raw_slice(seed=1)}
    path = spatialdata(tmp_path / "s.zarr", tables)
    for name, raw in tables.items():
        for asked in ({"modality": name}, {"options": {"name": name}}):
            counts = read.read_slice(path, "s1", "rna", **asked).layers["counts"]
            np.testing.assert_array_equal(counts.toarray(), raw.X.toarray())
    refused(path, "has the tables adt, rna, and none is named prot", "s.zarr#adt", modality="prot")
    found = read.FUNCTIONS["spatialdata"].contents(str(path))
    assert {(part.modality, part.kind, part.name) for part in found} == {("rna", "rna", ""), ("adt", "protein", "")}


def test_coordinates_of_circles(raw_slice, tmp_path):
    raw = of_regions(raw_slice(), ["s1"] * 30)
    places = raw.obsm.pop("spatial")
    raw.obs["spot_id"] = np.arange(30)[::-1]
    path = spatialdata(tmp_path / "s.zarr", {"table": raw}, {"s1": places})
    np.testing.assert_array_equal(read.read_slice(path, "s1", "rna").obsm["spatial"], places[::-1])
    shutil.rmtree(path / "shapes")
    refused(path, 'its table has no obsm["spatial"], and there are no shapes s1')
    spatialdata(path, {"table": raw}, {"s1": places[:20]})
    refused(path, "10 spots have no circle among the shapes s1")


def test_a_store_that_is_neither(tmp_path):
    zarr.open_group(tmp_path / "s.zarr", mode="w").create_group("images")
    assert reader_of(tmp_path / "s.zarr") is None
    refused(tmp_path / "s.zarr", "is a folder that is not known: it holds images, zarr.json")
