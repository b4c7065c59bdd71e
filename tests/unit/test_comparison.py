"""Sums of the benchmark by independent arithmetic; its figures without text upon text."""

import io

import comparison
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from scipy import stats

LABELS = {"spamosaic": "this workflow", "other": "A method with a long name", "third": "Third"}
SEEDS = (0, 1, 2, 3, 4)


def scores() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for dataset in ("one", "two_of_a_longer_name"):
        for method in LABELS if dataset == "one" else ("spamosaic", "other"):
            for seed in SEEDS:
                for column in comparison.OVERVIEW:
                    direction = {"↑": "up", "↓": "down", "": "neither"}[column.arrow]
                    scopes = ("a:b", "c:d") if column.metric.startswith("imputation") else ("all",)
                    for scope in scopes:
                        value = rng.uniform(*sorted((column.low, column.high)))
                        rows.append((dataset, method, seed, column.metric, column.by, scope, value, direction))
    return pd.DataFrame(rows, columns=comparison.COLUMNS)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return scores()


@pytest.fixture(scope="module")
def cannot() -> pd.DataFrame:
    reason = "it needs rna in every slice, and s3 did not measure it, for which there is no remedy whatsoever in sight"
    return pd.DataFrame([("two_of_a_longer_name", "third", reason)], columns=["dataset", "method", "cannot"])


def test_means_intervals_and_paired_differences(table):
    summary = comparison.summarise(table).set_index(["dataset", "metric", "by", "scope", "method"])
    row = summary.loc["one", "ARI", "mixture, given number", "all", "other"]
    chosen = (table["dataset"] == "one") & (table["metric"] == "ARI") & (table["by"] == "mixture, given number")
    wide = table[chosen].pivot(index="seed", columns="method", values="value")
    low, high = stats.ttest_1samp(wide["other"], 0).confidence_interval()
    np.testing.assert_allclose(row[["n", "mean", "low", "high"]].astype(float), [5, wide["other"].mean(), low, high])
    low, high = stats.ttest_rel(wide["other"], wide["spamosaic"]).confidence_interval()
    np.testing.assert_allclose(row[["difference_low", "difference_high"]].astype(float), [low, high])
    ranks = [summary.loc[("one", "ARI", "mixture, given number", "all", name), "rank"] for name in LABELS]
    assert ranks == list(wide.mean()[list(LABELS)].rank(ascending=False))
    time = [summary.loc[("one", "wall time (s)", "", "all", name)] for name in LABELS]
    assert min(time, key=lambda row: row["mean"])["rank"] == 1


def test_one_seed_has_no_interval(table):
    summary = comparison.summarise(table[table["seed"] == 0])
    assert summary[["low", "high", "difference_low"]].isna().all(axis=None)
    assert summary["mean"].notna().all()


def test_times_add_up_and_the_largest_job_sets_the_memory():
    jobs = [
        pd.DataFrame({"s": [s], "cpu_time": [s / 2], "max_rss": [m]}) for s, m in ((2.0, 500), (3.0, 900), (1, 100))
    ]
    values = comparison.cost(jobs).set_index("metric")["value"]
    assert values.to_dict() == {"wall time (s)": 6, "CPU time (s)": 3, "peak memory (MiB)": 900}


def test_markdown_says_what_cannot_be_done(table, cannot):
    text = comparison.markdown(comparison.summarise(table), cannot, LABELS)
    assert "| Third | not done: it needs rna in every slice" in text
    for part in text.strip().split("\n\n"):
        assert len({line.count("|") for line in part.splitlines()}) == 1


def test_workflows_are_compared_each_with_its_own_clusterer(table, cannot):
    summary = comparison.summarise(pd.concat([table, comparison.own_ways(table)], ignore_index=True))
    first, *others = comparison.markdown(summary, cannot, LABELS).split("\n\n")
    assert first.startswith("| ARI, each workflow with its own clusterer | this workflow | A method with a long name |")
    assert others[0].startswith("| ARI, all latent spaces by the tissue field |")

    def values(method, by):
        own = table[(table["dataset"] == "one") & (table["metric"] == "ARI") & (table["by"] == by)]
        return own[own["method"] == method].set_index("seed")["value"]

    ours, other = values("spamosaic", "tissue, given number"), values("other", "mixture, given number")
    low, high = stats.ttest_rel(other, ours).confidence_interval()
    cells = next(line for line in first.splitlines() if line.startswith("| one |")).split(" | ")
    assert cells[1] == f"{ours.mean():.3f} ± {ours.std():.3f}"
    assert cells[2] == f"{other.mean():.3f} ± {other.std():.3f} ({(low + high) / 2:+.3f} ± {(high - low) / 2:.3f})"


@pytest.mark.parametrize("draw", [comparison.overview, comparison.quality_and_time])
def test_no_text_lies_on_another(table, cannot, draw, monkeypatch):
    boxes = []
    original = Text.draw

    def record(self, renderer):
        if self.get_visible() and self.get_text().strip():
            boxes.append((self.get_text(), self.get_window_extent(renderer)))
        original(self, renderer)

    monkeypatch.setattr(Text, "draw", record)
    summary = comparison.summarise(table)
    figure = draw(summary, cannot, LABELS) if draw is comparison.overview else draw(summary, LABELS)
    figure.savefig(io.BytesIO(), format="rgba", dpi=100)
    width, height = figure.get_size_inches() * 100
    assert len(boxes) > 15
    for number, (text, box) in enumerate(boxes):
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text  # noqa: PT018
        for other, second in boxes[number + 1 :]:
            shared = min(box.x1, second.x1) - max(box.x0, second.x0), min(box.y1, second.y1) - max(box.y0, second.y0)
            assert min(shared) <= 0.5, (text, other)
