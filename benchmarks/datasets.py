"""The published data on which choices were measured, as mosaics with known truth.

``data`` is a folder with ``simulation/replicate1``, ``simulation/replicate2`` (``s1_rna.h5ad``, ``s1_adt.h5ad``,
``s2_rna.h5ad``, ``s3_adt.h5ad`` each), ``cortex_rna_atac`` (likewise, with atac), ``lymph_node_adt``
(``s1_adt.h5ad``, ``s2_adt.h5ad``) and ``pbmc_mosaic`` (``s1_rna.h5ad``, ..., ``s4_adt.h5ad``).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np

SEEDS = (1234, 0, 1, 2, 3)
Slices = dict[tuple[str, str], ad.AnnData]  # by slice and modality, as users' files hold them
# How the studies train: on one CPU and one thread, so that two can run side by side.
ALONE = {"device": "cpu", "threads": 1}
# The publication scales the counts of its simulation without log-normalisation.
SIMULATION = {"normalization": "none", "feature_selection": "all", "n_top_features": None, "scale": True}


class DataSet(NamedTuple):
    """A mosaic to integrate, and what was measured though it is hidden.

    Attributes
    ----------
    slices
        As users' files hold them, with the true domains in ``obs["domain"]``.
    config
        What ``pipeline.Pipeline.from_slices`` takes.
    hidden
        Slice and modality that is not among the slices.
    measured
        That slice.
    """

    slices: Slices
    config: Mapping
    hidden: tuple[str, str] | None = None
    measured: ad.AnnData | None = None


def config_of(modalities: Mapping[str, Mapping], *, n_domains: int, T: float = 0.01) -> dict:
    """The config of a study: all else has the workflow's defaults."""
    return {
        "modalities": dict(modalities),
        "train": {"T": T, **ALONE},
        "cluster": {"n_domains": n_domains},
        "truth": "domain",
    }


def _read(folder: Path, design: Mapping[str, str]) -> Slices:
    return {
        (name, modality): ad.read_h5ad(folder / f"{name}_{modality}.h5ad")
        for modality, names in design.items()
        for name in names.split()
    }


def simulation(data: Path, replicate: str) -> DataSet:
    """RNA and ADT, RNA, ADT; five domains, of which each modality alone misses one."""
    slices = _read(data / "simulation" / replicate, {"rna": "s1 s2", "adt": "s1 s3"})
    modalities = {"rna": {"kind": "rna", **SIMULATION}, "adt": {"kind": "protein", **SIMULATION}}
    return DataSet(slices, config_of(modalities, n_domains=5, T=0.1))


def cortex(data: Path) -> DataSet:
    """RNA and ATAC, RNA, ATAC of real cells in invented places; four bands."""
    slices = _read(data / "cortex_rna_atac", {"rna": "s1 s2", "atac": "s1 s3"})
    return DataSet(slices, config_of({"rna": {"kind": "rna"}, "atac": {"kind": "epigenome"}}, n_domains=4))


def pbmc(data: Path) -> DataSet:
    """RNA and ADT of blood cells of four donors in invented places, RNA, ADT, RNA and ADT; four bands."""
    slices = _read(data / "pbmc_mosaic", {"rna": "s1 s2 s4", "adt": "s1 s3 s4"})
    return DataSet(slices, config_of({"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}, n_domains=4))


def split_lymph_node(data: Path) -> DataSet:
    """The 31 proteins in two panels as two modalities: s1 has both, s2 the first; ten domains by a pathologist."""
    whole = _read(data / "lymph_node_adt", {"adt": "s1 s2"})
    for adata in whole.values():
        # The two slices spell one domain differently.
        adata.obs["domain"] = adata.obs["domain"].astype(str).replace("medulla vessel(s)", "medulla vessels")
        adata.obs["domain"] = adata.obs["domain"].replace("medulla vessel", "medulla vessels")
    names = sorted(whole["s1", "adt"].var_names)
    panels = {"panel1": names[::2], "panel2": names[1::2]}
    slices = {(name, key): whole[name, "adt"][:, own].copy() for key, own in panels.items() for name in ("s1", "s2")}
    measured = slices.pop(("s2", "panel2"))
    config = config_of({name: {"kind": "protein"} for name in panels}, n_domains=10)
    return DataSet(slices, config, hidden=("s2", "panel2"), measured=measured)


def held_out_simulation(data: Path, replicate: str, design: str, modality: str) -> DataSet:
    """Hide a modality in half of the bridge slice, which then is a slice of its own.

    Parameters
    ----------
    data, replicate
        As for ``simulation``.
    design
        ``columns``: every other column of spots; ``tiles``: the dark squares of a board of 4 x 4 spots each.
    modality
        What is hidden.
    """
    whole = simulation(data, replicate)
    places = np.asarray(whole.slices["s1", "rna"].obsm["spatial"], dtype=float)
    x, y = np.round((places - places.min(axis=0)) / (np.ptp(places, axis=0) / 35)).astype(int).T
    half = x % 2 == 1 if design == "columns" else (x // 4 + y // 4) % 2 == 1
    other = "adt" if modality == "rna" else "rna"
    slices = {("s1a", key): whole.slices["s1", key][~half].copy() for key in ("rna", "adt")}
    slices |= {("s1b", other): whole.slices["s1", other][half].copy()}
    slices |= {key: adata for key, adata in whole.slices.items() if key[0] != "s1"}
    return DataSet(slices, whole.config, ("s1b", modality), whole.slices["s1", modality][half].copy())


def with_truth(data: Path) -> dict[str, Callable[[], DataSet]]:
    """Makers of the data sets with true domains."""
    return {
        "simulation 1": lambda: simulation(data, "replicate1"),
        "simulation 2": lambda: simulation(data, "replicate2"),
        "cortex": lambda: cortex(data),
        "pbmc": lambda: pbmc(data),
        "lymph node, split": lambda: split_lymph_node(data),
    }


def with_hidden_counts(data: Path) -> dict[str, Callable[[], DataSet]]:
    """Makers of the data sets with counts that are held out."""
    made = {
        f"simulation {number}, {design}, {modality}": (
            lambda number=number, design=design, modality=modality: held_out_simulation(
                data, f"replicate{number}", design, modality
            )
        )
        for number in (1, 2)
        for design in ("columns", "tiles")
        for modality in ("adt", "rna")
    }
    return made | {"lymph node, split": lambda: split_lymph_node(data)}
