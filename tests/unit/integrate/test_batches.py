"""What a step sees: every spot in its turn."""

import numpy as np
import pytest
import torch
from chain import small_graph
from scipy import sparse

from mosaic.errors import InputError
from mosaic.integrate import batches
from mosaic.integrate.model import new_encoders

BATCHED = {"full_batch_max": 10, "batch_size": 25}


@pytest.fixture(scope="module")
def graphs():
    """s1 has both modalities, but for some spots; s2 rna alone and half of the spots; s3 adt alone."""
    rna, adt = small_graph(["s1", "s2"]), small_graph(["s1", "s3"], seed=1)
    return {"rna": rna[np.r_[2:60, 60:90]].copy(), "adt": adt[np.r_[0:57, 60:120]].copy()}


def batches_of(graphs, **settings):
    return batches.Batches(graphs, new_encoders(graphs, seed=0), **settings)


def rows_of(batch, graphs, name):
    """Rows of the spots in a step, known by their features, which are the first part of what is encoded."""
    known = {tuple(row): number for number, row in enumerate(graphs[name].X)}
    return np.array([known[tuple(row)] for row in batch.inputs[name].x[:, : graphs[name].n_vars].numpy()])


def test_one_step_sees_all_spots_in_their_order(graphs):
    (batch,) = batches_of(graphs)
    for name, adata in graphs.items():
        np.testing.assert_array_equal(rows_of(batch, graphs, name), np.arange(adata.n_obs))
    assert len(batch.contrasted) == 1
    assert sum(len(batch.inputs[name].x[places]) for name, places in batch.reconstructed) == sum(
        adata.n_obs for adata in graphs.values()
    )


def test_an_epoch_of_batches_leaves_no_spot_out(graphs):
    made = batches_of(graphs, **BATCHED)
    assert made.n_steps == 3  # of the 60 spots of s3
    seen = {name: [] for name in graphs}
    for batch in made:
        (positives,) = batch.contrasted
        for name, (places, spot) in positives.items():
            rows = rows_of(batch, graphs, name)
            assert len(set(rows)) == len(rows)
            barcodes = graphs[name].obs["barcode"].to_numpy()[rows[places]]
            assert (graphs[name].obs["slice"].to_numpy()[rows[places]] == "s1").all()
            seen[name].append(rows)
            if name == "rna":
                first = dict(zip(spot.tolist(), barcodes, strict=True))
            else:
                assert first == dict(zip(spot.tolist(), barcodes, strict=True))
        # 55 paired spots, and the 60 of s3, in even parts.
        assert len(spot) in (18, 19)
    for name, parts in seen.items():
        assert set(np.concatenate(parts)) == set(range(graphs[name].n_obs))
    # s2 has 30 spots, two batches: the first of its second round comes in the third step.
    assert [int((rows >= 58).sum()) for rows in seen["rna"]] == [15, 15, 15]


def test_epochs_differ_and_a_seed_gives_the_same(graphs):
    def drawn(made):
        return [np.concatenate([rows_of(batch, graphs, "rna") for batch in made]) for _ in range(2)]

    first, second = drawn(batches_of(graphs, **BATCHED, seed=3))
    assert not np.array_equal(first, second)
    for one, other in zip((first, second), drawn(batches_of(graphs, **BATCHED, seed=3)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("settings", [{}, BATCHED])
def test_edges_are_those_of_the_tissue(graphs, settings):
    n_edges = 0
    for batch in batches_of(graphs, **settings, with_edges=True):
        for (name, places), edges, absent in zip(batch.reconstructed, batch.edges, batch.absent, strict=True):
            rows = rows_of(batch, graphs, name)
            around = graphs[name].obsp["spatial_connectivities"].toarray() + np.eye(graphs[name].n_obs)
            assert around[rows[edges[0]], rows[edges[1]]].all()
            own = set(torch.arange(len(rows))[places].tolist())
            assert set(edges[0].tolist()) == own
            assert set(absent.ravel().tolist()) <= own
            assert absent.shape == edges.shape
            n_edges += edges.shape[1]
    if not settings:
        assert n_edges == sum(adata.obsp["spatial_connectivities"].nnz + adata.n_obs for adata in graphs.values())


def paired(n_shared):
    """A bridge slice of which so many of 60 spots are paired."""
    adt = small_graph(["s1"], seed=1)
    adt.obs_names = [name if number < n_shared else f"s1:other{number}" for number, name in enumerate(adt.obs_names)]
    return {"rna": small_graph(["s1"]), "adt": adt}


def test_a_slice_with_one_paired_spot_aligns_nothing():
    """The contrastive loss is 0 then, whatever the encoders do."""
    with pytest.raises(InputError, match=r"slice s1: rna and adt share one spot"):
        batches_of(paired(1))
    (batch,) = batches_of(paired(2))
    assert len(batch.contrasted) == 1


def test_few_paired_spots_are_told(caplog):
    batches_of(paired(5))
    assert "slice s1: rna and adt share 5 of 60 spots only" in caplog.text
    caplog.clear()
    batches_of(paired(6))
    assert not caplog.text


def test_an_unknown_reconstruction_is_an_error(graphs):
    with pytest.raises(InputError, match=r"train.reconstruct: 'query' is not known"):
        batches_of(graphs, reconstruct="query")


def test_coupled_encoders_get_tiles_of_the_tissue_and_what_lies_around_them(graphs, monkeypatch):
    monkeypatch.setattr(batches, "_TILE", 5)
    encoders = new_encoders(graphs, seed=0, net="gcn", K=1)
    made = batches.Batches(graphs, encoders, **BATCHED)
    seen, n_around = [], []
    for batch in made:
        data = batch.inputs["rna"]
        rows = rows_of(batch, graphs, "rna")
        core = rows[data.core.numpy()]
        seen.append(core)
        n_around.append(len(rows))
        assert set(core) <= set(rows)
        # All messages to the spots of the step are there, with the weights of the whole graph.
        whole = encoders["rna"].inputs(batches.to_data(graphs["rna"]))
        at = np.unique(core)
        weights = [
            sparse.csr_matrix((own.edge_weight, names[own.edge_index.numpy()]), shape=(graphs["rna"].n_obs,) * 2)[:, at]
            for own, names in ((whole, np.arange(graphs["rna"].n_obs)), (data, rows))
        ]
        assert abs(weights[0] - weights[1]).max() == 0
    assert set(np.concatenate(seen)) == set(range(graphs["rna"].n_obs))
    # Tiles need fewer spots around them than spots drawn one by one.
    monkeypatch.setattr(batches, "_TILE", 1)
    scattered = [len(batch.inputs["rna"].x) for batch in batches.Batches(graphs, encoders, **BATCHED)]
    assert np.mean(n_around) < np.mean(scattered)
