"""Tables that rules wrote: names stay names, and what is damaged is told."""

import numpy as np
import pandas as pd
import pytest

from mosaic import files, tables
from mosaic.errors import InputError


def test_a_table_that_was_cut_is_damaged(tmp_path):
    path, names = tmp_path / "domains.tsv", pd.Index(["s1:a", "s1:b", "s1:c"])
    path.write_text("spot\tslice\tdomain\ns1:b\ts1\t1\ns1:a\ts1\t0\ns1:c\ts1\t2\n")
    assert tables.read_table(path, names)["domain"].tolist() == [0, 1, 2]
    path.write_text(path.read_text()[:30])
    with pytest.raises(InputError, match=r"domains.tsv: is damaged: it lacks 2 of 3 spots\n.*delete this file"):
        tables.read_table(path, names)
    path.write_text("")
    with pytest.raises(InputError, match=r"domains.tsv: is damaged \(.*\)\n.*delete this file"):
        tables.read_table(path, names)


@pytest.mark.parametrize("names", [["NA", "nan", "", "<b>", "a\nb", "'\"", "x" * 300], ["001", "1e3", "2"]])
def test_names_in_a_table_stay_names(tmp_path, names):
    table = pd.DataFrame({"pearson": [0.5, np.nan, *range(len(names) - 2)]}, index=pd.Index(names, name="feature"))
    files.write_table(table, tmp_path / "features.tsv", index_label="feature")
    pd.testing.assert_frame_equal(tables.read_table(tmp_path / "features.tsv", index="feature"), table)


def test_labels_of_domains_are_text_whatever_they_look_like(tmp_path):
    path = tmp_path / "domain_names.tsv"
    path.write_text("domain\tname\tcounterpart\tshared\tcolour\n0\t1e3\t0\t1\t#0072B2\n1\tNA\t\t0\t#E69F00\n")
    labels = tables.read_labels(path)
    assert labels.names == {"0": "1e3", "1": "NA"}
    assert labels.colours == {"1e3": "#0072B2", "NA": "#E69F00"}
    assert labels.of(pd.Series([1, 0, 1])).tolist() == ["NA", "1e3", "NA"]
    assert labels.given
    path.write_text("domain\tname\tcolour\n0\t0\t#0072B2\n")
    assert not tables.read_labels(path).given


def test_labels_as_categories_have_the_order_of_the_numbers():
    labels = tables.DomainLabels({"0": "z", "2": "2", "10": "a"}, {})
    ordered = labels.ordered(pd.Series([10, 0, 2]))
    assert ordered.tolist() == ["a", "z", "2"]
    assert ordered.cat.categories.tolist() == ["z", "2", "a"]


def test_rows_of_a_table_have_names_as_text_and_numbers_or_nothing(tmp_path):
    names = ["NA", "1e3", "", 'a "quoted"\tname\nof two lines', "007"]
    table = pd.DataFrame({"feature": names, "level": "01", "p_adj": [0.5, np.nan, 1, 2, 3], "note": ""})
    files.write_table(table, tmp_path / "rows.tsv", index=False, na_rep="NA")
    pd.testing.assert_frame_equal(tables.read_rows(tmp_path / "rows.tsv"), table)


def test_names_of_slices_and_of_domains_stay_text_beside_other_columns(tmp_path):
    spots = pd.Index(["151673:a", "02:a"], name="spot")
    table = pd.DataFrame({"slice": ["151673", "02"], "domain": [1, 0], "name": ["1e3", "2.50"]}, index=spots)
    files.write_table(table, tmp_path / "domains.tsv", index_label="spot")
    pd.testing.assert_frame_equal(tables.read_table(tmp_path / "domains.tsv"), table)
