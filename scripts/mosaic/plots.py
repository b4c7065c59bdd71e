"""Figures: each function takes plain arrays, tables or dicts and returns a matplotlib Figure; ``save`` writes it.

Sizes are in inches and every panel is placed by hand: only so do spots on tissue get the size of the grid's pitch, and
only so is there room for what a run brings along, from 1 to 12 slices, 2 to 30 domains and names of 30 characters.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cbook import violin_stats
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.mlab import GaussianKDE
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from mosaic.errors import InputError
from mosaic.files import whole_file

SMALL = 7  # points: ticks, legends, annotations
MEDIUM = 8  # points: titles
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": SMALL,
    "axes.titlesize": MEDIUM,
    "axes.labelsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.bbox": None,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mosaic",  # ids, and with them the bytes, do not change between runs
}
SVG_DPI = 200  # of the rasterised points
PNG_DPI = 150

# The first eight are those of Okabe and Ito (2008) with dark grey in place of black. Each further one is the colour
# farthest (in Oklab, seen with normal, protanopic and deuteranopic eyes) from all before it, from light grey and white.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#4D4D4D", "#990DFF", "#0D0D99"),
    *("#B20D7F", "#0DE699", "#4C0D4C", "#991A0D", "#997FFF", "#5933B2", "#E61ACC", "#FF2666", "#99B28C", "#1A0DE6"),
    *("#FFB2FF", "#8C6640", "#4C260D", "#0D591A", "#7F7399", "#FF73D9", "#D9A6B2", "#FFBF7F", "#99D90D", "#732673"),
)
NO_LABEL = "#D9D9D9"
INK = "#262626"
OUTLINE = [withStroke(linewidth=3, foreground=INK)]

MARGIN = 0.12
GAP = 0.2
LINE = 0.16  # height of a line of small text
NAME = 2.0  # widest name before it is shortened: 30 characters fit

QC_METRICS = {
    "total_counts": "counts per spot",
    "n_features": "features per spot",
    "mito_percent": "mitochondrial counts (%)",
}
ARROWS = {"up": "↑", "down": "↓"}
# Colour and sign of a check's light: the sign says it, too.
LIGHTS = {
    "pass": ("#009E73", "✓"),
    "warn": ("#E69F00", "!"),
    "fail": ("#D55E00", "✗"),
    "not checked": ("#8C8C8C", "–"),
}


# ---------------------------------------------------------------------------------------------------------- colours
def palette(labels: Iterable) -> dict[str, str]:
    """A colour for each label: the same labels get the same colours, in whatever order they come.

    Parameters
    ----------
    labels
        Labels, repeated or not; missing ones are left out.

    Returns
    -------
    dict from label to hex colour, in natural order (``2`` before ``10``). Up to 8 are colour-blind safe
    (Okabe and Ito 2008), up to 30 can be told apart, more are still all different.
    """
    names = sorted({label for label in _labels(labels) if label is not None}, key=_natural)
    return dict(zip(names, _colours(len(names)), strict=True))


def matched_palette(domains: Iterable, truth: Iterable) -> tuple[dict[str, str], dict[str, str]]:
    """Colours for domains and for the truth, so that a domain has the colour of the true one it matches.

    Domains and true domains are paired one to one such that the pairs share the most spots (Hungarian method; Kuhn,
    Naval Research Logistics 1955). A domain without a partner gets a colour that no true domain has.

    Parameters
    ----------
    domains, truth
        Labels (spots) in the same order, all slices together; missing ones are left out.

    Returns
    -------
    dict from domain to colour and dict from true domain to colour, each in natural order.
    """
    domains, truth = _labels(domains), _labels(truth)
    names, true_colours = list(palette(domains)), palette(truth)
    overlap = pd.crosstab(domains, truth).reindex(index=names, columns=list(true_colours), fill_value=0)
    rows, columns = linear_sum_assignment(overlap.to_numpy(), maximize=True)
    colours = {
        names[row]: true_colours[overlap.columns[column]]
        for row, column in zip(rows, columns, strict=True)
        if overlap.iat[row, column] > 0
    }
    spare = iter(_colours(len(true_colours) + len(names))[len(true_colours) :])
    return {name: colours[name] if name in colours else next(spare) for name in names}, true_colours


def _colours(count: int) -> list[str]:
    more = sns.husl_palette(max(count - len(COLOURS), 0), s=0.7, l=0.55).as_hex()
    return [*COLOURS[:count], *more]


def _natural(label: str) -> tuple:
    return [int(part) if part.isdecimal() else part.casefold() for part in re.split(r"(\d+)", label)], label


def _labels(values: Iterable) -> np.ndarray:
    """Labels as strings; None where one is missing."""
    values = pd.Series(list(values), dtype=object)
    return np.array([None if pd.isna(value) else str(value) for value in values], dtype=object)


def _colour_each(labels: np.ndarray, colours: Mapping[str, str]) -> np.ndarray:
    """RGBA (n x 4) of each label, light grey where it is missing."""
    strangers = sorted({label for label in labels if label is not None} - set(colours), key=_natural)
    if strangers:
        raise InputError(
            f"no colour for {', '.join(strangers)}",
            hint="make the colours with plots.palette from the labels of the whole run",
        )
    table = np.array([to_rgba(colour) for colour in [*colours.values(), NO_LABEL]])
    return table[pd.Categorical(labels, categories=list(colours)).codes]  # a missing label's code is -1: the last


# ------------------------------------------------------------------------------------------------------------- text
def _width(text: str, size: float) -> float:
    """Width of a line of text in inches."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0] / 72


def _fit(text: str, width: float = NAME, size: float = SMALL) -> str:
    """A name from the user's data, ready to be drawn: shortened to ``width`` inches and never read as mathtext.

    The middle gives way to an ellipsis, because names mostly differ at their ends.
    """
    # Of what is too long for any width only the ends are measured: each try takes time.
    text = text if len(text) <= 200 else text[:100] + text[-100:]
    # Control characters would make the svg ill-formed.
    text = "".join(character if character.isprintable() else " " for character in text)
    short, kept = text, len(text)
    while kept > 1 and _width(short, size) > width:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short.replace("$", r"\$")


# ----------------------------------------------------------------------------------------------------------- layout
def _axes(figure: Figure, left: float, top: float, width: float, height: float, **kwargs) -> Axes:
    """Axes at a place in inches from the figure's upper left corner."""
    page_width, page_height = figure.get_size_inches()
    box = (left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height)
    return figure.add_axes(box, **kwargs)


def _text(figure: Figure, left: float, top: float, text: str, **kwargs) -> None:
    """Text at a place in inches from the figure's upper left corner."""
    page_width, page_height = figure.get_size_inches()
    figure.text(left / page_width, 1 - top / page_height, text, **kwargs)


def _legend(figure: Figure, colours: Mapping[str, str], title: str, max_height: float) -> tuple[Legend, np.ndarray]:
    """A legend in as few columns as ``max_height`` inches allow, and its width and height in inches."""
    handles = [Line2D([], [], marker="o", linestyle="", markersize=5, color=colour) for colour in colours.values()]
    names = [_fit(label) for label in colours]
    for columns in range(1, len(names) + 1):
        legend = figure.legend(
            handles,
            names,
            title=title,
            ncols=columns,
            loc="upper left",
            alignment="left",
            borderaxespad=0,
            borderpad=0,
            handletextpad=0.2,
            columnspacing=1,
        )
        # Text is a little wider at one resolution than at another.
        size = legend.get_window_extent().size / figure.dpi * (1.04, 1)
        if size[1] <= max_height or columns == min(4, len(names)):
            break
        legend.remove()
    return legend, size


def _place(legend: Legend, left: float, top: float) -> None:
    figure = legend.get_figure()
    legend.set_bbox_to_anchor((left, figure.get_size_inches()[1] - top), transform=figure.dpi_scale_trans)


# ------------------------------------------------------------------------------------------------------------ panels
def _pitch(coords: np.ndarray) -> float:
    """Median distance from a spot to its nearest neighbour; 1 where all spots lie on one place."""
    if len(coords) < 2:
        return 1.0
    distances = cKDTree(coords).query(coords, k=2)[0][:, 1]
    distances = distances[distances > 0]
    return float(np.median(distances)) if distances.size else 1.0


class _Tissue:
    """A slice on the page: its spots (n x 2), their pitch, and the panel that they fill."""

    def __init__(self, coords: np.ndarray, width: float, height: float):
        self.coords = coords
        self.pitch = _pitch(self.coords)
        self.low = self.coords.min(axis=0) - self.pitch
        self.high = self.coords.max(axis=0) + self.pitch
        extent = self.high - self.low
        self.scale = min(width / extent[0], height / extent[1])  # inches per unit of the coordinates
        self.width, self.height = extent * self.scale

    def draw(self, figure: Figure, left: float, top: float, **scatter) -> PathCollection:
        """Draw the spots as discs that nearly touch; y points down, as in images."""
        axes = _axes(figure, left, top, self.width, self.height)
        pitch = self.pitch * self.scale * 72
        # Discs of a pixel or two let the background wash out their colour: these may overlap a little.
        diameter = max(pitch * (0.95 if pitch > 2 else 1.2), 0.6)
        points = axes.scatter(*self.coords.T, s=diameter**2, linewidths=0, rasterized=True, **scatter)
        axes.set(xlim=(self.low[0], self.high[0]), ylim=(self.high[1], self.low[1]), aspect="equal")
        axes.set_axis_off()
        return points


def _spots(coords: np.ndarray, *labels: Iterable) -> list[np.ndarray]:
    """Coordinates (n x 2) and labels (n) as arrays, checked to belong together."""
    arrays = [np.asarray(coords, dtype=float), *(_labels(each) for each in labels)]
    if arrays[0].ndim != 2 or arrays[0].shape[1] != 2 or len({len(each) for each in arrays}) != 1 or not len(arrays[0]):
        raise InputError(
            f"coordinates of shape {arrays[0].shape} with labels for {[len(each) for each in arrays[1:]]} spots",
            hint="give coordinates of spots x 2, at least one spot, and a label per spot",
        )
    return arrays


def _used(labels: np.ndarray, colours: Mapping[str, str]) -> dict[str, str]:
    """The colours that a legend has to explain."""
    there = set(labels)
    return {label: colours[label] for label in colours if label in there} | (
        {"not labelled": NO_LABEL} if None in there else {}
    )


def _umaps(panels: Sequence[tuple[str, np.ndarray, np.ndarray, Mapping[str, str], str | None]]) -> Figure:
    """UMAPs in a row; a panel is title, coordinates, labels, colours, and the title of its legend or None for none."""
    side, foot, figure = 2.6, 0.2, Figure()
    page, places = MARGIN, []
    for _, _, labels, colours, legend_title in panels:
        left, page = page + foot, page + foot + side + GAP
        if legend_title is not None:
            legend, (width, height) = _legend(figure, _used(labels, colours), legend_title, side)
            places.append((left, legend, page, height))
            page += width + GAP
        else:
            places.append((left, None, page, 0))
    top = MARGIN + 1.5 * LINE
    tallest = max(side, *(height for *_, height in places))
    figure.set_size_inches(page - GAP + MARGIN, top + tallest + foot + MARGIN)
    for (title, coords, labels, colours, _), (left, legend, legend_left, _) in zip(panels, places, strict=True):
        axes = _axes(figure, left, top, side, side)
        # In random order, so that the last slice does not hide the others.
        order = np.random.default_rng(0).permutation(len(coords))
        size = np.clip(9000 / len(coords), 0.4, 9)
        axes.scatter(*coords[order].T, c=_colour_each(labels, colours)[order], s=size, linewidths=0, rasterized=True)
        # One scale for both axes: distances are what a UMAP is read for.
        centre = (coords.max(axis=0) + coords.min(axis=0)) / 2
        reach = max(np.ptp(coords, axis=0).max() * 0.52, 1e-6)
        axes.set(xlim=centre[0] + np.array((-reach, reach)), ylim=centre[1] + np.array((-reach, reach)))
        axes.set(aspect="equal", title=title)
        axes.set_axis_off()
        axes.plot([0, 0, 0.15], [0.15, 0, 0], color=INK, lw=0.8, transform=axes.transAxes, clip_on=False)
        axes.text(0, -0.02, "UMAP1", transform=axes.transAxes, va="top", size=SMALL - 1)
        axes.text(-0.02, 0, "UMAP2", transform=axes.transAxes, ha="right", va="bottom", rotation=90, size=SMALL - 1)
        if legend is not None:
            _place(legend, legend_left, top)
    return figure


# ----------------------------------------------------------------------------------------------------------- figures
@mpl.rc_context(STYLE)
def qc_distributions(
    metrics: pd.DataFrame,
    thresholds: Mapping[str, Mapping[str, tuple[float | None, float | None]]],
    *,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """What quality control saw: the spread of each metric in each slice, the thresholds, and the spots dropped.

    Parameters
    ----------
    metrics
        One row per spot before quality control: ``slice``, ``kept`` (bool) and any of ``total_counts``,
        ``n_features`` (both drawn on a logarithmic axis) and ``mito_percent``. A metric that is absent or NaN
        throughout gets no panel; with no metric at all, the numbers of spots are drawn.
    thresholds
        Slice to metric to (lower, upper) in the metric's own unit, None for no bound.
    colours
        Colour of each slice: ``palette`` of all the run's slices, so that a slice looks the same in the figures of
        every modality. Default: the palette of the slices in ``metrics``.

    Returns
    -------
    Figure with a panel per metric and a row per slice.

    Raises
    ------
    InputError
        If there is no spot, or a slice has no colour.
    """
    if metrics.empty:
        raise InputError("no spot to draw")
    metrics = metrics.assign(slice=_labels(metrics["slice"]), kept=metrics["kept"].astype(bool))
    colours = _used(metrics["slice"].to_numpy(), colours or palette(metrics["slice"]))
    _colour_each(metrics["slice"].to_numpy(), colours)
    shown = [name for name in QC_METRICS if name in metrics and metrics[name].notna().any()]
    slices = dict(tuple(metrics.groupby("slice")))
    names = [_fit(name) for name in colours]
    dropped = []
    for name in colours:
        kept = slices[name]["kept"]
        dropped.append(f"{(~kept).sum():,} of {len(kept):,} ({(~kept).mean():.1%})")

    left = MARGIN + max(_width(name, SMALL) for name in names) + 0.15
    width, height, top = 2.3, 0.42 * len(names) + 0.1, MARGIN + 1.5 * LINE
    right = left + (width + GAP) * max(len(shown), 1)
    page = right + max(_width(text, SMALL) for text in [*dropped, "spots dropped"]) * 1.05 + MARGIN
    figure = Figure(figsize=(page, top + height + (5 if shown else 2.6) * LINE + MARGIN))
    rows = np.arange(len(names))
    for column, metric in enumerate(shown or [None]):
        axes = _axes(figure, left + column * (width + GAP), top, width, height)
        if metric is None:
            kept = [int(slices[name]["kept"].sum()) for name in colours]
            axes.barh(rows, [len(slices[name]) for name in colours], color=NO_LABEL, height=0.6)
            axes.barh(rows, kept, color=list(colours.values()), height=0.6)
            axes.set_xlabel("spots (grey: dropped)")
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True))
        else:
            bounds = [thresholds.get(name, {}).get(metric) or (None, None) for name in colours]
            _qc_panel(axes, metric, [slices[name] for name in colours], list(colours.values()), bounds)
        axes.set(ylim=(len(names) - 0.4, -0.6), yticks=rows, yticklabels=names if column == 0 else [])
        axes.tick_params(axis="y", length=0)
    _text(figure, right, MARGIN, "spots dropped", va="top")
    for row, text in enumerate(dropped):
        _text(figure, right, top + (row + 0.6) / (len(names) + 0.2) * height, text, va="center_baseline")
    if shown:
        handles = [
            Line2D([], [], marker="s", markersize=4, markerfacecolor="white", markeredgecolor=INK, linestyle=""),
            Line2D([], [], marker="|", markersize=8, markeredgewidth=1.2, color=INK, linestyle=""),
            Line2D([], [], marker="o", markersize=2.5, color=INK, linestyle=""),
        ]
        legend = figure.legend(
            handles, ["median", "threshold", "dropped spot"], ncols=3, loc="upper left", borderaxespad=0, borderpad=0
        )
        _place(legend, left, top + height + 3.6 * LINE)
    return figure


def _qc_panel(
    axes: Axes,
    metric: str,
    slices: Sequence[pd.DataFrame],
    colours: Sequence[str],
    bounds: Sequence[tuple[float | None, float | None]],
) -> None:
    """One metric: a violin per slice with its median, its thresholds and its dropped spots."""
    logarithmic = metric != "mito_percent"
    # log1p rather than log: an empty spot has zero counts.
    forward, back = (np.log1p, np.expm1) if logarithmic else (np.positive, np.positive)
    random = np.random.default_rng(0)
    for row, (spots, colour, bound) in enumerate(zip(slices, colours, bounds, strict=True)):
        spots = spots[spots[metric].notna()]
        values = spots[metric].to_numpy(dtype=float)
        if not len(values):
            axes.text(0.02, row, "n/a", transform=axes.get_yaxis_transform(), va="center")
            continue
        (stats,) = violin_stats(forward(values), _density)
        stats = {key: back(value) if key != "vals" else value for key, value in stats.items()}
        violin = axes.violin([stats], positions=[row], orientation="horizontal", widths=0.75, showextrema=False)
        violin["bodies"][0].set(facecolor=colour, edgecolor="none", alpha=0.6)
        axes.plot(
            [np.median(values)] * 2, [row - 0.16, row + 0.16], color="white", lw=1.6, path_effects=OUTLINE, zorder=4
        )
        out = values[~spots["kept"].to_numpy()]
        heights = row + random.uniform(-0.25, 0.25, len(out))
        axes.scatter(out, heights, s=2, color=INK, alpha=0.7, linewidths=0, rasterized=True, zorder=3)
        for threshold in bound:
            if threshold is not None:
                axes.plot([threshold] * 2, [row - 0.44, row + 0.44], color=INK, lw=1.2)
    axes.set_xlabel(QC_METRICS[metric])
    if logarithmic:
        _log_axis(axes)
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))


def _density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Gaussian kernel density; a single spike where all values are equal."""
    if np.all(values == values[0]):
        return (grid == values[0]).astype(float)
    return GaussianKDE(values).evaluate(grid)


def _log_axis(axes: Axes) -> None:
    """Scale x by log1p, with ticks at round numbers, sparse enough to be read."""
    low, high = axes.dataLim.intervalx
    # Room for spots without any count, which lie on zero.
    low, high = low * 0.9 if low > 1 else -0.3, max(high, 1) * 1.1
    axes.set_xscale("function", functions=(lambda x: np.log1p(np.maximum(x, -0.5)), np.expm1))
    axes.set_xlim(low, high)
    decades = 10.0 ** np.arange(0, np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 3:
            break
    else:  # less than a decade, where the scale is nearly linear
        ticks = mpl.ticker.MaxNLocator(4, integer=True).tick_values(max(low, 0), high)
        ticks = ticks[(ticks >= low) & (ticks <= high)]
    # Ticks need 0.3 inches each on a panel of 2.3.
    ticks = ticks[:: int(np.ceil(len(ticks) / 6))]
    if low < 0:
        ticks = np.union1d([0], ticks)
    axes.set_xticks(
        ticks,
        [f"{tick / 1e6:g}M" if tick >= 1e6 else f"{tick / 1e3:g}k" if tick >= 1e4 else f"{tick:,g}" for tick in ticks],
    )
    axes.minorticks_off()


@mpl.rc_context(STYLE)
def features_umap(
    before: np.ndarray,
    after: np.ndarray | None,
    slices: Iterable,
    *,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """UMAP of one modality's features before and after Harmony, coloured by slice.

    Parameters
    ----------
    before
        UMAP coordinates (spots x 2) of the features before Harmony.
    after
        The same after Harmony; None where it did not run: then there is one panel, and it says so.
    slices
        Slice of each spot.
    colours
        Colour of each slice, from ``palette`` of all the run's slices. Default: the palette of ``slices``.

    Raises
    ------
    InputError
        If coordinates and labels do not belong together, or a slice has no colour.
    """
    before, slices = _spots(before, slices)
    colours = colours or palette(slices)
    if after is None:
        return _umaps([("without batch correction", before, slices, colours, "slice")])
    after, _ = _spots(after, slices)
    return _umaps(
        [("before Harmony", before, slices, colours, None), ("after Harmony", after, slices, colours, "slice")]
    )


@mpl.rc_context(STYLE)
def latent_umap(
    coords: np.ndarray,
    slices: Iterable,
    modalities: Iterable,
    domains: Iterable,
    *,
    slice_colours: Mapping[str, str] | None = None,
    domain_colours: Mapping[str, str] | None = None,
) -> Figure:
    """UMAP of the latent space, coloured by slice, by measured modalities and by domain.

    Parameters
    ----------
    coords
        UMAP coordinates (spots x 2).
    slices, modalities, domains
        Labels (spots); modalities as in ``rna+adt``.
    slice_colours, domain_colours
        Default: the ``palette`` of the labels. Give ``matched_palette``'s where the domains on tissue are drawn beside
        a truth, so that both figures agree.

    Raises
    ------
    InputError
        If coordinates and labels do not belong together, or a label has no colour.
    """
    coords, slices, modalities, domains = _spots(coords, slices, modalities, domains)
    return _umaps(
        [
            ("by slice", coords, slices, slice_colours or palette(slices), "slice"),
            ("by modality", coords, modalities, palette(modalities), "measured"),
            ("by domain", coords, domains, domain_colours or palette(domains), "domain"),
        ]
    )


@mpl.rc_context(STYLE)
def domains_on_tissue(
    coords: Mapping[str, np.ndarray],
    domains: Mapping[str, Iterable],
    truth: Mapping[str, Iterable] | None = None,
) -> Figure:
    """Domains of all slices side by side on tissue, above the truth where there is one.

    Parameters
    ----------
    coords
        Slice to coordinates (spots x 2), in any unit; y grows downwards. Each slice is drawn to its own scale.
    domains
        Slice to domain of each spot.
    truth
        Slice to true domain of each spot, missing where unknown; slices may be absent. Colours are those of
        ``matched_palette``, without a truth those of ``palette``.

    Raises
    ------
    InputError
        If there is no slice, or coordinates and labels do not belong together.
    """
    if not coords:
        raise InputError("no slice to draw")
    names = sorted(coords, key=_natural)
    coords = {name: _spots(coords[name])[0] for name in names}
    domains = {name: _spots(coords[name], domains[name])[1] for name in names}
    truth = {name: _spots(coords[name], truth[name])[1] for name in names if name in truth} if truth else {}
    pooled = np.concatenate([domains[name] for name in names])
    if truth:
        pooled_truth = np.concatenate([truth.get(name, np.full(len(domains[name]), None)) for name in names])
        colours, true_colours = matched_palette(pooled, pooled_truth)
    else:
        colours, true_colours = palette(pooled), {}

    # Panels: rows of slices of equal cells, each row twice where there is a truth.
    columns = int(np.ceil(len(names) / np.ceil(len(names) / 4)))
    cell = {1: 4.0, 2: 3.2, 3: 2.6}.get(columns, 2.15)
    tissues = {name: _Tissue(coords[name], cell, 1.6 * cell) for name in names}
    rows = [names[start : start + columns] for start in range(0, len(names), columns)]
    heights = [max(tissues[name].height for name in row) for row in rows]
    lanes = 2 if truth else 1
    left, top = MARGIN + (1.5 * LINE if truth else 0), MARGIN
    block = 1.5 * LINE + GAP  # a row's titles and the space below it
    content = sum(lanes * height + block + (lanes - 1) * GAP / 2 for height in heights) - GAP

    figure = Figure()
    room = max(content, 2.5)
    legends = [_legend(figure, _used(pooled, colours), "domain", (room - GAP) / lanes)]
    if truth:
        known = np.concatenate(list(truth.values()))
        legends.append(_legend(figure, _used(known, true_colours), "truth", (room - GAP) / lanes))
    legend_left = left + columns * (cell + GAP)
    legend_height = sum(size[1] for _, size in legends) + GAP * (len(legends) - 1)
    figure.set_size_inches(
        legend_left + max(size[0] for _, size in legends) + MARGIN, max(content, legend_height) + 2 * MARGIN
    )
    legend_top = top
    for legend, (_, height) in legends:
        _place(legend, legend_left, legend_top)
        legend_top += height + GAP

    for row, height in zip(rows, heights, strict=True):
        top += 1.5 * LINE
        for lane, (kind, labels, table) in enumerate(
            (("domain", domains, colours), ("truth", truth, true_colours))[:lanes]
        ):
            if truth:
                _text(figure, MARGIN, top + height / 2, kind, rotation=90, va="center")
            for column, name in enumerate(row):
                tissue, cell_left = tissues[name], left + column * (cell + GAP)
                if lane == 0:
                    middle = cell_left + cell / 2
                    _text(figure, middle, top - LINE / 2, _fit(name, cell, MEDIUM), ha="center", size=MEDIUM)
                if name in labels:
                    place = cell_left + (cell - tissue.width) / 2, top + (height - tissue.height) / 2
                    tissue.draw(figure, *place, c=_colour_each(labels[name], table))
                else:
                    _text(figure, cell_left + cell / 2, top + height / 2, "no truth", ha="center", color="grey")
            top += height + GAP / 2
        top += GAP / 2
    return figure


@mpl.rc_context(STYLE)
def n_domains_curve(curve: pd.DataFrame) -> Figure:
    """The curve by which the number of domains was chosen, with the choice in orange.

    Parameters
    ----------
    curve
        As of ``cluster.choose_n_domains``: ``n_domains``, ``silhouette``, ``standard_error``, ``chosen``. The dashed
        line is one standard error below the best.

    Raises
    ------
    InputError
        If not exactly one number is chosen.
    """
    if curve["chosen"].sum() != 1:
        raise InputError(f"{curve['chosen'].sum()} numbers of domains are chosen, not one")
    width, height, axis = 3.2, 2.2, 0.55
    top = MARGIN + 1.5 * LINE
    figure = Figure(figsize=(MARGIN + axis + width + MARGIN, top + height + 2.6 * LINE + MARGIN))
    axes = _axes(figure, MARGIN + axis, top, width, height)
    axes.errorbar(curve["n_domains"], curve["silhouette"], curve["standard_error"], color=COLOURS[0], lw=1, marker=".")
    best, (choice,) = curve.loc[curve["silhouette"].idxmax()], curve[curve["chosen"]].itertuples()
    axes.axhline(best["silhouette"] - best["standard_error"], color="grey", lw=0.6, ls="--")
    axes.plot(choice.n_domains, choice.silhouette, color=COLOURS[1], marker="o", linestyle="", zorder=3)
    axes.set(title=f"{choice.n_domains} domains", xlabel="number of domains", ylabel="silhouette")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    return figure


@mpl.rc_context(STYLE)
def confidence_on_tissue(coords: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray], label: str) -> Figure:
    """How sure each spot is of its domain, on the tissue of every slice.

    Parameters
    ----------
    coords
        Slice to coordinates (spots x 2), in any unit; y grows downwards. Each slice is drawn to its own scale.
    values
        Slice to the confidence of each spot, 0 to 1.
    label
        What it is, for the colour bar.

    Raises
    ------
    InputError
        If there is no slice.
    """
    if not coords:
        raise InputError("no slice to draw")
    names = sorted(coords, key=_natural)
    columns = int(np.ceil(len(names) / np.ceil(len(names) / 4)))
    cell = {1: 4.0, 2: 3.2, 3: 2.6}.get(columns, 2.15)
    tissues = {name: _Tissue(_spots(coords[name])[0], cell, 1.6 * cell) for name in names}
    rows = [names[start : start + columns] for start in range(0, len(names), columns)]
    heights = [max(tissues[name].height for name in row) for row in rows]
    block = 1.5 * LINE + GAP
    bar = 2.2
    content = max(sum(heights) + block * len(rows) - GAP, bar + LINE)
    left = MARGIN + columns * (cell + GAP)
    figure = Figure(figsize=(left + 0.08 + 0.75 + MARGIN, content + 2 * MARGIN))
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        top += 1.5 * LINE
        for column, name in enumerate(row):
            tissue, cell_left = tissues[name], MARGIN + column * (cell + GAP)
            middle = cell_left + cell / 2
            _text(figure, middle, top - LINE / 2, _fit(name, cell, MEDIUM), ha="center", size=MEDIUM)
            place = cell_left + (cell - tissue.width) / 2, top + (height - tissue.height) / 2
            points = tissue.draw(figure, *place, c=np.asarray(values[name], float), cmap="cividis", vmin=0, vmax=1)
        top += height + GAP
    axes = _axes(figure, left, MARGIN + 1.5 * LINE, 0.08, bar)
    colour_bar = figure.colorbar(points, cax=axes, ticks=[0, 0.25, 0.5, 0.75, 1])
    colour_bar.set_label("\n".join(textwrap.wrap(label, 30)))
    colour_bar.outline.set_visible(False)
    colour_bar.solids.set_rasterized(True)
    return figure


@mpl.rc_context(STYLE)
def training_curves(history: Mapping[int | str, pd.DataFrame]) -> Figure:
    """Losses over the epochs, a line per seed.

    Parameters
    ----------
    history
        Seed to table with ``epoch``, ``loss`` and its parts ``contrastive`` and ``reconstruction``. A part that is
        absent or NaN throughout (no bridge, or no slice to reconstruct) gets no panel.

    Raises
    ------
    InputError
        If no loss was recorded.
    """
    history = {str(seed): table for seed, table in history.items()}
    titles = {"loss": "loss", "contrastive": "contrastive loss", "reconstruction": "reconstruction loss"}
    shown = [part for part in titles if any(part in table and table[part].notna().any() for table in history.values())]
    if not shown:
        raise InputError("no loss was recorded", hint="train for one epoch at least")
    colours, figure = palette(history), Figure()
    width, height, axis = 2.2, 1.8, 0.55
    legend, (legend_width, legend_height) = _legend(figure, colours, "seed", height)
    legend_left, top = MARGIN + len(shown) * (axis + width + GAP), MARGIN + 1.5 * LINE
    figure.set_size_inches(legend_left + legend_width + MARGIN, top + max(height + 2.6 * LINE, legend_height) + MARGIN)
    _place(legend, legend_left, top)
    for column, part in enumerate(shown):
        axes = _axes(figure, MARGIN + axis + column * (axis + width + GAP), top, width, height)
        for seed in colours:
            if part in history[seed]:
                table = history[seed]
                # A single epoch is a point, which a line would not show.
                axes.plot(table["epoch"], table[part], color=colours[seed], lw=1, marker="." if len(table) == 1 else "")
        axes.set(title=titles[part], xlabel="epoch")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
        axes.ticklabel_format(axis="y", useOffset=False)
    return figure


@mpl.rc_context(STYLE)
def imputed_on_tissue(
    coords: np.ndarray,
    imputed: np.ndarray,
    names: Sequence[str],
    measured_coords: np.ndarray,
    measured: np.ndarray,
    slice_names: tuple[str, str],
) -> Figure:
    """Imputed counts on the slice that lacks a modality, beside counts measured on a slice that has it.

    Parameters
    ----------
    coords
        Coordinates (spots x 2) of the imputed slice.
    imputed
        Its imputed counts (spots x features).
    names
        Names of the features, each of which gets a pair of panels: choose a few.
    measured_coords, measured
        Coordinates (spots x 2) and counts (spots x the same features) of the slice where they were measured.
    slice_names
        Names of the imputed and of the measured slice.

    Returns
    -------
    Figure in which the two panels of a feature share one colour scale, from the 1st to the 99th percentile of both.

    Raises
    ------
    InputError
        If there is no feature or the shapes do not agree.
    """
    pair = [(_spots(coords)[0], np.asarray(imputed)), (_spots(measured_coords)[0], np.asarray(measured))]
    for spots, counts in pair:
        if counts.shape != (len(spots), len(names)) or not len(names):
            raise InputError(f"counts of shape {counts.shape} for {len(spots)} spots and {len(names)} features")
    cell, bar, ticks = 1.75, 0.08, 0.6
    columns = min(len(names), 2)
    tissues = [_Tissue(spots, cell, 1.6 * cell) for spots, _ in pair]
    height = max(tissue.height for tissue in tissues)
    block = 2 * cell + 1.5 * GAP + bar + ticks, 3.3 * LINE + height + GAP
    rows = int(np.ceil(len(names) / columns))
    figure = Figure(figsize=(2 * MARGIN + columns * (block[0] + GAP) - GAP, 2 * MARGIN + rows * block[1] - GAP))
    for number, feature in enumerate(names):
        left = MARGIN + number % columns * (block[0] + GAP)
        top = MARGIN + number // columns * block[1]
        pooled = np.concatenate([counts[:, number] for _, counts in pair]).astype(float)
        low, high = np.percentile(pooled, [1, 99])
        if high <= low:  # a feature seen in fewer than one spot in a hundred
            low, high = pooled.min(), max(pooled.max(), pooled.min() + 1)
        middle = left + cell + GAP / 2
        _text(
            figure,
            middle,
            top + LINE / 2,
            _fit(str(feature), 1.75 * cell, MEDIUM),
            ha="center",
            va="center",
            size=MEDIUM,
            weight="bold",
        )
        top += 3.3 * LINE
        for side, (tissue, (_, counts), how) in enumerate(zip(tissues, pair, ("imputed", "measured"), strict=True)):
            cell_left = left + side * (cell + GAP)
            title = f"{how}\n{_fit(str(slice_names[side]), cell)}"
            _text(figure, cell_left + cell / 2, top - LINE / 2, title, ha="center", va="bottom")
            points = tissue.draw(
                figure,
                cell_left + (cell - tissue.width) / 2,
                top + (height - tissue.height) / 2,
                c=counts[:, number].astype(float),
                cmap="viridis",
                vmin=low,
                vmax=high,
            )
        bar_height = min(height, 1.4)
        bar_axes = _axes(figure, left + 2 * cell + 1.5 * GAP, top + (height - bar_height) / 2, bar, bar_height)
        extend = ("neither", "max", "min", "both")[(pooled.max() > high) + 2 * (pooled.min() < low)]
        colour_bar = figure.colorbar(points, cax=bar_axes, extend=extend, label="counts")
        colour_bar.locator = mpl.ticker.MaxNLocator(4)
        colour_bar.outline.set_visible(False)
        colour_bar.solids.set_rasterized(True)
    return figure


@mpl.rc_context(STYLE)
def metrics_table(metrics: pd.DataFrame) -> Figure:
    """The metrics as a table: a row per scope (and method and seed, where there are several), a column per metric.

    Parameters
    ----------
    metrics
        Tidy: ``metric``, ``scope``, ``value``, ``direction`` (``higher`` or ``lower`` is better, or ``up`` and
        ``down``), ``method`` and ``seed``. NaN is drawn as n/a; a metric that a scope does not have stays blank.

    Raises
    ------
    InputError
        If there is no metric, a direction is unknown, or a metric comes twice.
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
    # What all rows share is said once, above the table.
    shared = [len({row[place] for row in rows}) == 1 for place in range(2)] + [False]
    cells = [[key for key, is_shared in zip(keys, shared, strict=True) if not is_shared]]
    cells[0] += [f"{_fit(metric)} {arrow}" for metric, arrow in arrows.items()]
    for row in rows:
        names = [_fit(str(part)) for part, is_shared in zip(row, shared, strict=True) if not is_shared]
        cells.append(names + [_number(values.get((*row, metric))) for metric in arrows])
    title = ", ".join(
        _fit(text)
        for text, is_shared in zip((str(rows[0][0]), f"seed {rows[0][1]}"), shared[:2], strict=True)
        if is_shared
    )

    widths = [max(_width(cell, MEDIUM) for cell in column) + 0.25 for column in zip(*cells, strict=True)]
    edges = MARGIN + np.concatenate([[0], np.cumsum(widths)])
    line, head = 0.2, 0.25 if title else 0
    note = "↑ higher is better, ↓ lower is better"
    page = max(edges[-1], MARGIN + max(_width(note, SMALL), _width(title, MEDIUM)) * 1.15) + MARGIN
    figure = Figure(figsize=(page, 2 * MARGIN + head + line * (len(cells) + 1.2)))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, page), ylim=(figure.get_size_inches()[1], 0))
    axes.set_axis_off()
    if title:
        axes.text(edges[0], MARGIN + head / 2, title, size=MEDIUM, weight="bold", va="center")
    top = MARGIN + head
    names = 3 - sum(shared)
    for number, row in enumerate(cells):
        middle = top + line * (number + 0.5)
        if number % 2 == 0 and number:
            axes.axhspan(middle - line / 2, middle + line / 2, *edges[[0, -1]] / page, color="#F3F3F3", lw=0)
        for place, cell in enumerate(row):
            x, side = (edges[place] + 0.08, "left") if place < names else (edges[place + 1] - 0.08, "right")
            style = {"weight": "bold"} if number == 0 else {"color": "grey"} if cell == "n/a" else {}
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


# ------------------------------------------------------------------------------------------------------------ checks
@mpl.rc_context(STYLE)
def verdict(checks: pd.DataFrame) -> Figure:
    """The checks of a run as lights, each with its number, its thresholds and what to do about it.

    Parameters
    ----------
    checks
        As ``verdict.verdicts`` gives them.
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
        colour, sign = LIGHTS[check.status]
        axes.plot([MARGIN + 0.18], [top + 0.26], "o", ms=20, color=colour, mec="none")
        axes.text(MARGIN + 0.18, top + 0.26, sign, color="white", weight="bold", size=11, ha="center", va="center")
        left = MARGIN + 0.5
        axes.text(left, top + 0.12, f"{check.check}: {check.status}", weight="bold", size=MEDIUM, va="center")
        value = "not measured" if pd.isna(check.value) else f"{_number(check.value)} ({check.meaning})"
        bound = f"passes {check.good}, fails {check.bad}"
        axes.text(left, top + 0.12 + LINE, f"{value}; {bound}", size=SMALL, va="center", color="#4D4D4D")
        for number, line in enumerate(lines):
            axes.text(left, top + 0.12 + LINE * (2 + number), _fit(line, width), size=SMALL, va="center")
        top += height
    return figure


@mpl.rc_context(STYLE)
def imputation_check(features: pd.DataFrame, coverage: pd.DataFrame) -> Figure:
    """Held-out scores of each feature beside the baseline, and how well intervals hold what they promise.

    Parameters
    ----------
    features, coverage
        As ``selfcheck.summarise`` gives them.
    """
    side, axis, gap = 2.4, 0.55, 0.9
    top, both = MARGIN + 1.5 * LINE, not coverage.empty
    figure = Figure(figsize=(2 * MARGIN + axis + side + both * (gap + side), top + side + 2.6 * LINE + MARGIN))
    axes = _axes(figure, MARGIN + axis, top, side, side)
    better = features["better_than_mean"].astype(bool)
    for chosen, colour, label in (
        (better, COLOURS[0], f"better than the mean ({better.sum():,})"),
        (~better, COLOURS[3], f"no better ({(~better).sum():,})"),
    ):
        own = features[chosen]
        axes.scatter(
            own["pearson_neighbors"], own["pearson"], s=9, color=colour, lw=0, alpha=0.7, label=label, rasterized=True
        )
    values = features[["pearson", "pearson_neighbors"]].to_numpy()
    low, high = min(0, values.min()) - 0.05, max(values.max(), 0.1) + 0.05
    axes.plot([low, high], [low, high], color="grey", lw=0.6, zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high), title="features, on hidden spots")
    axes.set(xlabel="Pearson, nearest without integration", ylabel="Pearson, imputed")
    axes.legend(loc="lower right", handletextpad=0.1, borderaxespad=0)
    if both:
        axes = _axes(figure, MARGIN + axis + side + gap, top, side, side)
        for _, fold in coverage.groupby("fold"):
            axes.plot(fold["nominal"], fold["actual"], color="#B3B3B3", lw=0.8)
        mean = coverage.groupby("nominal")["actual"].mean()
        axes.plot(mean.index, mean, color=COLOURS[0], marker="o", ms=3.5, lw=1.2, label="mean of folds")
        low = min(coverage["nominal"].min(), coverage["actual"].min()) - 0.05
        axes.plot([low, 1], [low, 1], color="grey", lw=0.6, zorder=0)
        axes.set(xlim=(low, 1), ylim=(low, 1), title="intervals", xlabel="promised share of counts inside")
        axes.set_ylabel("share inside, in folds that set no bounds")
        axes.legend(loc="upper left", borderaxespad=0)
    return figure


# ------------------------------------------------------------------------------------------------------------- files
@mpl.rc_context(STYLE)
def save(figure: Figure, svg_path: str | Path, png_path: str | Path) -> None:
    """Write a figure as svg (text as text, points rasterised) and as png, and release it.

    The same figure gives the same bytes on every run.

    Parameters
    ----------
    figure
        A figure of this module; empty afterwards.
    svg_path, png_path
        Where to write.
    """
    with whole_file(svg_path) as unfinished:
        figure.savefig(unfinished, format="svg", dpi=SVG_DPI, metadata={"Date": None})
    with whole_file(png_path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=PNG_DPI)
    figure.clear()
