"""Stereo-seq: gem and gef, in bins and in cells."""

import instruments
import numpy as np
import pandas as pd
import pytest

from mosaic.config.readers import reader_of
from mosaic.errors import InputError
from mosaic.prepare import read
from mosaic.prepare.readers.parts import Asked


@pytest.fixture
def gem(tmp_path):
    return instruments.gem(tmp_path / "s1.tissue.gem.gz")


def table_of(path):
    return pd.read_csv(path, sep="\t", comment="#")


def frame(path, **options):
    """Counts by the names of the spots, and the spots' places."""
    adata = read.read_slice(path, "s1", "rna", options=options)
    counts = pd.DataFrame(adata.layers["counts"].toarray(), adata.obs["barcode"], adata.var_names)
    return counts.sort_index(), pd.DataFrame(adata.obsm["spatial"], adata.obs["barcode"]).sort_index()


def refused(path, *texts, **options):
    with pytest.raises(InputError) as caught:
        read.read_slice(path, "s1", "rna", options=options)
    for text in texts:
        assert text in str(caught.value)


def test_bins_of_a_gem(gem):
    assert reader_of(gem) == "stereoseq"
    table = table_of(gem)
    counts, places = frame(gem, name="bin100")
    assert counts.index.tolist() == ["0_0", "0_100", "100_0", "100_100"]
    assert places.loc["0_100"].tolist() == [50, 150]
    own = table[(table["x"] < 100) & (table["y"] >= 100)]
    assert counts.loc["0_100"].to_dict() == own.groupby("geneID")["MIDCount"].sum().to_dict()
    assert len(frame(gem)[0]) == 16
    found = read.FUNCTIONS["stereoseq"].read(Asked(str(gem)))
    assert found.source.uns["microns_per_unit"] == 0.5


def test_places_below_0_and_a_gene_that_is_called_nan(gem, tmp_path):
    table = table_of(gem)
    counts = frame(gem, name="bin100")[0]
    table[["x", "y"]] -= 100
    table["geneID"] = table["geneID"].replace(table["geneID"][0], "nan")
    table.to_csv(tmp_path / "moved.gem", sep="\t", index=False)
    moved, there = frame(tmp_path / "moved.gem", name="bin100")
    assert sorted(moved.index) == ["-100_-100", "-100_0", "0_-100", "0_0"]
    assert there.loc["-100_0"].tolist() == [-50, 50]
    assert moved.loc["-100_0"].sum() == counts.loc["0_100"].sum()
    assert "nan" in moved


def test_what_lies_in_no_cell_is_no_cell(gem, tmp_path):
    table = table_of(gem)
    table["CellID"] = table["CellID"].where(table["CellID"] != 0)
    table.to_csv(tmp_path / "cells.gem", sep="\t", index=False)
    assert len(frame(tmp_path / "cells.gem", name="cells")[0]) == len(frame(gem, name="cells")[0])


def test_cells_of_a_gem(gem, tmp_path):
    table = table_of(gem)
    counts, places = frame(gem, name="cells")
    assert counts.index.tolist() == ["1", "2", "3"]
    assert counts.sum(axis=1).to_dict() == {
        str(cell): own["MIDCount"].sum() for cell, own in table[table["CellID"] > 0].groupby("CellID")
    }
    assert places.loc["1"].tolist() == pytest.approx(table[table["CellID"] == 1][["x", "y"]].mean().tolist())
    refused(instruments.gem(tmp_path / "no.gem.gz", cells=False), "has no column CellID, so no cells", name="cells")


@pytest.mark.parametrize("sizes", [(1,), (1, 50), (50, 100)])
def test_a_gef_gives_what_its_gem_gives(gem, tmp_path, sizes):
    path = instruments.gef(tmp_path / "s1.gef", table_of(gem), sizes, cells=True)
    assert reader_of(path) == "stereoseq"
    for name in ("", "bin100"):
        for own, others in zip(frame(path, name=name), frame(gem, name=name), strict=True):
            pd.testing.assert_frame_equal(own, others)
    pd.testing.assert_frame_equal(frame(path, name="cells")[0], frame(gem, name="cells")[0])
    assert frame(path, name="cells")[1].loc["2"].tolist() == [200, 0]


def test_bins_that_are_not_there(gem, tmp_path):
    path = instruments.gef(tmp_path / "s1.gef", table_of(gem), (50, 100))
    refused(path, "holds no bin20; it has bin100, bin50", name="bin20")
    refused(path, "holds no cells; it can give bin50", name="cells")
    refused(gem, "has no part square_008um", "cells or a size of bins, such as bin50", name="square_008um")
    assert read.FUNCTIONS["stereoseq"].contents(str(path))[0].name == ""
    cells = instruments.gef(tmp_path / "cells.gef", table_of(gem), (), cells=True)
    assert read.FUNCTIONS["stereoseq"].contents(str(cells))[0].name == "cells"
    refused(cells, "holds no bin50; it can give cells")
    assert np.isfinite(frame(cells, name="cells")[1]).all(axis=None)
