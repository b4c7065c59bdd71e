"""Atomic writes: a file is complete or absent."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Write to a temporary file that replaces ``path`` when complete, with the permissions of the umask.

    Temporary files of killed writers of the same path are removed first. A writer that still runs, such as a job whose
    Snakemake was killed, then fails without harm.
    """
    path = Path(path)
    for left_behind in path.parent.glob(f".{path.name}.*.unfinished"):
        left_behind.unlink(missing_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    # Some libraries ignore the umask and write files that only their owner can read.
    unfinished.touch()
    mode = stat.S_IMODE(unfinished.stat().st_mode)
    unfinished.unlink()
    try:
        yield unfinished
        unfinished.chmod(mode)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def by_modality(paths: Iterable[str | Path]) -> dict[str, list[Path]]:
    """Files that rules named ``{slice}.{modality}.{ending}``, as lists per modality."""
    found: dict[str, list[Path]] = {}
    for path in map(Path, paths):
        found.setdefault(path.name.split(".")[1], []).append(path)
    return found


def write_table(table: "pd.DataFrame", path: str | Path, **options: object) -> None:
    """Write a TSV, or a table with the separator in ``options``, which are those of ``DataFrame.to_csv``."""
    with atomic_write(path) as unfinished:
        table.to_csv(unfinished, **{"sep": "\t", **options})
