"""What a reader returns, and how to make a reader of a function that reads all of a file."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from mosaic.errors import InputError, shortened


class Parts(NamedTuple):
    """The parts of a user's file that the workflow needs.

    Attributes
    ----------
    source
        Names, columns and coordinates.
    values
        The matrix with its names; a part of its rows or columns if sampled.
    sampled
        Whether ``values`` is a sample.
    place
        Location of the matrix in the file.
    hint
        What to do if the matrix has no counts; None: the general hint.
    """

    source: ad.AnnData
    values: ad.AnnData
    sampled: bool = False
    place: str = "X"
    hint: str | None = None


class Functions(NamedTuple):
    """Functions that read a format.

    Attributes
    ----------
    read
        From a path, ``counted`` and ``most`` to Parts: see ``h5ad.read``.
    read_obs
        From a path to its table of spots.
    read_var
        From a path to its table of features.
    read_tissue
        From a path to the parts of ``uns`` that ``tissue.frame_of`` takes, and the coordinates (spots x 2).
    """

    read: Callable[..., Parts]
    read_obs: Callable[[str], pd.DataFrame]
    read_var: Callable[[str], pd.DataFrame]
    read_tissue: Callable[[str], tuple[Mapping, np.ndarray]]


def whole(read: Callable[[str], ad.AnnData]) -> Functions:
    """Make a reader of a function that reads all of a path.

    Parameters
    ----------
    read
        From a path to an AnnData, spots x features: barcodes as ``obs_names``, unique feature names, gene identifiers
        as ``var["gene_id"]`` if there are any, coordinates (spots x 2) in ``obsm["spatial"]``, counts or ready features
        in X, other columns of the spots in ``obs``, such as ``in_tissue`` (0 or 1), and in ``uns`` the image and the
        unit of the coordinates (see ``tissue.frame_of``). Exceptions become an InputError of the path.
    """

    def told(path: str) -> ad.AnnData:
        try:
            return read(path)
        except InputError:
            raise
        except Exception as error:  # libraries raise all kinds of exceptions on a damaged file
            problem = f"can't be read ({type(error).__name__}: {shortened(str(error), 300)})"
            hint = "check that it was copied whole, and that nothing in it was renamed"
            raise InputError(problem, where=path, hint=hint) from error

    def parts(path: str, *, counted: bool, most: int | None = None) -> Parts:
        del counted, most  # always reads all of it
        adata = told(path)
        return Parts(adata, adata)

    def tissue(path: str) -> tuple[Mapping, np.ndarray]:
        adata = told(path)
        return adata.uns, adata.obsm.get("spatial", np.empty((0, 2)))

    return Functions(parts, lambda path: told(path).obs, lambda path: told(path).var, tissue)
