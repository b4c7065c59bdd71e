"""Imputation where the right answer is known by construction."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic import blocks, spots, store
from mosaic.analyse import impute, imputed, intervals, regression
from mosaic.analyse.donors import matched_donors, nearest_donors, smooth_latent
from mosaic.embedding import LATENT, collect_embeddings
from mosaic.errors import InputError


@pytest.fixture
def mosaic():
    """Two groups of spots, at opposite places of the latent space; only s1 measured adt. And the donors' counts."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 10)

    def table(name):
        barcodes = [f"B{number}" for number in range(20)]
        obs = pd.DataFrame({"slice": pd.Categorical([name] * 20), "barcode": barcodes})
        return obs.set_index(pd.Index([f"{name}:{barcode}" for barcode in barcodes]))

    def latent(*names):
        z = np.tile(np.array([[1.0, 0], [0, 1]])[group], (len(names), 1))
        return (z + rng.normal(scale=0.01, size=z.shape)).astype(np.float32)

    obs = {"rna": pd.concat([table("s1"), table("s2")]), "adt": table("s1")}
    graphs = {
        name: ad.AnnData(obs=frame, obsm={"spatial": rng.normal(size=(len(frame), 2))}) for name, frame in obs.items()
    }
    embedding = collect_embeddings(graphs, {"rna": latent("s1", "s2"), "adt": latent("s1")})
    counts = np.array([[4.0, 0, 1], [0, 8, 1]])[group]
    counts[:10:2, 0] += 2  # 4 and 6 in the first group
    donor = ad.AnnData(sparse.csr_matrix(counts), obs=obs["adt"], var=pd.DataFrame(index=["a", "b", "c"]))
    donor.layers["counts"] = donor.X.copy()
    return embedding, donor


def test_mean_and_spread_of_the_neighbours(mosaic):
    embedding, donor = mosaic
    done = impute.impute_modality(embedding, "s2", "adt", {"adt": donor}, method="nearest", n_neighbors=10)
    assert done.obs_names.tolist() == [f"s2:B{number}" for number in range(20)]
    mean, spread = (done.layers[name].toarray() for name in ("imputed", "imputed_sd"))
    np.testing.assert_allclose(mean, np.repeat([[5.0, 0, 1], [0, 8, 1]], 10, axis=0), rtol=1e-6)
    np.testing.assert_allclose(spread, np.repeat([[1.0, 0, 0], [0, 0, 0]], 10, axis=0), atol=1e-3)


def test_a_match_leaves_out_hubs_and_oneself():
    # Donor 0 lies amid all queries; each query has two donors of its own a little farther.
    queries = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    donors = np.vstack([[[0.0, 0]], 2.05 * queries, 2.1 * queries])

    def chosen(weights):
        return [set(row.indices.tolist()) for row in weights]

    assert chosen(nearest_donors(queries, donors, 2)) == [{0, 1}, {0, 2}, {0, 3}, {0, 4}]
    assert chosen(matched_donors(queries, donors, 2)) == [{1, 5}, {2, 6}, {3, 7}, {4, 8}]
    among = matched_donors(queries, queries, 2, own=np.arange(4))
    assert among.diagonal().sum() == 0
    np.testing.assert_allclose(np.asarray(among.sum(axis=1)), 1)
    assert matched_donors(queries, donors, 20).getnnz(axis=1).tolist() == [9, 9, 9, 9]
    # Without further candidates, nothing is ranked anew.
    assert chosen(matched_donors(queries, donors, 2, candidates=1)) == chosen(nearest_donors(queries, donors, 2))
    assert matched_donors(queries, queries, 2, own=np.arange(4), candidates=1).diagonal().sum() == 0


def test_latent_coordinates_are_averaged_within_a_slice():
    places = np.array([[0.0, 0], [1, 0], [2, 0], [0, 0], [1, 0], [2, 0]])
    obs = pd.DataFrame({"slice": ["a"] * 3 + ["b"] * 3}, index=list("uvwxyz"))
    adata = ad.AnnData(obs=obs, obsm={LATENT: np.arange(12.0).reshape(6, 2), "spatial": places})
    np.testing.assert_array_equal(smooth_latent(adata, 0), adata.obsm[LATENT])
    smooth = smooth_latent(adata, 1)
    np.testing.assert_allclose(smooth[[0, 2, 3, 5]], [[1, 2], [3, 4], [7, 8], [9, 10]])
    np.testing.assert_allclose(smooth_latent(adata, 2)[:3], np.tile([2.0, 3], (3, 1)))


def test_regression_carries_over_what_the_source_says():
    """Features 0 and 1 follow the source's depth, feature 2 does not; the queries are twice as deep for all that."""
    rng = np.random.default_rng(0)

    def measured(n_spots, depth):
        deep = rng.uniform(0.5, 1.5, n_spots)
        source = rng.poisson(depth * deep[:, None] * np.array([20.0, 40, 10]))
        counts = rng.poisson(np.column_stack([100 * deep, 60 * deep, np.full(n_spots, 50)]))
        return deep, sparse.csr_matrix(source, dtype=float), sparse.csr_matrix(counts, dtype=float)

    _, source, counts = measured(300, 1)
    deep, queries, _ = measured(200, 2)
    rows = np.repeat(np.arange(300), 20)
    among = sparse.csr_matrix((np.full(6000, 1 / 20), (rows, rng.integers(300, size=6000))), shape=(300, 300))
    weights = sparse.csr_matrix(np.full((200, 300), 1 / 300))
    explained, difference, coefficients = regression.regression_shift(
        source, counts, np.arange(300), among, queries, weights
    )
    assert explained.tolist() == [0, 1]
    shift = difference @ coefficients
    assert np.corrcoef(shift[:, 0], deep)[0, 1] > 0.9
    np.testing.assert_allclose(shift.mean(axis=0), 0, atol=1e-9)
    assert np.polyfit(deep, shift[:, 0], 1)[0] > 50
    none = regression.regression_shift(source, counts, np.arange(300), among, queries, weights, least_gain=np.inf)
    assert not none.features.size


def test_matching_takes_bridge_donors_and_shifts_by_depth(mosaic):
    embedding, donor = mosaic
    rng = np.random.default_rng(1)
    depth = rng.uniform(0.5, 2, 40)
    rna = sparse.csr_matrix(rng.poisson(50 * depth[:, None], (40, 5)).astype(np.float32))
    measured = ad.AnnData(rna, obs=embedding["rna"].obs.copy(), layers={"counts": rna})
    follows = donor.copy()
    follows.layers["counts"] = sparse.csr_matrix(np.round(donor.X.toarray() * 20 * depth[:20, None]))
    counts = {"adt": follows, "rna": measured}
    done = impute.impute_modality(embedding, "s2", "adt", counts, n_neighbors=5, smooth_neighbors=0)
    values = done.layers["imputed"].toarray()
    assert (values >= 0).all()
    assert values[:10, 0].min() > values[10:, 0].max()
    assert np.corrcoef(values[:, 2], depth[20:])[0, 1] > 0.9
    nearest = impute.impute_modality(embedding, "s2", "adt", counts, method="nearest", n_neighbors=5)
    assert abs(np.corrcoef(nearest.layers["imputed"].toarray()[:, 2], depth[20:])[0, 1]) < 0.6


def test_without_a_slice_that_measured_both_nothing_is_regressed(mosaic, caplog):
    embedding, donor = mosaic
    for name, renamed in (("adt", "s3:"), ("rna", "s2:")):
        part = embedding[name][embedding[name].obs["slice"] == ("s1" if name == "adt" else "s2")].copy()
        part.obs_names = [renamed + barcode for barcode in part.obs["barcode"]]
        part.obs["slice"] = renamed[:2]
        embedding.mod[name] = part
    union = spots.union({name: adata.obs for name, adata in embedding.mod.items()})
    apart = md.MuData(dict(embedding.mod))[union.index].copy()
    apart.obs = union
    apart.obsm["spatial"] = np.zeros((len(union), 2))
    donor.obs_names = apart["adt"].obs_names
    with caplog.at_level("INFO", logger="mosaic"):
        done = impute.impute_modality(apart, "s2", "adt", {"adt": donor}, n_neighbors=10, smooth_neighbors=0)
    assert "nothing is regressed" in caplog.text
    np.testing.assert_allclose(done.layers["imputed"].toarray()[:, 1], np.repeat([0.0, 8], 10), atol=1e-5)


def test_donor_rows_may_come_in_any_order(mosaic):
    embedding, donor = mosaic
    done = impute.impute_modality(embedding, "s2", "adt", {"adt": donor}, method="nearest", n_neighbors=3)
    shuffled = impute.impute_modality(embedding, "s2", "adt", {"adt": donor[::-1]}, method="nearest", n_neighbors=3)
    np.testing.assert_allclose(done.layers["imputed"].toarray(), shuffled.layers["imputed"].toarray())


def test_measured_modalities_count_alike(mosaic):
    embedding, donor = mosaic
    # A second measured modality of s2 that places all its spots in the second group pulls half of the weight there.
    extra = ad.AnnData(
        obs=embedding["rna"].obs[20:],
        obsm={LATENT: np.tile(np.array([0.0, 1], dtype=np.float32), (20, 1)), "spatial": np.zeros((20, 2))},
    )
    embedding.mod["atac"] = extra
    done = impute.impute_modality(embedding, "s2", "adt", {"adt": donor}, method="nearest", n_neighbors=10)
    np.testing.assert_allclose(done.layers["imputed"].toarray()[0], [2.5, 4, 1], rtol=1e-6)


def test_block_by_block_on_disk_as_at_once_in_memory(mosaic, tmp_path, monkeypatch):
    embedding, donor = mosaic
    rng = np.random.default_rng(0)
    rna = sparse.csr_matrix(rng.poisson(50 * rng.uniform(0.5, 2, 40)[:, None], (40, 5)).astype(np.float32))
    measured = ad.AnnData(rna, obs=embedding["rna"].obs.copy(), layers={"counts": rna})
    counts = {"adt": donor, "rna": measured}
    expected = impute.impute_modality(embedding, "s2", "adt", counts, n_neighbors=5)
    assert len(list(impute.plan_imputation(embedding, "s2", "adt", counts, n_neighbors=5).blocks())) == 1
    imputation = impute.plan_imputation(embedding, "s2", "adt", counts, n_neighbors=5)
    monkeypatch.setattr(blocks, "BLOCK_VALUES", 21)  # seven spots of three features
    assert len(list(imputation.blocks())) == 3
    imputed.write_imputed(imputation, tmp_path / "made.h5ad")
    done = store.read(tmp_path / "made.h5ad")
    for name in intervals.LAYERS:
        np.testing.assert_array_equal(done.layers[name].toarray(), expected.layers[name].toarray())
    pd.testing.assert_frame_equal(done.obs, expected.obs, check_dtype=False, check_categorical=False)
    assert done.var_names.tolist() == expected.var_names.tolist()
    np.testing.assert_array_equal(done.obsm["spatial"], expected.obsm["spatial"])
    assert [path.name for path in tmp_path.iterdir()] == ["made.h5ad"]


def test_the_regression_is_fitted_on_a_sample_of_many_donors(mosaic, caplog):
    embedding, donor = mosaic
    rna = sparse.csr_matrix(np.random.default_rng(0).poisson(5.0, (40, 5)).astype(np.float32))
    measured = ad.AnnData(rna, obs=embedding["rna"].obs.copy(), layers={"counts": rna})
    with caplog.at_level("INFO", logger="mosaic"):
        impute.impute_modality(embedding, "s2", "adt", {"adt": donor, "rna": measured}, most_fitted=15)
    assert "the regression is fitted on 15 of 20 donors" in caplog.text


def test_a_slice_without_spots(mosaic):
    embedding, donor = mosaic
    with pytest.raises(InputError, match="slice s9: has no spots"):
        impute.impute_modality(embedding, "s9", "adt", {"adt": donor})


@pytest.fixture
def panels(mosaic):
    """RNA of three slices in one latent space: s1 measured a to d, s2 a and b, s3 a, b and c; groups differ in all."""
    embedding, _ = mosaic
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1], 10)
    own = {"s1": "abcd", "s2": "ab", "s3": "abc"}
    slices, latent = [], []
    for name, features in own.items():
        obs = embedding.obs.iloc[:20][["slice", "barcode"]].assign(slice=pd.Categorical([name] * 20))
        obs.index = [f"{name}:{barcode}" for barcode in obs["barcode"]]
        values = {feature: np.where(group == number % 2, 8.0, 2) for number, feature in enumerate("abcd")}
        values["c"] = values["c"] + (10 if name == "s3" else 0)
        counts = sparse.csr_matrix(np.column_stack([values[feature] for feature in features]))
        adata = ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(features)), layers={"counts": counts})
        adata.obsm["spatial"] = rng.normal(size=(20, 2))
        slices.append(adata)
        latent.append(np.array([[1.0, 0], [0, 1]])[group] + rng.normal(scale=0.01, size=(20, 2)))
    stacked = spots.stack(slices, "rna", "union")
    return collect_embeddings({"rna": stacked}, {"rna": np.vstack(latent).astype(np.float32)}), stacked


@pytest.mark.parametrize("method", ["matching", "nearest"])
def test_features_that_a_panel_lacks_come_from_the_slices_that_measured_them(panels, method, tmp_path):
    embedding, counts = panels
    settings = {"method": method, "n_neighbors": 5}
    done = impute.impute_modality(embedding, "s2", "rna", {"rna": counts}, **settings)
    assert done.obs_names.tolist() == [f"s2:B{number}" for number in range(20)]
    assert sorted(done.var_names) == ["c", "d"]
    values = pd.DataFrame(done.layers["imputed"].toarray(), columns=done.var_names)
    # d is of s1 alone; zeros where s3 did not measure it would halve it.
    np.testing.assert_allclose(values["d"], np.repeat([2, 8], 10), atol=1)
    # c is of s1, which has 8 and 2, and of s3, which has 18 and 12.
    first, second = values["c"].iloc[:10].mean(), values["c"].iloc[10:].mean()
    assert 8 < first < 18
    assert 2 < second < first - 1
    plan = impute.plan_modality(embedding, "s2", "rna", {"rna": counts}, **settings)
    imputed.write_imputed(plan, tmp_path / "made.h5ad")
    made = store.read(tmp_path / "made.h5ad")
    np.testing.assert_array_equal(made.layers["imputed"].toarray(), done.layers["imputed"].toarray())
    assert made.var["unit"].gt(0).all()


def test_a_slice_that_measured_all_has_nothing_imputed(panels, tmp_path):
    embedding, counts = panels
    plan = impute.plan_modality(embedding, "s1", "rna", {"rna": counts}, n_neighbors=5)
    imputed.write_imputed(plan, tmp_path / "made.h5ad")
    made = store.read(tmp_path / "made.h5ad")
    assert made.shape == (20, 0)
    assert made.layers["imputed"].shape == (20, 0)
    assert impute.impute_modality(embedding, "s1", "rna", {"rna": counts}, n_neighbors=5).shape == (20, 0)


def test_slices_with_one_panel_have_nothing_to_impute(mosaic):
    embedding, donor = mosaic
    assert impute.impute_modality(embedding, "s1", "adt", {"adt": donor}, method="nearest").shape == (20, 0)
