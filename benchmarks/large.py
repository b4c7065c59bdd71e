"""Large input, made in chunks, with a sheet and a config to run the workflow on it; and what each of its jobs took.

    .venv/bin/python benchmarks/large.py WHAT FOLDER [SPOTS]
    .venv/bin/snakemake --cores 2 --directory FOLDER --configfile FOLDER/config.yaml

WHAT is `hd`, a folder of Visium HD with 18,000 genes and 30 proteins; `mosaic`, four slices of 3,000 genes and 30
proteins with SPOTS in all; or `jobs`, which makes nothing and shows seconds and GB of each job in a folder of results.

Domains are regions of the tissue that hold other shares of the features. A spot draws its counts one by one from its
domain's shares and those of the slice, so the files are as sparse as real ones: a median of 120 transcripts and of 60
proteins per bin, and of 400 and 150 per spot of the mosaic. The truth stands in `domains.tsv`
and in the files of the mosaic.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import h5py
import library  # noqa: F401
import numpy as np
import pandas as pd
import yaml
from scipy import sparse
from scipy.spatial import KDTree

N_DOMAINS = 12
CHUNK = 20_000
PIXEL = 0.25  # micrometres
TYPES = {"rna": "Gene Expression", "adt": "Antibody Capture"}
CONFIG = {
    "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
    "qc": {"rna": {"min_counts": 20, "min_features": 10}, "adt": {"min_counts": 5}},
    "cluster": {"n_domains": N_DOMAINS},
}


class Panel(NamedTuple):
    """Features of a modality, and the shares that domains have of them (domains x features)."""

    names: list[str]
    ids: list[str]
    shares: np.ndarray


def make_panel(modality: str, n_features: int, fold: float, rng: np.random.Generator) -> Panel:
    """Features of log-normal abundance, of which each domain has a twentieth, at least two, in excess."""
    abundance = rng.lognormal(0, 1.5 if modality == "rna" else 0.7, n_features)
    shares = np.tile(abundance, (N_DOMAINS, 1))
    for own in shares:
        own[rng.choice(n_features, max(2, n_features // 20), replace=False)] *= fold
    stem = {"rna": "GENE", "adt": "PROT"}[modality]
    names = [f"{stem}{number:05d}" for number in range(n_features)]
    return Panel(names, [f"ENSG{name[4:]:0>11}" for name in names], shares / shares.sum(axis=1, keepdims=True))


def regions(places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The domain of each place: that of the nearest of four centres per domain."""
    low, high = places.min(axis=0), places.max(axis=0)
    centres = rng.uniform(low, high, (4 * N_DOMAINS, 2))
    return KDTree(centres).query(places)[1] % N_DOMAINS


def counted(
    shares: np.ndarray, domain: np.ndarray, depth: float, rng: np.random.Generator
) -> Iterator[sparse.csr_matrix]:
    """Counts in chunks of spots (spots x features): each transcript of a spot is of a feature drawn by its domain."""
    cumulated = np.cumsum(shares, axis=1)
    cumulated /= cumulated[:, -1:]
    for start in range(0, len(domain), CHUNK):
        own = domain[start : start + CHUNK]
        totals = rng.poisson(depth * rng.lognormal(0, 0.4, len(own)))
        rows = np.repeat(np.arange(len(own)), totals)
        drawn, columns = rng.random(len(rows)), np.empty(len(rows), np.int64)
        for each in range(N_DOMAINS):
            chosen = own[rows] == each
            columns[chosen] = np.searchsorted(cumulated[each], drawn[chosen], side="right")
        ones = np.ones(len(rows), np.float32)
        yield sparse.csr_matrix((ones, (rows, columns)), shape=(len(own), shares.shape[1]))


def of_slice(panel: Panel, log_sd: float, rng: np.random.Generator) -> np.ndarray:
    """Shares of the domains in a slice, whose features are caught better or worse than in others."""
    return panel.shares * rng.lognormal(0, log_sd, panel.shares.shape[1])


def append(group: h5py.Group, blocks: Iterator[sparse.csr_matrix], dtype: type) -> None:
    """Write blocks of rows one by one as one compressed sparse matrix."""
    for name, kind in (("data", dtype), ("indices", np.int32)):
        group.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(1 << 18,), compression="lzf")
    indptr = [np.zeros(1, np.int64)]
    for block in blocks:
        block.sort_indices()
        for name in ("data", "indices"):
            values = getattr(block, name)
            group[name].resize(len(group[name]) + len(values), axis=0)
            group[name][len(group[name]) - len(values) :] = values
        indptr.append(indptr[-1][-1] + block.indptr[1:])
    group["indptr"] = np.concatenate(indptr)


def make_hd(folder: Path, n_bins: int, rng: np.random.Generator) -> tuple[list[tuple[str, str, str]], pd.Series]:
    """A folder in Space Ranger's layout with bins of 8 µm; the rows of its sheet and the truth."""
    bins = folder / "hd" / "binned_outputs" / "square_008um"
    (bins / "spatial").mkdir(parents=True)
    side = int(np.ceil(np.sqrt(n_bins)))
    row, column = np.divmod(np.arange(n_bins), side)
    barcodes = [f"s_008um_{y:05d}_{x:05d}-1" for y, x in zip(row, column, strict=True)]
    domain = regions(np.column_stack([column, row]).astype(float), rng)
    panels = {"rna": make_panel("rna", 18_000, 6, rng), "adt": make_panel("adt", 30, 3, rng)}
    streams = [
        counted(panel.shares, domain, {"rna": 120, "adt": 60}[name], np.random.default_rng(position))
        for position, (name, panel) in enumerate(panels.items())
    ]
    with h5py.File(bins / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        append(group, (sparse.hstack(blocks, format="csr") for blocks in zip(*streams, strict=True)), np.int32)
        names = [name for panel in panels.values() for name in panel.names]
        group["shape"] = np.array([len(names), n_bins], np.int64)
        group["barcodes"] = np.array(barcodes, "S")
        group["features/name"] = np.array(names, "S")
        group["features/id"] = np.array([each for panel in panels.values() for each in panel.ids], "S")
        kinds = [TYPES[modality] for modality, panel in panels.items() for _ in panel.names]
        group["features/feature_type"] = np.array(kinds, "S")
        group["features/genome"] = np.full(len(names), b"made")
    pixels = {"pxl_row_in_fullres": row * 8 / PIXEL, "pxl_col_in_fullres": column * 8 / PIXEL}
    table = pd.DataFrame({"barcode": barcodes, "in_tissue": 1, "array_row": row, "array_col": column, **pixels})
    table.to_parquet(bins / "spatial" / "tissue_positions.parquet")
    scales = {"microns_per_pixel": PIXEL, "bin_size_um": 8.0, "spot_diameter_fullres": 8 / PIXEL}
    (bins / "spatial" / "scalefactors_json.json").write_text(json.dumps(scales))
    return [("s1", name, "hd") for name in panels], pd.Series(domain, [f"s1:{name}" for name in barcodes])


def make_mosaic(folder: Path, n_spots: int, rng: np.random.Generator) -> tuple[list[tuple[str, str, str]], pd.Series]:
    """Four slices, of which s1 is the bridge and s3 has proteins alone; the rows of their sheet and the truth."""
    panels = {"rna": make_panel("rna", 3000, 6, rng), "adt": make_panel("adt", 30, 3, rng)}
    rows, truth = [], []
    each = n_spots // 4
    barcodes = [f"spot{number:07d}" for number in range(each)]
    side = int(np.ceil(np.sqrt(each)))
    places = np.column_stack(np.divmod(np.arange(each), side)[::-1]) * 10.0
    for slice_name, modalities in {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["adt"], "s4": ["rna"]}.items():
        domain = regions(places, rng)
        truth.append(pd.Series(domain, [f"{slice_name}:{name}" for name in barcodes]))
        for modality in modalities:
            panel, name = panels[modality], f"{slice_name}.{modality}.h5ad"
            obs = pd.DataFrame({"domain": pd.Categorical([f"d{number}" for number in domain])}, barcodes)
            adata = ad.AnnData(obs=obs, var=pd.DataFrame(index=panel.names), obsm={"spatial": places})
            adata.uns["microns_per_unit"] = 1.0
            adata.write_h5ad(folder / name)
            blocks = counted(of_slice(panel, 0.3, rng), domain, {"rna": 400, "adt": 150}[modality], rng)
            with h5py.File(folder / name, "a") as file:
                if "X" in file:
                    del file["X"]
                group = file.create_group("X")
                group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
                group.attrs["shape"] = adata.shape
                append(group, blocks, np.float32)
            rows.append((slice_name, modality, name))
    return rows, pd.concat(truth)


def make(maker: Callable[..., tuple[list[tuple[str, str, str]], pd.Series]], folder: Path, n_spots: int) -> None:
    """Write the input, the sheet, the config and the truth to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, truth = maker(folder, n_spots, np.random.default_rng(0))
    sheet = pd.DataFrame(rows, columns=["slice", "modality", "path"])
    sheet["path"] = [str((folder / path).resolve()) for path in sheet["path"]]
    sheet.to_csv(folder / "slices.tsv", sep="\t", index=False)
    truth.rename_axis("spot").rename("domain").to_csv(folder / "domains.tsv", sep="\t")
    truth_column = {"truth": "domain" if maker is make_mosaic else None}
    config = {"slices": str((folder / "slices.tsv").resolve()), **CONFIG, **truth_column}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def jobs(results: Path) -> pd.DataFrame:
    """Per rule the jobs that ran, the seconds of all of them, and the GB of the largest."""
    folder = results / "benchmarks"
    paths = sorted(folder.rglob("*.tsv"))
    table = pd.concat([pd.read_csv(path, sep="\t").iloc[:1] for path in paths], ignore_index=True)
    table["job"] = [path.relative_to(folder).parts[0].removesuffix(".tsv") for path in paths]
    table["max_rss"] /= 1024
    return table.groupby("job").agg(
        jobs=("s", "size"), seconds=("s", "sum"), cpu_seconds=("cpu_time", "sum"), GB=("max_rss", "max")
    )


def main(what: str, folder: str, n_spots: str = "") -> None:
    """Make input, or show what jobs took."""
    if what == "jobs":
        print(jobs(Path(folder)).round(1).to_string())
    elif what == "hd":
        make(make_hd, Path(folder), int(n_spots or 400_000))
    else:
        make(make_mosaic, Path(folder), int(n_spots or 1_000_000))


if __name__ == "__main__":
    main(*sys.argv[1:])
