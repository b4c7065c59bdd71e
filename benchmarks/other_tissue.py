"""Does the light of a mapping tell another tissue, with one modality alone? For docs/reference.md.

    .venv/bin/python benchmarks/other_tissue.py DATA

DATA as for ``datasets.py``, with ``serial_breast_st``. Nothing is trained: features, their correction and the distance
decide.
"""

import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import anndata as ad
import library  # noqa: F401
import numpy as np
from new_slices import DEMO

from datasets import ALONE
from mosaic.analyse.mapped_domains import distances, reference_features
from mosaic.config.schema import with_changes
from mosaic.pipeline import Pipeline
from mosaic.prepare.mapping import map_modality
from mosaic.prepare.normalize import normalize_slice
from mosaic.prepare.qc import filter_slice
from mosaic.prepare.read import read_slice
from mosaic.reference import reduction_settings
from mosaic.simulate.counts import simulate_mosaic
from mosaic.simulate.design import read_design

# Proteins of both panels: of the lymph node, and of the blood cells.
BOTH_PANELS = {
    "CD163": "cd163",
    "CR2": "cd21",
    "CD68": "cd68",
    "CEACAM8": "cd66b",
    "PTPRC": "cd45.1",
    "HLA-DRA": "hla.dr",
    "SDC1": "cd138.1",
    "CD8A": "cd8a",
    "CD19": "cd19",
    "PDCD1": "cd279",
    "FCGR3A": "cd16",
    "ITGAX": "cd11c",
    "CXCR5": "cd185",
    "MS4A1": "cd20",
    "CD3E": "cd3.1",
    "CD14": "cd14",
    "CD40": "cd40",
    "PECAM1": "cd31",
    "CD4": "cd4.1",
    "ITGAM": "cd11b.1",
    "CD27": "cd27",
    "CD274": "cd274",
}
Slices = dict[str, ad.AnnData]
STRONG = {"slice_effect": {"depth_log_sd": 0.5, "feature_log_sd": 0.8}}


def of_both_panels(data: Path) -> tuple[Slices, Slices]:
    """Proteins of two slices of a lymph node and of the blood cells of three donors, under the same names."""
    lymph = {name: ad.read_h5ad(data / f"lymph_node_adt/{name}_adt.h5ad") for name in ("s1", "s2")}
    blood = {name: ad.read_h5ad(data / f"pbmc_mosaic/{name}_adt.h5ad") for name in ("s1", "s3", "s4")}
    lymph = {name: adata[:, list(BOTH_PANELS)].copy() for name, adata in lymph.items()}
    blood = {name: adata[:, list(BOTH_PANELS.values())].copy() for name, adata in blood.items()}
    for adata in (*lymph.values(), *blood.values()):
        adata.var = adata.var[[]]
        adata.var_names = list(BOTH_PANELS.values())
    return lymph, blood


def breast_and_blood(data: Path) -> tuple[Slices, Slices]:
    """RNA of four sections of a breast tumour and of the blood cells of two donors: the genes of all."""
    breast = {f"b{number}": ad.read_h5ad(data / f"serial_breast_st/slice{number}.h5ad") for number in (1, 2, 3, 4)}
    blood = {name: ad.read_h5ad(data / f"pbmc_mosaic/{name}_rna.h5ad") for name in ("s1", "s4")}
    everything = [*breast.values(), *blood.values()]
    for adata in everything:
        adata.var_names_make_unique()
    genes = sorted(set.intersection(*(set(adata.var_names) for adata in everything)))
    kept = [{name: adata[:, genes].copy() for name, adata in own.items()} for own in (breast, blood)]
    for adata in (*kept[0].values(), *kept[1].values()):
        adata.var = adata.var[[]]
    return kept[0], kept[1]


def demo(modality: str, seed: int, changes: Mapping | None = None) -> Slices:
    """Five slices of the demo's design; another seed has other markers."""
    design = read_design(DEMO)
    design["slices"] = {f"s{number}": ["rna", "adt"] for number in range(1, 6)}
    design["grid"] |= {"rows": 26, "columns": 24}
    if changes:
        design = with_changes(design, {"modalities": {modality: changes}})
    made = simulate_mosaic(design, seed=seed)
    return {name: adata for (name, own), adata in made.items() if own == modality}


def some(slices: Slices, names: Iterable[str]) -> Slices:
    """Some of the slices."""
    return {name: slices[name] for name in names}


def cases(data: Path) -> Iterable[tuple[str, str, Mapping, Slices, Slices, Slices]]:
    """Name, kind, further settings of the modality; slices of the reference, new ones of its tissue, and of another."""
    lymph, blood = of_both_panels(data)
    yield "lymph node, 22 proteins", "protein", {}, some(lymph, ["s1"]), some(lymph, ["s2"]), some(blood, ["s1", "s4"])
    for known, new in ((["s1", "s3"], ["s4"]), (["s3", "s4"], ["s1"])):
        yield f"blood cells {known}, 22 proteins", "protein", {}, some(blood, known), some(blood, new), lymph
    breast, cells = breast_and_blood(data)
    yield "breast tumour, RNA", "rna", {}, some(breast, ["b1", "b2", "b3"]), some(breast, ["b4"]), cells
    seeds = (2, 3, 4)
    for kind, modality in (("protein", "adt"), ("rna", "rna")):
        own, others = demo(modality, 1), {f"other {seed}": demo(modality, seed)["s5"] for seed in seeds}
        for known in (["s1", "s2"], ["s1", "s2", "s3", "s4"]):
            for method in ("auto", "pair_shift"):
                name = f"demo's {modality}, {len(known)} slices, {method}"
                yield name, kind, {"batch_correction": method}, some(own, known), some(own, ["s5"]), others
        strong = demo(modality, 1, STRONG)
        others = {f"other {seed}": demo(modality, seed, STRONG)["s5"] for seed in seeds}
        known = ["s1", "s2", "s3"]
        yield f"demo's {modality}, strong effects", kind, {}, some(strong, known), some(strong, ["s4", "s5"]), others
        yield f"demo's {modality}, the new one strong", kind, {}, some(own, known), some(strong, ["s4", "s5"]), {}


def record_of(run: Pipeline, known: ad.AnnData, adata: ad.AnnData, modality: str) -> tuple[float, float, float]:
    """Share of spots near the reference, relative agreement of features, and iLISI before the correction."""
    settings = run.config["modalities"][modality]
    passed = filter_slice(read_slice(adata, "new", settings["kind"]), **run.config["qc"][modality])[0]
    normalized = normalize_slice(passed, settings["normalization"])
    mapped = map_modality([normalized], known, modality, **reduction_settings(settings))
    record = mapped.uns["mapping"]["new"]
    return float((distances(mapped, known) <= 1).mean()), record["relative"], record["ilisi_before"]


def main() -> None:
    """All cases, a line for each new slice."""
    for name, kind, changes, known, same, other in cases(Path(sys.argv[1])):
        config = {"modalities": {kind: {"kind": kind, **changes}}, "train": ALONE, "cluster": {"n_domains": 5}}
        if kind == "rna":
            config["qc"] = {"rna": {"min_counts": 1, "min_features": 1, "min_spots": 0, "max_mito_percent": None}}
        run = Pipeline.from_slices({(own, kind): adata for own, adata in known.items()}, config)
        reduced = run.reduced()[kind]
        # The distance is that of features: no latent space is needed.
        latent = {kind: ad.AnnData(obs=reduced.obs, obsm={"X_latent": np.zeros((reduced.n_obs, 1), np.float32)})}
        features = reference_features(reduced, latent, kind)
        for tissue, slices in (("same", same), ("other", other)):
            for own, adata in slices.items():
                near, relative, before = record_of(run, features, adata, kind)
                columns = [f"{value:.2f}" for value in (near, relative, before)]
                print(name, tissue, own, *columns, sep="\t", flush=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
