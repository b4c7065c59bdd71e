"""Domains of embeddings whose groups are known by construction, and of the recorded embedding of the publication."""

import random
import re
from pathlib import Path

import igraph
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import logsumexp
from sklearn.metrics import adjusted_rand_score

from mosaic.analyse import domains, leiden, mixture, n_domains
from mosaic.analyse.domains import cluster_domains
from mosaic.analyse.mixture import MixtureSettings
from mosaic.analyse.random_field import View
from mosaic.config.clusterers import CLUSTERERS, Clusterer
from mosaic.errors import InputError
from mosaic.spatial import tissue_neighbors

PARITY = Path(__file__).parents[3] / ".." / "shared" / "reference" / "parity"


@pytest.fixture(scope="module")
def groups():
    """Three groups of 200, 120 and 60 spots, long and thin along the first axis: Euclidean distance misleads."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [200, 120, 60])
    centre = np.array([[0, 0, 0], [0, 3, 0], [0, 0, 3]])[truth]
    order = rng.permutation(len(truth))
    return (centre + rng.normal(size=(len(truth), 3)) * [20, 0.3, 0.3])[order], truth[order]


def on_one_slice(n_spots):
    """Coordinates and slices, for ways that take them, where neighbours on the tissue have nothing in common."""
    places = np.column_stack(np.divmod(np.random.default_rng(9).permutation(n_spots), 20)).astype(float)
    return {"coordinates": places, "slices": np.repeat("s1", n_spots)}


@pytest.fixture(scope="module")
def round_groups():
    """The same three sizes as round, well separated groups."""
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], [200, 120, 60])
    return np.array([[0, 0], [10, 0], [0, 10]])[truth] + rng.normal(size=(len(truth), 2)), truth


def test_mixture_finds_elongated_groups_that_kmeans_does_not(groups):
    embedding, truth = groups
    np.testing.assert_array_equal(cluster_domains(embedding, n_domains=3).labels, truth)
    assert adjusted_rand_score(truth, cluster_domains(embedding, "kmeans", n_domains=3).labels) < 0.2


@pytest.mark.parametrize("options", [{"n_domains": 3}, {"method": "kmeans", "n_domains": 3}])
def test_labels_are_numbered_from_the_largest_domain(round_groups, options):
    embedding, truth = round_groups
    np.testing.assert_array_equal(cluster_domains(embedding, **options).labels, truth)


def test_equal_sizes_are_numbered_by_first_appearance():
    np.testing.assert_array_equal(domains._by_decreasing_size(np.array([7, 2, 2, 7, 5, 5, 5])), [1, 2, 2, 1, 0, 0, 0])


def test_probability_is_the_posterior_of_the_tied_mixture(groups):
    """Bayes' rule by hand, with the parameters that the posterior itself implies: a fixed point of EM."""
    embedding, _ = groups
    overlapping = embedding + np.random.default_rng(2).normal(size=embedding.shape) * [0, 1, 1]
    labels, posterior, _ = cluster_domains(overlapping, n_domains=2)
    np.testing.assert_array_equal(posterior.argmax(axis=1), labels)
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    probability = posterior.max(axis=1)
    assert (probability >= 0.5).all()
    assert (probability <= 1).all()
    assert 0.5 < probability.min() < 0.9  # some spots lie between the two

    weight = np.where(labels == 1, probability, 1 - probability)
    resp = np.column_stack([1 - weight, weight])
    means = resp.T @ overlapping / resp.sum(axis=0)[:, None]
    covariance = np.einsum(
        "nk,nki,nkj->ij", resp, overlapping[:, None] - means, overlapping[:, None] - means, optimize=True
    ) / len(resp)
    offset = overlapping[:, None] - means
    distance = np.einsum("nki,ij,nkj->nk", offset, np.linalg.inv(covariance), offset, optimize=True)
    joint = np.log(resp.mean(axis=0)) - distance / 2
    expected = np.exp(joint - logsumexp(joint, axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(probability, expected, atol=0.02)


@pytest.mark.parametrize("method", CLUSTERERS)
def test_each_way_does_what_its_entry_says(round_groups, method):
    embedding, truth = round_groups
    way = CLUSTERERS[method]
    tissue = {"coordinates": embedding, "slices": np.repeat("s1", len(truth))} if way.tissue else {}
    if way.views:
        tissue["views"] = [View(np.arange(len(truth)), embedding.astype(np.float32))]
    found, again = (
        cluster_domains(embedding, method, **{way.needs: {"n_domains": 3, "resolution": 0.1}[way.needs]}, **tissue)
        for _ in range(2)
    )
    assert adjusted_rand_score(truth, found.labels) > 0.95
    np.testing.assert_array_equal(found.labels, again.labels)
    assert (found.posterior is not None) == way.probability
    assert list(domains.FUNCTIONS) == list(CLUSTERERS)


def test_a_way_that_looks_at_the_tissue_gets_it(round_groups, monkeypatch):
    embedding, truth = round_groups
    monkeypatch.setitem(CLUSTERERS, "columns", Clusterer("by columns", needs="n_domains", tissue=True))
    monkeypatch.setitem(
        domains.FUNCTIONS, "columns", lambda _, coordinates, slices, n_domains, seed: coordinates[:, 0] < n_domains
    )
    places = np.column_stack([truth, truth])
    labels = cluster_domains(
        embedding, "columns", n_domains=1, coordinates=places, slices=np.repeat("s1", len(truth))
    ).labels
    np.testing.assert_array_equal(labels == 0, truth == 0)
    with pytest.raises(InputError, match="by columns needs the spots' coordinates and slices"):
        cluster_domains(embedding, "columns", n_domains=1)


def test_mixture_ignores_the_axes(groups):
    """Units, rotation, float32 and a direction without variance change nothing: the tied model is affine."""
    embedding, truth = groups
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    turned = np.column_stack([embedding * [1e-3, 1, 50], np.full(len(embedding), 7.0)]) @ rotation
    np.testing.assert_array_equal(cluster_domains(turned.astype(np.float32), n_domains=3).labels, truth)


def test_the_seed_decides_where_subsets_are_drawn(round_groups):
    """With more spots than a start and the comparison take; without groups, so that every start ends elsewhere."""
    few = MixtureSettings(start_rows=60, compare_rows=150)
    shapeless = np.random.default_rng(5).uniform(size=(400, 3))
    first, again, other = (mixture.mixture_domains(shapeless, 4, seed, few) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != other[0]).any()
    embedding, truth = round_groups
    assert adjusted_rand_score(truth, mixture.mixture_domains(embedding, 3, 4, few).argmax(axis=1)) == 1


def test_the_start_of_highest_likelihood_wins(monkeypatch, round_groups):
    """Of two starts, one that splits a group in two and one at the truth, the second is kept, in either order."""
    embedding, truth = round_groups
    white = mixture.whitened(embedding)
    bad = np.where(truth == 2, 1, np.where(white[:, 0] > np.median(white[truth == 0, 0]), 0, 2))

    def start(labels):
        member = np.eye(3)[labels]
        means = member.T @ white / member.sum(axis=0)[:, None]
        return {"weights": member.mean(axis=0), "means": means, "precisions": np.eye(2)}

    for order in ((truth, bad), (bad, truth)):
        starts = [start(labels) for labels in order]
        monkeypatch.setattr(mixture, "start_from", lambda *_, starts=starts: starts.pop(0))
        found = mixture.mixture_domains(embedding, 3, 0, MixtureSettings(starts=2, merges=0))
        assert adjusted_rand_score(truth, found.argmax(axis=1)) == 1


def test_a_merged_and_a_split_group_are_exchanged(round_groups):
    """EM does not leave the optimum that merges two groups and splits the third; an exchange does."""
    embedding, truth = round_groups
    white = mixture.whitened(embedding)
    first = truth == 0
    bad = np.where(
        truth == 2, 1, np.where(first & (white[:, 0] > np.median(white[first, 0])), 0, np.where(first, 2, 1))
    )
    stuck = mixture.fit_mixture(white, mixture.start_from(white, bad), 1e-5)
    assert adjusted_rand_score(truth, stuck.predict(white)) < 0.9
    freed = mixture._exchanged(stuck, white, np.random.default_rng(0))
    assert adjusted_rand_score(truth, freed.predict(white)) == 1
    # Without mergers to try, the mixture stays; and what is best is not exchanged.
    assert mixture._exchanged(stuck, white, np.random.default_rng(0), MixtureSettings(merges=0)) is stuck
    assert mixture._exchanged(freed, white, np.random.default_rng(0)) is freed


def test_domains_that_overlap_count_less_than_their_likelihood(round_groups):
    """Two domains on one place tell nothing apart, which costs log 2; domains far apart cost nothing."""
    white = mixture.whitened(round_groups[0])
    apart = mixture.fit_mixture(white, mixture.start_from(white, round_groups[1]), 1e-5)
    assert mixture._classification_likelihood(apart, white) == pytest.approx(apart.score(white), abs=1e-3)
    halves = mixture.fit_mixture(white, mixture.start_from(white, np.arange(len(white)) % 2), 1e-5)
    halves.means_[:] = white.mean(axis=0)
    halves.weights_[:] = 0.5
    assert mixture._classification_likelihood(halves, white) == pytest.approx(halves.score(white) - np.log(2))


def test_leiden_finds_separate_groups_and_is_seeded(round_groups):
    embedding, truth = round_groups
    tissue = on_one_slice(len(truth))
    coarse = cluster_domains(embedding, "leiden", resolution=0.05, seed=1, **tissue).labels
    np.testing.assert_array_equal(coarse, truth)
    fine = [cluster_domains(embedding, "leiden", resolution=2.0, seed=1, **tissue).labels for _ in range(2)]
    assert fine[0].max() > 2
    np.testing.assert_array_equal(*fine)
    elsewhere = {key: values[::-1] for key, values in tissue.items()}
    again = cluster_domains(embedding, "leiden", resolution=2.0, seed=1, **elsewhere).labels
    np.testing.assert_array_equal(fine[0], again)  # without a weight, the tissue says nothing


@pytest.fixture(scope="module")
def two_slices():
    """Two slices, each with a left and a right half that differ in the embedding, and strays of the other in both."""
    rng = np.random.default_rng(0)
    places = np.column_stack(np.divmod(np.arange(400), 20)).astype(float)
    half = (places[:, 1] >= 10).astype(int)
    strays = np.array([place for place in range(42, 400, 47) if 2 <= places[place, 1] % 10 <= 7])
    truth, seen = np.tile(half, 2), np.tile(half, 2)
    strays = np.concatenate([strays, 400 + strays])
    seen[strays] = 1 - seen[strays]
    embedding = np.column_stack([3.0 * seen, np.zeros((800, 3))]) + rng.normal(size=(800, 4))
    return {
        "embedding": embedding,
        "coordinates": np.vstack([places] * 2),
        "slices": np.repeat(["s1", "s2"], 400),
    }, (truth, strays)


def test_leiden_that_weighs_the_tissue_takes_strays_into_the_domain_around_them(two_slices):
    given, (truth, strays) = two_slices
    scores, lost = [], []
    for weight in (0.2, 1, 1.5):
        labels = cluster_domains(**given, method="leiden", resolution=0.6, spatial_weight=weight, seed=1).labels
        assert labels.max() == 1
        scores.append(adjusted_rand_score(truth, labels))
        lost.append((labels[strays] == labels[strays - 1]).mean())
    assert len(strays) > 6
    assert scores == sorted(scores)
    assert scores[-1] > 0.97
    assert lost[0] < 0.5
    assert lost == sorted(lost)
    assert lost[-1] == 1


def test_leiden_joins_no_spots_of_two_slices_by_their_place(two_slices):
    """Both slices have the same coordinates; edges on the tissue stay within each, each once, as neighbours lie."""
    given, _ = two_slices
    edges = sparse.triu(tissue_neighbors(given["coordinates"], given["slices"], leiden._TISSUE_NEIGHBORS)).tocoo()
    assert (given["slices"][edges.row] == given["slices"][edges.col]).all()
    assert (edges.row < edges.col).all()
    assert len(set(zip(edges.row.tolist(), edges.col.tolist(), strict=True))) == edges.nnz
    distance = np.linalg.norm(given["coordinates"][edges.row] - given["coordinates"][edges.col], axis=1)
    assert distance.max() <= 3
    assert np.bincount(np.concatenate([edges.row, edges.col])).min() >= 6
    # A slice that is far away in the embedding keeps domains of its own, however much the tissue weighs.
    apart = given | {"embedding": given["embedding"] + 100 * (given["slices"] == "s2")[:, None]}
    labels = cluster_domains(**apart, method="leiden", resolution=0.3, spatial_weight=0.6, seed=1).labels
    assert not set(labels[:400]) & set(labels[400:])


def test_the_weight_of_the_tissue_does_not_depend_on_the_scale_of_its_coordinates(two_slices):
    given, _ = two_slices
    one, other = (
        cluster_domains(
            **given | {"coordinates": given["coordinates"] * scale},
            method="leiden",
            resolution=0.3,
            spatial_weight=0.2,
            seed=1,
        ).labels
        for scale in (1, 250)
    )
    np.testing.assert_array_equal(one, other)


def test_leiden_leaves_the_generator_of_igraph_alone(round_groups):
    own = random.Random(3)
    igraph.set_random_number_generator(own)
    try:
        tissue = on_one_slice(len(round_groups[0]))
        cluster_domains(round_groups[0], "leiden", resolution=0.05, spatial_weight=0.1, **tissue)
        before = own.getstate()
        igraph.Graph.Erdos_Renyi(n=20, p=0.5)
        assert own.getstate() != before
    finally:
        igraph.set_random_number_generator(random)


def test_leiden_that_finds_too_many_says_to_lower_the_resolution(caplog):
    shapeless = np.random.default_rng(0).normal(size=(600, 5))
    tissue = on_one_slice(600)
    assert 30 < cluster_domains(shapeless, "leiden", resolution=8, **tissue).labels.max() + 1 <= 100
    assert "with resolution 8: colours can be told apart up to 30" in caplog.text
    with pytest.raises(
        InputError, match=r"(?s)Leiden found \d+ domains in 600 spots .*lower resolution, for example to 5"
    ):
        cluster_domains(shapeless, "leiden", resolution=50, **tissue)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "louvain"}, "unknown clustering method 'louvain'"),
        ({"method": "leiden"}, "Leiden needs a resolution above 0, but it is None"),
        ({"method": "leiden", "resolution": 0.0}, "Leiden needs a resolution above 0, but it is 0.0"),
        (
            {"method": "leiden", "resolution": 1.0, "spatial_weight": -1} | on_one_slice(380),
            "cluster: spatial_weight: -1 is negative",
        ),
        ({"method": "leiden", "resolution": 1.0}, "Leiden needs the spots' coordinates and slices"),
        ({"method": "kmeans"}, "the number of domains must be 1 or more, but it is None"),
        ({"n_domains": 0}, "the number of domains must be 1 or more, but it is 0"),
        ({"n_domains": 381}, "381 domains were asked for, but there are only 380 spots"),
        ({"n_domains": 379}, "380 spots are too few for a mixture of 379 domains in 2 dimensions"),
    ],
)
def test_settings_that_cannot_work_are_errors(round_groups, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        cluster_domains(round_groups[0], **options)


def test_settings_that_are_not_used_are_told(round_groups, caplog):
    cluster_domains(round_groups[0], "leiden", n_domains=3, resolution=0.1, **on_one_slice(380))
    cluster_domains(round_groups[0], "kmeans", n_domains=3, resolution=0.5, spatial_weight=0.1)
    assert "n_domains = 3 is not used: Leiden goes by resolution" in caplog.text
    assert "resolution = 0.5 is not used: k-means goes by n_domains" in caplog.text
    assert "spatial_weight is not used: k-means does not take it" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("method", CLUSTERERS)
def test_values_that_are_not_finite_are_errors(round_groups, method, value):
    embedding = round_groups[0].copy()
    embedding[[3, 5], 0] = value
    with pytest.raises(InputError, match="2 of 380 spots holds NaN or infinity"):
        cluster_domains(embedding, method, n_domains=3, resolution=1.0)


def test_a_method_that_fails_is_an_error_and_no_other_stands_in(round_groups):
    two_places = np.repeat([[0.0, 1.0], [1.0, 0.0]], 20, axis=0)
    with pytest.raises(InputError, match="k-means found 2 domains, not 3"):
        cluster_domains(two_places, "kmeans", n_domains=3)
    with pytest.raises(InputError, match="EM left 1 of 3 domains without a spot"):
        cluster_domains(two_places, n_domains=3)
    with pytest.raises(InputError, match="all spots have the same embedding"):
        cluster_domains(np.ones((40, 2)), n_domains=2)
    with pytest.raises(InputError, match="EM did not converge in 1 iterations"):
        mixture.mixture_domains(round_groups[0], 3, 0, MixtureSettings(iterations=1))


def test_one_domain(round_groups):
    labels, posterior, _ = cluster_domains(round_groups[0], n_domains=1)
    assert not labels.any()
    np.testing.assert_allclose(posterior, 1)


SIX = np.repeat(np.arange(6), [150, 250, 200, 100, 180, 120])


@pytest.fixture(scope="module")
def six_groups():
    """Six overlapping groups of unlike sizes in eight dimensions."""
    return 5 * np.eye(8)[SIX] + np.random.default_rng(3).normal(size=(len(SIX), 8))


def test_the_number_of_domains_is_found(six_groups, caplog):
    number, curve, spots, labels = n_domains.choose_by_silhouette(six_groups, (2, 10))
    assert number == 6
    assert list(labels) == list(range(2, 11))
    assert adjusted_rand_score(SIX[spots], labels[6]) > 0.95
    assert curve["n_domains"].tolist() == list(range(2, 11))
    assert curve.loc[curve["chosen"], "n_domains"].tolist() == [6]
    assert curve.loc[curve["silhouette"].idxmax(), "n_domains"] == 6
    assert curve["standard_error"].between(0.0001, 0.1).all()
    assert "too narrow" not in caplog.text


def test_how_domains_split():
    labels = {2: np.array([0, 0, 0, 0, 1, 1]), 3: np.array([0, 0, 2, 1, 1, 1])}
    tree = n_domains.split_tree(labels, labels[3] + 5)
    expected = {
        "n_domains": [2, 2, 3, 3, 3, 3],
        "domain": [0, 1, 0, 1, 1, 2],
        "parent": [None, None, 0, 0, 1, 0],
        "n_spots": [4, 2, 2, 1, 2, 1],
        "like": [5, 6, 5, 6, 6, 7],
        "alike": [0.5, 1, 1, 1, 1, 1],
    }
    pd.testing.assert_frame_equal(tree, pd.DataFrame(expected).astype({"parent": "Int64"}), check_dtype=False)


@pytest.mark.parametrize("n_domains_range", [(2, 6), (6, 9)])
def test_a_choice_at_an_end_of_the_range_is_told(six_groups, caplog, n_domains_range):
    assert n_domains.choose_by_silhouette(six_groups, n_domains_range)[0] == 6
    assert f"an end of the range {n_domains_range[0]} to {n_domains_range[1]}, which may be too narrow" in caplog.text


def test_a_seed_chooses_by_one_curve(six_groups):
    first, again, other = (n_domains.choose_by_silhouette(six_groups, (4, 7), seed=seed).curve for seed in (4, 4, 5))
    assert first.equals(again)
    assert not first.equals(other)


def test_the_number_of_domains_of_many_spots_is_chosen_on_a_sample(six_groups, caplog):
    caplog.set_level("INFO")
    assert n_domains.choose_by_silhouette(six_groups, (4, 8), settings=MixtureSettings(compare_rows=500))[0] == 6
    assert "on a sample of 500 of 1000 spots" in caplog.text


@pytest.mark.parametrize(
    ("rows", "n_domains_range", "message"),
    [
        (1000, (1, 5), "the range of the number of domains is 1 to 5"),
        (1000, (5, 5), "the range of the number of domains is 5 to 5"),
        (30, (2, 8), "30 spots are too few to choose among up to 8 domains in 8 dimensions: half of them must be more"),
    ],
)
def test_ranges_that_cannot_work_are_errors(six_groups, rows, n_domains_range, message):
    with pytest.raises(InputError, match=message):
        n_domains.choose_by_silhouette(six_groups[:rows], n_domains_range)


def test_no_number_is_chosen_where_no_mixture_fits(six_groups):
    with pytest.raises(InputError, match="no Gaussian mixture of 3 to 5 domains can be fitted"):
        n_domains.choose_by_silhouette(six_groups, (3, 5), settings=MixtureSettings(iterations=1))


@pytest.mark.slow
@pytest.mark.skipif(not PARITY.exists(), reason="the recorded run of the publication is not here")
def test_recorded_embedding_as_clustered_by_mclust():
    """R's mclust on the same embedding; and 6 and 7 domains, where a start from k-means scores .72 and .66."""
    final, inputs = np.load(PARITY / "final.npz"), np.load(PARITY / "inputs.npz")
    embedding = np.vstack([final[f"merged_{name}"] for name in ("s1", "s2", "s3")])
    truth = np.concatenate([inputs[name] for name in ("gt_rna_s1", "gt_rna_s2", "gt_adt_s3")])
    labels = {n: cluster_domains(embedding, n_domains=n, seed=0).labels for n in (5, 6, 7)}
    assert adjusted_rand_score(final["mclust_R"], labels[5]) > 0.99
    assert adjusted_rand_score(truth, labels[5]) > 0.89
    assert adjusted_rand_score(truth, labels[6]) > 0.86
    assert adjusted_rand_score(truth, labels[7]) > 0.80
