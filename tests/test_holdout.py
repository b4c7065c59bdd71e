"""Hiding what was measured: on data where imputation works, and on data made to fail."""

from dataclasses import replace
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from chain import simulated
from scipy import sparse
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from mosaic import matrices, store
from mosaic.analyse import impute, intervals
from mosaic.analyse.imputed import write_imputed
from mosaic.check import agreement, checks, confidence, folds, scores
from mosaic.config import design
from mosaic.config.schema import with_changes
from mosaic.errors import InputError
from mosaic.pipeline import Pipeline

# Deep counts of three domains: as easy as it gets.
EASY = {
    "grid": {"rows": 20, "columns": 20, "pitch": 100},
    "domains": {"a": 3, "b": 3, "c": 3},
    "slices": {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["adt"]},
    "modalities": {
        "rna": {"kind": "rna", "n_features": 60, "depth": 3000, "markers": 15, "marker_fold": 8.0},
        "adt": {"kind": "protein", "n_features": 20, "depth": 3000, "markers": 5, "marker_fold": 8.0},
    },
}
TRAIN = {"T": 0.1, "n_epochs": 30, "device": "cpu"}
PAIRS = [("s1", "s3")]
FOLD = folds.FoldSettings(n_stripes=3, graph={}, train=TRAIN, impute={"n_neighbors": 10}, seed=0)


def checked(run: Pipeline) -> dict[str, scores.Summary]:
    """Every fold of a mosaic, put together by modality."""
    scored = {}
    for fold in run.sheet.folds(3):
        pairs = (run.sheet.drop(*fold[:2]) if fold[2] == 0 else run.sheet).mnn_pairs(fold[1])
        parts = run.reduced(), run.graphs(), run.counts()
        scored.setdefault(fold[1], []).append(folds.try_fold(*parts, fold, pairs, FOLD).scored)
    return {modality: scores.summarise(own) for modality, own in scored.items()}


def statuses(summaries) -> dict[str, str]:
    tables = [[getattr(summary, name) for summary in summaries.values()] for name in ("features", "foscttm")]
    metrics = pd.DataFrame({"metric": ["iLISI"], "scope": ["all"], "value": [0.5]})
    found = checks.run_checks(metrics, pd.DataFrame({"slice": ["s1"], "domain": [0]}), *tables)
    return dict(zip(found["check"], found["status"], strict=True))


@pytest.fixture(scope="module")
def easy():
    run = simulated(EASY, train=TRAIN)
    return run, checked(run)


def sheet(**slices):
    return design.SampleSheet(design.SampleRow(name, m, "") for name, own in slices.items() for m in own.split())


def test_what_is_hidden():
    assert sheet(s1="rna adt", s2="rna", s3="adt").folds(2) == [
        ("s1", "rna", 1), ("s1", "rna", 2), ("s1", "adt", 1), ("s1", "adt", 2)
    ]  # fmt: skip
    # A second bridge takes over, so slices are hidden as a whole.
    assert sheet(s1="rna adt", s2="rna adt").folds(3) == [
        ("s1", "rna", 0), ("s1", "adt", 0), ("s2", "rna", 0), ("s2", "adt", 0)
    ]  # fmt: skip
    # rna and atac are joined in s1 alone.
    chain = sheet(s1="rna atac", s2="rna adt", s3="rna adt").folds(2)
    assert ("s1", "atac", 1) in chain
    assert ("s2", "adt", 0) in chain
    assert sheet(s1="rna", s2="rna").folds(3) == []


def test_stripes_are_compact_and_share_all_spots():
    places = np.column_stack([np.tile(np.arange(30), 10), np.repeat(np.arange(10), 30)]).astype(float)
    masks = [folds.stripe(places, part, 3) for part in (1, 2, 3)]
    np.testing.assert_array_equal(np.sum(masks, axis=0), 1)
    for mask in masks:
        assert mask.sum() == 100
        assert np.ptp(places[mask, 0]) <= 10  # across the long axis
    assert folds.stripe(places, 0, 3).all()


def test_hidden_counts_are_found_again(easy):
    _, summaries = easy
    assert set(statuses(summaries).values()) == {"pass", "not checked"}
    for summary in summaries.values():
        features = summary.features
        assert features["better_than_mean"].mean() > 0.7
        assert features["pearson"].mean() > 0.4
        assert (features["rmse"] < features["rmse_mean"]).mean() > 0.7
        assert (features["n_spots"] == 400).all()
        # What training has not seen of the other folds' errors holds in each fold.
        at = summary.coverage.set_index("nominal")["actual"]
        assert at[0.9].mean() == pytest.approx(0.9, abs=0.05)
        assert at[0.5].mean() == pytest.approx(0.5, abs=0.12)
        assert summary.foscttm["foscttm"].mean() < 0.2
        assert (summary.folds.groupby("way")["pearson_spot"].mean()["imputed"]) > 0.5


def test_of_many_features_those_selected_and_a_sample_of_the_others_are_scored(easy, monkeypatch):
    monkeypatch.setattr(scores, "_MOST_OTHERS", 5)
    run, _ = easy
    reduced, graphs, counts = run.reduced(), run.graphs(), run.counts()
    selected = reduced["rna"].var_names[::4]
    reduced["rna"] = reduced["rna"][:, selected].copy()
    folds_of_rna = [folds.run_fold(reduced, graphs, counts, ("s1", "rna", part), PAIRS, FOLD).scored for part in (1, 2)]
    names = folds_of_rna[0].var_names
    assert names.equals(folds_of_rna[1].var_names)
    assert selected.isin(names).all()
    assert len(names) == len(selected) + 5
    table = scores.summarise(folds_of_rna).folds
    assert (table["n_scored"] == len(names)).all()
    assert (table["n_features"] == counts["rna"].n_vars).all()
    # Few features: all of them, in their order.
    assert scores.scored_features(names, names[:-5]).equals(names)


def test_of_many_hidden_spots_a_sample_is_scored_and_all_are_hidden(easy, monkeypatch):
    run, _ = easy
    given = run.reduced(), run.graphs(), run.counts(), ("s1", "adt", 2), PAIRS, FOLD
    every = folds.run_fold(*given)
    monkeypatch.setattr(folds, "_MOST_SCORED", 40)
    some = folds.run_fold(*given)
    assert some.scored.n_obs == 40 < every.scored.n_obs
    assert some.scored.obs_names.isin(every.scored.obs_names).all()
    # Training, and FOSCTTM, are those of all hidden spots.
    np.testing.assert_array_equal(some.embedding.obsm["X_latent"], every.embedding.obsm["X_latent"])
    assert some.scored.uns["foscttm"] == every.scored.uns["foscttm"]
    same = every.scored.obs.loc[some.scored.obs_names, "pearson"]
    # What corrects for hubs has seen fewer spots.
    np.testing.assert_allclose(some.scored.obs["pearson"], same, atol=0.02)


def test_scores_are_those_written_out(easy, monkeypatch):
    """One fold, scored by scipy and scikit-learn; features taken in several blocks."""
    run, _ = easy
    reduced, graphs, counts = run.reduced(), run.graphs(), run.counts()
    seen = {}
    original = folds.score_fold

    def spied(measured, imputation, mean, near):
        seen.update(
            depth=np.median(np.asarray(imputation.values.sum(axis=1))),
            measured=measured.toarray(),
            imputed=imputation.predict(np.arange(imputation.spots.n_obs))[0],
        )
        return original(measured, imputation, mean, near)

    monkeypatch.setattr(folds, "score_fold", spied)
    monkeypatch.setattr(scores, "_BLOCK_VALUES", 66 * 7)
    scored = folds.run_fold(reduced, graphs, counts, ("s1", "adt", 2), PAIRS, FOLD).scored
    measured, imputed = seen["measured"], seen["imputed"].toarray().astype(float)
    features = scores.summarise([scored]).features
    for number in range(measured.shape[1]):
        row = features.iloc[number]
        assert row["pearson"] == pytest.approx(pearsonr(measured[:, number], imputed[:, number])[0], abs=1e-5)
        assert row["rmse"] == pytest.approx(np.sqrt(((measured - imputed)[:, number] ** 2).mean()), rel=1e-5)
        depth = seen["depth"]
        logs = [np.log1p(x / x.sum(axis=1, keepdims=True) * depth) for x in (measured, imputed)]
        assert row["pearson_log"] == pytest.approx(pearsonr(*(x[:, number] for x in logs))[0], abs=1e-5)
        present = measured[:, number] > 0
        if present.all():
            assert np.isnan(row["auroc"])
        else:
            assert row["auroc"] == pytest.approx(roc_auc_score(present, imputed[:, number]))
    np.testing.assert_allclose(
        scored.obs["pearson"], [pearsonr(*pair)[0] for pair in zip(measured, imputed, strict=True)], atol=1e-5
    )
    assert (scored.obs["slice"] == "s1").all()


def test_depth_alone_is_no_prediction():
    """Imputed counts that carry a spot's depth over, and nothing of its features, correlate on counts alone."""
    rng = np.random.default_rng(0)
    depth, profile = rng.lognormal(3, 1, size=(300, 1)), rng.uniform(0.5, 2, size=8)
    measured = sparse.csr_matrix(rng.poisson(depth * profile).astype(np.float32))
    spots = ad.AnnData(obs=pd.DataFrame(index=[f"s:{number}" for number in range(300)]))
    signal = measured.toarray() / measured.sum(axis=1) * 20
    means = measured.toarray().mean(axis=0), scores.mean_log(measured, counted=True)
    found = {}
    for name, imputed in (("depth", depth * profile), ("signal", signal)):
        predicted = sparse.csr_matrix(imputed)
        plan = SimpleNamespace(
            **{"spots": spots, "features": pd.Index([f"g{k}" for k in range(8)]), "values": measured, "counted": True},
            predict=lambda _, predicted=predicted: (predicted, predicted * 0),
        )
        scored = scores.score_fold(measured, plan, means, sparse.eye_array(300, format="csr"))
        scored.uns |= {"slice": "s", "modality": "rna", "part": 0, "n_features": 9, "foscttm": {}}
        found[name] = scores.summarise([scored]).features
    assert (found["depth"]["pearson"] > 0.9).all()
    assert (found["depth"]["pearson_log"].abs() < 0.25).all()
    assert (found["signal"]["pearson_log"] > 0.9).all()
    assert found["signal"]["better_than_mean"].all()
    assert found["depth"]["better_than_mean"].mean() < 0.3


def test_the_baseline_takes_the_first_source_that_has_a_spot():
    def table(names, values):
        return ad.AnnData(
            obs=pd.DataFrame(index=names), obsm={"X_reduced": np.array(values, dtype=np.float32)[:, None]}
        )

    reduced = {"rna": table(["q1", "d1", "d2"], [0, 5, 1]), "atac": table(["q1", "q2", "d1", "d3"], [0, 9, 0, 8])}
    spots, donors = pd.Index(["q1", "q2", "q3"]), pd.Index(["d1", "d2", "d3"])
    weights = folds._unintegrated(reduced, ["rna", "atac"], spots, donors, 1).toarray()
    np.testing.assert_array_equal(weights, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])  # q3 is nowhere: any donor


def test_the_hidden_counts_play_no_part(easy):
    """Whatever stood there, the same is imputed."""
    run, _ = easy
    reduced, graphs, counts = run.reduced(), run.graphs(), run.counts()
    hidden = run.slices()["s1", "adt"].obs_names[
        folds.stripe(reduced["adt"][reduced["adt"].obs["slice"] == "s1"].obsm["spatial"], 1, 3)
    ]
    wrong = counts["adt"].copy()
    values = wrong.layers["counts"].tolil()
    values[wrong.obs_names.get_indexer(hidden)] = 999
    wrong.layers["counts"] = values.tocsr()
    errors = []
    for own in (counts, counts | {"adt": wrong}):
        scored = folds.run_fold(reduced, graphs, own, ("s1", "adt", 1), PAIRS, FOLD).scored
        errors.append(np.asarray(scored.varm["moments"])[:, 0])  # sums of what was imputed
        np.testing.assert_array_equal(scored.obs_names.sort_values(), hidden.sort_values())
    np.testing.assert_allclose(*errors)


def test_modalities_paired_at_random_are_told():
    def shuffled(name, modality, adata):
        if (name, modality) == ("s1", "adt"):
            adata = adata.copy()
            order = np.random.default_rng(0).permutation(adata.n_obs)
            adata.X = adata.X[order]
        return adata

    found = statuses(checked(simulated(EASY, change=shuffled)))
    assert found["modalities align"] == "fail"
    assert found["imputation"] in ("warn", "fail")


def test_noise_in_place_of_a_modality_is_told():
    rng = np.random.default_rng(0)

    def noise(name, modality, adata):
        if modality == "adt":
            adata = adata.copy()
            adata.X = sparse.csr_matrix(rng.poisson(50, adata.shape).astype(np.float32))
        return adata

    found = statuses(checked(simulated(EASY, change=noise)))
    assert found["imputation"] == "fail"
    assert found["modalities align"] == "fail"


def mixing(run: Pipeline) -> str:
    run = run.changed({"train": TRAIN})
    domains = run.embedding(0).obs[["slice"]].assign(domain=0)
    return checks.run_checks(run.metrics(0), domains, [], []).set_index("check").loc["slices mix", "status"]


def test_a_slice_that_shares_nothing_is_told(easy):
    def other_profiles(name, modality, adata):
        if name == "s2":
            adata = adata.copy()
            adata.X = adata.X[:, np.random.default_rng(0).permutation(adata.n_vars)]
        return adata

    assert mixing(easy[0]) == "pass"
    other = simulated(EASY, change=other_profiles)
    harmony = {"modalities": {name: {"batch_correction": "harmony"} for name in EASY["modalities"]}}
    assert mixing(other.changed(harmony)) == "fail"
    # Its patches can be laid on patches of other domains, which auto does as far as they go: never a pass.
    assert mixing(other) == "warn"
    # The features themselves say it, whatever the batch correction does.
    for run, status in ((easy[0], "pass"), (other, "fail")):
        agreements = agreement.agreements({key: agreement.profile(adata) for key, adata in run.slices().items()})
        table = pd.DataFrame({"metric": [], "scope": [], "value": []})
        found = checks.run_checks(table, pd.DataFrame({"slice": ["s1"], "domain": [0]}), [], [], agreements=agreements)
        assert found.set_index("check").loc["features agree", "status"] == status


def test_a_modality_that_nothing_else_measured_cannot_be_hidden(easy):
    run, _ = easy
    reduced, graphs = run.reduced(), run.graphs()
    alone = {"rna": reduced["rna"], "adt": reduced["adt"][reduced["adt"].obs["slice"] == "s1"].copy()}
    with pytest.raises(InputError, match="slice s1: adt can't be hidden, as no other spot measured it"):
        folds.run_fold(alone, graphs, {}, ("s1", "adt", 0), [], FOLD)


def test_a_fold_that_cannot_be_made_is_left_out_and_said(easy, tmp_path):
    run, _ = easy
    reduced, graphs, counts = run.reduced(), run.graphs(), run.counts()
    # All of the only bridge slice is hidden, so that no spot is left by which the modalities could be aligned.
    whole, stripe = (
        folds.try_fold(reduced, graphs, counts, ("s1", "adt", 1), PAIRS, replace(FOLD, n_stripes=number))
        for number in (1, 3)
    )
    for name, adata in {"whole": whole.scored, "stripe": stripe.scored, "empty": whole.embedding}.items():
        store.write(adata, tmp_path / f"{name}.h5ad")
    whole, stripe = (store.read(tmp_path / f"{name}.h5ad") for name in ("whole", "stripe"))
    assert store.read(tmp_path / "empty.h5ad").n_obs == 0

    both = scores.summarise([whole, stripe])
    pd.testing.assert_frame_equal(both.features, scores.summarise([stripe]).features)
    assert both.folds["way"].tolist() == ["imputed", "mean", "neighbors", "left out"]
    assert "bridge" in both.folds["left_out"].iloc[-1]

    none = scores.summarise([whole])
    assert list(none.features.columns) == list(both.features.columns)
    assert none.features.empty
    metrics = pd.DataFrame({"metric": ["iLISI"], "scope": ["all"], "value": [0.5]})
    found = checks.run_checks(
        metrics,
        both.foscttm.assign(slice="s1", domain=0),
        *([table] for table in none[:1]),
        [none.foscttm],
        [none.folds],
    )
    assert found["status"].tolist() == ["not checked", "pass", *["not checked"] * 3]
    assert "left out: s1.adt.1 (" in found.set_index("check")["advice"]["imputation"]


def test_protein_on_a_part_of_a_bridge_slice(easy):
    """Stripes are cut where both modalities are, so that each fold leaves the others to align by."""

    def left_third(name, modality, adata):
        if (name, modality) == ("s1", "adt"):
            adata = adata[adata.obsm["spatial"][:, 0] < np.quantile(adata.obsm["spatial"][:, 0], 1 / 3)].copy()
        return adata

    run = simulated(EASY, change=left_third)
    n_both = run.slices()["s1", "adt"].n_obs
    assert n_both < 150
    for summary in checked(run).values():
        assert (summary.features["n_spots"] == n_both).all()
        assert summary.folds["left_out"].eq("").all()


def test_confidence_knows_the_domain_that_a_modality_cannot_see():
    """RNA takes c for b: in s2 the posterior knows nothing of it, and the confidence does."""
    blind = with_changes(EASY, {"modalities": {"rna": {"looks_like": {"c": "b"}}}})
    longer = TRAIN | {"n_epochs": 100}
    run = simulated(blind, train=longer)
    domains, modalities, truth = run.domains(0), run.embedding(0).obs["modalities"], run.truth()
    proteins = [fold for fold in run.sheet.folds(3) if fold[1] == "adt"]
    parts, own = (run.reduced(), run.graphs(), run.counts()), replace(FOLD, train=longer)
    done = [folds.try_fold(*parts, fold, PAIRS, own) for fold in proteins]
    calls = confidence.together(confidence.hidden_calls(domains, modalities, fold.embedding) for fold in done)
    assert len(calls) == 400
    table = confidence.calibrate(domains, modalities, calls)

    names = pd.crosstab(domains["domain"], truth).idxmax(axis=1)
    right = domains["domain"].map(names) == truth
    s2 = table[table["slice"] == "s2"].assign(right=right, truth=truth)
    unseen = s2[s2["truth"].isin(["b", "c"])]
    assert unseen["right"].mean() < 0.8
    assert unseen["probability"].median() > 0.9
    assert unseen["confidence"].median() < 0.75
    sure = s2[s2["confidence"] > 0.9]
    assert len(sure) > 80
    assert sure["right"].mean() > 0.9
    pairs = confidence.taken_for_others(confidence.called_by(calls), domains.assign(modalities=modalities.astype(str)))
    (sentence, *_) = checks.not_told_apart(pairs)
    both = sorted(int(domain) for domain, name in names.items() if name in "bc")
    assert sentence.startswith(f"In s2 (rna alone) domains {both[0]} and {both[1]} can't be told apart: ")


def test_intervals_from_the_errors_of_hidden_spots(easy, tmp_path):
    run, summaries = easy
    imputation = impute.plan_imputation(run.embedding(0), "s2", "adt", run.counts(), n_neighbors=10)
    write_imputed(imputation, tmp_path / "without.h5ad")
    with pytest.raises(InputError, match="no errors of hidden spots"):
        intervals.interval(store.read(tmp_path / "without.h5ad"))
    write_imputed(imputation, tmp_path / "made.h5ad", summaries["adt"].features)
    done = store.read(tmp_path / "made.h5ad")
    low, high = intervals.interval(done)
    mean = matrices.dense(done.layers["imputed"])
    assert (low >= 0).all()
    assert (low <= high).all()
    assert ((low <= mean) & (mean <= high)).mean() > 0.95
    np.testing.assert_array_equal(intervals.interval(done, done.var_names[3:5])[1], high[:, 3:5])
    assert done.var["better_than_mean"].dtype == bool
    assert isinstance(done, ad.AnnData)
