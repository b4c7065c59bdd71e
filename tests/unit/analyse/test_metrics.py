"""Metrics against values worked out by hand, against their definitions spelled out, and against scib-metrics."""

import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, normalized_mutual_info_score
from sklearn.neighbors import NearestNeighbors

from mosaic.analyse import metrics
from mosaic.embedding import LATENT, collect_embeddings
from mosaic.errors import InputError

PARITY = Path(__file__).parents[3] / ".." / "shared" / "reference" / "parity"


def unit_rows(rng, n_rows, n_columns):
    z = rng.normal(size=(n_rows, n_columns))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def simpson_of_neighbours(embedding, slices, perplexity):
    """Local inverse Simpson index of each spot by its definition, with the perplexity found by bisection."""
    values = []
    for spot in range(len(embedding)):
        distance = np.linalg.norm(embedding - embedding[spot], axis=1)
        nearest = [other for other in np.argsort(distance, kind="stable") if other != spot][: int(3 * perplexity) - 1]
        low, high = 0.0, 1e6
        for _ in range(200):
            precision = (low + high) / 2
            weight = np.exp(-precision * (distance[nearest] - distance[nearest].min()))
            weight /= weight.sum()
            entropy = -(weight[weight > 0] * np.log(weight[weight > 0])).sum()
            low, high = (precision, high) if entropy > np.log(perplexity) else (low, precision)
        share = [weight[slices[nearest] == name].sum() for name in np.unique(slices)]
        values.append(1 / np.square(share).sum())
    return np.array(values)


@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_ilisi_is_the_scaled_median_of_the_definition(shift):
    rng = np.random.default_rng(0)
    slices = np.repeat(["a", "b", "c"], [60, 50, 40])
    embedding = rng.normal(size=(150, 3)) + shift * (slices == "b")[:, None]
    expected = (np.median(simpson_of_neighbours(embedding, slices, 30)) - 1) / 2
    assert metrics.ilisi(embedding, slices) == pytest.approx(expected, abs=1e-3)


def test_ilisi_at_its_ends():
    rng = np.random.default_rng(1)
    slices = np.repeat(["a", "b"], 300)
    same = rng.normal(size=(600, 2))
    assert metrics.ilisi(same, slices) > 0.9
    assert metrics.ilisi(same + 1000 * (slices == "b")[:, None], slices) == pytest.approx(0, abs=1e-6)
    assert np.isnan(metrics.ilisi(same, np.full(600, "a")))


def test_ilisi_agrees_with_scib_metrics():
    scib_metrics = pytest.importorskip("scib_metrics", reason="scib-metrics, only compared with, is not installed")
    nearest_neighbors = pytest.importorskip("scib_metrics.nearest_neighbors")
    rng = np.random.default_rng(2)
    slices = np.repeat(["a", "b", "c"], [200, 150, 100])
    embedding = unit_rows(rng, 450, 8) + 0.2 * (slices == "a")[:, None]
    distances, indices = NearestNeighbors(n_neighbors=90).fit(embedding).kneighbors(embedding)
    theirs = scib_metrics.ilisi_knn(nearest_neighbors.NeighborsResults(indices=indices, distances=distances), slices)
    assert metrics.ilisi(embedding, slices) == pytest.approx(theirs, abs=0.01)


def test_foscttm_by_hand():
    """Spots at 0, 30 and 90 degrees, the second modality at 10, 60 and 80."""
    first, second = (np.deg2rad(angles) for angles in ([0, 30, 90], [10, 60, 80]))
    first, second = (np.column_stack([np.cos(angle), np.sin(angle)]) for angle in (first, second))
    # From the first: 0 has its match nearest; 30 (match 60, at 30) has 10 nearer, at 20; 90 (match 80) has none nearer.
    # From the second: 10 has none; 60 (match 30, at 30) has 90 as near, which does not count; 80 has none.
    assert metrics.foscttm(first, 5 * second) == pytest.approx(1 / 6 * (1 / 2))


def test_foscttm_is_the_share_of_pairs_nearer_than_the_match(monkeypatch):
    rng = np.random.default_rng(3)
    first, second = unit_rows(rng, 41, 4), unit_rows(rng, 41, 4)
    nearer = sum(
        int(first[i] @ second[j] > first[i] @ second[i]) + int(first[j] @ second[i] > first[i] @ second[i])
        for i in range(41)
        for j in range(41)
        if i != j
    )
    monkeypatch.setattr(metrics, "_BLOCK_ROWS", 7)
    assert metrics.foscttm(first, second) == pytest.approx(nearer / (2 * 41 * 40))
    assert metrics.foscttm(first, first) == 0


def test_matching_score_by_hand():
    """Three spots: one matched in both directions, the other two drawn to each other."""
    first = np.array([[1.0, 0], [0.0, 1], [-1.0, 0.1]])
    second = np.array([[1.0, 0.1], [-1.0, 0], [-0.1, 1]])
    # 0 <-> 0 both ways (Jaccard 1); 1 <-> 2 and 2 <-> 1 both ways: all weight off the diagonal.
    assert metrics.matching_score(first, second) == pytest.approx(1 / 3)
    assert metrics.matching_score(first, first) == pytest.approx(1)


def test_matching_score_by_sets():
    """Jaccard index of the sets of nearest spots of both modalities, one of each, as sets."""
    rng = np.random.default_rng(4)
    base = unit_rows(rng, 50, 3)
    first, second = (base + 0.2 * rng.normal(size=base.shape) for _ in range(2))
    first, second = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (first, second))
    similarity = first @ second.T
    of_first = [{("first", i), ("second", similarity[i].argmax())} for i in range(50)]
    of_second = [{("first", similarity[:, j].argmax()), ("second", j)} for j in range(50)]
    jaccard = np.array([[len(a & b) / len(a | b) for b in of_second] for a in of_first])
    expected = np.mean(np.diag(jaccard) / jaccard.sum(axis=1))
    assert 0.2 < expected < 0.9
    assert metrics.matching_score(first, second) == pytest.approx(expected)


def test_label_transfer_f1_is_the_mean_of_both_directions():
    """Vote of the ten nearest, by brute force."""
    rng = np.random.default_rng(5)
    group = rng.integers(0, 3, 60)
    labels = np.array(["x", "y", "z"])[group]
    centre = np.array([[np.cos(angle), np.sin(angle)] for angle in (0, 2, 4)])[group]
    first, second = (centre + rng.normal(scale=0.8, size=centre.shape) for _ in range(2))

    def transferred(reference, query):
        votes = []
        for row in query:
            nearest = np.argsort(np.linalg.norm(reference - row, axis=1))[:10]
            values, counts = np.unique(labels[nearest], return_counts=True)
            votes.append(values[counts.argmax()])
        return f1_score(labels, votes, average="macro")

    expected = (transferred(first, second) + transferred(second, first)) / 2
    assert 0.4 < expected < 0.95
    assert metrics.label_transfer_f1(first, second, labels) == pytest.approx(expected)


def test_pas_and_chaos_by_hand():
    """A line of 24 spots, 1 apart: 12 of one domain, 12 of the other, but for one spot in the midst of the first."""
    coordinates = np.column_stack([np.arange(24.0), np.zeros(24)])
    domains = np.repeat(["a", "b"], 12)
    # Of the ten nearest of spot 11 five are a, five b: not more than half.
    assert metrics.pas(coordinates, domains) == 0
    domains[5] = "b"
    assert metrics.pas(coordinates, domains) == pytest.approx(1 / 24)
    # Nearest of the same domain: 1 for all but spot 5, whose nearest b is spot 12; in units of the standard deviation.
    assert metrics.chaos(coordinates, domains) == pytest.approx((23 + 7) / 24 / np.arange(24).std())


def test_pas_and_chaos_by_definition():
    rng = np.random.default_rng(6)
    coordinates, domains = rng.uniform(size=(80, 2)) * [3, 900], rng.integers(0, 4, 80)
    distance = np.linalg.norm(coordinates[:, None] - coordinates, axis=2)
    np.fill_diagonal(distance, np.inf)
    foreign = [np.sum(domains[np.argsort(row)[:10]] != domains[spot]) for spot, row in enumerate(distance)]
    assert metrics.pas(coordinates, domains) == pytest.approx(np.mean(np.array(foreign) > 5))
    scaled = coordinates / coordinates.std(axis=0)
    distance = np.linalg.norm(scaled[:, None] - scaled, axis=2)
    np.fill_diagonal(distance, np.inf)
    own = np.where(domains[:, None] == domains, distance, np.inf).min(axis=1)
    assert metrics.chaos(coordinates, domains) == pytest.approx(own.mean())


def test_domains_are_matched_with_the_truth_one_to_one():
    """Most spots of x are 1, but all of 1 but those are y: the matching that agrees most gives 1 to y and 0 to x."""
    truth = np.repeat(["x", "y", "z"], [10, 20, 2])
    domains = np.repeat([1, 0, 1, 0], [6, 4, 20, 2])
    assert metrics.matched(domains, truth).tolist() == np.repeat([False, True, True, False], [6, 4, 20, 2]).tolist()
    # More domains than true ones: a split domain loses its smaller half.
    assert metrics.matched(np.repeat([7, 8, 9], [10, 15, 7]), np.repeat(["x", "y"], [10, 22])).sum() == 25


def hexagons(rows, columns):
    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.column_stack([column + 0.5 * (row % 2), row * np.sqrt(3) / 2])


def test_small_structures_are_what_is_connected_on_the_tissue():
    places = hexagons(20, 20)
    truth = np.full(400, "host", dtype=object)
    centre = places[210]
    island = np.linalg.norm(places - centre, axis=1) < 1.1  # seven spots
    truth[island] = "rare"
    truth[45] = "rare"  # a stray
    large = places[:, 0] > 14  # another domain, too large
    truth[large] = "rare"
    expected = island | (np.arange(400) == 45)
    assert (metrics.in_small_structure(places, truth) == expected).all()
    truth[island] = np.nan  # not known, and therefore no structure
    assert metrics.in_small_structure(places, truth).sum() == 1
    order = np.random.default_rng(0).permutation(400)
    assert (
        metrics.in_small_structure(places[order] * 55, truth[order])[order.argsort()] == (np.arange(400) == 45)
    ).all()
    assert metrics.in_small_structure(places[:1], truth[:1]).tolist() == [True]


def test_recall_is_of_small_structures_and_of_the_rarest_domain():
    places = np.vstack([hexagons(12, 12)] * 2)
    slices = np.repeat(["s1", "s2"], 144)
    truth = pd.Series(np.where(places[:, 0] < 6, "left", "right"), dtype=object)
    strays = [20 + 12 * number for number in range(0, 8, 2)]  # four of s1 on the right
    truth[strays] = "stray"
    blind = pd.factorize(np.where(truth == "stray", "right", truth))[0]
    table = metrics.against_truth(blind, truth, slices, places)
    assert value(table, "recall of small structures", "all") == 0
    assert value(table, "recall of the rarest domain", "all") == 0
    assert np.isnan(value(table, "recall of small structures", "slice:s2"))
    assert value(table, "ARI", "all") > 0.95  # which does not see it
    half = blind.copy()
    half[strays[:2]] = 2
    table = metrics.against_truth(half, truth, slices, places)
    for metric in ("recall of small structures", "recall of the rarest domain"):
        assert value(table, metric, "all") == value(table, metric, "slice:s1") == 0.5
    # Small structures of a frequent domain count, too.
    truth[strays] = "left"
    table = metrics.against_truth(blind, truth, slices, places)
    assert value(table, "recall of small structures", "all") == 0
    assert value(table, "recall of the rarest domain", "all") == 1


def test_domains_that_follow_the_slice_share_more_with_it_than_the_truth():
    places, slices = np.vstack([hexagons(6, 6)] * 2), np.repeat(["s1", "s2"], 36)
    truth = pd.Series(np.tile(np.repeat(["x", "y"], 18), 2))
    by_slice = np.where(slices == "s1", 0, pd.factorize(truth)[0])
    table = metrics.against_truth(by_slice, truth, slices, places)
    assert value(table, "NMI with slice, truth", "all") == pytest.approx(0, abs=1e-9)
    shared = normalized_mutual_info_score(slices, by_slice)
    assert value(table, "NMI with slice", "all") == pytest.approx(shared)
    assert shared > 0.3
    one = metrics.against_truth(by_slice[:36], truth[:36], slices[:36], places[:36])
    assert np.isnan(value(one, "NMI with slice", "all"))


@pytest.fixture
def run():
    """A mosaic of s1 (rna and adt), s2 (rna) and s3 (adt), 40 spots each, with its domains and truth."""
    rng = np.random.default_rng(7)

    def table(*names):
        index = [f"{name}:B{number}" for name in names for number in range(40)]
        return pd.DataFrame(
            {"slice": pd.Categorical(np.repeat(names, 40)), "barcode": [one.split(":")[1] for one in index]},
            index=index,
        )

    obs = {"rna": table("s1", "s2"), "adt": table("s1", "s3")}
    graphs = {
        name: ad.AnnData(obs=frame, obsm={"spatial": rng.normal(size=(len(frame), 2))}) for name, frame in obs.items()
    }
    latent = {name: unit_rows(rng, len(frame), 4).astype(np.float32) for name, frame in obs.items()}
    embedding = collect_embeddings(graphs, latent)
    truth = pd.Series(np.array(["x", "y"])[rng.integers(0, 2, 120)], index=embedding.obs_names)
    return embedding, rng.integers(0, 2, 120), truth


def value(table, metric, scope):
    found = table[(table["metric"] == metric) & (table["scope"] == scope)]
    assert len(found) == 1, f"{metric} of {scope}: {len(found)} rows"
    return found["value"].item()


def test_evaluate_has_every_metric_of_every_scope(run):
    embedding, domains, truth = run
    table = metrics.evaluate(embedding, domains, truth)
    assert list(table.columns) == ["metric", "scope", "value", "direction"]
    each = {"all", "slice:s1", "slice:s2", "slice:s3"}
    scopes = table.groupby("metric")["scope"].agg(set).to_dict()
    pair = {scope for scope in scopes[metrics.TRAINING_PAIRS] if scope.startswith("s1:")}
    assert len(pair) == 1
    assert scopes == {
        **dict.fromkeys(("ARI", "NMI", "PAS", "CHAOS"), each),
        **dict.fromkeys(("recall of small structures", "recall of the rarest domain"), each),
        **{key: {"all"} for key in ("NMI with slice", "NMI with slice, truth")},
        **dict.fromkeys((metrics.TRAINING_PAIRS, "matching score", "label transfer F1"), pair),
        "iLISI": {"all"},
        "iLISI within shared domains": {"all"},
    }
    assert table["value"].notna().all()
    down = set(table.loc[table["direction"] == "down", "metric"])
    assert down == {metrics.TRAINING_PAIRS, "PAS", "CHAOS"}
    assert set(table["direction"]) == {"up", "down", "neither"}
    with_aligned = metrics.evaluate(embedding, domains, truth, embedding)
    added = with_aligned[~with_aligned["metric"].isin(scopes)]
    assert set(metrics.OF_LATENT) == {*added["metric"], *(set(metrics.OF_LATENT) & set(scopes))}
    for row in added.itertuples():
        assert row.value == value(table, row.metric.removesuffix(metrics.ALIGNED), row.scope)


def test_evaluate_scores_each_slice_on_its_own_spots(run):
    """A slice divided as in the truth scores 1, whatever the others; the mean over slices is the whole's PAS."""
    embedding, domains, truth = run
    of_slice = embedding.obs["slice"].to_numpy(dtype=str)
    domains = np.where(of_slice == "s2", truth == "x", domains)
    table = metrics.evaluate(embedding, domains, truth)
    assert value(table, "ARI", "slice:s2") == 1
    assert value(table, "NMI", "slice:s2") == pytest.approx(1)
    assert value(table, "ARI", "slice:s1") < 0.5
    for metric in ("PAS", "CHAOS"):
        mean = np.mean([value(table, metric, f"slice:{name}") for name in ("s1", "s2", "s3")])
        assert value(table, metric, "all") == pytest.approx(mean)


def test_evaluate_pairs_by_barcode_not_by_row(run):
    embedding, domains, truth = run
    z = {name: pd.DataFrame(adata.obsm[LATENT], index=adata.obs_names) for name, adata in embedding.mod.items()}
    both = z["rna"].index.intersection(z["adt"].index)
    table = metrics.evaluate(embedding, domains, truth)
    scope = next(scope for scope in table["scope"] if "~" in scope)
    first, second = (z[name].loc[both].to_numpy() for name in ("rna", "adt"))
    assert value(table, metrics.TRAINING_PAIRS, scope) == pytest.approx(metrics.foscttm(first, second))

    shuffled = embedding.copy()
    shuffled.mod["adt"] = embedding["adt"][np.random.default_rng(8).permutation(80)].copy()
    again = metrics.evaluate(shuffled, domains, truth)
    assert value(again, metrics.TRAINING_PAIRS, scope) == pytest.approx(value(table, metrics.TRAINING_PAIRS, scope))


def test_evaluate_leaves_out_what_has_no_truth_and_tells(run, caplog):
    embedding, domains, truth = run
    truth = truth.copy()
    truth[(embedding.obs["slice"] == "s3").to_numpy()] = np.nan
    table = metrics.evaluate(embedding, domains, truth)
    assert "40 of 120 spots have no true domain" in caplog.text
    assert np.isnan(value(table, "ARI", "slice:s3"))
    known = truth.notna().to_numpy()
    only = metrics.against_truth(domains[known], truth[known], np.repeat("s", 80), embedding.obsm["spatial"][known])
    assert value(table, "ARI", "all") == pytest.approx(value(only, "ARI", "all"))
    with pytest.raises(InputError, match="no spot has a true domain"):
        metrics.evaluate(embedding, domains, pd.Series(np.nan, index=truth.index, dtype=object))


def test_evaluate_without_truth_has_no_metric_that_needs_it(run):
    embedding, domains, _ = run
    assert set(metrics.evaluate(embedding, domains, None)["metric"]) == {
        "iLISI",
        metrics.TRAINING_PAIRS,
        "matching score",
        "PAS",
        "CHAOS",
    }


def test_evaluate_samples_large_runs_by_seed_and_tells(run, monkeypatch, caplog):
    embedding, domains, truth = run
    monkeypatch.setattr(metrics, "_MOST_PAIRED", 20)
    monkeypatch.setattr(metrics, "_MOST_LISI", 100)
    with caplog.at_level(logging.WARNING):
        first, again, other = (metrics.evaluate(embedding, domains, truth, seed=seed) for seed in (1, 1, 2))
    assert "iLISI: on a sample of 100 of 120 spots" in caplog.text
    assert "FOSCTTM and matching score of s1: on a sample of 20 of 40 spots" in caplog.text
    pd.testing.assert_frame_equal(first, again)
    scope = next(scope for scope in first["scope"] if "~" in scope)
    assert value(first, metrics.TRAINING_PAIRS, scope) != value(other, metrics.TRAINING_PAIRS, scope)


@pytest.mark.skipif(not PARITY.exists(), reason="the recorded run of the publication is not here")
def test_recorded_run_scores_as_the_publication():
    """Published means over five seeds: iLISI .637, FOSCTTM .0006, matching score .815."""
    final = np.load(PARITY / "final.npz")
    merged = np.vstack([final[f"merged_{name}"] for name in ("s1", "s2", "s3")])
    assert metrics.ilisi(merged, np.repeat(["s1", "s2", "s3"], 1296)) == pytest.approx(0.637, abs=0.015)
    assert metrics.foscttm(final["rna_s1"], final["adt_s1"]) == pytest.approx(0.0006, abs=0.0003)
    assert metrics.matching_score(final["rna_s1"], final["adt_s1"]) == pytest.approx(0.815, abs=0.025)


def test_imputation_scores_written_out():
    rng = np.random.default_rng(0)
    measured = rng.poisson(5, (30, 6)).astype(float)
    imputed = measured + rng.normal(size=measured.shape)
    measured[:, 4] = 3  # says nothing
    imputed[:, 5] = 2  # is constant, so it scores 0
    scores = metrics.imputation_scores(imputed, measured)
    by_feature = [np.corrcoef(imputed[:, j], measured[:, j])[0, 1] for j in range(4)] + [0]
    assert scores["pearson_feature"] == pytest.approx(np.mean(by_feature))
    by_spot = [np.corrcoef(imputed[i], measured[i])[0, 1] for i in range(30)]
    assert scores["pearson_spot"] == pytest.approx(np.mean(by_spot))
    R1, R2 = np.corrcoef(imputed), np.corrcoef(measured)
    expected = 1 - np.trace(R1 @ R2) / (np.linalg.norm(R1) * np.linalg.norm(R2))
    assert scores["cmd_spot"] == pytest.approx(expected)
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean((imputed - measured) ** 2)))
    perfect = metrics.imputation_scores(measured, measured)
    assert (perfect["cmd_feature"], perfect["cmd_spot"]) == pytest.approx((0, 0))
    assert (perfect["pearson_feature"], perfect["pearson_spot"]) == pytest.approx((1, 1))


def test_alignment_has_no_meaning_where_modalities_share_one_latent_space():
    rng = np.random.default_rng(0)
    names = [f"s1:B{number}" for number in range(40)]
    obs = pd.DataFrame({"slice": pd.Categorical(["s1"] * 40), "barcode": [name[3:] for name in names]}, index=names)
    places = np.column_stack(np.divmod(np.arange(40), 8)).astype(float)
    graphs = {name: ad.AnnData(obs=obs, obsm={"spatial": places}) for name in ("rna", "adt")}
    joint = rng.normal(size=(40, 3))
    truth = pd.Series(np.repeat(["a", "b"], 20), index=names)

    def values(adt):
        mdata = collect_embeddings(graphs, {"rna": joint, "adt": adt})
        table = metrics.evaluate(mdata, np.repeat([0, 1], 20), truth).set_index("metric")["value"]
        return table.loc[[metrics.TRAINING_PAIRS, "matching score", "label transfer F1"]]

    assert values(joint).isna().all()
    assert values(joint + 0.1 * rng.normal(size=(40, 3))).notna().all()
