"""Any matrix with a table of positions: mtx, 10x h5, text."""

import shutil

import instruments
import numpy as np
import pandas as pd
import pytest

from mosaic.config.readers import reader_of, source_files
from mosaic.errors import InputError
from mosaic.prepare import read
from mosaic.prepare.readers import positions


def refused(path, *texts, kind="rna", **options):
    with pytest.raises(InputError) as caught:
        read.read_slice(path, "s1", kind, options=options)
    for text in texts:
        assert text in str(caught.value)


@pytest.fixture
def counts():
    return instruments.counted(instruments.panel(n_genes=12))


def places(counts, path, columns=("barcode", "x", "y"), **options):
    table = pd.DataFrame(
        {"b": counts.obs_names, "x": np.arange(counts.n_obs) * 2.0, "y": 1.0 + np.arange(counts.n_obs)}
    )
    table.set_axis(list(columns), axis=1)[::-1].to_csv(path, index=False, **options)
    return path


def same(adata, counts):
    assert adata.obs["barcode"].tolist() == counts.obs_names.tolist()
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), counts.X.toarray())
    np.testing.assert_array_equal(adata.obsm["spatial"][3], [6, 4])


def test_mtx_of_curio_with_its_names(tmp_path, counts):
    folder = instruments.tenx_mtx(tmp_path / "curio", counts, genes=True, packed=False)
    for name, curio in (("matrix.mtx", "MoleculesPerMatchedBead.mtx"), ("barcodes.tsv", "barcodes.tsv")):
        (folder / name).rename(folder / f"run_{curio}")
    (folder / "genes.tsv").rename(folder / "run_genes.tsv")
    places(counts, folder / "run_MatchedBeadLocation.csv", ("", "xcoord", "ycoord"))
    assert reader_of(folder) == "matrix"
    adata = read.read_slice(folder, "s1", "rna")
    same(adata, counts)
    assert adata.var["gene_id"].iloc[0] == "ENSG00000"
    assert len(source_files(str(folder), {})) == 4


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("ending", ["csv", "txt.gz"])
def test_a_table_of_slide_seq_with_barcodes_in_rows_or_columns(tmp_path, counts, turned, ending):
    counts.var["name"] = [f"g{number}" for number in range(12)]
    table = instruments.dense(counts)
    table = table.T.rename_axis("GENE") if turned else table
    table.to_csv(tmp_path / f"puck.digital_expression.{ending}", sep="\t" if "txt" in ending else ",")
    places(counts, tmp_path / "BeadLocationsForR.csv", ("barcodes", "xcoord", "ycoord"))
    assert reader_of(tmp_path) == "matrix"
    adata = read.read_slice(tmp_path, "s1", "rna")
    same(adata, counts)
    assert adata.var_names.tolist() == counts.var["name"].tolist()
    assert read.read_columns(tmp_path, "s1", None, []).index.tolist() == adata.obs_names.tolist()
    assert read.FUNCTIONS["matrix"].contents(str(tmp_path))[0].told.startswith("30 spots, 12 features")


def test_a_file_with_positions_that_the_sheet_names(tmp_path, counts):
    path = instruments.tenx_h5(tmp_path / "a" / "GSM1_s1.h5", counts)
    table = places(counts, tmp_path / "table.tsv", sep="\t")
    assert reader_of(path) == "matrix"
    same(read.read_slice(path, "s1", "rna", options={"positions": str(table)}), counts)
    refused(path, "holds no positions: a table of positions expected, and GSM1_s1.h5 found", "in column positions")
    assert source_files(str(path), {"positions": str(table)}) == [str(path), str(table)]


def test_a_matrix_of_proteins_that_names_no_types(tmp_path, counts):
    counts.var["name"] = [*(f"CD{number}" for number in range(10)), *instruments.ISOTYPES]
    folder = instruments.tenx_mtx(tmp_path / "adt", counts, genes=True)
    places(counts, folder / "positions.csv")
    adata = read.read_slice(folder, "s1", "protein")
    assert adata.n_vars == 10
    assert list(adata.uns["controls"]) == instruments.ISOTYPES
    assert read.FUNCTIONS["matrix"].contents(str(folder))[0].kind == "protein"


def test_positions_in_space_ranger_s_disguise_do_not_make_a_folder_space_ranger_s(tmp_path, counts):
    instruments.tenx_mtx(tmp_path / "dbit" / "matrix", counts)
    instruments.spatial_folder(
        tmp_path / "dbit" / "spatial", instruments.visium_positions(counts.obs_names), image=False
    )
    assert reader_of(tmp_path / "dbit") == "matrix"
    assert read.read_slice(tmp_path / "dbit", "s1", "rna").n_obs == 30


def test_barcodes_with_and_without_the_number_behind_them(tmp_path, counts, caplog):
    caplog.set_level("INFO")
    folder = instruments.tenx_mtx(tmp_path / "m", counts)
    bare = counts.copy()
    bare.obs_names = bare.obs_names.str.removesuffix("-1")
    places(bare, folder / "positions.csv")
    same(read.read_slice(folder, "s1", "rna"), counts)
    assert "are paired without the number behind them" in caplog.text


def test_several_libraries_do_not_become_one(tmp_path, counts):
    counts.obs_names = [f"{name[:-2]}-{1 + number % 2}" for number, name in enumerate(counts.obs_names.repeat(2)[:30])]
    folder = instruments.tenx_mtx(tmp_path / "m", counts)
    bare = counts[::2].copy()
    bare.obs_names = bare.obs_names.str.removesuffix("-1")
    places(bare, folder / "positions.csv")
    refused(folder, "has barcodes that differ in the number behind them alone", "it holds several libraries")


def test_tissue_in_words_of_r(tmp_path, counts):
    folder = instruments.tenx_mtx(tmp_path / "m", counts)
    table = pd.read_csv(places(counts, folder / "positions.csv"))
    table.assign(in_tissue=np.where(np.arange(30) % 3, "TRUE", "FALSE")).to_csv(folder / "positions.csv", index=False)
    assert read.read_slice(folder, "s1", "rna").obs["in_tissue"].sum() == 20


def test_a_gene_that_is_called_nan(tmp_path, counts):
    counts.var["name"] = ["nan", *[f"g{number}" for number in range(11)]]
    instruments.dense(counts).T.rename_axis("gene").to_csv(tmp_path / "counts.csv")
    places(counts, tmp_path / "positions.csv")
    adata = read.read_slice(tmp_path, "s1", "rna")
    same(adata, counts)
    assert adata.var_names[0] == "nan"


def test_a_table_that_holds_more_than_counts(tmp_path, counts):
    counts.var["name"] = [f"g{number}" for number in range(12)]
    table = instruments.dense(counts)
    places(counts, tmp_path / "positions.csv")
    table.assign(X=1, Y=2).to_csv(tmp_path / "counts.csv")
    refused(tmp_path, "holds positions among its counts, X and Y, which would be read as features")
    # As write.table of R: a name less than columns.
    text = table.T.to_csv(sep="\t").partition("\t")[2]
    (tmp_path / "counts.csv").unlink()
    (tmp_path / "counts.txt").write_text(text)
    refused(tmp_path, "has rows longer than its first line", "each column needs a name")


def test_barcodes_that_look_like_numbers_stay_text(tmp_path, counts):
    counts.obs_names = [f"{number:05d}" for number in range(30)]
    folder = instruments.tenx_mtx(tmp_path / "m", counts)
    places(counts, folder / "positions.csv")
    same(read.read_slice(folder, "s1", "rna"), counts)


def test_a_folder_that_holds_no_single_matrix(tmp_path, counts):
    (tmp_path / "notes.csv").write_text("a,b,c\n1,2,3\n")
    refused(tmp_path, "is a folder that is not known: it holds notes.csv")
    for name in ("a", "b"):
        instruments.tenx_mtx(tmp_path / name, counts)
    refused(tmp_path, "is a folder that is not known: it holds a, b, notes.csv")


def test_files_of_different_matrices(tmp_path, counts):
    folder = instruments.tenx_mtx(tmp_path / "m", counts)
    places(counts, folder / "positions.csv")
    other = instruments.tenx_mtx(tmp_path / "n", instruments.counted(instruments.panel(n_genes=9), 20))
    shutil.copy(other / "matrix.mtx.gz", folder)
    refused(folder, "the matrix is 9 x 20, and there are 12 features and 30 barcodes")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,1,x\n", "no barcodes, x and y among them"),
        ("a,1,2,3\n", "has 4 columns and no header"),
        ("barcode,x,y\na,1,2\na,3,4\n", "has 1 barcodes twice or more: a"),
        ("barcode,x,y\na,1,\nb,2,3\n", "has no numbers in x and y for 1 of 2 barcodes: a"),
    ],
)
def test_tables_that_are_no_positions(tmp_path, text, told):
    path = tmp_path / "positions.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        positions.read(str(path))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("\ufeffX\tbarcode\tY\n1\ta\t2\n", "a"),
        ('"x","y"\n"a",1,2\n', "a"),
        ("a 1 2\nb 3 4\n", "a"),
        ("spot;imagecol;imagerow\na;1;2\n", "a"),
    ],
)
def test_tables_however_they_are_written(tmp_path, text, index):
    path = tmp_path / "positions.txt"
    path.write_text(text)
    assert positions.read(str(path)).loc[index].tolist() == [1, 2]


def test_spots_of_visium_alone_have_a_pitch(tmp_path):
    table = instruments.visium_positions([f"b{number}" for number in range(40)])
    table.to_csv(tmp_path / "t.csv", index=False)
    found = positions.read(str(tmp_path / "t.csv"))
    assert positions.pitch(found) == pytest.approx(138)
    assert positions.pitch(found.assign(array_col=found["array_col"] // 2)) is None
    assert positions.pitch(found[["x", "y"]]) is None
