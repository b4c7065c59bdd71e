"""A run that is not to be believed ends with an error where the config asks for it, and its checks stay."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from chain import THREE_SLICES

from mosaic import store

pytestmark = pytest.mark.slow

CHECKS = "results/spamosaic/seed-1234/checks.tsv"
PASSED = "results/spamosaic/seed-1234/checks.passed"
CONFIG = """
slices: config/slices.tsv
modalities: {rna: {kind: rna, batch_correction: none}, adt: {kind: protein, batch_correction: none}}
train: {T: 0.1, n_epochs: 30}
cluster: {n_domains: 3}
checks: {imputation: false, fail_on: [imputation]}
"""


def test_run_ends_on_a_check_that_fails_and_the_verdict_stays(checkout):
    # A slice that shares nothing with the other: its genes bear each other's names.
    checkout.simulate(THREE_SLICES | {"slices": {"s1": ["rna", "adt"], "s2": ["rna"]}}, CONFIG)
    path = checkout.folder / "user" / "s2.rna.h5ad"
    adata = ad.read_h5ad(path)
    adata.X = adata.X[:, np.random.default_rng(0).permutation(adata.n_vars)]
    store.write(adata, path)
    # What was not checked ends no run, and a check that failed ends it only where the config names it.
    done = checkout.snakemake(PASSED)
    assert done.returncode == 0, done.stdout + done.stderr

    (checkout.folder / "config/config.yaml").write_text(CONFIG.replace("[imputation]", "[slices mix, imputation]"))
    done = checkout.snakemake(PASSED)
    assert done.returncode == 1
    assert "checks.fail_on" in done.stdout + done.stderr
    assert "slices mix: failed" in done.stdout + done.stderr
    assert "imputation" not in (done.stdout + done.stderr).split("checks.fail_on")[-1].split("Error in rule")[0]
    checks = pd.read_csv(checkout.folder / CHECKS, sep="\t").set_index("check")
    assert checks.loc["slices mix", "status"] == "fail"
    assert checks.loc["imputation", "status"] == "not checked"
    assert not (checkout.folder / PASSED).exists()
