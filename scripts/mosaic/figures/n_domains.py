"""The choice of the number of domains: the criterion, and how domains split as the number grows."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mosaic.colours import COLOURS
from mosaic.errors import InputError
from mosaic.figures.style import GAP, INK, LINE, MARGIN, STYLE, axes_at, legend_of, place_legend, used

# A domain that gives less than this share of another is not joined with it: spots at borders change places.
_LEAST_SHARE = 0.05

# Points: the widest line, and the diameter of the largest domain.
_WIDEST, _LARGEST = 9.0, 19.0

_CRITERIA = {"objective": "objective per spot, nats", "silhouette": "silhouette"}


@mpl.rc_context(STYLE)
def choice_of_number(curve: pd.DataFrame, tree: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """The domains of each number, joined with those of the number before, above the criterion that chose the number.

    Parameters
    ----------
    curve
        ``n_domains``, ``chosen``, and either ``objective`` or ``silhouette`` with its ``standard_error``, whose dashed
        line is one standard error below the best.
    tree
        As of ``n_domains.split_tree``, with names of domains in ``like``. A circle's area is its domain's share of the
        spots, its colour that of the result's domain which it resembles most, paler where less of it lies there. A
        line's width is the share of the spots; lines of less than a twentieth of the domain are left out.
    colours
        Colour of each domain of the result.

    Raises
    ------
    InputError
        If not exactly one number is chosen.
    """
    if curve["chosen"].sum() != 1:
        raise InputError(f"{curve['chosen'].sum()} numbers of domains are chosen, not one")
    numbers = curve["n_domains"].to_numpy()
    (choice,) = curve.loc[curve["chosen"], "n_domains"]
    axis, width = 0.6, max(0.52 * len(numbers), 2.6)
    tree_height, curve_height = max(0.3 * numbers.max(), 1.6), 1.3
    figure = Figure()
    legend, size = legend_of(figure, used(tree["like"], colours), "domain of the result", tree_height)
    top = MARGIN + 1.5 * LINE
    figure.set_size_inches(
        MARGIN + axis + width + GAP + size[0] + MARGIN, top + tree_height + GAP + curve_height + 2.6 * LINE + MARGIN
    )
    place_legend(figure, legend, MARGIN + axis + width + GAP, top)

    above = axes_at(figure, MARGIN + axis, top, width, tree_height)
    _draw_tree(above, tree, colours)
    below = axes_at(figure, MARGIN + axis, top + tree_height + GAP, width, curve_height)
    _draw_criterion(below, curve)
    for axes in (above, below):
        axes.axvspan(choice - 0.5, choice + 0.5, color="0.93", lw=0, zorder=0)
        axes.set_xlim(numbers.min() - 0.6, numbers.max() + 0.6)
    above.set_title(f"{choice} domains")
    below.set_xticks(numbers)
    below.set_xlabel("number of domains")
    return figure


def _draw_tree(axes: Axes, tree: pd.DataFrame, colours: Mapping[str, str]) -> None:
    axes.set_ylim(1, 0)
    axes.set_axis_off()
    n_spots = tree.loc[tree["n_domains"] == tree["n_domains"].min(), "n_spots"].sum()
    heights: dict[int, float] = {}
    for number, level in tree.groupby("n_domains"):
        sizes = level.groupby("domain")["n_spots"].sum()
        # Children stand where their parents stand, on average, so that few lines cross.
        place = level["parent"].map(heights).astype(float).fillna(level["domain"] / len(sizes))
        place = (place * level["n_spots"]).groupby(level["domain"]).sum() / sizes
        order = place.sort_values(kind="stable").index
        own = {domain: (rank + 0.5) / len(order) for rank, domain in enumerate(order)}
        joined = level[level["parent"].notna() & (level["n_spots"] >= _LEAST_SHARE * level["domain"].map(sizes))]
        for row in joined.itertuples():
            axes.plot(
                [number - 1, number],
                [heights[row.parent], own[row.domain]],
                color="0.7",
                lw=max(_WIDEST * row.n_spots / n_spots, 0.4),
                solid_capstyle="butt",
                zorder=1,
            )
        first = level.drop_duplicates("domain").set_index("domain").loc[list(own)]
        colour = np.array([mpl.colors.to_rgb(colours[name]) for name in first["like"]])
        pale = 1 - first["alike"].to_numpy()[:, None]
        axes.scatter(
            np.full(len(own), number),
            list(own.values()),
            s=np.maximum(_LARGEST**2 * sizes.loc[list(own)] / n_spots, 6),
            c=colour + pale * (1 - colour),
            edgecolors=INK,
            linewidths=0.4,
            zorder=2,
        )
        heights = own


def _draw_criterion(axes: Axes, curve: pd.DataFrame) -> None:
    (name,) = _CRITERIA.keys() & set(curve.columns)
    values = curve[name]
    axes.errorbar(curve["n_domains"], values, curve.get("standard_error"), color=COLOURS[0], lw=1, marker=".")
    if "standard_error" in curve:
        best = curve.loc[values.idxmax()]
        axes.axhline(best[name] - best["standard_error"], color="grey", lw=0.6, ls="--")
    chosen = curve["chosen"]
    axes.plot(curve.loc[chosen, "n_domains"], values[chosen], color=COLOURS[1], marker="o", linestyle="", zorder=3)
    axes.set_ylabel(_CRITERIA[name])
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
