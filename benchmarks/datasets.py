"""The published data on which choices were measured, as mosaics with known truth.

``data`` is a folder with ``simulation/replicate1``, ``simulation/replicate2`` (``s1_rna.h5ad``, ``s1_adt.h5ad``,
``s2_rna.h5ad``, ``s3_adt.h5ad`` each), ``cortex_rna_atac`` (likewise, with atac), ``lymph_node_adt``
(``s1_adt.h5ad``, ``s2_adt.h5ad``) and ``pbmc_mosaic`` (``s1_rna.h5ad``, ..., ``s4_adt.h5ad``).
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import library  # noqa: F401
import numpy as np

from mosaic import store
from mosaic.config.defaults import KIND_DEFAULTS, PUBLISHED
from mosaic.config.design import SampleRow, SampleSheet
from mosaic.prepare import read
from mosaic.simulate.counts import simulate_mosaic

SEEDS = (1234, 0, 1, 2, 3)
Slices = dict[tuple[str, str], ad.AnnData]  # by slice and modality, with layers["counts"]
# The published choices, for `Mosaic.graphs` and for `fit_embed`.
PUBLISHED_GRAPH, PUBLISHED_TRAINING = PUBLISHED["graph"], PUBLISHED["train"]
# The publication scales the counts of its simulation without log-normalisation.
SIMULATION = {"normalization": "none", "feature_selection": "all", "scale": True}


class Mosaic(NamedTuple):
    """Slices to integrate, how, and what was measured though it is hidden."""

    slices: Slices
    kinds: Mapping[str, str]
    T: float
    n_domains: int
    preprocessing: Mapping[str, object] = {}
    hidden: tuple[str, str] | None = None  # slice and modality that is not among the slices
    measured: ad.AnnData | None = None  # its counts

    @property
    def sheet(self) -> SampleSheet:
        """The design."""
        return SampleSheet(SampleRow(name, modality, "") for name, modality in self.slices)

    def reduced(self, **changed: object) -> dict[str, ad.AnnData]:
        """Features of each modality, with the defaults of its kind unless changed."""
        # Here and below, so that slices can be written where only they can be read.
        from mosaic.prepare import normalize, qc, reduce

        made = {}
        for modality in self.sheet.modalities:
            known = KIND_DEFAULTS[self.kinds[modality]] | self.preprocessing
            known |= {key: value for key, value in changed.items() if key in known}
            normalization = known.pop("normalization")
            slices = [self.slices[name, modality] for name in self.sheet.slices_of(modality)]
            passed = [
                normalize.normalize_slice(qc.filter_slice(adata, min_counts=1)[0], normalization) for adata in slices
            ]
            made[modality] = reduce.reduce_modality(passed, modality, kind=self.kinds[modality], **known)
        return made

    def graphs(self, reduced: Mapping[str, ad.AnnData], **changed: object) -> dict[str, ad.AnnData]:
        """The graph of each modality, with the truth in ``obs`` where a file has it."""
        from mosaic.integrate import graph

        made = {}
        for modality, adata in reduced.items():
            made[modality] = graph.build_graph(
                adata, adata.obsm["X_corrected"], self.sheet.mnn_pairs(modality), **changed
            )
            made[modality].obs = adata.obs
        return made


def fit_embed(graphs: Mapping[str, ad.AnnData], *, seed: int = 1234, **changed: object):
    """Train on one CPU and embed; settings as of ``training.fit``."""
    from mosaic.integrate import model, training

    encoders, _ = training.fit(graphs, seed=seed, device="cpu", **changed)
    return model.embed(graphs, encoders)


def changed(design: Mapping, changes: Mapping) -> dict:
    """A design with some of its settings changed, key by key at every depth; an empty mapping empties."""
    merged = dict(design)
    for key, value in changes.items():
        deep = isinstance(value, Mapping) and value and isinstance(merged.get(key), Mapping)
        merged[key] = changed(merged[key], value) if deep else value
    return merged


def as_file(adata: ad.AnnData) -> ad.AnnData:
    """A slice as a user's file holds it: bare barcodes, counts in X."""
    names = adata.obs["barcode"].astype(str).to_numpy()
    obs = adata.obs[["domain"]].set_axis(names) if "domain" in adata.obs else None
    return ad.AnnData(
        adata.layers["counts"],
        obs=obs,
        var=adata.var[[]],
        obsm={"spatial": adata.obsm["spatial"]},
    )


def simulated(
    design: Mapping,
    kinds: Mapping[str, str],
    *,
    seed: int = 0,
    T: float = 0.1,
    change: Callable[[str, str, ad.AnnData], ad.AnnData] | None = None,
) -> Mosaic:
    """A mosaic of the simulator, as read from its files.

    Parameters
    ----------
    design, seed
        As ``simulate_mosaic`` takes them.
    kinds
        Of its modalities.
    T
        Temperature of training.
    change
        What to make of a slice (its name, modality and counts) before it is written.
    """
    slices = {}
    with tempfile.TemporaryDirectory() as folder:
        for (name, modality), adata in simulate_mosaic(design, seed=seed).items():
            path = Path(folder) / f"{name}.{modality}.h5ad"
            store.write(change(name, modality, adata) if change else adata, path)
            slices[name, modality] = read.read_slice(path, name, kinds[modality], truth="domain")
    return Mosaic(slices, kinds, T=T, n_domains=len(design["domains"]))


def _read(folder: Path, design: Mapping[str, str], kinds: Mapping[str, str]) -> Slices:
    return {
        (name, modality): read.read_slice(folder / f"{name}_{modality}.h5ad", name, kinds[modality], truth="domain")
        for modality, names in design.items()
        for name in names.split()
    }


def simulation(data: Path, replicate: str) -> Mosaic:
    """RNA and ADT, RNA, ADT; five domains, of which each modality alone misses one."""
    kinds = {"rna": "rna", "adt": "protein"}
    slices = _read(data / "simulation" / replicate, {"rna": "s1 s2", "adt": "s1 s3"}, kinds)
    return Mosaic(slices, kinds, T=0.1, n_domains=5, preprocessing=SIMULATION)


def cortex(data: Path) -> Mosaic:
    """RNA and ATAC, RNA, ATAC of real cells in invented places; four bands."""
    kinds = {"rna": "rna", "atac": "epigenome"}
    slices = _read(data / "cortex_rna_atac", {"rna": "s1 s2", "atac": "s1 s3"}, kinds)
    return Mosaic(slices, kinds, T=0.01, n_domains=4)


def pbmc(data: Path) -> Mosaic:
    """RNA and ADT of blood cells of four donors in invented places, RNA, ADT, RNA and ADT; four bands."""
    kinds = {"rna": "rna", "adt": "protein"}
    slices = _read(data / "pbmc_mosaic", {"rna": "s1 s2 s4", "adt": "s1 s3 s4"}, kinds)
    return Mosaic(slices, kinds, T=0.01, n_domains=4)


def split_lymph_node(data: Path) -> Mosaic:
    """The 31 proteins in two panels as two modalities: s1 has both, s2 the first; ten domains by a pathologist."""
    whole = _read(data / "lymph_node_adt", {"adt": "s1 s2"}, {"adt": "protein"})
    for adata in whole.values():
        # The two slices spell one domain differently.
        adata.obs["domain"] = adata.obs["domain"].astype(str).replace("medulla vessel(s)", "medulla vessels")
        adata.obs["domain"] = adata.obs["domain"].replace("medulla vessel", "medulla vessels")
    names = sorted(whole["s1", "adt"].var_names)
    panels = {"panel1": names[::2], "panel2": names[1::2]}
    slices = {(name, key): whole[name, "adt"][:, own].copy() for key, own in panels.items() for name in ("s1", "s2")}
    measured = slices.pop(("s2", "panel2"))
    kinds = dict.fromkeys(panels, "protein")
    return Mosaic(slices, kinds, T=0.01, n_domains=10, hidden=("s2", "panel2"), measured=measured)


def held_out_simulation(data: Path, replicate: str, design: str, modality: str) -> Mosaic:
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
    bridge = whole.slices["s1", "rna"]
    places = bridge.obsm["spatial"]
    x, y = np.round((places - places.min(axis=0)) / (np.ptp(places, axis=0) / 35)).astype(int).T
    half = x % 2 == 1 if design == "columns" else (x // 4 + y // 4) % 2 == 1

    def part(key: str, rows: np.ndarray, name: str) -> ad.AnnData:
        adata = whole.slices["s1", key][rows].copy()
        adata.obs["slice"] = name
        adata.obs["slice"] = adata.obs["slice"].astype("category")
        adata.obs_names = name + ":" + adata.obs["barcode"].astype(str)
        return adata

    other = "adt" if modality == "rna" else "rna"
    slices = {("s1a", key): part(key, ~half, "s1a") for key in ("rna", "adt")}
    slices |= {("s1b", other): part(other, half, "s1b")}
    slices |= {key: adata for key, adata in whole.slices.items() if key[0] != "s1"}
    return whole._replace(slices=slices, hidden=("s1b", modality), measured=part(modality, half, "s1b"))


def with_truth(data: Path) -> dict[str, Callable[[], Mosaic]]:
    """Makers of the data sets with true domains."""
    return {
        "simulation 1": lambda: simulation(data, "replicate1"),
        "simulation 2": lambda: simulation(data, "replicate2"),
        "cortex": lambda: cortex(data),
        "pbmc": lambda: pbmc(data),
        "lymph node, split": lambda: split_lymph_node(data),
    }


def with_hidden_counts(data: Path) -> dict[str, Callable[[], Mosaic]]:
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
