"""Slices of different conditions compared: composition, features, and which domains border on which."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mosaic.figures.style import (
    GAP,
    INK,
    LINE,
    MARGIN,
    MEDIUM,
    NO_LABEL,
    SMALL,
    STYLE,
    ColumnHeads,
    axes_at,
    bare,
    fit,
    palette,
    place_legend,
    text_at,
    width_of,
)

_SIGNIFICANT = 0.05
_MOST_PER_DOMAIN = 5  # features that the figure shows
_CELL = 0.19


def _contrast(row: Mapping) -> str:
    return f"{row['level']} against {row['reference']}"


def _notes(figure: Figure, left: float, top: float, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        text_at(figure, left, top + number * LINE, line, va="top", color="#4D4D4D")


def _wrapped(notes: Sequence[str], width: float) -> list[str]:
    """Notes broken into lines of a width in inches, ready to draw."""
    characters = max(int(width / width_of("n", SMALL)), 20)
    return [fit(line, 0.94 * width) for text in notes for line in textwrap.wrap(text, characters)]


@mpl.rc_context(STYLE)
def composition_by_level(
    shares: pd.DataFrame, tests: pd.DataFrame, colours: Mapping[str, str], notes: Sequence[str]
) -> Figure:
    """Proportion of each domain in the slices of each level of a condition, and the tests of the difference.

    Parameters
    ----------
    shares
        ``level``, ``domain`` and ``share`` of each slice and domain.
    tests
        As ``conditions.compare_composition`` returns them, with ``domain`` as a column, for one or several contrasts.
    colours
        Colour of each domain, in the order of the rows.
    notes
        Lines below the figure.
    """
    levels = palette(shares["level"])
    domains = [domain for domain in colours if domain in set(shares["domain"])]
    contrasts = tests[["level", "reference"]].drop_duplicates().to_dict("records")
    row = max(0.12 * len(levels) + 0.1, 0.3)
    names = [fit(name) for name in domains]
    left = MARGIN + 0.2 + max(width_of(name, SMALL) for name in names) * 1.05 + 0.08
    width, column = 3.0, 1.75
    handles = [Line2D([], [], marker="o", linestyle="", markersize=4, color=colour) for colour in levels.values()]
    figure = Figure()
    legend = figure.legend(
        handles, [fit(name) for name in levels], ncols=1, loc="upper left", borderaxespad=0, borderpad=0
    )
    head = max(len(levels) * 1.05 * LINE, 2.4 * LINE) + 0.5 * LINE
    top, height = MARGIN + head, row * len(domains)
    page = left + width + GAP + column * len(contrasts) + MARGIN
    lines = _wrapped(notes, page - 2 * MARGIN)
    foot = 2.8 * LINE
    figure.set_size_inches(page, top + height + foot + LINE * (len(lines) + 0.5) + MARGIN)
    place_legend(figure, legend, left, MARGIN)
    axes = axes_at(figure, left, top, width, height)
    for place, domain in enumerate(domains):
        axes.add_patch(
            mpl.patches.Rectangle(
                (-0.045, place - 0.3),
                0.03,
                0.6,
                color=colours[domain],
                lw=0,
                transform=axes.get_yaxis_transform(),
                clip_on=False,
            )
        )
        for lane, (level, colour) in enumerate(levels.items()):
            own = shares.loc[(shares["domain"] == domain) & (shares["level"] == level), "share"].to_numpy() * 100
            y = place + (lane + 0.5) / len(levels) * 0.7 - 0.35
            axes.scatter(own, np.full(len(own), y), s=12, color=colour, lw=0, alpha=0.8, zorder=3)
            if len(own):
                axes.plot([own.mean()] * 2, [y - 0.12, y + 0.12], color=INK, lw=1, zorder=4)
        if place:
            axes.axhline(place - 0.5, color=NO_LABEL, lw=0.5, zorder=0)
    axes.set(ylim=(len(domains) - 0.5, -0.5), yticks=range(len(domains)), xlabel="spots (%); bar: mean")
    axes.set_xlim(left=min(0, -0.02 * shares["share"].max() * 100))
    axes.set_yticklabels(names)
    axes.tick_params(axis="y", length=0, pad=13)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    for number, contrast in enumerate(contrasts):
        x = left + width + GAP + number * column
        text_at(figure, x, MARGIN, fit(str(contrast["level"]), column - GAP), va="top", weight="bold")
        text_at(figure, x, MARGIN + LINE, fit(f"against {contrast['reference']}", column - GAP), va="top")
        own = tests[(tests["level"] == contrast["level"])].set_index("domain")
        for place, domain in enumerate(domains):
            test = own.loc[domain]
            adjusted = "not tested" if pd.isna(test["p_adj"]) else f"adj. p {test['p_adj']:.2g}"
            strong = "bold" if test["p_adj"] < _SIGNIFICANT else "normal"
            y = top + (place + 0.5) * row
            text_at(figure, x, y, f"{test['difference']:+.2f}, {adjusted}", va="center", weight=strong)
    _notes(figure, MARGIN, top + height + foot, lines)
    return figure


@mpl.rc_context(STYLE)
def differential_features(features: pd.DataFrame, tests: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """Features that differ between conditions within the domains, a block for each contrast.

    Parameters
    ----------
    features, tests
        As ``pseudobulk.differences`` returns them, for one or several contrasts. Shown are up to five features of each
        domain at 5 %; the colour of a dot is the log fold change, its area grows with the significance.
    colours
        Colour of each domain, in the order of the columns.
    """
    blocks = []
    for contrast, own in tests.groupby(["level", "reference"], sort=False):
        table = features[(features["level"] == contrast[0]) & (features["reference"] == contrast[1])]
        best = table[table["p_adj"] < _SIGNIFICANT].groupby("domain", sort=False).head(_MOST_PER_DOMAIN)
        order = [domain for domain in colours if domain in set(own["domain"])]
        best = best.sort_values("domain", key=lambda column: column.map(order.index), kind="stable")
        blocks.append((own.set_index("domain").loc[order], table, list(dict.fromkeys(best["feature"]))))
    heads = [ColumnHeads({name: colours[name] for name in own.index}, _CELL) for own, _, _ in blocks]
    names = [fit(name) for _, _, shown in blocks for name in shown]
    counts = "features at 5 %"
    left = MARGIN + max(width_of(text, SMALL) for text in [*names, counts]) * 1.05 + 0.1
    width = max(_CELL * len(own) for own, _, _ in blocks)
    page = max(left + width + GAP + 1.5, 5.0) + MARGIN
    lines = [_wrapped(_said(own), page - 2 * MARGIN) for own, _, _ in blocks]
    heights = [
        1.6 * LINE + head.height + _CELL * max(len(shown), 0.001) + 0.7 + LINE * (len(text) + 1)
        for head, (_, _, shown), text in zip(heads, blocks, lines, strict=True)
    ]
    figure = Figure(figsize=(page, 2 * MARGIN + max(sum(heights), 2.4 if names else 0)))
    shown_changes = [abs(_matrix(table, "log2_fold_change", shown, own.index)) for own, table, shown in blocks]
    largest = max((np.nanmax(values) for values in shown_changes if values.size), default=1.0)
    top, points = MARGIN, None
    for head, (own, table, shown), text, height in zip(heads, blocks, lines, heights, strict=True):
        title = _contrast({"level": own["level"].iloc[0], "reference": own["reference"].iloc[0]})
        text_at(figure, MARGIN, top, fit(title, page - 2 * MARGIN, MEDIUM), size=MEDIUM, va="top")
        body = top + 1.6 * LINE + head.height
        rows = max(len(shown), 0.001)  # without a feature, the columns are the numbers alone
        axes = axes_at(figure, left, body, _CELL * len(own), _CELL * rows)
        changes, adjusted = (_matrix(table, key, shown, own.index) for key in ("log2_fold_change", "p_adj"))
        y, x = np.mgrid[: len(shown), : len(own)]
        area = (_CELL * 72 * 0.9) ** 2 * np.clip(-np.log10(np.fmax(np.nan_to_num(adjusted, nan=1), 1e-10)) / 5, 0.04, 1)
        drawn = axes.scatter(
            x.ravel(), y.ravel(), s=area.ravel(), c=changes.ravel(), cmap="RdBu_r", vmin=-largest, vmax=largest, lw=0
        )
        points = drawn if len(shown) else points
        axes.set(xlim=(-0.5, len(own) - 0.5), ylim=(rows - 0.5, -0.5), yticks=range(len(shown)), xticks=[])
        axes.set_yticklabels([fit(name) for name in shown])
        axes.tick_params(axis="y", length=0)
        head.draw(axes)
        foot = body + _CELL * rows + 0.06
        text_at(figure, left - 0.08, foot, counts, ha="right", va="top")
        for place, number in enumerate(own["n_different"]):
            label = "–" if own["n_features"].iloc[place] == 0 else f"{number:,}"
            text_at(
                figure, left + (place + 0.5) * _CELL, foot, label, ha="center", va="top", rotation=90, size=SMALL - 1
            )
        _notes(figure, MARGIN, foot + 0.5, text)
        top += height
    if points is not None:
        key = left + width + GAP
        bar = axes_at(figure, key, MARGIN + 3 * LINE, 0.08, 1.1)
        bare(figure.colorbar(points, cax=bar, label="log2 fold change"))
        text_at(figure, key, MARGIN + 3 * LINE + 1.3, "area: adjusted p", va="top")
    return figure


def _matrix(table: pd.DataFrame, key: str, features: Sequence[str], domains: Sequence[str]) -> np.ndarray:
    own = table[table["feature"].isin(features)]
    return own.pivot(index="feature", columns="domain", values=key).reindex(index=features, columns=domains).to_numpy()


def _said(tests: pd.DataFrame) -> list[str]:
    """That no feature differs, and why domains were not tested, each reason once."""
    noted = tests[tests["note"].fillna("") != ""]
    lines = [f"{', '.join(map(str, own.index))}: {note}." for note, own in noted.groupby("note", sort=False)]
    none = len(noted) < len(tests) and not tests["n_different"].any()
    return ["No feature differs at 5 %.", *lines] if none else lines


@mpl.rc_context(STYLE)
def neighbourhoods(tests: pd.DataFrame, colours: Mapping[str, str], notes: Sequence[str]) -> Figure:
    """Which domains border on which, by level of a condition, and the differences.

    Parameters
    ----------
    tests
        As ``neighbourhoods.compare_neighbours`` returns them, for one or several contrasts.
    colours
        Colour of each domain, in the order of rows and columns.
    notes
        Lines below the figure.
    """
    there = {*tests["domain"], *tests["neighbour"]}
    colours = {name: colour for name, colour in colours.items() if name in there}
    contrasts = tests.groupby(["level", "reference"], sort=False)
    panels: list[tuple[str, np.ndarray, np.ndarray | None]] = []
    for (level, reference), table in contrasts:
        if not panels:
            panels.append((reference, _square(table, "mean_reference", colours), None))
        panels.append((level, _square(table, "mean_level", colours), None))
        significant = _square(table, "p_adj", colours) < _SIGNIFICANT
        panels.append((f"{level} minus {reference}", _square(table, "difference", colours), significant))
    cell = min(_CELL, 3.9 / max(len(colours), 1))
    heads = ColumnHeads(colours, cell)
    names = [fit(name) for name in colours]
    left = MARGIN + max(width_of(name, SMALL) for name in names) * 1.05 + 0.1
    side = cell * len(colours)
    step = max(side, 1.3) + 0.75 + GAP
    columns = min(len(panels), 3)
    rows = int(np.ceil(len(panels) / columns))
    block = 1.6 * LINE + heads.height + max(side, 0.8) + GAP
    page = max(left + columns * step, 5.0) + MARGIN
    lines = _wrapped([*notes, "Dots: adjusted p below 0.05."], page - 2 * MARGIN)
    figure = Figure(figsize=(page, 2 * MARGIN + rows * block + LINE * len(lines)))
    limits = [
        max((np.nanmax(np.abs(v)) for _, v, m in panels if (m is None) == plain and np.isfinite(v).any()), default=1.0)
        for plain in (True, False)
    ]
    for number, (title, values, marks) in enumerate(panels):
        x = left + number % columns * step
        top = MARGIN + number // columns * block
        text_at(figure, x, top, fit(title, 0.94 * (step - GAP), MEDIUM), size=MEDIUM, va="top")
        body = top + 1.6 * LINE + heads.height
        axes = axes_at(figure, x, body, side, side)
        limit = max(limits[marks is not None], 1e-6)
        image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=range(len(names)) if number % columns == 0 else [])
        if number % columns == 0:
            axes.set_yticklabels(names)
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        heads.draw(axes)
        if marks is not None:
            y_mark, x_mark = np.nonzero(marks)
            axes.scatter(x_mark, y_mark, s=6, color=INK, lw=0)
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
        bar = axes_at(figure, x + side + 0.08, body, 0.08, max(side, 0.8))
        bar_label = "log2 ratio" if marks is None else "difference"
        colour_bar = figure.colorbar(image, cax=bar, label=bar_label)
        colour_bar.locator = mpl.ticker.MaxNLocator(3)
        bare(colour_bar)
    _notes(figure, MARGIN, MARGIN + rows * block, lines)
    return figure


def _square(table: pd.DataFrame, key: str, domains: Mapping[str, str]) -> np.ndarray:
    """A symmetric matrix of pairs of which the table has each once."""
    turned = table.rename(columns={"domain": "neighbour", "neighbour": "domain"})
    both = pd.concat([table, turned]).drop_duplicates(["domain", "neighbour"])
    square = both.pivot(index="domain", columns="neighbour", values=key)
    return square.reindex(index=list(domains), columns=list(domains)).to_numpy(dtype=float)
