"""Space Ranger's folders: real ones cut small, and others in their layout."""

import json
import shutil

import instruments
import numpy as np
import pandas as pd
import pytest

from mosaic.config.readers import reader_of, source_files
from mosaic.errors import InputError
from mosaic.prepare import read
from mosaic.prepare.readers.parts import Asked


def parts(path, kind="rna", **asked):
    return read.FUNCTIONS[reader_of(path)].read(Asked(str(path), kind, "s1", **asked))


def refused(path, *texts, kind="rna", **options):
    with pytest.raises(InputError) as caught:
        read.read_slice(path, "s1", kind, options=options)
    for text in texts:
        assert text in str(caught.value)


@pytest.fixture
def counts():
    return instruments.counted(instruments.panel(n_genes=12, n_proteins=6))


def test_a_real_folder_of_space_ranger_1(shared_data):
    folder = shared_data / "formats" / "visium_sr1"
    found = parts(folder)
    assert found.source.shape == (100, 100)
    # In the table: AAACAAGTATCTCCCA-1,1,50,102,8513,9811
    assert found.source.obsm["spatial"][found.source.obs_names.get_loc("AAACAAGTATCTCCCA-1")].tolist() == [9811, 8513]
    assert found.source.uns["microns_per_unit"] == pytest.approx(100 / 138)
    assert found.source.uns["spatial"]["s1"]["images"]["hires"].shape == (2000, 2000, 3)
    assert read.read_slice(folder, "s1", "rna").layers["counts"].sum() == found.values.X.sum() > 0


def test_a_real_folder_of_visium_hd(shared_data):
    folder = shared_data / "formats" / "visium_hd"
    found = parts(folder, name="square_002um")
    assert found.source.shape == (10, 10)
    assert found.source.var["gene_id"]["Xkr4"] == "ENSMUSG00000051951"
    assert found.source.uns["microns_per_unit"] == pytest.approx(0.27382, rel=1e-4)
    refused(folder, "holds no square_008um; it has square_002um", "visium_hd#square_002um")
    # Its matrix in mtx has files that are named .gz and are none.
    (hd,) = (folder / "binned_outputs").iterdir()
    assert read.FUNCTIONS["visium"].contents(str(hd))[0].kind == "rna"


@pytest.mark.parametrize("h5", [True, False])
@pytest.mark.parametrize("positions", ["tissue_positions_list.csv", "tissue_positions.csv", "tissue_positions.parquet"])
def test_all_versions_give_the_same(tmp_path, counts, h5, positions):
    folder = instruments.visium(tmp_path / "s1", counts, h5=h5, positions=positions)
    adata = read.read_slice(folder, "s1", "rna")
    assert adata.obs["barcode"].tolist() == counts.obs_names.tolist()
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts.X[:, :12].toarray())
    table = instruments.visium_positions(counts.obs_names).set_index("barcode").loc[counts.obs_names]
    np.testing.assert_array_equal(adata.obsm["spatial"], table[["pxl_col_in_fullres", "pxl_row_in_fullres"]])
    assert adata.obs["in_tissue"].all()


def test_one_folder_gives_genes_and_proteins_without_isotype_controls(tmp_path, counts, caplog):
    folder = instruments.visium(tmp_path / "s1", counts)
    caplog.set_level("INFO")
    rna = read.read_slice(folder, "s1", "rna")
    assert rna.var_names[:3].tolist() == ["GENE0_ENSG00000", "GENE0_ENSG00001", "GENE2"]
    assert rna.var["gene_id"][:3].tolist() == ["ENSG00000", "ENSG00001", "ENSG00002"]
    assert "1 names are of several features, and have the identifier behind them: GENE0" in caplog.text
    protein = read.read_slice(folder, "s1", "protein")
    assert protein.var_names.tolist() == ["CD0", "CD1", "CD2", "CD3"]
    np.testing.assert_array_equal(protein.layers["counts"].toarray(), counts.X[:, 12:16].toarray())
    assert protein.uns["controls"] == dict(zip(instruments.ISOTYPES, counts.X[:, 16:].sum(axis=0).A1, strict=True))
    assert "2 controls are set apart: mouse_IgG2a, rat_IgG2a" in caplog.text
    assert rna.obs["barcode"].tolist() == protein.obs["barcode"].tolist()
    refused(
        folder,
        "has no features of type Peaks, which kind epigenome needs; it has Gene Expression (12), Anti",
        kind="epigenome",
    )


def test_immunoglobulins_of_the_tissue_are_no_controls(tmp_path):
    var = instruments.panel(n_genes=0)
    names = ["IgM", "IgD", "IGHG1", "CD20", "Isotype_IgG1", "IgG2b_Mouse", "Rat.IgG1"]
    var = pd.DataFrame({"id": names, "name": names, "type": "Antibody Capture"})
    folder = instruments.visium(tmp_path / "s1", instruments.counted(var))
    assert read.read_slice(folder, "s1", "protein").var_names.tolist() == names[:4]


def test_raw_spots_by_name(tmp_path, counts):
    folder = instruments.visium(tmp_path / "s1", counts)
    every = instruments.counted(counts.var, 34, barcodes=[*counts.obs_names, *(f"{'T' * 15}{b}-1" for b in "ACGT")])
    instruments.tenx_h5(folder / "outs" / "raw_feature_bc_matrix.h5", every)
    assert read.read_slice(folder, "s1", "rna").n_obs == 30
    adata = read.read_slice(folder, "s1", "rna", options={"name": "raw"})
    assert adata.obs["in_tissue"].tolist() == [True] * 30 + [False] * 4
    refused(folder, "has no part square_008um", "raw or filtered", name="square_008um")


def test_bins_of_visium_hd_and_segmented_cells(tmp_path):
    folder = instruments.visium_hd(tmp_path / "hd", instruments.panel(), cells=5)
    assert read.read_slice(folder, "s1", "rna").obs["barcode"].iloc[1] == "s_008um_00000_00001-1"
    bins = parts(folder, name="square_016um").source
    np.testing.assert_array_equal(bins.obsm["spatial"][7], [64, 64])
    assert bins.uns["microns_per_unit"] == 0.25
    cells = parts(folder, name="segmented").source
    np.testing.assert_allclose(cells.obsm["spatial"], [[100 * number + 5, 55] for number in range(5)])
    assert cells.uns["spatial"]["s1"]["images"]["hires"].shape == (100, 100, 3)
    refused(folder, "holds no square_004um; it has square_008um, square_016um, segmented", name="square_004um")
    assert len(source_files(str(folder), {"name": "segmented"})) == 5


def test_images_and_scales_come_along(tmp_path, counts):
    found = parts(instruments.visium(tmp_path / "s1", counts))
    library = found.source.uns["spatial"]["s1"]
    assert library["images"]["hires"].shape == (100, 100, 3)
    assert library["images"]["hires"].dtype == np.uint8
    assert library["scalefactors"]["tissue_hires_scalef"] == 0.05
    assert found.source.uns["microns_per_unit"] == pytest.approx(100 / 138)
    without = parts(instruments.visium(tmp_path / "s2", counts, image=False))
    assert "spatial" not in without.source.uns


def test_a_large_matrix_is_sampled_by_a_check(tmp_path):
    counts = instruments.counted(instruments.panel(), n_spots=400)
    folder = instruments.visium(tmp_path / "s1", counts)
    found = parts(folder, most=10)
    assert found.sampled
    assert found.source.shape == (400, 12)
    assert found.source.obsm["spatial"].shape == (400, 2)
    np.testing.assert_array_equal(found.values.X.toarray(), counts.X[np.r_[:100, 200:300, 300:400]].toarray())
    assert found.values.var_names.equals(found.source.var_names)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_an_unfinished_or_damaged_folder(tmp_path, counts):
    def damaged(change, *texts, kind="rna"):
        shutil.rmtree(tmp_path / "s1", ignore_errors=True)
        folder = instruments.visium(tmp_path / "s1", counts)
        change(folder / "outs")
        refused(folder, *texts, kind=kind)

    damaged(lambda f: (f / "filtered_feature_bc_matrix.h5").unlink(), "holds no matrix: filtered_feature_bc_matrix.h5")
    damaged(lambda f: cut(f / "filtered_feature_bc_matrix.h5"), "can't be read as a 10x h5 file", "copied")
    places = "spatial/tissue_positions.csv"
    damaged(lambda f: (f / places).unlink(), "holds no positions: ", "and scalefactors_json.json, tissue_hires")
    damaged(lambda f: (f / places).write_text(""), "is empty")
    damaged(lambda f: (f / places).write_text("a,b\n1,2\n"), "no barcodes, x and y among them")
    damaged(lambda f: cut(f / "spatial/tissue_hires_image.png"), "the image can't be read", "copy or download it again")
    damaged(lambda f: (f / "spatial/scalefactors_json.json").write_text("{"), "can't be read (JSONDecodeError")
    other = instruments.visium_positions([f"{'A' * 15}{base}-1" for base in "ACGT"])
    damaged(
        lambda f: other.to_csv(f / places, index=False), "30 of 30 barcodes have no position", "another capture area"
    )


def test_a_matrix_that_contradicts_itself(tmp_path, counts):
    import h5py

    folder = instruments.visium(tmp_path / "s1", counts)
    path = folder / "outs" / "filtered_feature_bc_matrix.h5"
    with h5py.File(path, "r+") as file:
        file["matrix/indptr"][3] = 10**6
    refused(folder, "the rows of its matrix do not fit its values")
    instruments.tenx_h5(path, counts)
    with h5py.File(path, "r+") as file:
        file["matrix/indices"][0] = 99
    refused(folder, "can't be read as a 10x h5 file")
    instruments.tenx_h5(path, counts)
    with h5py.File(path, "r+") as file:
        file["matrix/shape"][...] = [5, 30]
    refused(folder, "declares 30 barcodes x 5 features, and holds 30 x 18")


def test_outlines_that_are_none(tmp_path):
    folder = instruments.visium_hd(tmp_path / "hd", instruments.panel(), sizes=(), cells=3)
    outlines = folder / "segmented_outputs" / "cell_segmentations.geojson"
    outlines.write_text(json.dumps({"features": [{"properties": {}}]}))
    refused(folder, "can't be read as outlines of cells (KeyError", name="segmented")


def test_contents_are_told(tmp_path, counts):
    found = read.FUNCTIONS["visium"].contents(str(instruments.visium(tmp_path / "s1", counts)))
    assert [part[:3] for part in found] == [("rna", "rna", ""), ("protein", "protein", "")]
    assert found[1].told == "30 spots, 6 features"
    hd = instruments.visium_hd(tmp_path / "hd", instruments.panel(), sizes=(2, 16))
    (found,) = read.FUNCTIONS["visium_hd"].contents(str(hd))
    assert found.name == "square_002um"
    assert "of square_002um, square_016um" in found.told


def test_snakemake_sees_the_files_that_are_read(tmp_path, counts):
    folder = instruments.visium(tmp_path / "s1", counts, h5=False)
    (folder / "outs" / "web_summary.html").touch()
    names = [path.rpartition("/")[2] for path in source_files(str(folder), {"positions": "places.csv"})]
    matrix = ["barcodes.tsv.gz", "features.tsv.gz", "matrix.mtx.gz"]
    images = ["scalefactors_json.json", "tissue_hires_image.png", "tissue_lowres_image.png", "tissue_positions.csv"]
    assert names == [*matrix, *images, "places.csv"]
