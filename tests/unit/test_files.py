"""Files that are whole or not there."""

import os
import stat

import pandas as pd
import pytest

from mosaic.files import atomic_write, write_table


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
    with atomic_write(tmp_path / "table.tsv") as unfinished:
        unfinished.write_text("whole")
    assert not left.exists()
    assert others.exists()
    assert (tmp_path / "table.tsv").read_text() == "whole"


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_are_those_of_the_umask(tmp_path, umask):
    """Whatever mode a library gives its file: safetensors writes for the owner alone."""
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as unfinished:
            unfinished.write_text("whole")
            unfinished.chmod(0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_a_writer_that_writes_nothing_is_a_fault(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file"):
        pass
    assert not list(tmp_path.iterdir())
