"""Files that are whole or not there, whatever stops the program that writes them."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A file to write beside ``path``, which takes its place when all is written, with the permissions of the umask.

    What a killed writer of the same file left behind is removed first. A writer that still runs, as a job may whose
    Snakemake was killed, then fails without harm.
    """
    path = Path(path)
    for left_behind in path.parent.glob(f".{path.name}.*.unfinished"):
        left_behind.unlink(missing_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    # Some libraries write a file that its owner alone can read, whatever the umask.
    unfinished.touch()
    mode = stat.S_IMODE(unfinished.stat().st_mode)
    unfinished.unlink()
    try:
        yield unfinished
        unfinished.chmod(mode)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_table(table: "pd.DataFrame", path: str | Path, **options: object) -> None:
    """Write a TSV; ``options`` are those of ``DataFrame.to_csv``."""
    with whole_file(path) as unfinished:
        table.to_csv(unfinished, sep="\t", **options)
