"""Imputation where the right answer is known by construction."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mosaic import impute, spots
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
    embedding = spots.collect_embeddings(graphs, {"rna": latent("s1", "s2"), "adt": latent("s1")})
    counts = np.array([[4.0, 0, 1], [0, 8, 1]])[group]
    counts[:10:2, 0] += 2  # 4 and 6 in the first group
    donor = ad.AnnData(sparse.csr_matrix(counts), obs=obs["adt"], var=pd.DataFrame(index=["a", "b", "c"]))
    donor.layers["counts"] = donor.X.copy()
    return embedding, donor


def test_mean_and_spread_of_the_neighbours(mosaic):
    embedding, donor = mosaic
    done = impute.impute_modality(embedding, "s2", "adt", [donor], n_neighbors=10)
    assert done.obs_names.tolist() == [f"s2:B{number}" for number in range(20)]
    mean, spread = (impute.dense(done.layers[name]) for name in ("imputed", "imputed_sd"))
    np.testing.assert_allclose(mean, np.repeat([[5.0, 0, 1], [0, 8, 1]], 10, axis=0), rtol=1e-6)
    np.testing.assert_allclose(spread, np.repeat([[1.0, 0, 0], [0, 0, 0]], 10, axis=0), atol=1e-3)


def test_donor_rows_may_come_in_any_order(mosaic):
    embedding, donor = mosaic
    done = impute.impute_modality(embedding, "s2", "adt", [donor], n_neighbors=3)
    shuffled = impute.impute_modality(embedding, "s2", "adt", [donor[::-1].copy()], n_neighbors=3)
    np.testing.assert_allclose(impute.dense(done.layers["imputed"]), impute.dense(shuffled.layers["imputed"]))


def test_measured_modalities_count_alike(mosaic):
    embedding, donor = mosaic
    # A second measured modality of s2 that places all its spots in the second group pulls half of the weight there.
    extra = ad.AnnData(
        obs=embedding["rna"].obs[20:],
        obsm={spots.LATENT: np.tile(np.array([0.0, 1], dtype=np.float32), (20, 1)), "spatial": np.zeros((20, 2))},
    )
    embedding.mod["atac"] = extra
    done = impute.impute_modality(embedding, "s2", "adt", [donor], n_neighbors=10)
    np.testing.assert_allclose(impute.dense(done.layers["imputed"])[0], [2.5, 4, 1], rtol=1e-6)


def test_sparse_results_stay_sparse(mosaic):
    embedding, donor = mosaic
    wide = ad.concat([donor, donor, donor], axis=1, merge="first")
    wide.var_names = [f"p{number}" for number in range(9)]
    wide.layers["counts"] = sparse.csr_matrix(np.eye(20, 9, dtype=np.float32))
    done = impute.impute_modality(embedding, "s2", "adt", [wide], n_neighbors=1)
    assert sparse.issparse(done.layers["imputed"])


def test_a_slice_without_spots(mosaic):
    embedding, donor = mosaic
    with pytest.raises(InputError, match="slice s9: has no spots"):
        impute.impute_modality(embedding, "s9", "adt", [donor], n_neighbors=1)


def test_most_variable_by_log_counts(mosaic):
    _, donor = mosaic
    assert impute.most_variable(donor, 2) == ["b", "a"]
