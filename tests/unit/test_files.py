"""Files that are whole or not there."""

import pandas as pd
import pytest

from mosaic.files import whole_file, write_table


def test_a_failed_writer_leaves_what_was_there(tmp_path):
    path = tmp_path / "table.tsv"
    write_table(pd.DataFrame({"a": [1, 2]}), path, index=False)
    before = path.read_text()
    assert before == "a\n1\n2\n"

    class Unprintable:
        def __str__(self):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_table(pd.DataFrame({"a": [1, 2, Unprintable()]}), path, index=False)
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["table.tsv"]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    left, others = tmp_path / ".table.tsv.123.unfinished", tmp_path / ".other.tsv.123.unfinished"
    left.write_text("half")
    others.write_text("half")
    with whole_file(tmp_path / "table.tsv") as unfinished:
        unfinished.write_text("whole")
    assert not left.exists()
    assert others.exists()
    assert (tmp_path / "table.tsv").read_text() == "whole"
