"""What the workflow reads: how a path is recognised, and which kinds of modality it gives.

The functions are in ``prepare/readers/``; docs/adding_a_reader.md has the steps.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from mosaic.config.defaults import KIND_DEFAULTS


class Reader(NamedTuple):
    """A format of files, or of folders.

    Attributes
    ----------
    label
        What messages call it, with its article.
    recognises
        Whether a path is of this format, by its content: in a moment, and False where it can't be opened.
    kinds
        Kinds of modality that it gives.
    folder
        Whether its path is a folder.
    """

    label: str
    recognises: Callable[[str], bool]
    kinds: tuple[str, ...] = tuple(KIND_DEFAULTS)
    folder: bool = False


def reader_of(path: str | os.PathLike) -> str | None:
    """The name of the first reader that recognises a path; None where none does."""
    return next((name for name, reader in READERS.items() if reader.recognises(os.fspath(path))), None)


def known() -> str:
    """What the workflow reads, as a list in words."""
    return " or ".join(reader.label for reader in READERS.values())


def _is_hdf5(path: str) -> bool:
    """Whether the signature of HDF5 is where it may be: at 0, 512, 1024, ..., after a block of another program's."""
    try:
        with open(path, "rb") as file:
            size, place = os.fstat(file.fileno()).st_size, 0
            while place < size:
                file.seek(place)
                if file.read(8) == b"\x89HDF\r\n\x1a\n":
                    return True
                place = 2 * place or 512
    except (OSError, ValueError):  # ValueError: a NUL in the path
        pass
    return False


# The first that recognises a path reads it.
READERS = {
    "h5ad": Reader("an h5ad file", _is_hdf5),
}
