"""Features that follow the tissue: the spatially variable ones, and pairs of two modalities in the same places."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mosaic.colours import COLOURS
from mosaic.figures.style import (
    GAP,
    LINE,
    MARGIN,
    NO_LABEL,
    SMALL,
    STYLE,
    axes_at,
    fit,
    legend_of,
    note,
    place_legend,
    text_at,
    width_of,
)

_MOST = 40  # rows
_ROW = 0.17
_SIGNIFICANT = 0.05


@mpl.rc_context(STYLE)
def spatial_ranking(ranked: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """The features that follow the tissue most, with Moran's I in each slice, and its distribution over all features.

    Parameters
    ----------
    ranked
        As ``spatial_features.rank_spatial`` returns it, by feature.
    colours
        Colour of each slice with the modality; the slices are columns of ``ranked``.
    """
    shown = ranked.iloc[:_MOST]
    names = [fit(str(name)) for name in shown.index]
    left = MARGIN + max(width_of(name, SMALL) for name in names) * 1.05 + 0.1
    width, height, top = 3.0, _ROW * len(shown), MARGIN + 1.5 * LINE
    figure = Figure()
    legend, (legend_width, legend_height) = legend_of(figure, colours, "slice", max(height, 1.6))
    second = left + width + 3 * GAP + 0.3
    side = 1.8
    page = second + max(side, legend_width) + MARGIN
    deep = max(height, side + 4 * LINE + legend_height + GAP)
    figure.set_size_inches(page, top + deep + 2.6 * LINE + MARGIN)
    axes = axes_at(figure, left, top, width, height)
    rows = np.arange(len(shown))
    axes.hlines(rows, shown[list(colours)].min(axis=1), shown[list(colours)].max(axis=1), color=NO_LABEL, lw=1)
    for name, colour in colours.items():
        axes.scatter(shown[name], rows, s=12, color=colour, lw=0, alpha=0.9, zorder=3)
    axes.set(ylim=(len(shown) - 0.5, -0.5), yticks=rows, xlabel="Moran's I", title="most spatial features")
    axes.set_yticklabels(names)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axes.set_xlim(left=min(0, axes.get_xlim()[0]))
    axes = axes_at(figure, second, top, side, side)
    axes.hist(ranked["morans_i"], bins=40, color=COLOURS[0])
    n_spatial = int((ranked["p_adj"] < _SIGNIFICANT).sum())
    axes.set(xlabel="Moran's I, mean of slices", ylabel="features", title=f"{n_spatial:,} of {len(ranked):,} at 5 %")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
    place_legend(figure, legend, second, top + side + 3.4 * LINE)
    return figure


@mpl.rc_context(STYLE)
def colocalisation(pairs: pd.DataFrame) -> Figure:
    """Pairs of features of two modalities: bivariate Moran's I and the correlation within spots.

    Parameters
    ----------
    pairs
        As ``spatial_features.colocalisation`` returns it; if it is empty, the figure says so.
    """
    if pairs.empty:
        return note("No feature has the same name in two modalities: spatial.pairs asks for others.")
    shown = pairs.iloc[:_MOST]
    names = [
        f"{fit(str(pair.first), 1.4)} ({fit(pair.first_modality, 0.6)}), "
        f"{fit(str(pair.second), 1.4)} ({fit(pair.second_modality, 0.6)})"
        for pair in shown.itertuples()
    ]
    left = MARGIN + max(width_of(name, SMALL) for name in names) * 1.03 + 0.1
    width, height, top = 2.6, _ROW * len(shown), MARGIN + 2.6 * LINE
    column = 0.8
    figure = Figure(figsize=(left + width + GAP + column + MARGIN, top + height + 2.6 * LINE + MARGIN))
    axes = axes_at(figure, left, top, width, height)
    rows = np.arange(len(shown))
    axes.axvline(0, color=NO_LABEL, lw=0.8, zorder=0)
    within = axes.scatter(shown["correlation"], rows, s=14, facecolors="none", edgecolors="#4D4D4D", lw=0.8)
    near = axes.scatter(shown["bivariate_morans_i"], rows, s=14, color=COLOURS[0], lw=0, zorder=3)
    both = shown[["bivariate_morans_i", "correlation"]].to_numpy()
    low, high = min(both.min(), 0) - 0.05, max(both.max(), 0.5) + 0.05
    axes.set(ylim=(len(shown) - 0.5, -0.5), yticks=rows, xlim=(low, high))
    axes.set_yticklabels(names)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    legend = figure.legend(
        [near, within],
        ["bivariate Moran's I", "correlation within spots"],
        ncols=2,
        loc="upper left",
        borderaxespad=0,
        borderpad=0,
        handletextpad=0.2,
        columnspacing=1,
    )
    place_legend(figure, legend, left, MARGIN)
    text_at(figure, left + width + GAP, MARGIN, "adj. p", va="top")
    for row, value in enumerate(shown["p_adj"]):
        weight = "bold" if value < _SIGNIFICANT else "normal"
        text_at(figure, left + width + GAP, top + (row + 0.5) * _ROW, f"{value:.2g}", va="center", weight=weight)
    return figure
