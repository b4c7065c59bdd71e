"""Fragments of chromatin: counted in peaks and in bins."""

import instruments
import numpy as np
import pandas as pd
import pytest

from mosaic.config.readers import reader_of
from mosaic.errors import InputError
from mosaic.prepare import read
from mosaic.prepare.readers import fragments

BARCODES = [f"{'ACGT' * 3}{letters}" for letters in ("AA", "AC", "AG", "AT", "CA", "CC", "CG", "CT")]
A, B = BARCODES[0] + "-1", BARCODES[1] + "-1"
ROWS = [
    ("chr1", 100, 200, A),  # both ends in the first peak: one
    ("chr1", 150, 1100, A),  # one end in each
    ("chr1", 299, 400, A),  # begins at the last base of the first peak
    ("chr1", 300, 1000, B),  # begins behind it; its last base, 999, lies before the second
    ("chr1", 50, 1001, B),  # ends with the first base of the second
    ("chr2", 10, 20, B),
    ("chr9", 10, 20, B),
    ("chr1", 100, 200, "GGGGGGGGGGGGGG-1"),
]
PEAKS = "track name=peaks\nchr1\t100\t300\tp1\nchr2\t5\t15\tp2\nchr1\t1000\t1200\tp3\n"


@pytest.fixture
def folder(tmp_path):
    return instruments.fragments(tmp_path / "atac", ROWS, BARCODES)


@pytest.fixture
def peaks(tmp_path):
    path = tmp_path / "peaks.bed"
    path.write_text(PEAKS)
    return path


def counted(folder, **options):
    return read.read_slice(folder, "s1", "epigenome", options=options)


def refused(folder, *texts, **options):
    with pytest.raises(InputError) as caught:
        counted(folder, **options)
    for text in texts:
        assert text in str(caught.value)


@pytest.mark.parametrize("chunk", [2, 100])
def test_in_peaks_by_the_ends_of_fragments(folder, peaks, monkeypatch, chunk):
    monkeypatch.setattr(fragments, "_CHUNK", chunk)
    assert reader_of(folder) == "fragments"
    adata = counted(folder, peaks=str(peaks))
    assert adata.var_names.tolist() == ["chr1:100-300", "chr2:5-15", "chr1:1000-1200"]
    expected = np.zeros((8, 3))
    expected[0], expected[1] = [3, 0, 1], [0, 1, 1]
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), expected)
    assert adata.obs["barcode"].tolist() == BARCODES
    np.testing.assert_array_equal(adata.obsm["spatial"][6], [20, 20])


@pytest.mark.parametrize("chunk", [2, 100])
def test_in_bins_of_the_genome(folder, monkeypatch, chunk):
    monkeypatch.setattr(fragments, "_CHUNK", chunk)
    adata = counted(folder, bin_size=500)
    names = ["chr1:0-500", "chr1:500-1000", "chr1:1000-1500", "chr2:0-500", "chr9:0-500"]
    assert adata.var_names.tolist() == names
    expected = np.zeros((8, 5))
    expected[0], expected[1] = [3, 0, 1, 0, 0], [2, 1, 1, 1, 1]
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), expected)
    assert counted(folder).var_names.tolist() == ["chr1:0-5000", "chr2:0-5000", "chr9:0-5000"]


def test_a_file_with_positions_that_the_sheet_names(folder, tmp_path):
    path = next(folder.glob("*.tsv.gz"))
    table = tmp_path / "table.csv"
    pd.DataFrame({"barcode": [A, B], "x": [0, 1], "y": [2, 3]}).to_csv(table, index=False)
    assert reader_of(path) == "fragments"
    assert counted(path, positions=str(table)).n_obs == 2
    assert read.read_columns(path, "s1", None, [], options={"positions": str(table)}).index.tolist() == [
        f"s1:{A}",
        f"s1:{B}",
    ]
    refused(path, "holds no positions: a table of positions expected, and s1.fragments.tsv.gz found")
    assert "no positions found" in read.FUNCTIONS["fragments"].contents(str(path))[0].told
    assert "8 spots" in read.FUNCTIONS["fragments"].contents(str(folder))[0].told


def test_fragments_and_peaks_that_do_not_fit(folder, peaks, tmp_path):
    def bed(text):
        peaks.write_text(text)
        return {"peaks": str(peaks)}

    refused(folder, "no fragment lies in a peak", "its chromosomes are 1, ", "fragments chr", **bed("1\t100\t300\n"))
    refused(folder, "has peaks of chr1 that overlap", **bed("chr1\t100\t300\nchr1\t200\t400\n"))
    refused(folder, "can't be read as BED", **bed("chr1 100 300\n"))
    other = tmp_path / "other.csv"
    pd.DataFrame({"barcode": ["TTTT", "TTTA"], "x": [0, 1], "y": [2, 3]}).to_csv(other, index=False)
    refused(folder, "none of its 8 fragments has a barcode of", "where the table has TTTT, TTTA", positions=str(other))
    libraries = [("chr1", 20, 90, f"{A.removesuffix('-1')}-{number}") for number in (1, 2)]
    bare = [name.removesuffix("-1") for name in BARCODES]
    several = instruments.fragments(tmp_path / "several", libraries, bare)
    refused(several, "has barcodes that differ in the number behind them alone, ", "it holds several libraries")
    turned = instruments.fragments(tmp_path / "turned", [("chr1", 20, 10, A)], BARCODES)
    refused(turned, "has fragments that end before they begin")
    with pytest.raises(InputError, match="is fragments with positions, which gives epigenome, not rna"):
        read.read_slice(folder, "s1", "rna")
