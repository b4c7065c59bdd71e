"""Tables of the report: metrics, as HTML, and checks, as a figure."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from mosaic.errors import InputError
from mosaic.figures.style import LINE, MARGIN, MEDIUM, SMALL, STATUS_STYLE, STYLE, fit

ARROWS = {"up": "↑", "down": "↓", "neither": ""}

HELD_OUT_PAIRS = "FOSCTTM (held-out pairs)"


def with_held_out(metrics: pd.DataFrame, foscttm: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Add FOSCTTM of held-out pairs to the metrics, beside that of training pairs.

    Parameters
    ----------
    metrics
        As ``metrics.evaluate`` returns them.
    foscttm
        As ``scores.summarise`` returns them, for each hidden modality; empty if nothing was hidden.

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


def metrics_table(metrics: pd.DataFrame) -> dict[str, Any]:
    """The metrics as a table: a row per scope, a column per metric.

    Parameters
    ----------
    metrics
        Of a run, as ``with_held_out`` returns them: ``metric``, ``scope``, ``value`` and ``direction``, which says
        whether ``up``, ``down`` or ``neither`` is better.

    Returns
    -------
    What ``workflow/report/metrics.html.j2`` takes beside its title: ``arrows``, per metric the sign of its direction,
    and ``rows``, per scope the text of each metric: n/a for NaN, and nothing for a metric that the scope does not have.

    Raises
    ------
    InputError
        If the table is empty, a direction is unknown, or a metric is repeated.
    """
    if metrics.empty:
        raise InputError("no metric to show")
    unknown = sorted(set(metrics["direction"]) - set(ARROWS))
    if unknown:
        raise InputError(f"unknown direction {unknown[0]!r}", hint=f"one of {', '.join(ARROWS)}")
    repeated = metrics[metrics.duplicated(["metric", "scope"])]
    if len(repeated):
        raise InputError(f"metric {repeated['metric'].iloc[0]} comes twice for {repeated['scope'].iloc[0]}")
    arrows = dict(zip(metrics["metric"], metrics["direction"].map(ARROWS), strict=True))
    values = metrics.set_index(["scope", "metric"])["value"].to_dict()
    rows = {scope: [_number(values.get((scope, metric))) for metric in arrows] for scope in metrics["scope"].unique()}
    return {"arrows": arrows, "rows": rows}


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
        value = "not measured" if pd.isna(check.value) else f"{_number(check.value)} ({check.meaning})"
        # A number stays beside its sign.
        bounds = f"passes {check.good}, fails {check.bad}".replace(" ", "\N{NO-BREAK SPACE}")
        measured = textwrap.wrap(f"{value}; {bounds}", 115)
        rows.append((check, measured, textwrap.wrap(check.advice, 105)))
    heights = [LINE * (1.6 + len(measured) + len(advice)) for _, measured, advice in rows]
    figure = Figure(figsize=(width, 2 * MARGIN + sum(heights)))
    page = figure.get_size_inches()[1]
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(page, 0))
    axes.set_axis_off()
    top = MARGIN
    for (check, measured, advice), height in zip(rows, heights, strict=True):
        colour, sign = STATUS_STYLE[check.status]
        axes.plot([MARGIN + 0.18], [top + 0.26], "o", ms=20, color=colour, mec="none")
        axes.text(MARGIN + 0.18, top + 0.26, sign, color="white", weight="bold", size=11, ha="center", va="center")
        left = MARGIN + 0.5
        axes.text(left, top + 0.12, f"{check.check}: {check.status}", weight="bold", size=MEDIUM, va="center")
        for number, line in enumerate((*measured, *advice)):
            shade = "#4D4D4D" if number < len(measured) else "black"
            below = top + 0.12 + LINE * (1 + number)
            axes.text(left, below, fit(line, width), size=SMALL, va="center", color=shade)
        top += height
    return figure
