"""The number of cores that a user gives to Snakemake changes no bit of the result."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

RUN = "results/spamosaic/seed-1234"
IMPUTED, FOLD = f"{RUN}/imputed/s2.adt.h5ad", "results/check/folds/s1.adt.1.h5ad"


def run(checkout, cores: int):
    """What computes, on the demo with smaller slices and fewer epochs; of the drawings one: tables have the others."""
    design = checkout.folder / "resources/demo.yaml"
    text = design.read_text()
    assert text.count("grid: {rows: 40, columns: 38") == 1
    design.write_text(text.replace("grid: {rows: 40, columns: 38", "grid: {rows: 26, columns: 25"))
    # The folds run as well: imputation takes its intervals from them.
    targets = [IMPUTED, f"{RUN}/figures/latent.png"]
    done = checkout.snakemake(*targets, "--config", "train={T: 0.1, n_epochs: 30}", cores=cores)
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout.folder


def test_the_same_bits_with_one_core(make_checkout):
    two, one = (run(make_checkout(), cores) for cores in (2, 1))
    # Tables and drawings byte for byte; times differ.
    found = [path.relative_to(one) for kind in ("*.tsv", "*.svg") for path in (one / "results").rglob(kind)]
    compared = [path for path in found if "benchmarks" not in path.parts]
    assert len(compared) > 10
    for path in compared:
        assert (one / path).read_bytes() == (two / path).read_bytes(), path
    first, second = (md.read_h5mu(folder / RUN / "embedding.h5mu") for folder in (two, one))
    np.testing.assert_array_equal(first.obsm["X_latent"], second.obsm["X_latent"])
    first, second = (ad.read_h5ad(folder / IMPUTED) for folder in (two, one))
    assert {"imputed", "imputed_sd"} <= set(first.layers)
    for layer in first.layers:
        assert abs(first.layers[layer] - second.layers[layer]).max() == 0
    first, second = (ad.read_h5ad(folder / FOLD) for folder in (two, one))
    pd.testing.assert_frame_equal(first.obs, second.obs, check_exact=True)
    assert len(first.varm) > 0
    for key in first.varm:
        np.testing.assert_array_equal(first.varm[key], second.varm[key])
