"""Files that do not belong together end a run early, and a pairing made anew makes nothing else anew."""

import json

import anndata as ad
import numpy as np
from chain import THREE_SLICES

CONFIG = """
modalities: {rna: {kind: rna}, adt: {kind: protein}}
cluster: {n_domains: 3}
"""
REDUCED = ("results/reduced/rna.h5ad", "results/reduced/adt.h5ad")


def test_a_run_ends_at_files_that_dont_belong_together_and_goes_on_when_they_are_mended(checkout):
    checkout.simulate(THREE_SLICES | {"slices": {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["rna"]}}, CONFIG)
    path = checkout.folder / "user/s1.adt.h5ad"
    adata = ad.read_h5ad(path)
    right = adata.obsm["spatial"]
    adata.obsm["spatial"] = np.ascontiguousarray(right[:, ::-1])
    adata.write_h5ad(path)
    other = checkout.folder / "user/s2.rna.h5ad"
    genes = ad.read_h5ad(other)
    names = genes.var_names
    genes.var_names = [f"ENSG{number}" for number in range(genes.n_vars)]
    genes.write_h5ad(other)
    third = checkout.folder / "user/s3.rna.h5ad"
    own = third.read_bytes()
    third.write_bytes((checkout.folder / "user/s1.rna.h5ad").read_bytes())

    done = checkout.snakemake(*REDUCED)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "InputError: 3 faults in what the files share" in text
    assert "adt has the places of rna, x and y exchanged" in text
    assert "modality rna: the slices share 0 of 120 features" in text
    assert "rna of slice s3: holds the very same barcodes, features and values as rna of s1" in text
    assert "Traceback" not in text
    assert not (checkout.folder / "results/reduced").exists() or not [*(checkout.folder / "results/reduced").iterdir()]

    adata.obsm["spatial"] = right
    adata.write_h5ad(path)
    genes.var_names = names
    genes.write_h5ad(other)
    third.write_bytes(own)
    done = checkout.snakemake(*REDUCED)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((checkout.folder / "results/pairing.json").read_text())
    assert [row["shared"] for row in told["spots"]] == [144]
    assert told["warnings"] == []

    adata[:100].write_h5ad(path)
    assert checkout.would_run(REDUCED[0], "results/pairing.json") == {"qc", "pair"}
