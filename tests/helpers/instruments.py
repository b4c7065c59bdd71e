"""Folders and files as instruments and their software leave them, made of a few counts."""

import gzip
import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from PIL import Image
from scipy import io, sparse

# Names of the two genes of `panel` that have one symbol, as they are read.
REPEATED = ["GENE0_ENSG00000", "GENE0_ENSG00001"]
ISOTYPES = ["mouse_IgG2a", "rat_IgG2a"]


def panel(n_genes=12, n_proteins=0, n_peaks=0, controls=()) -> pd.DataFrame:
    """Features as 10x Genomics' software lists them; `controls`: pairs of name and type. Two genes have one symbol."""
    genes = [f"GENE{number}" for number in range(n_genes)]
    if n_genes > 2:
        genes[1] = genes[0]
    rows = [(f"ENSG{number:05d}", name, "Gene Expression") for number, name in enumerate(genes)]
    proteins = [*(f"CD{number}" for number in range(max(0, n_proteins - 2))), *ISOTYPES][:n_proteins]
    rows += [(name, name, "Antibody Capture") for name in proteins]
    peaks = [f"chr1:{number * 1000}-{number * 1000 + 500}" for number in range(n_peaks)]
    rows += [(name, name, "Peaks") for name in peaks]
    rows += [(name, name, kind) for name, kind in controls]
    return pd.DataFrame(rows, columns=["id", "name", "type"])


def counted(var: pd.DataFrame, n_spots=30, *, seed=0, rate=3.0, barcodes=None) -> ad.AnnData:
    """Poisson counts of a panel (spots x features), barcodes of 16 bases."""
    rng = np.random.default_rng(seed)
    made = ad.AnnData(sparse.csr_matrix(rng.poisson(rate, (n_spots, len(var))).astype(np.int32)))
    letters = np.random.default_rng(1).choice(list("ACGT"), (n_spots, 16))
    made.obs_names = barcodes or ["".join(row) + "-1" for row in letters]
    made.var = var.reset_index(drop=True).set_axis([str(number) for number in range(len(var))])
    return made


def tenx_h5(path: Path, counts: ad.AnnData) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        matrix = sparse.csr_matrix(counts.X)
        group["barcodes"] = counts.obs_names.to_numpy().astype("S")
        group["data"], group["indices"] = matrix.data, matrix.indices.astype(np.int64)
        group["indptr"], group["shape"] = matrix.indptr.astype(np.int64), np.array(counts.shape[::-1], np.int32)
        features = group.create_group("features")
        for name, column in (("id", "id"), ("name", "name"), ("feature_type", "type")):
            features[name] = counts.var[column].to_numpy().astype("S")
        features["genome"] = np.array([b"GRCh38"] * counts.n_vars)
        features["_all_tag_keys"] = np.array([b"genome"])
    return path


def tenx_mtx(folder: Path, counts: ad.AnnData, *, genes=False, packed=True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    ending = ".gz" if packed else ""
    write = gzip.open if packed else open
    with write(folder / f"matrix.mtx{ending}", "wb") as file:
        io.mmwrite(file, sparse.coo_matrix(counts.X.T))
    with write(folder / f"barcodes.tsv{ending}", "wb") as file:
        file.write("".join(f"{name}\n" for name in counts.obs_names).encode())
    columns = ["id", "name"] if genes else ["id", "name", "type"]
    with write(folder / f"{'genes' if genes else 'features'}.tsv{ending}", "wb") as file:
        file.write(counts.var[columns].to_csv(sep="\t", header=False, index=False).encode())
    return folder


def visium_positions(barcodes, *, off_tissue=4, pitch=138.0) -> pd.DataFrame:
    """Positions on Visium's array, of the barcodes and of a few spots off the tissue; rows alternate."""
    names = [*barcodes, *(f"TTTTTTTTTTTTTTT{base}-1" for base in "ACGT"[:off_tissue])]
    row, place = np.divmod(np.arange(len(names)), 6)
    column = 2 * place + row % 2
    return pd.DataFrame(
        {
            "barcode": names,
            "in_tissue": [1] * len(barcodes) + [0] * off_tissue,
            "array_row": row,
            "array_col": column,
            "pxl_row_in_fullres": np.round(1000 + row * pitch * np.sqrt(3) / 2).astype(int),
            "pxl_col_in_fullres": np.round(500 + column * pitch / 2).astype(int),
        }
    )


def spatial_folder(
    folder: Path, table: pd.DataFrame, *, positions="tissue_positions.csv", image=True, **scales
) -> None:
    """Folder `spatial`; positions without a header where the file is that of Space Ranger 1."""
    folder.mkdir(parents=True, exist_ok=True)
    if positions.endswith(".parquet"):
        table.to_parquet(folder / positions)
    elif positions:
        table.to_csv(folder / positions, index=False, header=positions == "tissue_positions.csv")
    factors = {"spot_diameter_fullres": 89.4, "tissue_hires_scalef": 0.05, "tissue_lowres_scalef": 0.02} | scales
    (folder / "scalefactors_json.json").write_text(json.dumps(factors))
    for name, size in (("hires", 100), ("lowres", 40)) if image else ():
        shade = np.linspace(120, 250, size * size).reshape(size, size).astype(np.uint8)
        Image.fromarray(np.stack([shade, shade // 2, shade], axis=2)).save(folder / f"tissue_{name}_image.png")


def visium(folder: Path, counts: ad.AnnData, *, h5=True, state="filtered", **spatial) -> Path:
    """A folder as Space Ranger leaves it, in `folder/outs`."""
    outs = folder / "outs"
    if h5:
        tenx_h5(outs / f"{state}_feature_bc_matrix.h5", counts)
    else:
        tenx_mtx(outs / f"{state}_feature_bc_matrix", counts)
    spatial_folder(outs / "spatial", visium_positions(counts.obs_names), **spatial)
    return folder


def hd_barcodes(n_spots: int, bin_size=8) -> list[str]:
    return [f"s_{bin_size:03d}um_{number // 6:05d}_{number % 6:05d}-1" for number in range(n_spots)]


def visium_hd(folder: Path, var: pd.DataFrame, sizes=(8, 16), n_spots=30, *, cells=0) -> Path:
    """A folder of Visium HD with bins of these sizes; `cells`: segmented cells, squares of 10 pixels."""
    for size in sizes:
        names = hd_barcodes(n_spots, size)
        root = folder / "binned_outputs" / f"square_{size:03d}um"
        tenx_h5(root / "filtered_feature_bc_matrix.h5", counted(var, n_spots, barcodes=names))
        row, column = np.divmod(np.arange(n_spots), 6)
        places = {"pxl_row_in_fullres": row * size / 0.25, "pxl_col_in_fullres": column * size / 0.25}
        table = pd.DataFrame({"barcode": names, "in_tissue": 1, "array_row": row, "array_col": column, **places})
        scales = {"bin_size_um": float(size), "microns_per_pixel": 0.25}
        spatial_folder(root / "spatial", table, positions="tissue_positions.parquet", **scales)
    if cells:
        root = folder / "segmented_outputs"
        names = [f"cellid_{number + 1:09d}-1" for number in range(cells)]
        tenx_h5(root / "filtered_feature_cell_matrix.h5", counted(var, cells, barcodes=names))
        outlines = []
        for number in range(cells):
            corner = np.array([100.0 * number, 50.0])
            ring = [(corner + step).tolist() for step in ([0, 0], [10, 0], [10, 10], [0, 10], [0, 0])]
            geometry = {"type": "Polygon", "coordinates": [ring]}
            outlines.append({"type": "Feature", "properties": {"cell_id": number + 1}, "geometry": geometry})
        (root / "cell_segmentations.geojson").write_text(
            json.dumps({"type": "FeatureCollection", "features": outlines})
        )
        spatial_folder(root / "spatial", pd.DataFrame(), positions="", microns_per_pixel=0.25)
    return folder


XENIUM_CONTROLS = (("NegControlProbe_1", "Negative Control Probe"), ("UnassignedCodeword_1", "Unassigned Codeword"))


def xenium(folder: Path, counts: ad.AnnData, *, parquet=True, h5=True) -> Path:
    """A folder of Xenium; the cells lie on a diagonal."""
    folder.mkdir(parents=True)
    (folder / "experiment.xenium").write_text("{}")
    write, name = (tenx_h5, "cell_feature_matrix.h5") if h5 else (tenx_mtx, "cell_feature_matrix")
    write(folder / name, counts)
    place = np.arange(counts.n_obs) * 10.5
    table = pd.DataFrame({"cell_id": counts.obs_names, "x_centroid": place, "y_centroid": place + 1})
    if parquet:
        table.to_parquet(folder / "cells.parquet")
    else:
        table.to_csv(folder / "cells.csv.gz", index=False)
    return folder


def dense(counts: ad.AnnData) -> pd.DataFrame:
    """Counts as a table, cells x features."""
    return pd.DataFrame(counts.X.toarray(), index=counts.obs_names, columns=counts.var["name"])


def merscope(folder: Path, counts: ad.AnnData) -> Path:
    folder.mkdir(parents=True)
    dense(counts).rename_axis("cell").to_csv(folder / "cell_by_gene.csv")
    place = np.arange(counts.n_obs) * 10.5
    table = pd.DataFrame({"fov": 0, "volume": 100.0, "center_x": place, "center_y": place + 1}, index=counts.obs_names)
    table[::-1].to_csv(folder / "cell_metadata.csv")
    return folder


def cosmx(folder: Path, counts: ad.AnnData, *, areas=True, named=False) -> Path:
    """Flat files of two fields of view; cell 0 of each is what lies outside cells."""
    folder.mkdir(parents=True)
    table = dense(counts).reset_index(drop=True)
    cell = np.arange(counts.n_obs) // 2 + 1
    names = pd.DataFrame({"fov": np.arange(counts.n_obs) % 2 + 1, "cell_ID": cell})
    outside = pd.concat([pd.DataFrame({"fov": [1, 2], "cell_ID": 0}), table.iloc[:2] * 0 + 7], axis=1)
    expression = pd.concat([outside, pd.concat([names, table], axis=1)])
    if named:  # as newer exports
        expression.insert(
            0, "cell", [f"c_1_{fov}_{cell}" for fov, cell in expression[["fov", "cell_ID"]].itertuples(index=False)]
        )
    expression.to_csv(folder / "Slide1_exprMat_file.csv", index=False)
    place = np.arange(counts.n_obs) * 100
    names = names.assign(CenterX_global_px=place, CenterY_global_px=place + 1, Area=1000)
    names = names.assign(**{"Area.um2": 1000 * 0.12**2}) if areas else names
    names.to_csv(folder / "Slide1_metadata_file.csv.gz", index=False)
    return folder


def fragments(folder: Path, rows: list[tuple], barcodes: list[str], *, header=False) -> Path:
    """Fragments (chromosome, begin, end, barcode), and positions in the disguise of Space Ranger 1."""
    folder.mkdir(parents=True)
    with gzip.open(folder / "s1.fragments.tsv.gz", "wt") as file:
        file.write("# id=s1\n# primary_contig=chr1\n")
        file.writelines("\t".join(map(str, row)) + "\t1\n" for row in rows)
    row, column = np.divmod(np.arange(len(barcodes)), 5)
    table = pd.DataFrame(
        {"barcode": barcodes, "in_tissue": 1, "row": row, "column": column, "y": row * 20, "x": column * 20}
    )
    (folder / "spatial").mkdir()
    table.to_csv(folder / "spatial" / "tissue_positions_list.csv", header=header, index=False)
    return folder


def gem(path: Path, cells=True) -> Path:
    """A gem of two genes on 200 x 200 nanoballs; cells are squares of 100."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"geneID": rng.choice(["A", "B"], 500), "x": rng.integers(0, 200, 500)})
    table = table.assign(y=rng.integers(0, 200, 500), MIDCount=rng.integers(1, 4, 500))
    if cells:
        table["CellID"] = table["x"] // 100 + 2 * (table["y"] // 100)
    with gzip.open(path, "wt") as file:
        file.write("#FileFormat=GEMv0.1\n#OffsetX=0\n")
        table.to_csv(file, sep="\t", index=False)
    return path


def gef(path: Path, table: pd.DataFrame, sizes=(1,), *, cells=False) -> Path:
    """A gef of a gem's table, with bins of these sizes, or with its cells."""
    genes = np.unique(table["geneID"])
    with h5py.File(path, "w") as file:
        for size in sizes:
            own = table.assign(x=table["x"] // size * size, y=table["y"] // size * size)
            own = own.groupby(["geneID", "x", "y"])["MIDCount"].sum().reset_index()
            places = np.zeros(len(own), [("x", "<i4"), ("y", "<i4"), ("count", "u1")])
            places["x"], places["y"], places["count"] = own["x"], own["y"], own["MIDCount"]
            counted = own.groupby("geneID").size()
            listed = np.zeros(len(genes), [("gene", "S32"), ("offset", "<u4"), ("count", "<u4")])
            listed["gene"], listed["count"] = genes.astype("S"), counted.loc[genes]
            group = file.create_group(f"geneExp/bin{size}")
            group["expression"], group["gene"] = places, listed
            group["expression"].attrs["resolution"] = np.uint32(500)
        if cells:
            own = table[table["CellID"] > 0].groupby(["CellID", "geneID"])["MIDCount"].sum().reset_index()
            count = own.groupby("CellID").size()
            listed = np.zeros(len(count), [("id", "<u4"), ("x", "<i4"), ("y", "<i4"), ("geneCount", "<u2")])
            listed["id"], listed["x"], listed["geneCount"] = count.index, count.index * 100, count
            found = np.zeros(len(own), [("geneID", "<u2"), ("count", "<u2")])
            found["geneID"], found["count"] = np.searchsorted(genes, own["geneID"]), own["MIDCount"]
            named = np.zeros(len(genes), [("geneName", "S32"), ("offset", "<u4")])
            named["geneName"] = genes.astype("S")
            file["cellBin/cell"], file["cellBin/cellExp"], file["cellBin/gene"] = listed, found, named
    return path
