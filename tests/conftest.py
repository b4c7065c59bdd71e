"""Small slices for all tests, and the published data sets where they are at hand."""

import os
from pathlib import Path

# Tests run side by side: threads that spin while they wait would take the other tests' cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the published data sets are not at hand (../shared/data)")
    return SHARED_DATA


@pytest.fixture
def raw_slice():
    """Maker of a slice as a user's file holds it: Poisson counts, bare barcodes, places on a square grid."""

    def make(n_spots: int = 30, n_features: int = 12, *, seed: int = 0, rate: float = 3.0, prefix: str = "g"):
        rng = np.random.default_rng(seed)
        adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate, (n_spots, n_features)).astype(np.float32)))
        adata.obs_names = [f"BC{number:03d}-1" for number in range(n_spots)]
        adata.var_names = [f"{prefix}{number}" for number in range(n_features)]
        width = int(np.ceil(np.sqrt(n_spots)))
        adata.obsm["spatial"] = np.column_stack(np.divmod(np.arange(n_spots), width)).astype(float)
        return adata

    return make


@pytest.fixture
def written(tmp_path):
    """Writer of an AnnData to a file."""

    def write(adata, name: str = "slice.h5ad") -> Path:
        path = tmp_path / name
        adata.write_h5ad(path)
        return path

    return write
