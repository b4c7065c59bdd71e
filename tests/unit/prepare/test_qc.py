"""Quality control on slices whose faults are known."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from mosaic.errors import InputError
from mosaic.prepare import qc, read


@pytest.fixture
def checked(raw_slice, tmp_path):
    """Twenty spots with ten counts in each of ten features, two of them mitochondrial, then one fault per spot."""
    raw = raw_slice(n_spots=20, n_features=10)
    counts = np.full((20, 10), 10.0)
    counts[0] = 0
    counts[0, 2] = 5  # few counts in one feature
    counts[1, :2] = 500  # mitochondrial
    counts[3, 9] = 0
    counts[4:, 9] = 0  # a feature in few spots: 1 and 2 but for the dropped ones
    raw.X = sparse.csr_matrix(counts.astype(np.float32))
    raw.var_names = ["MT-1", "mt-2", *[f"g{number}" for number in range(8)]]
    raw.obs["in_tissue"] = [1, 1, 0, *[1] * 17]
    raw.write_h5ad(tmp_path / "raw.h5ad")
    return read.read_slice(tmp_path / "raw.h5ad", "s1", "rna")


def test_the_metrics_are_those_of_scanpy(checked):
    counts = checked.layers["counts"].copy()
    counts.data *= np.random.default_rng(0).uniform(0.3, 2, counts.nnz).astype("f4")
    checked.layers["counts"] = counts
    var = pd.DataFrame({"mito": [True, True, *[False] * 8]}, checked.var_names)
    expected, _ = sc.pp.calculate_qc_metrics(ad.AnnData(counts, var=var), qc_vars=["mito"], percent_top=None)
    found = qc.spot_metrics(checked, "mt-")
    for own, theirs in {
        "total_counts": "total_counts",
        "n_features": "n_genes_by_counts",
        "mito_percent": "pct_counts_mito",
    }.items():
        np.testing.assert_array_equal(found[own], expected[theirs], err_msg=own)


def test_each_spot_falls_for_its_own_reason(checked):
    passed, metrics, summary = qc.filter_slice(
        checked, min_counts=20, min_features=5, min_spots=1, max_mito_percent=30, mito_prefix="mt-"
    )
    assert passed.n_obs == 17
    reasons = metrics["reasons"]
    assert reasons["s1:BC000-1"] == "few counts, few features"
    assert reasons["s1:BC001-1"] == "mitochondrial"
    assert reasons["s1:BC002-1"] == "off tissue"
    assert (reasons[metrics["kept"]] == "").all()
    assert summary["spots_dropped_by_reason"] == {
        "off tissue": 1,
        "few counts": 1,
        "few features": 1,
        "mitochondrial": 1,
    }
    assert summary["features_dropped"] == {"seen in fewer than min_spots spots": ["g7"]}
    assert metrics.loc["s1:BC001-1", "mito_percent"] == pytest.approx(100 * 1000 / 1080)
    assert metrics.loc["s1:BC003-1", "total_counts"] == 90


def test_bounds_by_deviations():
    values = np.array([90.0, 95, 100, 105, 110])
    # Median 100, median absolute deviation 5, scaled to a normal's standard deviation.
    assert qc.threshold(values, {"mads": 2}, side=1, log=False) == pytest.approx(100 + 2 * 5 / 0.6744897501960817)
    logs = np.log1p(values)
    bound = np.median(logs) - 3 * np.median(np.abs(logs - np.median(logs))) / 0.6744897501960817
    assert qc.threshold(values, {"mads": 3}, side=-1, log=True) == pytest.approx(np.expm1(bound))
    assert qc.threshold(values, 7, side=-1, log=True) == 7
    assert qc.threshold(values, None, side=-1, log=True) is None


def test_a_spot_without_counts_leaves_the_bounds_of_the_others(checked):
    counts = checked.layers["counts"].toarray()
    counts[0] = 0
    checked.layers["counts"] = sparse.csr_matrix(counts)
    _, metrics, summary = qc.filter_slice(checked, min_counts=1, max_mito_percent={"mads": 3}, mito_prefix="mt-")
    assert metrics["reasons"].tolist()[:4] == ["few counts", "mitochondrial", "off tissue", ""]
    assert np.isfinite(summary["thresholds"]["mito_percent"])


def test_a_bound_at_the_median_keeps_the_spots_that_have_it():
    for number in range(1, 300):
        values = np.array([number] * 9 + [number + 5], dtype=np.float32)
        assert number - 1e-3 < qc.threshold(values, {"mads": 3}, side=-1, log=True) <= number


def test_min_spots_of_a_small_slice_is_told(raw_slice, caplog):
    for n_spots, told in ((300, False), (30, True)):
        raw = raw_slice(n_spots=n_spots, n_features=40)
        rare = np.random.default_rng(0).random((n_spots, 30)) < 0.05
        raw.X = sparse.csr_matrix(np.hstack([np.ones((n_spots, 10)), rare]).astype(np.float32))
        _, _, summary = qc.filter_slice(read.read_slice(raw, "s1", "rna"), min_spots=3)
        assert ("slice s1: min_spots 3 asks a feature to be seen in 10 % of its 30 spots" in caplog.text) == told
        assert bool(summary["features_dropped"]["seen in fewer than min_spots spots"]) == told


def test_features_know_only_the_tissue(checked):
    features = checked.copy()
    del features.layers["counts"]
    passed, _, summary = qc.filter_slice(features, min_counts=20, min_features=5, min_spots=3)
    assert passed.n_obs == 19
    assert summary["spots_dropped_by_reason"] == {"off tissue": 1}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"min_counts": 1e6}, r"slice s1: no spot of 20 passes quality control \(1 off tissue, 19 few counts"),
        ({"min_spots": 21}, "no feature is seen in 21 spots"),
        ({"max_mito_percent": 5, "mito_prefix": "chrM"}, "no feature begins with 'chrM'"),
    ],
)
def test_nothing_left_is_an_error(checked, settings, problem):
    with pytest.raises(InputError, match=problem):
        qc.filter_slice(checked, **settings)
