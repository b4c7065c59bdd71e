"""A run on slices of different panels, with images, to the result files."""

import json

import numpy as np
import pandas as pd
import pytest

from mosaic import store

DESIGN = {
    "grid": {"rows": 12, "columns": 12, "pitch": 100},
    "domains": {"a": 1, "b": 1, "c": 1},
    "slices": {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["rna"]},
    "modalities": {
        "rna": {"kind": "rna", "n_features": 150, "depth": 800, "markers": 15, "marker_fold": 5.0},
        "adt": {"kind": "protein", "n_features": 20, "depth": 1500, "markers": 3, "marker_fold": 5.0},
    },
}
CONFIG = {
    "modalities": {"rna": {"kind": "rna", "features": "union", "n_comps": 10}, "adt": {"kind": "protein"}},
    "cluster": {"n_domains": 3},
    "train": {"T": 0.1, "n_epochs": 20},
    "checks": {"imputation": False},
}


@pytest.mark.slow
def test_from_panels_to_figures_and_result(checkout):
    checkout.simulate(DESIGN, json.dumps(CONFIG))
    path = checkout.folder / "user/s2.rna.h5ad"
    adata = store.read(path)
    panel = adata[:, ::3].copy()
    # Under identifiers that the others have beside their names.
    for name in ("s1", "s3"):
        other = store.read(checkout.folder / f"user/{name}.rna.h5ad")
        other.var["gene_ids"] = [f"ENSG{number:011d}" for number in range(other.n_vars)]
        store.write(other, checkout.folder / f"user/{name}.rna.h5ad")
    panel.var_names = [f"ENSG{number:011d}" for number in range(0, 150, 3)]
    image = np.full((300, 300, 3), 200, np.uint8)
    panel.uns["spatial"] = {"lib": {"images": {"hires": image}, "scalefactors": {"tissue_hires_scalef": 0.2}}}
    panel.uns["microns_per_unit"] = 1.0
    store.write(panel, path)
    done = checkout.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    results = checkout.folder / "results"
    listed = pd.read_csv(results / "features/rna.tsv", sep="\t")
    assert (listed["n_slices"] == 3).sum() == 50
    result = store.read(results / "integrated.h5mu")
    assert result["rna"].varm["measured"].sum().to_dict() == {"s1": 150, "s2": 50, "s3": 150}
    imputed = store.read(results / "spamosaic/seed-1234/imputed/s2.rna.h5ad")
    assert imputed.shape == (144, 100)
    assert store.read(results / "spamosaic/seed-1234/imputed/s1.rna.h5ad").n_vars == 0
    assert result["rna_imputed"].shape == (144, 100)
    assert set(imputed.var_names) == set(adata.var_names) - set(adata.var_names[::3])
    assert (results / "spamosaic/seed-1234/figures/domains.png").exists()
    loupe = pd.read_csv(results / "domains/s2.loupe.csv")
    assert loupe["Barcode"].tolist() == adata.obs_names.tolist()
