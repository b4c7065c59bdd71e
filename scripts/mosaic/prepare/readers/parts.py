"""What a reader gives of a file, and how a function that reads one whole becomes a reader."""

from collections.abc import Callable
from typing import NamedTuple

import anndata as ad
import pandas as pd

from mosaic.errors import InputError, shortened


class Parts(NamedTuple):
    """What the workflow needs of a user's file.

    Attributes
    ----------
    source
        Names, columns and coordinates.
    values
        The matrix with its names; some rows or columns of it where it is sampled.
    sampled
        Whether it is.
    place
        Where the matrix lies in the file.
    hint
        What to do if the matrix holds no counts, where more is known than that.
    """

    source: ad.AnnData
    values: ad.AnnData
    sampled: bool = False
    place: str = "X"
    hint: str | None = None


class Functions(NamedTuple):
    """How a format is read.

    Attributes
    ----------
    read
        Of a path, ``counted`` and ``most`` gives the Parts: see ``h5ad.read``.
    read_obs
        Of a path gives the table of the spots alone.
    """

    read: Callable[..., Parts]
    read_obs: Callable[[str], pd.DataFrame]


def whole(read: Callable[[str], ad.AnnData]) -> Functions:
    """Make a reader of a function that reads all of a path.

    Parameters
    ----------
    read
        Gives of a path an AnnData, spots x features: barcodes as ``obs_names``, unique names of features, identifiers
        of genes as ``var["gene_id"]`` where there are any, coordinates (spots x 2) in ``obsm["spatial"]``, counts or
        ready features in X, and in ``obs`` what else is known of the spots, ``in_tissue`` (0 or 1) among it. What it
        raises is told as the path's fault.
    """

    def told(path: str) -> ad.AnnData:
        try:
            return read(path)
        except InputError:
            raise
        except Exception as error:  # libraries raise about anything on a damaged file
            problem = f"can't be read ({type(error).__name__}: {shortened(str(error), 300)})"
            hint = "check that it was copied whole, and that nothing in it was renamed"
            raise InputError(problem, where=path, hint=hint) from error

    def parts(path: str, *, counted: bool, most: int | None = None) -> Parts:
        del counted, most  # all of it, whatever it holds
        adata = told(path)
        return Parts(adata, adata)

    return Functions(parts, lambda path: told(path).obs)
