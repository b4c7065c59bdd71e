"""Confidence that knows what a slice lacks."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from mosaic.analyse.random_field import View, averages
from mosaic.check import checks, confidence

N = 40
NAMES = pd.Index([f"{name}:{number}" for name in ("s1", "s2") for number in range(3 * N)])


@pytest.fixture
def run():
    """Bridge s1, and s2 with RNA alone: three domains of 40 spots each, of which s2 calls 1 all of 1 and 2."""
    true = np.tile(np.repeat([0, 1, 2], N), 2)
    domains = pd.DataFrame({"slice": np.repeat(["s1", "s2"], 3 * N), "domain": true, "probability": 0.99}, index=NAMES)
    domains.loc[(domains["slice"] == "s2") & (domains["domain"] == 2), "domain"] = 1
    modalities = pd.Series(np.repeat(["rna+adt", "rna"], 3 * N), index=NAMES)
    return domains, modalities, true


def fold_of(run, hidden, *, seed=0):
    """A fold in which some spots of s1 are embedded by RNA alone, which sees domains 1 and 2 as one."""
    domains, modalities, true = run
    rng = np.random.default_rng(seed)
    own = modalities.copy()
    own.iloc[hidden] = "rna"
    centres = np.eye(3)[true]
    blind = ((own == "rna") & (true == 2)).to_numpy()
    centres[blind] = np.eye(3)[1]
    latent = 10 * centres + rng.normal(size=centres.shape)
    obs = pd.DataFrame({"slice": domains["slice"], "modalities": pd.Categorical(own)}, index=NAMES)
    return ad.AnnData(obs=obs, obsm={"X_latent": latent.astype(np.float32)})


@pytest.fixture
def calls(run):
    # Every other spot of s1, then the rest.
    folds = [fold_of(run, np.arange(start, 3 * N, 2), seed=start) for start in (0, 1)]
    return confidence.together(confidence.hidden_calls(*run[:2], fold) for fold in folds)


def test_where_a_modality_is_blind_the_posterior_is_high_and_the_confidence_low(run, calls):
    domains, modalities, _ = run
    assert sorted(calls.index) == sorted(NAMES[: 3 * N])
    assert (calls["modalities"] == "rna").all()
    blind = calls[calls["domain"] > 0]
    assert (blind["called"] == 1).all()
    assert blind["posterior"].min() > 0.9
    table = confidence.calibrate(domains, modalities, calls)
    assert list(table.columns) == [*domains.columns, "agreement", "confidence"]
    s2 = table[table["slice"] == "s2"]
    assert (s2.loc[s2["domain"] == 0, "confidence"] > 0.9).all()
    in_doubt = s2.loc[s2["domain"] == 1, "confidence"]
    assert in_doubt.nunique() == 1
    # Of 80 hidden spots called 1, half are; drawn to the share of all, which is two thirds, by ten spots.
    posterior = calls["posterior"]
    overall = 80 / posterior.sum()
    expected = 0.99 * (40 + 10 * overall) / (posterior[calls["called"] == 1].sum() + 10)
    assert in_doubt.iloc[0] == pytest.approx(expected)
    assert in_doubt.iloc[0] < 0.6


def test_what_no_fold_covers_keeps_its_posterior(run, calls):
    table = confidence.calibrate(*run[:2], calls)
    s1 = table[table["slice"] == "s1"]
    assert s1["agreement"].isna().all()
    assert (s1["confidence"] == 0.99).all()
    alone = confidence.calibrate(*run[:2], confidence.together([]))
    assert (alone["confidence"] == 0.99).all()
    assert alone["agreement"].isna().all()


def test_a_clustering_without_posterior_has_the_agreement_alone(run):
    domains, modalities, _ = run
    domains = domains.drop(columns="probability")
    calls = confidence.hidden_calls(domains, modalities, fold_of(run, np.arange(3 * N)[::2]))
    assert (calls["posterior"] == 1).all()
    table = confidence.calibrate(domains, modalities, calls)
    assert table.loc[table["slice"] == "s1", "confidence"].isna().all()
    s2 = table[table["slice"] == "s2"]
    pd.testing.assert_series_equal(s2["confidence"], s2["agreement"], check_names=False)
    assert s2.loc[s2["domain"] == 1, "confidence"].max() < 0.7


def test_folds_that_say_nothing(run):
    domains, modalities, _ = run
    assert confidence.hidden_calls(domains, modalities, ad.AnnData(obs=pd.DataFrame(index=[]))).empty
    # Domain 2 lives where it is hidden, and nowhere else.
    fold = fold_of(run, np.arange(3 * N))
    called = confidence.hidden_calls(domains, modalities, fold)
    assert set(called["domain"]) == {0, 1}
    # One domain: all are called it.
    called = confidence.hidden_calls(domains.assign(domain=0), modalities, fold)
    assert (called[["called", "domain"]] == 0).all(axis=None)
    assert (called["posterior"] == 1).all()


def test_a_pair_that_cannot_be_told_apart_is_named(run, calls):
    domains, modalities, _ = run
    shares = confidence.called_by(calls)
    assert shares.columns.tolist() == confidence.CALLS
    assert shares.groupby(["modalities", "called"])["share"].sum().tolist() == [1, 1]
    spots = domains.assign(modalities=modalities)
    taken = confidence.taken_for_others(shares, spots)
    assert taken[["called", "domain", "slices"]].to_numpy().tolist() == [[1, 2, "s2"], [0, 0, "s2"]]
    assert taken["share"].tolist() == [0.5, 0]
    (sentence,) = checks.not_told_apart(taken)
    assert sentence == (
        "In s2 (rna alone) domains 1 and 2 can't be told apart: 50% of hidden spots called 1 are 2 by all modalities."
    )
    metrics = pd.DataFrame({"metric": ["iLISI"], "scope": ["all"], "value": [0.5]})
    found = checks.run_checks(metrics, spots, [], [], calls=shares).set_index("check").loc["domains told apart"]
    assert (found["status"], found["value"]) == ("warn", 0.5)
    assert sentence in found["advice"]
    # No slice has RNA alone: nothing to tell.
    bridge = spots[spots["slice"] == "s1"]
    found = checks.run_checks(metrics, bridge, [], [], calls=shares).set_index("check").loc["domains told apart"]
    assert found["status"] == "not checked"


def test_few_hidden_spots_name_no_pair(run):
    domains, modalities, _ = run
    few = confidence.called_by(confidence.hidden_calls(domains, modalities, fold_of(run, np.arange(N, 3 * N, 10))))
    assert few["n_spots"].sum() == 8
    assert confidence.taken_for_others(few, domains.assign(modalities=modalities)).empty


def test_without_folds_the_tables_are_empty(tmp_path):
    shares = confidence.called_by(confidence.together([]))
    assert shares.columns.tolist() == confidence.CALLS
    shares.to_csv(tmp_path / "calls.tsv", sep="\t", index=False)
    again = pd.read_csv(tmp_path / "calls.tsv", sep="\t", keep_default_na=False)
    metrics = pd.DataFrame({"metric": ["iLISI"], "scope": ["all"], "value": [0.5]})
    spots = pd.DataFrame({"slice": ["s1"], "modalities": ["rna"], "domain": [0]})
    found = checks.run_checks(metrics, spots, [], [], calls=again).set_index("check")
    assert found.loc["domains told apart", "status"] == "not checked"


def test_the_field_calls_hidden_spots_without_their_hidden_modality():
    """Bands of two slices, of which RNA sees all; the fold's latent space is blurred, the field is not."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(15), np.arange(12), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
    slices, truth = np.repeat([0, 1], len(grid)), np.tile(grid[:, 0] // 5, 2).astype(int)
    names = pd.Index([f"s{number}:{row}" for number, row in zip(slices, np.tile(np.arange(len(grid)), 2), strict=True)])
    bridge = np.flatnonzero(slices == 0)
    features = {
        "rna": (2 * np.eye(3)[truth] + rng.normal(size=(len(truth), 3))).astype(np.float32),
        "adt": (5 * np.eye(3)[truth[bridge]] + rng.normal(size=(len(bridge), 3))).astype(np.float32),
    }
    modalities = pd.Series(np.where(slices == 0, "rna+adt", "rna"), index=names)
    domains = pd.DataFrame({"slice": slices, "domain": truth, "probability": 1.0}, index=names)
    hidden = bridge[::3]
    own = modalities.copy()
    own.iloc[hidden] = "rna"
    latent = (np.eye(3)[truth] + 0.8 * rng.normal(size=(len(truth), 3))).astype(np.float32)
    fold = ad.AnnData(obs=pd.DataFrame({"modalities": pd.Categorical(own)}, index=names), obsm={"X_latent": latent})

    def called(adt: np.ndarray) -> pd.DataFrame:
        views = {"rna": View(np.arange(len(truth)), features["rna"]), "adt": View(bridge, adt)}
        graph = averages(np.vstack([grid, grid]), slices)
        return confidence.hidden_calls(domains, modalities, fold, confidence.Tissue(names, views, graph, slices))

    def right(calls: pd.DataFrame) -> float:
        return (calls["called"] == calls["domain"]).mean()

    by_field = called(features["adt"])
    assert by_field.index.tolist() == names[hidden].tolist()
    assert right(by_field) > 0.95 > 0.85 > right(confidence.hidden_calls(domains, modalities, fold))
    scrambled = features["adt"].copy()
    scrambled[np.isin(bridge, hidden)] = 1e3
    np.testing.assert_array_equal(called(scrambled)["posterior"], by_field["posterior"])


def test_neighbours_that_are_not_hidden_do_not_tell_the_domain():
    """RNA sees nothing at all: hidden spots beside spots of known domains are called no better than the fold does."""
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.arange(16), np.arange(12), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
    truth = (grid[:, 0] >= 8).astype(int)
    names = pd.Index([f"s:{row}" for row in range(len(grid))])
    hidden = np.flatnonzero(grid[:, 1] >= 8)
    own = np.where(np.isin(np.arange(len(grid)), hidden), "rna", "rna+adt")
    domains = pd.DataFrame({"slice": "s", "domain": truth, "probability": 1.0}, index=names)
    latent = np.where((own == "rna")[:, None], [0.6, 0.4], np.eye(2)[truth]) + 0.01 * rng.normal(size=(len(grid), 2))
    fold = ad.AnnData(
        obs=pd.DataFrame({"modalities": pd.Categorical(own)}, index=names), obsm={"X_latent": latent.astype(np.float32)}
    )
    views = {
        "rna": View(np.arange(len(grid)), rng.normal(size=(len(grid), 2)).astype(np.float32)),
        "adt": View(np.arange(len(grid)), (5 * np.eye(2)[truth]).astype(np.float32)),
    }
    slices = np.zeros(len(grid), dtype=int)
    tissue = confidence.Tissue(names, views, averages(grid, slices), slices)
    calls = confidence.hidden_calls(domains, pd.Series("rna+adt", index=names), fold, tissue)
    assert (calls["called"] == calls["domain"]).mean() == pytest.approx(0.5, abs=0.1)
