"""The study in tables and one figure: what each variant changes, and how many anchors are enough."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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

DEFAULT = "default"
COLUMNS = ["dataset", "variant", "group", "seed", "metric", "value"]
# Metrics of the tables, with their digits; and of the figure, with the value of chance where low is good.
METRICS = {
    "ARI": 3,
    "iLISI": 3,
    "FOSCTTM (seen pairs)": 3,
    "FOSCTTM (unseen pairs)": 3,
    "imputed r": 3,
    "CPU time (s)": 1,
    "peak memory (MiB)": 0,
}
CURVES = {"ARI": None, "FOSCTTM (unseen pairs)": 0.5, "imputed r": None}
# Metrics of the figure of variants.
DOTS = ["ARI", "iLISI", "FOSCTTM (seen pairs)"]


def differences(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, and the paired difference from the default.

    Parameters
    ----------
    scores
        Tidy, with the columns ``COLUMNS``.

    Returns
    -------
    DataFrame with a row per data set, group, variant and metric: ``mean``, ``sd`` over the seeds, ``difference`` (mean
    over the seeds of the value minus that of the default with the same seed), ``difference_sd`` and ``n`` seeds.
    """
    default = scores[scores["variant"] == DEFAULT].set_index(["dataset", "metric", "seed"])["value"]
    keys = pd.MultiIndex.from_frame(scores[["dataset", "metric", "seed"]])
    paired = scores.assign(difference=scores["value"].to_numpy() - default.reindex(keys).to_numpy())
    grouped = paired.groupby(["dataset", "group", "variant", "metric"], sort=False)
    return grouped.agg(
        mean=("value", "mean"),
        sd=("value", "std"),
        difference=("difference", "mean"),
        difference_sd=("difference", "std"),
        n=("value", "count"),
    ).reset_index()


def enough_anchors(scores: pd.DataFrame, variants: Mapping[str, Mapping]) -> pd.DataFrame:
    """The fewest anchors that keep nine tenths of what all of them give.

    Parameters
    ----------
    scores
        As for ``differences``.
    variants
        Of config/study.yaml.

    Returns
    -------
    DataFrame with a row per data set, way of drawing and metric of ``CURVES``: ``all`` anchors, and ``enough``, the
    fewest tried of which, and of all larger numbers, the mean over the seeds keeps nine tenths of what the largest
    number gives: all of them; for FOSCTTM the next, because all leave no pair unseen, and there of the distance from
    chance. NaN if the next smaller number already falls below. A variant that could not be trained with some seed keeps
    nothing.
    """
    rows = []
    for (dataset, drawn), means in curves(scores, variants).items():
        for metric, chance in CURVES.items():
            if metric not in means:
                continue
            values = means[metric] if chance is None else (chance - means[metric]).iloc[:-1]
            if values.empty:
                continue
            keeps = (values >= 0.9 * values.iloc[-1]).to_numpy()
            # From the largest number down, up to the first that falls below.
            n_kept = int(np.argmin(np.append(keeps[::-1], False)))
            enough = values.index[-n_kept] if n_kept > 1 else np.nan
            rows.append((dataset, drawn, metric, int(means.index[-1]), enough))
    return pd.DataFrame(rows, columns=["dataset", "drawn", "metric", "all", "enough"])


def curves(scores: pd.DataFrame, variants: Mapping[str, Mapping]) -> dict[tuple[str, str], pd.DataFrame]:
    """Per data set and way of drawing the means over the seeds of each metric, by the number of anchors.

    Parameters
    ----------
    scores, variants
        As for ``enough_anchors``.
    """
    made = {}
    for dataset, own in scores.groupby("dataset", sort=False):
        wide = own.pivot_table(index=["variant", "seed"], columns="metric", values="value", dropna=False)
        n_seeds = own["seed"].nunique()
        for drawn in ("random", "piece"):
            names = [DEFAULT, *(name for name, v in variants.items() if v.get("anchors", {}).get("drawn") == drawn)]
            rows = wide[wide.index.get_level_values("variant").isin(names)].groupby("variant", sort=False)
            # A metric that a seed lacks is missing, so that failures do not count as the mean of the others.
            means = rows.mean().where(rows.count() == n_seeds)
            made[dataset, drawn] = means.assign(anchors=means["anchors"].round()).set_index("anchors").sort_index()
    return made


def markdown(scores: pd.DataFrame, variants: Mapping[str, Mapping]) -> str:
    """The tables of docs/study.md.

    Parameters
    ----------
    scores, variants
        As for ``enough_anchors``.
    """
    table = differences(scores)
    datasets = list(dict.fromkeys(scores["dataset"]))
    parts = []
    for group in dict.fromkeys(own["group"] for own in variants.values()):
        if group == DEFAULT:
            continue
        parts += [f"## {group}", ""]
        for metric, digits in METRICS.items():
            own = table[(table["metric"] == metric) & table["group"].isin([DEFAULT, group])]
            if own.empty:
                continue
            shown = [name for name in datasets if name in set(own["dataset"])]
            cells = {(row.dataset, row.variant): _cell(row, digits) for row in own.itertuples()}
            names = [name for name, v in variants.items() if v["group"] in (DEFAULT, group)]
            parts += [f"| {metric} | {' | '.join(shown)} |", f"|---|{'---|' * len(shown)}"]
            for name in names:
                values = " | ".join(cells.get((dataset, name), "") for dataset in shown)
                parts.append(f"| {name.replace('_', ' ')} | {values} |")
            parts.append("")
    enough = enough_anchors(scores, variants)
    parts += ["## anchors that are enough", "", "| data set | anchors | drawn | "]
    parts[-1] += f"{' | '.join(CURVES)} |"
    parts.append(f"|---|---|---|{'---|' * len(CURVES)}")
    for (dataset, drawn), own in enough.groupby(["dataset", "drawn"], sort=False):
        found = own.set_index("metric")["enough"]
        cells = [f"{found[name]:.0f}" if found.get(name, np.nan) > 0 else "" for name in CURVES]
        parts.append(f"| {dataset} | {own['all'].iloc[0]} | {drawn} | {' | '.join(cells)} |")
    return "\n".join([*parts, ""])


def _cell(row, digits: int) -> str:
    if not row.n:
        return ""
    spread = "" if np.isnan(row.sd) else f" ± {row.sd:.{digits}f}"
    if row.variant == DEFAULT or np.isnan(row.difference):
        return f"{row.mean:.{digits}f}{spread}"
    spread = "" if np.isnan(row.difference_sd) else f" ± {row.difference_sd:.{digits}f}"
    return f"{row.mean:.{digits}f} ({row.difference:+.{digits}f}{spread})"


@mpl.rc_context(STYLE)
def anchors(scores: pd.DataFrame, variants: Mapping[str, Mapping]) -> Figure:
    """Metrics over the number of anchors, a line per data set; solid where drawn at random, dashed as one piece.

    Parameters
    ----------
    scores, variants
        As for ``enough_anchors``.
    """
    means = curves(scores, variants)
    colours = palette(dict.fromkeys(dataset for dataset, _ in means))
    width, height, axis, head = 2.2, 1.8, 0.5, 1.6 * LINE
    figure = Figure()
    legend, (legend_width, legend_height) = legend_of(figure, colours, "data set", 3)
    left = MARGIN + len(CURVES) * (axis + width + GAP)
    below = 2.6 * LINE
    note = "solid: drawn at random\ndashed: one piece"
    beside = max(legend_width, width_of(note.split("\n")[0], SMALL))
    tall = max(head + height + below, head + legend_height + 3 * LINE)
    figure.set_size_inches(left + beside + MARGIN, tall + 2 * MARGIN)
    place_legend(figure, legend, left, MARGIN + head)
    text_at(figure, left, MARGIN + head + legend_height + LINE, note, va="top")
    for number, metric in enumerate(CURVES):
        place = MARGIN + axis + number * (axis + width + GAP), MARGIN + head
        axes = axes_at(figure, *place, width, height)
        for (dataset, drawn), own in means.items():
            if metric in own:
                style = "-" if drawn == "random" else "--"
                axes.plot(own.index, own[metric], style, color=colours[dataset], lw=1, marker=".", ms=4)
        axes.set(xscale="log", xlabel="anchors (paired spots)")
        if CURVES[metric] is not None:
            axes.axhline(0.5, color=INK, lw=0.5, ls=":")
        text_at(figure, place[0] + width / 2, place[1] - 0.06, metric, ha="center", va="bottom", size=MEDIUM)
        axes.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
    return figure


@mpl.rc_context(STYLE)
def changes(scores: pd.DataFrame, variants: Mapping[str, Mapping]) -> Figure:
    """How far each variant, but for those with fewer anchors, is from the default: means and deviations over the seeds.

    Parameters
    ----------
    scores, variants
        As for ``enough_anchors``.
    """
    found = differences(scores).set_index(["metric", "variant", "dataset"])
    drawn = set(scores["variant"])
    names = [name for name, own in variants.items() if own["group"] not in (DEFAULT, "anchors") and name in drawn]
    datasets = list(dict.fromkeys(scores["dataset"]))
    colours = palette(datasets)
    row, width, head = 0.2, 2.0, 1.6 * LINE
    label = max(width_of(name, SMALL) for name in names) + 0.1
    figure = Figure()
    legend, (legend_width, _) = legend_of(figure, colours, "data set", 3)
    height = row * len(names)
    left = MARGIN + label
    beside = left + len(DOTS) * (width + GAP)
    figure.set_size_inches(beside + legend_width + MARGIN, 2 * MARGIN + head + height + 2.6 * LINE)
    place_legend(figure, legend, beside, MARGIN + head)
    for number, metric in enumerate(DOTS):
        place = left + number * (width + GAP), MARGIN + head
        axes = axes_at(figure, *place, width, height, ylim=(len(names) - 0.5, -0.5))
        axes.axvline(0, color=INK, lw=0.5)
        for position, dataset in enumerate(datasets):
            offset = (position - (len(datasets) - 1) / 2) * 0.7 / len(datasets)
            own = found.reindex([(metric, name, dataset) for name in names])
            axes.errorbar(
                own["difference"],
                np.arange(len(names)) + offset,
                xerr=own["difference_sd"],
                fmt=".",
                ms=3.5,
                lw=0.7,
                color=colours[dataset],
            )
        axes.set_yticks(np.arange(len(names)), [name.replace("_", " ") for name in names] if not number else [])
        axes.tick_params(axis="y", length=0)
        for between in np.arange(1, len(names)) - 0.5:
            axes.axhline(between, color="#EEEEEE", lw=0.5, zorder=0)
        axes.set_xlabel("difference from the default")
        text_at(figure, place[0] + width / 2, place[1] - 0.06, metric, ha="center", va="bottom", size=MEDIUM)
    return figure
