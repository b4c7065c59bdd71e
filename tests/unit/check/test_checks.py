"""The checks of runs that are good, doubtful and bad."""

import numpy as np
import pandas as pd
import pytest

from mosaic.check import agreement, checks
from mosaic.errors import InputError


def tables(ilisi, unseen, better):
    metrics = pd.DataFrame({"metric": ["iLISI", "ARI"], "scope": ["all", "all"], "value": [ilisi, 0.5]})
    domains = pd.DataFrame({"slice": ["s1"] * 50 + ["s2"] * 50, "domain": [0] * 25 + [1] * 50 + [2] * 25})
    features = [pd.DataFrame({"better_than_mean": np.arange(10) < 10 * share}) for share in better]
    return metrics, domains, features, [pd.DataFrame({"scope": "s1:rna~adt", "foscttm": unseen})] if unseen else []


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        ((0.6, [0.1, 0.2], [0.9, 0.8]), ["pass", "pass", "pass"]),
        ((0.2, [0.35, 0.38], [0.9, 0.2]), ["warn", "warn", "warn"]),  # the worst modality decides
        ((0.05, [0.5], [0.9, 0.0]), ["fail", "fail", "fail"]),
        ((0.25, [0.3], [0.3]), ["pass", "pass", "pass"]),  # at the thresholds
        ((np.nan, [], []), ["not checked"] * 3),
    ],
)
def test_status(values, statuses):
    results = checks.run_checks(*tables(*values))
    assert results["check"].tolist() == [
        "features agree",
        "slices mix",
        "modalities align",
        "imputation",
        "domains told apart",
    ]
    assert results["status"].tolist() == ["not checked", *statuses, "not checked"]
    assert results["advice"].str.len().min() > 10
    assert results.loc[1, ["good", "bad"]].tolist() == ["≥ 0.25", "< 0.1"]
    assert results.loc[2, ["good", "bad"]].tolist() == ["≤ 0.3", "> 0.4"]


def test_domains_of_one_slice_are_named():
    domains = tables(0.5, [], [])[1]
    shares = checks.composition(domains)
    assert shares.loc[0].tolist() == [0.5, 0]
    assert shares.loc[1].tolist() == [0.5, 0.5]
    assert checks.domains_alone(domains) == {"0": "s1", "2": "s2"}
    assert (
        "Domains that live in one slice only: 0 in s1, 2 in s2." in checks.run_checks(*tables(0.5, [], []))["advice"][1]
    )
    assert checks.domains_alone(domains[domains["slice"] == "s1"]) == {}


@pytest.mark.parametrize(("value", "status"), [(0.61, "pass"), (0.3, "warn"), (0.1, "fail")])
def test_a_slice_of_other_features_is_named(value, status):
    rows = [("rna", "s1", 0.8, 99), ("rna", "s2", value, 99), ("adt", "s1", np.nan, 9)]
    agreements = pd.DataFrame(rows, columns=agreement.COLUMNS)
    (row,) = checks.run_checks(*tables(0.5, [], []), agreements=agreements).head(1).itertuples()
    assert (row.check, row.status, row.value) == ("features agree", status, value)
    assert ("Which: rna of s2." in row.advice) == (status != "pass")


def test_a_slice_that_can_not_be_judged_among_others_is_named():
    # s3 shares too few genes; no panel of so few proteins is judged.
    rows = [("rna", "s1", 0.9, 10), ("rna", "s2", 0.9, 10), ("rna", "s3", np.nan, 10), ("adt", "s1", np.nan, 15)]
    table = pd.DataFrame(rows, columns=agreement.COLUMNS)
    found = checks.run_checks(*tables(0.6, [], []), agreements=table).set_index("check").loc["features agree"]
    assert found["status"] == "pass"
    assert found["advice"].endswith("in all slices. Not judged: rna of s3.")
    found = checks.run_checks(*tables(0.6, [], []), agreements=table[table["agreement"].notna()])
    assert "Not judged" not in found["advice"].iloc[0]


@pytest.mark.parametrize(
    ("near", "agreement", "relative", "before", "statuses"),
    [
        (0.99, 0.96, 1.0, 0.0, ["pass", "pass"]),
        (0.99, 0.5, 0.9, 0.0, ["pass", "warn"]),
        (0.99, 0.5, np.nan, 0.0, ["pass", "warn"]),
        (0.99, 0.5, 0.51, 0.0, ["fail", "warn"]),
        (0.99, -0.02, -0.02, 0.0, ["fail", "fail"]),
        (0.99, -0.5, -0.5, 0.4, ["pass", "fail"]),  # other domains of the same tissue
        (0.4, 0.9, 1.0, 0.5, ["fail", "pass"]),
    ],
)
def test_a_mapped_slice_is_to_lie_near_the_reference_and_its_features_to_agree(
    near, agreement, relative, before, statuses
):
    domains = pd.DataFrame({"slice": "new", "domain": [0, 1] * 20})
    mapping = {"slice": "new", "found": 1.0, "agreement": agreement, "near": near, "ilisi": 0.5, "foscttm": np.nan}
    mapping = pd.DataFrame(
        [{**mapping, "by_id": 0.25, "relative": relative, "ilisi_before": before, "unassigned": 1 - near}]
    )
    metrics = pd.DataFrame({"metric": ["iLISI"], "scope": ["all"], "value": [np.nan]})
    results = checks.run_checks(metrics, domains, [], [], mapping=mapping).set_index("check")
    assert results.loc[["mapping", "features agree"], "status"].tolist() == statuses
    advice = results.loc["mapping", "advice"]
    assert "100% of the features of the reference (25% by identifiers or symbols)" in advice
    assert (f"{relative:.2f} times as well" in advice) == (relative < 0.55 and before < 0.1)
    assert results.loc["slices mix", "value"] == 0.5
    assert ("Which: features of new." in results.loc["features agree", "advice"]) == (agreement < 0.55)
    assert results.loc["modalities align", "advice"] == "No new slice has two modalities."
    assert "checks of the reference" in results.loc["imputation", "advice"]


def test_a_run_can_end_on_a_red_light():
    results = checks.run_checks(*tables(0.05, [0.1], [0.0]))
    checks.enforce_checks(results, ["modalities align"])
    with pytest.raises(InputError, match=r"2 faults in checks.fail_on") as error:
        checks.enforce_checks(results, ["slices mix", "imputation", "modalities align"])
    assert "slices mix: failed: 0.05, iLISI" in str(error.value)
    assert str(error.value).count("Hint:") == 2


def test_a_fold_without_pairs_does_not_hide_those_of_others():
    # The hidden stripe of one fold has no spot of the third modality.
    metrics, domains, _, _ = tables(0.5, [], [])
    unseen = pd.DataFrame({"fold": ["s1.rna.1", "s1.rna.1"], "scope": ["s1:adt~rna", "s1:atac~rna"]})
    found = checks.run_checks(metrics, domains, [], [unseen.assign(foscttm=[0.49, np.nan])]).set_index("check")
    assert found.loc["modalities align", ["status", "value"]].tolist() == ["fail", 0.49]


def test_a_slice_whose_pairs_lie_apart_is_not_hidden_by_those_of_others():
    metrics, domains, _, _ = tables(0.5, [], [])
    of_rna = pd.DataFrame({"scope": [f"s{n}:adt~rna" for n in (1, 2, 3)], "foscttm": [0.05, 0.06, 0.5]})
    of_adt = pd.DataFrame({"scope": [f"s{n}:rna~adt" for n in (1, 2, 3)], "foscttm": [0.05, 0.06, 0.48]})
    found = checks.run_checks(metrics, domains, [], [of_rna, of_adt]).set_index("check").loc["modalities align"]
    assert (found["status"], found["value"]) == ("fail", pytest.approx(0.49))
    assert "Which: adt and rna of s3." in found["advice"]
    # One fold of several may be poor.
    of_adt.loc[2, "foscttm"] = 0.2
    found = checks.run_checks(metrics, domains, [], [of_rna, of_adt]).set_index("check").loc["modalities align"]
    assert (found["status"], found["value"]) == ("pass", pytest.approx(0.92 / 6))
