"""What a reader is asked for and returns, and how to make a reader of a function that reads all of a path."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.errors import InputError, few, shortened


class Asked(NamedTuple):
    """What a row of the sheet asks of a reader.

    Attributes
    ----------
    path
        The file or folder.
    kind
        Kind of the modality; None if the spots alone are needed.
    slice, modality
        Names in the sheet.
    name
        What stands after ``#`` in the sheet; empty: nothing.
    positions
        A table of positions that the sheet names; None: beside the matrix.
    peaks, bin_size
        In what fragments are counted: a BED file, or bins of so many base pairs.
    most
        Largest number of stored values that is read whole; None: any. A reader that can't sample reads all.
    """

    path: str
    kind: str | None = "rna"
    slice: str = ""
    modality: str = ""
    name: str = ""
    positions: str | None = None
    peaks: str | None = None
    bin_size: int = 5000
    most: int | None = None

    @property
    def counted(self) -> bool:
        """Whether the modality has counts: those of kind ``features`` have none."""
        return self.kind != "features"


class Parts(NamedTuple):
    """The parts of a user's file that the workflow needs.

    Attributes
    ----------
    source
        Names, columns and coordinates; in ``uns`` what a technology tells besides: see ``whole``.
    values
        The matrix with its names; a part of its rows or columns if sampled.
    sampled
        Whether ``values`` is a sample.
    place
        Location of the matrix in the file.
    hint
        What to do if the matrix has no counts; None: the general hint.
    controls
        Features that are controls and were set apart, with their total counts.
    """

    source: ad.AnnData
    values: ad.AnnData
    sampled: bool = False
    place: str = "X"
    hint: str | None = None
    controls: Mapping[str, int] = MappingProxyType({})


class Found(NamedTuple):
    """A modality that a path holds, for a sheet to start from.

    Attributes
    ----------
    modality, kind
        A name for it, and its kind.
    name
        What the sheet writes after ``#``; empty: nothing.
    told
        What it is, in a few words.
    slice
        The slice's name, if the file tells it.
    """

    modality: str
    kind: str
    name: str = ""
    told: str = ""
    slice: str | None = None


class Functions(NamedTuple):
    """Functions that read a format.

    Attributes
    ----------
    read
        From ``Asked`` to Parts: see ``h5ad.read``.
    read_obs
        From ``Asked`` to the table of spots.
    read_var
        From ``Asked`` to the table of features.
    read_tissue
        From ``Asked`` to the parts of ``uns`` that ``tissue.frame_of`` takes, and the coordinates (spots x 2).
    contents
        From a path to the modalities that it holds.
    """

    read: Callable[[Asked], Parts]
    read_obs: Callable[[Asked], pd.DataFrame]
    read_var: Callable[[Asked], pd.DataFrame]
    read_tissue: Callable[[Asked], tuple[Mapping, np.ndarray]]
    contents: Callable[[str], list[Found]]


def whole(read: Callable[[Asked], ad.AnnData | Parts], contents: Callable[[str], list[Found]]) -> Functions:
    """Make a reader of a function that reads all of a path.

    Parameters
    ----------
    read
        From ``Asked`` to an AnnData, spots x features: barcodes as ``obs_names``, unique feature names, identifiers of
        genes as ``var["gene_id"]`` if there are any, coordinates (spots x 2) in ``obsm["spatial"]``, counts or ready
        features in X, and other columns of the spots in ``obs``, such as ``in_tissue`` (0 or 1). In ``uns`` what the
        technology tells: ``microns_per_unit`` (of the coordinates) and ``spatial`` (images and scale factors, as scanpy
        has them). Exceptions become an InputError of the path. Where ``asked.kind`` is None it need not read the
        matrix. A reader that samples, or sets controls apart, returns Parts.
    contents
        See ``Functions``.
    """

    def told(asked: Asked) -> Parts:
        try:
            found = read(asked)
            return found if isinstance(found, Parts) else Parts(found, found)
        except InputError:
            raise
        except Exception as error:  # libraries raise all kinds of exceptions on a damaged file
            raise damaged(asked.path, error) from error

    def tissue(asked: Asked) -> tuple[Mapping, np.ndarray]:
        source = told(asked._replace(kind=None)).source
        return source.uns, source.obsm.get("spatial", np.empty((0, 2)))

    return Functions(
        told,
        lambda asked: told(asked).source.obs,
        lambda asked: told(asked._replace(most=1)).source.var,
        tissue,
        contents,
    )


def damaged(path: str, error: Exception) -> InputError:
    """The error for what a library raised on a user's file."""
    problem = f"can't be read ({type(error).__name__}: {shortened(str(error), 300)})"
    return InputError(problem, where=path, hint="check that it was copied whole, and that nothing in it was renamed")


def lacking(role: str, path: str, expected: str, found: list[str], hint: str = "") -> InputError:
    """The error for a file that a folder should hold: what is expected, and the names that are there."""
    problem = f"holds no {role}: {expected} expected, and {few(found, 8) or 'nothing'} found"
    whole = "check that the folder was downloaded or copied whole, and that nothing in it was renamed"
    return InputError(problem, where=path, hint=hint or whole)


# Where a matrix or fragments may have positions apart from them.
NAME_POSITIONS = "put a table with barcode, x and y beside it, or name one in column positions of the sheet"
