"""Methods compared: means with intervals over seeds, paired differences, ranks; as tables and figures."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from mosaic.figures.style import (
    GAP,
    INK,
    LINE,
    MARGIN,
    MEDIUM,
    SMALL,
    STYLE,
    axes_at,
    legend_of,
    palette,
    place_legend,
    text_at,
    width_of,
)

FIRST = "spamosaic"  # what the others are compared with
# Each method with the clusterer of its users: ours, and the mixture that the publication and CellCharter take.
OWN_WAY, OUR_WAY, THEIR_WAY = "own way", "tissue, given number", "mixture, given number"
COLUMNS = ["dataset", "method", "seed", "metric", "by", "scope", "value", "direction"]
ACROSS = ["dataset", "metric", "by", "scope", "direction"]


class Column:
    """A column of the overview: a metric, by which clusterer or imputer, its heading, and the scale of its colours.

    ``low`` is bad and ``high`` is good; where they are equal, neither more nor less is better.
    """

    def __init__(self, metric: str, by: str, heading: str, low: float, high: float, digits: int = 3):
        self.metric, self.by, self.heading, self.digits = metric, by, heading, digits
        self.low, self.high = low, high

    @property
    def arrow(self) -> str:
        """Where better values lie."""
        return "" if self.high == self.low else "↑" if self.high > self.low else "↓"

    def shade(self, value: float) -> float:
        """0 (bad) to 1 (good)."""
        return float(np.clip((value - self.low) / (self.high - self.low), 0, 1)) if self.arrow else 0.0

    def best(self, values: pd.Series) -> str | None:
        """Which of the methods is best."""
        return {"↑": values.idxmax(), "↓": values.idxmin()}.get(self.arrow)


OVERVIEW = (
    Column("ARI", "tissue, given number", "ARI\ntissue field", 0, 1),
    Column("ARI", "mixture, given number", "ARI\nmixture", 0, 1),
    Column("ARI", "kmeans, given number", "ARI\nk-means", 0, 1),
    Column("ARI", "tissue, chosen number", "ARI, chosen\nnumber", 0, 1),
    Column("recall of small structures", "tissue, given number", "small\nstructures\ntissue field", 0, 1),
    Column("recall of small structures", "mixture, given number", "small\nstructures\nmixture", 0, 1),
    Column("recall of the rarest domain", "tissue, given number", "recall\nrarest\ndomain", 0, 1),
    Column("NMI with slice", "tissue, given number", "NMI\nwith slice", 0, 0),
    Column("NMI with slice, truth", "tissue, given number", "NMI of truth\nwith slice", 0, 0),
    Column("iLISI", "", "iLISI", 0, 1),
    Column("iLISI, aligned", "", "iLISI,\naligned", 0, 1),
    Column("FOSCTTM (training pairs)", "", "FOSCTTM,\ntraining pairs", 0.5, 0),
    Column("imputation pearson_feature", "10 nearest", "imputed r\n10 nearest", 0, 1),
    Column("imputation pearson_feature", "matching", "imputed r\nmatching", 0, 1),
    Column("wall time (s)", "", "time (s)", 300, 3, digits=0),
    Column("peak memory (MiB)", "", "memory\n(MiB)", 8000, 300, digits=0),
)


def cost(measured: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What a run took, from Snakemake's ``benchmark:`` files of its jobs: times add up, memory is that of the largest.

    Parameters
    ----------
    measured
        A table of one row for each job, with ``s``, ``cpu_time`` (seconds) and ``max_rss`` (MiB).
    """
    jobs = pd.concat(measured)
    values = {
        "wall time (s)": jobs["s"].sum(),
        "CPU time (s)": jobs["cpu_time"].sum(),
        "peak memory (MiB)": jobs["max_rss"].max(),
    }
    rows = [(metric, "", "all", value, "down") for metric, value in values.items()]
    return pd.DataFrame(rows, columns=["metric", "by", "scope", "value", "direction"])


def own_ways(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``scores`` (see ``summarise``) by the clusterer of each method's users, with ``by`` "own way"."""
    own = scores["by"] == np.where(scores["method"] == FIRST, OUR_WAY, THEIR_WAY)
    return scores[own].assign(by=OWN_WAY)


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, and how far each method is from ours.

    Parameters
    ----------
    scores
        Tidy, with the columns ``COLUMNS``.

    Returns
    -------
    DataFrame with a row per data set, metric, clusterer or imputer (``by``), scope and method: ``n`` seeds, ``mean``,
    ``sd`` and the 95 % interval of the mean (``low``, ``high``; Student's t); ``difference`` from ours, paired over
    the seeds, with its interval (``difference_low``, ``difference_high``); ``rank``, 1 is best. Intervals are NaN with
    one seed.
    """
    scores = scores.fillna({"direction": "", "by": ""})
    rows = []
    for keys, group in scores.groupby(ACROSS, sort=False):
        wide = group.pivot(index="seed", columns="method", values="value")
        means = wide.mean()
        ranked = keys[-1] in ("up", "down")
        ranks = means.rank(ascending=keys[-1] == "down", method="min") if ranked else means * np.nan
        for method in dict.fromkeys(group["method"]):
            difference = wide[method] - wide[FIRST] if FIRST in wide and method != FIRST else wide[method] * np.nan
            mean, low, high = _interval(wide[method].dropna())
            own = wide[method].count(), mean, wide[method].std(), low, high
            rows.append((*keys, method, *own, *_interval(difference.dropna()), ranks[method]))
    statistics = ["n", "mean", "sd", "low", "high", "difference", "difference_low", "difference_high", "rank"]
    return pd.DataFrame(rows, columns=[*ACROSS, "method", *statistics])


def _interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean and its 95 % interval."""
    if not len(values):
        return (np.nan,) * 3
    mean = values.mean()
    if len(values) < 2:
        return mean, np.nan, np.nan
    half = stats.t.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values))
    return mean, mean - half, mean + half


def _wide(summary: pd.DataFrame, column: Column, value: str = "mean") -> pd.DataFrame:
    """A statistic of one column (data sets x methods); the mean over scopes where there are several."""
    own = summary[(summary["metric"] == column.metric) & (summary["by"] == column.by)]
    pooled = own["scope"] == "all"
    own = own[pooled] if pooled.any() else own
    return own.groupby(["dataset", "method"], sort=False)[value].mean().unstack("method")


def markdown(summary: pd.DataFrame, cannot: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """ARI of all data sets by each way, and the overview's columns, a table per data set, as Markdown.

    Cells are the mean ± standard deviation over the seeds.
    """
    lines = []
    titles = {
        OWN_WAY: "ARI, each workflow with its own clusterer",
        OUR_WAY: "ARI, all latent spaces by the tissue field",
        THEIR_WAY: "ARI, all latent spaces by the mixture",
    }
    for by, title in titles.items():
        lines += _one_way(summary, Column("ARI", by, title, 0, 1), labels)
    for dataset in dict.fromkeys(summary["dataset"]):
        shown = [column for column in OVERVIEW if _has(summary, column, dataset)]
        lines.append(f"| {dataset} | " + " | ".join(column.heading.replace("\n", ", ") for column in shown) + " |")
        lines.append("|---" * (len(shown) + 1) + "|")
        for method in _methods(summary, dataset, labels):
            cells = []
            for column in shown:
                mean, sd = (_wide(summary, column, value).loc[dataset].get(method) for value in ("mean", "sd"))
                digits = column.digits
                cells.append("" if pd.isna(mean) else f"{mean:.{digits}f} ± {sd:.{digits}f}")
            lines.append(f"| {labels[method]} | {' | '.join(cells)} |")
        for row in cannot[cannot["dataset"] == dataset].itertuples():
            lines.append(f"| {labels[row.method]} | not done: {row.cannot} |" + " |" * (len(shown) - 1))
        lines.append("")
    return "\n".join(lines)


def _one_way(summary: pd.DataFrame, column: Column, labels: Mapping[str, str]) -> list[str]:
    """A table of one column: data sets by methods, and what each method is above ours with its 95 % interval."""
    tables = {value: _wide(summary, column, value) for value in ("mean", "sd", "difference", "difference_high")}
    shown = {name: label for name, label in labels.items() if name in tables["mean"]}
    if not shown:
        return []
    lines = [f"| {column.heading} | " + " | ".join(shown.values()) + " |", "|---" * (len(shown) + 1) + "|"]
    for dataset in tables["mean"].index:
        cells = []
        for name in shown:
            mean, sd, difference, most = (tables[value].loc[dataset].get(name) for value in tables)
            text = "" if pd.isna(mean) else f"{mean:.3f}" if pd.isna(sd) else f"{mean:.3f} ± {sd:.3f}"
            if text and name != FIRST and not pd.isna(most):
                text += f" ({difference:+.3f} ± {most - difference:.3f})"
            cells.append(text)
        lines.append(f"| {dataset} | {' | '.join(cells)} |")
    return [*lines, ""]


def _methods(summary: pd.DataFrame, dataset: str, labels: Mapping[str, str]) -> list[str]:
    return [name for name in labels if name in set(summary.loc[summary["dataset"] == dataset, "method"])]


def _has(summary: pd.DataFrame, column: Column, dataset: str) -> bool:
    table = _wide(summary, column)
    return dataset in table.index and table.loc[dataset].notna().any()


@mpl.rc_context(STYLE)
def overview(summary: pd.DataFrame, cannot: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """All data sets and methods by the metrics that matter; what a method can't do is said.

    Parameters
    ----------
    summary
        As ``summarise`` gives it.
    cannot
        ``dataset``, ``method`` and ``cannot``, the reason.
    labels
        Each method's name, in order.
    """
    sets = list(dict.fromkeys(summary["dataset"]))
    line, cell = 0.155, 0.66
    left = MARGIN + max(width_of(label, SMALL) for label in labels.values()) * 1.05 + 0.15
    page = left + cell * len(OVERVIEW) + MARGIN
    notes = {}
    for dataset in sets:
        reasons = cannot[cannot["dataset"] == dataset]
        text = "; ".join(f"{labels[row.method]}: {row.cannot}" for row in reasons.itertuples())
        notes[dataset] = textwrap.wrap(f"Not done. {text}.", 125) if text else []
    heights = [line * (len(_methods(summary, name, labels)) + len(notes[name]) + 1.9) for name in sets]
    head = 4.4 * LINE
    figure = Figure(figsize=(page, MARGIN + head + sum(heights) + MARGIN))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, page), ylim=(figure.get_size_inches()[1], 0))
    axes.set_axis_off()
    for number, column in enumerate(OVERVIEW):
        x = left + cell * (number + 0.5)
        axes.text(x, MARGIN + head - 0.08, f"{column.heading}\n{column.arrow}", ha="center", va="bottom", size=SMALL)
    tables = [_wide(summary, column) for column in OVERVIEW]
    colours = mpl.colormaps["viridis_r"]
    top = MARGIN + head
    for dataset, height in zip(sets, heights, strict=True):
        axes.text(MARGIN, top + line * 0.7, dataset, weight="bold", size=MEDIUM, va="center")
        middle = top + line * 1.6
        for method in _methods(summary, dataset, labels):
            axes.text(MARGIN + 0.1, middle, labels[method], size=SMALL, va="center_baseline")
            for number, (column, table) in enumerate(zip(OVERVIEW, tables, strict=True)):
                values = table.loc[dataset].dropna() if dataset in table.index else {}
                if method not in values:
                    continue
                x, shade = left + cell * number, column.shade(values[method])
                box = mpl.patches.Rectangle((x + 0.02, middle - line * 0.46), cell - 0.04, line * 0.92, lw=0)
                box.set_facecolor(colours(0.9 * shade) if column.arrow else "#F2F2F2")
                axes.add_patch(box)
                best = column.best(values) == method
                style = {"weight": "bold" if best else "normal", "color": "white" if shade > 0.5 else INK}
                text = f"{values[method]:,.{column.digits}f}"
                axes.text(x + cell / 2, middle, text, size=SMALL, ha="center", va="center_baseline", **style)
            middle += line
        for text in notes[dataset]:
            axes.text(MARGIN + 0.1, middle, text, size=SMALL - 1, color="#666666", va="center_baseline")
            middle += line
        top += height
    return figure


@mpl.rc_context(STYLE)
def quality_and_time(summary: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """What quality costs: ARI of the tissue field with the given number against time, a panel per data set.

    Parameters
    ----------
    summary, labels
        As for ``overview``.
    """
    ari, time = OVERVIEW[0], next(column for column in OVERVIEW if column.metric == "wall time (s)")
    tables = {value: _wide(summary, ari, value) for value in ("mean", "low", "high")}
    seconds = _wide(summary, time)
    sets = list(tables["mean"].index)
    columns = min(len(sets), 4)
    side, axis, head, foot = 1.45, 0.45, 1.5 * LINE, 2.6 * LINE
    rows = int(np.ceil(len(sets) / columns))
    colours = palette(labels)
    figure = Figure()
    legend, (width, height) = legend_of(figure, {labels[name]: colours[name] for name in labels}, "method", 3)
    legend_left = MARGIN + columns * (axis + side + GAP)
    block = head + side + foot
    figure.set_size_inches(legend_left + width + MARGIN, max(rows * block, height) + 2 * MARGIN)
    place_legend(figure, legend, legend_left, MARGIN + head)
    low, high = seconds.min(axis=None) / 2, seconds.max(axis=None) * 2
    for number, dataset in enumerate(sets):
        row, column = divmod(number, columns)
        place = MARGIN + axis + column * (axis + side + GAP), MARGIN + row * block + head
        axes = axes_at(figure, *place, side, side)
        for method in _methods(summary, dataset, labels):
            mean = tables["mean"].loc[dataset, method]
            bars = [[mean - tables["low"].loc[dataset, method]], [tables["high"].loc[dataset, method] - mean]]
            axes.errorbar(
                seconds.loc[dataset, method], mean, np.nan_to_num(bars), fmt="o", ms=4, lw=1, color=colours[method]
            )
        axes.set(xscale="log", xlim=(low, high), ylim=(-0.03, 1.03))
        text_at(figure, place[0] + side / 2, place[1] - 0.06, dataset, ha="center", va="bottom", size=MEDIUM)
        if column == 0:
            axes.set_ylabel("ARI")
        if number + columns >= len(sets):
            axes.set_xlabel("seconds from counts to embedding")
        axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
        axes.minorticks_off()
    return figure
