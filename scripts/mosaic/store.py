"""Read and write the AnnData and MuData files of the workflow."""

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import h5py
import mudata as md
import pandas as pd

from mosaic.errors import InputError
from mosaic.files import atomic_write, by_modality

# The future default of MuData 0.4: obs holds what was assigned, not a copy of the obs of the modalities.
md.set_options(pull_on_update=False)


def read(path: str | Path, *, layers: bool = True) -> ad.AnnData | md.MuData:
    """Read a file that a rule wrote: ``.h5ad`` as AnnData, ``.h5mu`` as MuData.

    Parameters
    ----------
    path
        The file.
    layers
        Whether to read the layers of an AnnData.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    if not Path(path).exists():
        raise InputError("is not there", where=str(path), hint="run again: the workflow will rebuild it")
    try:
        if Path(path).suffix == ".h5mu":
            return md.read_h5mu(path)
        if layers:
            return ad.read_h5ad(path)
        with h5py.File(path) as file:
            return ad.AnnData(**{key: ad.io.read_elem(file[key]) for key in file if key != "layers"})
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"is damaged ({type(error).__name__}: {error})",
            where=str(path),
            hint="delete this file and run again: the workflow will rebuild it",
        ) from error


def read_spots(path: str | Path) -> ad.AnnData:
    """Read ``obs``, ``obsm`` and ``uns`` of a file that a rule wrote, ``.h5ad`` or ``.h5mu``, without its matrices."""
    with h5py.File(path) as file:
        return ad.AnnData(**{key: ad.io.read_elem(file[key]) for key in ("obs", "obsm", "uns")})


def read_outline(path: str | Path) -> ad.AnnData:
    """Read an h5ad that a rule wrote without its matrices: ``obs``, ``var``, ``obsm``, ``varm`` and ``uns``."""
    with h5py.File(path) as file:
        return ad.AnnData(**{key: ad.io.read_elem(file[key]) for key in ("obs", "var", "obsm", "varm", "uns")})


def read_features(*paths: str | Path) -> pd.Index:
    """Names of the features that one of these files has, in the order of the first."""
    names = pd.Index([])
    for path in paths:
        with h5py.File(path) as file:
            names = names.append(ad.io.read_elem(file["var"]).index).unique()
    return names


def read_var(path: str | Path) -> pd.DataFrame:
    """Read ``var`` of an ``.h5ad`` that a rule wrote."""
    with h5py.File(path) as file:
        return ad.io.read_elem(file["var"])


def read_slices(paths: Sequence[str | Path]) -> dict[str, list[ad.AnnData]]:
    """Read files that rules named ``{slice}.{modality}.h5ad``, as lists per modality."""
    return {modality: [read(path) for path in own] for modality, own in by_modality(paths).items()}


def write(data: ad.AnnData | md.MuData, path: str | Path) -> None:
    """Write ``.h5ad`` or ``.h5mu`` atomically."""
    with atomic_write(path) as unfinished:
        if isinstance(data, md.MuData):
            data.write_h5mu(unfinished, compression="lzf")
        else:
            data.write_h5ad(unfinished, compression="lzf")
