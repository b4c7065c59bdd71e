"""Tables as figures: metrics and checks."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mosaic.errors import InputError
from mosaic.figures.style import INK, LINE, MARGIN, MEDIUM, SMALL, STATUS_STYLE, STYLE, fit, width_of

ARROWS = {"up": "↑", "down": "↓"}

HELD_OUT_PAIRS = "FOSCTTM (held-out pairs)"


def with_held_out(metrics: pd.DataFrame, foscttm: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Add FOSCTTM of held-out pairs to the metrics, beside that of training pairs.

    Parameters
    ----------
    metrics
        As ``metrics.evaluate`` returns them.
    foscttm
        As ``folds.summarise`` returns them, for each hidden modality; empty if nothing was hidden.

    Returns
    -------
    As ``metrics``, with the mean over the folds for each slice and pair of modalities, whichever of the two was hidden.
    """
    if not foscttm:
        return metrics
    folds = pd.concat(foscttm)
    known = {_pair(scope): scope for scope in metrics["scope"] if "~" in scope}
    means = folds["foscttm"].groupby([known[_pair(scope)] for scope in folds["scope"]], sort=False).mean()
    rows = pd.DataFrame(
        {"metric": HELD_OUT_PAIRS, "scope": means.index, "value": means.to_numpy(), "direction": "down"}
    )
    place = int(metrics["metric"].str.startswith("FOSCTTM").argmax()) + 1
    return pd.concat([metrics[:place], rows, metrics[place:]], ignore_index=True)


def _pair(scope: str) -> tuple[str, frozenset[str]]:
    """Slice and the two modalities of a scope, in either order."""
    slice_name, modalities = scope.split(":")
    return slice_name, frozenset(modalities.split("~"))


@mpl.rc_context(STYLE)
def metrics_table(metrics: pd.DataFrame) -> Figure:
    """The metrics as a table: a row per scope (and method and seed, if several), a column per metric.

    Parameters
    ----------
    metrics
        Tidy: ``metric``, ``scope``, ``value``, ``direction`` (``higher`` or ``lower`` is better, or ``up`` and
        ``down``), ``method`` and ``seed``. NaN is drawn as n/a; a metric that a scope does not have stays blank.

    Raises
    ------
    InputError
        If the table is empty, a direction is unknown, or a metric is repeated.
    """
    if metrics.empty:
        raise InputError("no metric to draw")
    unknown = sorted(set(metrics["direction"]) - set(ARROWS))
    if unknown:
        raise InputError(f"unknown direction {unknown[0]!r}", hint=f"one of {', '.join(ARROWS)}")
    keys = ["method", "seed", "scope"]
    if metrics.duplicated([*keys, "metric"]).any():
        twice = metrics[metrics.duplicated([*keys, "metric"])].iloc[0]
        raise InputError(f"metric {twice['metric']} comes twice for {twice['scope']}")
    arrows = dict(zip(metrics["metric"], metrics["direction"].map(ARROWS), strict=True))
    rows = list(dict.fromkeys(metrics[keys].itertuples(index=False, name=None)))
    values = metrics.set_index([*keys, "metric"])["value"].to_dict()
    # Values that all rows share go above the table.
    shared = [len({row[place] for row in rows}) == 1 for place in range(2)] + [False]
    cells = [[key for key, is_shared in zip(keys, shared, strict=True) if not is_shared]]
    cells[0] += [f"{fit(metric)} {arrow}" for metric, arrow in arrows.items()]
    for row in rows:
        names = [fit(str(part)) for part, is_shared in zip(row, shared, strict=True) if not is_shared]
        cells.append(names + [_number(values.get((*row, metric))) for metric in arrows])
    title = ", ".join(
        fit(text)
        for text, is_shared in zip((str(rows[0][0]), f"seed {rows[0][1]}"), shared[:2], strict=True)
        if is_shared
    )

    widths = [max(width_of(cell, MEDIUM) for cell in column) + 0.25 for column in zip(*cells, strict=True)]
    edges = MARGIN + np.concatenate([[0], np.cumsum(widths)])
    line, head = 0.2, 0.25 if title else 0
    note = "↑ higher is better, ↓ lower is better"
    page = max(edges[-1], MARGIN + max(width_of(note, SMALL), width_of(title, MEDIUM)) * 1.15) + MARGIN
    figure = Figure(figsize=(page, 2 * MARGIN + head + line * (len(cells) + 1.2)))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, page), ylim=(figure.get_size_inches()[1], 0))
    axes.set_axis_off()
    if title:
        axes.text(edges[0], MARGIN + head / 2, title, size=MEDIUM, weight="bold", va="center")
    top = MARGIN + head
    n_names = 3 - sum(shared)
    for number, row in enumerate(cells):
        middle = top + line * (number + 0.5)
        if number % 2 == 0 and number:
            axes.axhspan(middle - line / 2, middle + line / 2, *edges[[0, -1]] / page, color="#F3F3F3", lw=0)
        for place, cell in enumerate(row):
            x, side = (edges[place] + 0.08, "left") if place < n_names else (edges[place + 1] - 0.08, "right")
            style: dict[str, Any] = {"weight": "bold"} if number == 0 else {"color": "grey"} if cell == "n/a" else {}
            axes.text(x, middle, cell, size=SMALL, ha=side, va="center_baseline", **style)
    for row, thickness in ((0, 1.0), (1, 0.6), (len(cells), 1.0)):
        axes.plot(edges[[0, -1]], [top + row * line] * 2, color=INK, lw=thickness)
    axes.text(edges[0], top + line * (len(cells) + 0.7), note, size=SMALL, color="grey", va="center")
    return figure


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if pd.isna(value):
        return "n/a"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


@mpl.rc_context(STYLE)
def checks(checks: pd.DataFrame) -> Figure:
    """The checks of a run: status as a coloured disc, number, thresholds and hint.

    Parameters
    ----------
    checks
        As ``checks.run_checks`` returns them.
    """
    width, rows = 7.2, []
    for check in checks.itertuples():
        lines = textwrap.wrap(check.advice, 105)
        rows.append((check, lines))
    heights = [LINE * (2.6 + len(lines)) for _, lines in rows]
    figure = Figure(figsize=(width, 2 * MARGIN + sum(heights)))
    page = figure.get_size_inches()[1]
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(page, 0))
    axes.set_axis_off()
    top = MARGIN
    for (check, lines), height in zip(rows, heights, strict=True):
        colour, sign = STATUS_STYLE[check.status]
        axes.plot([MARGIN + 0.18], [top + 0.26], "o", ms=20, color=colour, mec="none")
        axes.text(MARGIN + 0.18, top + 0.26, sign, color="white", weight="bold", size=11, ha="center", va="center")
        left = MARGIN + 0.5
        axes.text(left, top + 0.12, f"{check.check}: {check.status}", weight="bold", size=MEDIUM, va="center")
        value = "not measured" if pd.isna(check.value) else f"{_number(check.value)} ({check.meaning})"
        bound = f"passes {check.good}, fails {check.bad}"
        axes.text(left, top + 0.12 + LINE, f"{value}; {bound}", size=SMALL, va="center", color="#4D4D4D")
        for number, line in enumerate(lines):
            axes.text(left, top + 0.12 + LINE * (2 + number), fit(line, width), size=SMALL, va="center")
        top += height
    return figure
