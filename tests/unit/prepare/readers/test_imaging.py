"""Xenium, MERSCOPE and CosMx: folders in their layouts."""

import instruments
import numpy as np
import pandas as pd
import pytest

from mosaic.config.readers import reader_of
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


@pytest.mark.parametrize(("parquet", "h5"), [(True, True), (False, False)])
def test_xenium_without_its_controls(tmp_path, parquet, h5):
    counts = instruments.counted(instruments.panel(controls=instruments.XENIUM_CONTROLS))
    folder = instruments.xenium(tmp_path / "x", counts, parquet=parquet, h5=h5)
    assert reader_of(folder) == "xenium"
    found = parts(folder)
    assert found.source.n_vars == 12
    assert list(found.controls) == ["NegControlProbe_1", "UnassignedCodeword_1"]
    assert found.controls["NegControlProbe_1"] == counts.X[:, 12].sum()
    assert found.source.uns["microns_per_unit"] == 1
    adata = read.read_slice(folder, "s1", "rna")
    np.testing.assert_allclose(adata.obsm["spatial"][3], [31.5, 32.5])
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts.X[:, :12].toarray())
    refused(folder, "has no features of type Antibody Capture or Protein Expression", kind="protein")
    refused(folder, "is a Xenium folder, which gives rna, protein, not epigenome", kind="epigenome")


def test_xenium_with_proteins(tmp_path, caplog):
    caplog.set_level("INFO")
    proteins = [(name, "Protein Expression") for name in ("CD3", "CD20", "Ki67")]
    counts = instruments.counted(instruments.panel(controls=proteins))
    counts.X = counts.X.astype(np.float32) * np.float32(100.3)
    counts.X[:, :12] = np.round(counts.X[:, :12])
    folder = instruments.xenium(tmp_path / "x", counts)
    protein = read.read_slice(folder, "s1", "protein")
    assert protein.var_names.tolist() == ["CD3", "CD20", "Ki67"]
    np.testing.assert_array_equal(protein.layers["counts"].toarray(), np.round(counts.X[:, 12:].toarray()))
    assert "intensities of proteins, typically 3" in caplog.text
    assert read.read_slice(folder, "s1", "rna").n_vars == 12
    assert [part.kind for part in read.FUNCTIONS["xenium"].contents(str(folder))] == ["rna", "protein"]
    counts.X[:, 12:] = counts.X[:, 12:] / 1000
    instruments.tenx_h5(folder / "cell_feature_matrix.h5", counts)
    refused(folder, "its proteins are intensities of typically 0.3", kind="protein")


def test_an_unfinished_folder_of_xenium(tmp_path):
    counts = instruments.counted(instruments.panel())
    folder = instruments.xenium(tmp_path / "x", counts)
    (folder / "cells.parquet").unlink()
    refused(folder, "holds no positions: cells.parquet or cells.csv.gz expected, and cell_feature_matrix.h5, exp")
    (folder / "cell_feature_matrix.h5").unlink()
    refused(folder, "holds no matrix: cell_feature_matrix.h5 or the folder of that name expected")


def blanked():
    var = instruments.panel(n_genes=0)
    names = ["SNAP25", "NEGR1", "Blank-1", "Blank-22"]
    return instruments.counted(
        pd.DataFrame({**var.to_dict("list"), "name": names, "id": names, "type": "Gene Expression"})
    )


def test_merscope_without_blanks(tmp_path):
    counts = blanked()
    counts.obs_names = [str(2**60 + number) for number in range(30)]
    folder = instruments.merscope(tmp_path / "m", counts)
    assert reader_of(folder) == "merscope"
    found = parts(folder)
    assert found.controls == {"Blank-1": counts.X[:, 2].sum(), "Blank-22": counts.X[:, 3].sum()}
    adata = read.read_slice(folder, "s1", "rna")
    assert adata.obs["barcode"].tolist() == counts.obs_names.tolist()
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts.X[:, :2].toarray())
    np.testing.assert_allclose(adata.obsm["spatial"][3], [31.5, 32.5])
    assert read.FUNCTIONS["merscope"].contents(str(folder))[0].told == "4 features"
    text = (folder / "cell_by_gene.csv").read_text()
    (folder / "cell_by_gene.csv").write_text(text[: len(text) // 2].rpartition(",")[0] + ",x")
    refused(folder, "hold what is no number")
    (folder / "cell_by_gene.csv").write_text(text.splitlines()[0])
    refused(folder, "has a first line and no rows")
    (folder / "cell_metadata.csv").unlink()
    refused(folder, "holds no positions: cell_metadata.csv expected")


def test_a_table_is_read_in_chunks(tmp_path, monkeypatch):
    counts = blanked()
    folder = instruments.merscope(tmp_path / "m", counts)
    monkeypatch.setattr("mosaic.prepare.readers.tables._CHUNK_VALUES", 9)
    np.testing.assert_array_equal(
        read.read_slice(folder, "s1", "rna").layers["counts"].toarray(), counts.X[:, :2].toarray()
    )


def test_cosmx_without_what_lies_outside_cells(tmp_path, caplog):
    caplog.set_level("INFO")
    names = ["SNAP25", "NEGR1", "NegPrb1", "SystemControl4"]
    counts = instruments.counted(pd.DataFrame({"name": names, "id": names, "type": "Gene Expression"}))
    folder = instruments.cosmx(tmp_path / "c", counts)
    assert reader_of(folder) == "cosmx"
    found = parts(folder)
    assert list(found.controls) == ["NegPrb1", "SystemControl4"]
    assert found.source.uns["microns_per_unit"] == pytest.approx(0.12)
    adata = read.read_slice(folder, "s1", "rna")
    assert adata.obs["barcode"].tolist()[:3] == ["1_1", "2_1", "1_2"]
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts.X[:, :2].toarray())
    np.testing.assert_array_equal(adata.obsm["spatial"][3], [300, 301])
    assert "56 counts lie outside cells" in caplog.text
    newer = read.read_slice(instruments.cosmx(tmp_path / "n", counts, named=True), "s1", "rna")
    np.testing.assert_array_equal(newer.layers["counts"].toarray(), adata.layers["counts"].toarray())
    assert "microns_per_unit" not in parts(instruments.cosmx(tmp_path / "d", counts, areas=False)).source.uns
    assert read.FUNCTIONS["cosmx"].contents(str(folder))[0].told == "4 features"


def test_tables_of_cosmx_that_are_others(tmp_path):
    counts = instruments.counted(instruments.panel())
    folder = instruments.cosmx(tmp_path / "c", counts)
    metadata = folder / "Slide1_metadata_file.csv.gz"
    table = pd.read_csv(metadata)
    table.drop(columns="CenterX_global_px").to_csv(metadata, index=False)
    refused(folder, "has no columns CenterX_global_px and CenterY_global_px")
    table.drop(columns="fov").to_csv(metadata, index=False)
    refused(folder, "and fov and cell_ID are expected")
    table[:20].to_csv(metadata, index=False)
    refused(folder, "10 of 30 barcodes have no position")
    metadata.unlink()
    refused(folder, "a file that ends in metadata_file.csv expected")
