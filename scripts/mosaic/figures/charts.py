"""Charts: quality control, training, and held-out validation."""

from collections.abc import Mapping, Sequence
from typing import cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cbook import violin_stats
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.mlab import GaussianKDE
from matplotlib.patheffects import withStroke

from mosaic.colours import COLOURS
from mosaic.errors import InputError
from mosaic.figures.style import (
    GAP,
    INK,
    LINE,
    MARGIN,
    NO_LABEL,
    SMALL,
    STYLE,
    ColumnHeads,
    axes_at,
    bare,
    colour_each,
    fit,
    labels_of,
    legend_of,
    natural,
    note,
    palette,
    place_legend,
    text_at,
    used,
    width_of,
)

OUTLINE = [withStroke(linewidth=3, foreground=INK)]
QC_METRICS = {
    "total_counts": "counts per spot",
    "n_features": "features per spot",
    "mito_percent": "mitochondrial counts (%)",
}


@mpl.rc_context(STYLE)
def qc_distributions(
    metrics: pd.DataFrame,
    thresholds: Mapping[str, Mapping[str, tuple[float | None, float | None]]],
    *,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Quality control: the distribution of each metric in each slice, the thresholds, and the dropped spots.

    Parameters
    ----------
    metrics
        One row per spot before quality control: ``slice``, ``kept`` (bool) and any of ``total_counts``,
        ``n_features`` (both drawn on a logarithmic axis) and ``mito_percent``. A metric that is absent or NaN
        throughout gets no panel; with no metric at all, the numbers of spots are drawn.
    thresholds
        Slice to metric to (lower, upper) in the unit of the metric; None: no bound.
    colours
        Colour of each slice: ``palette`` of all the run's slices, so that a slice looks the same in the figures of
        every modality. Default: the palette of the slices in ``metrics``.

    Returns
    -------
    Figure with a panel per metric and a row per slice.

    Raises
    ------
    InputError
        If the table is empty, or a slice has no colour.
    """
    if metrics.empty:
        raise InputError("no spot to draw")
    metrics = metrics.assign(slice=labels_of(metrics["slice"]), kept=metrics["kept"].astype(bool))
    colours = used(metrics["slice"].to_numpy(), colours or palette(metrics["slice"]))
    colour_each(metrics["slice"].to_numpy(), colours)
    shown = [name for name in QC_METRICS if name in metrics and metrics[name].notna().any()]
    slices = dict(tuple(metrics.groupby("slice")))
    names = [fit(name) for name in colours]
    dropped = []
    for name in colours:
        kept = slices[name]["kept"]
        dropped.append(f"{(~kept).sum():,} of {len(kept):,} ({(~kept).mean():.1%})")

    left = MARGIN + max(width_of(name, SMALL) for name in names) + 0.15
    width, height, top = 2.3, 0.42 * len(names) + 0.1, MARGIN + 1.5 * LINE
    right = left + (width + GAP) * max(len(shown), 1)
    page = right + max(width_of(text, SMALL) for text in [*dropped, "spots dropped"]) * 1.05 + MARGIN
    figure = Figure(figsize=(page, top + height + (5 if shown else 2.6) * LINE + MARGIN))
    rows = np.arange(len(names))
    for column, metric in enumerate(shown or [None]):
        axes = axes_at(figure, left + column * (width + GAP), top, width, height)
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
    text_at(figure, right, MARGIN, "spots dropped", va="top")
    for row, text in enumerate(dropped):
        text_at(figure, right, top + (row + 0.6) / (len(names) + 0.2) * height, text, va="center_baseline")
    if shown:
        handles = [
            Line2D([], [], marker="s", markersize=4, markerfacecolor="white", markeredgecolor=INK, linestyle=""),
            Line2D([], [], marker="|", markersize=8, markeredgewidth=1.2, color=INK, linestyle=""),
            Line2D([], [], marker="o", markersize=2.5, color=INK, linestyle=""),
        ]
        legend = figure.legend(
            handles, ["median", "threshold", "dropped spot"], ncols=3, loc="upper left", borderaxespad=0, borderpad=0
        )
        place_legend(figure, legend, left, top + height + 3.6 * LINE)
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
        (body,) = cast(Sequence[Collection], violin["bodies"])  # matplotlib declares one collection
        body.set(facecolor=colour, edgecolor="none", alpha=0.6)
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
    """Gaussian kernel density; a single spike if all values are equal."""
    if np.all(values == values[0]):
        return (grid == values[0]).astype(float)
    return GaussianKDE(values).evaluate(grid)


def _log_axis(axes: Axes) -> None:
    """Scale x by log1p, with legible ticks at round numbers."""
    low, high = axes.dataLim.intervalx
    # Leave room for spots without counts, at zero.
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
        ticks = np.asarray(mpl.ticker.MaxNLocator(4, integer=True).tick_values(max(low, 0), high))
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
def domain_composition(composition: pd.DataFrame, colours: Mapping[str, str]) -> Figure:
    """Proportion of each slice in each domain, one bar per slice.

    Parameters
    ----------
    composition
        Proportions (domains x slices), as ``checks.composition`` returns them.
    colours
        Colour of each domain.

    Raises
    ------
    InputError
        If the table has no domain or no slice.
    """
    if composition.empty:
        raise InputError("no domain to draw")
    composition = composition.rename(str).rename(columns=str)
    slices, domains = sorted(composition.columns, key=natural), list(colours)
    names = [fit(name) for name in slices]
    width, height = 3.6, 0.3 * len(slices) + 0.1
    left, top = MARGIN + max(width_of(name, SMALL) for name in names) * 1.05 + 0.1, MARGIN
    figure = Figure()
    legend, (legend_width, legend_height) = legend_of(figure, colours, "domain", max(height, 1.6))
    page = left + width + GAP + legend_width + MARGIN
    figure.set_size_inches(page, top + max(height + 2.6 * LINE, legend_height) + MARGIN)
    place_legend(figure, legend, left + width + GAP, top)
    axes = axes_at(figure, left, top, width, height)
    rows, start = np.arange(len(slices)), np.zeros(len(slices))
    for domain in domains:
        share = composition.loc[domain, slices].to_numpy() * 100
        axes.barh(rows, share, left=start, height=0.75, color=colours[domain])
        start += share
    axes.set(xlim=(0, 100), ylim=(len(slices) - 0.5, -0.5), yticks=rows, yticklabels=names, xlabel="spots (%)")
    axes.tick_params(axis="y", length=0)
    return figure


@mpl.rc_context(STYLE)
def marker_dots(profile: pd.DataFrame, colours: Mapping[str, str], *, ranked: bool = True) -> Figure:
    """Marker features of the domains: a row per feature, a column per domain.

    Parameters
    ----------
    profile
        As ``markers.rank_markers`` returns it; if it is empty, the figure says why. The area of a dot is the proportion
        of the domain's spots with a count, its colour the mean, scaled from the feature's lowest domain to its highest.
    colours
        Colour of each domain.
    ranked
        Whether any slice has two domains to rank features for.
    """
    if profile.empty:
        return note(
            "No feature marks a domain in every slice."
            if ranked
            else "No slice has two domains that are large enough: nothing can mark one."
        )
    profile = profile.assign(domain=profile["domain"].astype(str), marker_of=profile["marker_of"].astype(str))
    features = list(dict.fromkeys(profile["feature"]))
    means = profile.pivot(index="feature", columns="domain", values="mean").loc[features]
    domains = [domain for domain in colours if domain in means.columns]
    means = means[domains].to_numpy()
    shares = profile.pivot(index="feature", columns="domain", values="share").loc[features, domains].to_numpy()
    # A domain whose slices all lack a feature has no dot of it.
    low = np.nanmin(means, axis=1, keepdims=True)
    spread = np.nanmax(means, axis=1, keepdims=True) - low
    scaled = (means - low) / np.where(spread > 0, spread, 1)
    there = np.isfinite(scaled)
    cell = 0.19
    names = [fit(name) for name in features]
    left = MARGIN + max(width_of(name, SMALL) for name in names) * 1.05 + 0.1
    heads = ColumnHeads({domain: colours[domain] for domain in domains}, cell)
    top = MARGIN + LINE + heads.height
    width, height = cell * len(domains), cell * len(features)
    key = left + width + GAP
    figure = Figure(figsize=(key + 1.2 + MARGIN, max(top + height + MARGIN, top + 2.6)))
    text_at(figure, left + width / 2, MARGIN + LINE / 2, "domain", ha="center", va="center")
    axes = axes_at(figure, left, top, width, height)
    rows, columns = np.mgrid[: len(features), : len(domains)]
    large = (cell * 72 * 0.9) ** 2
    points = axes.scatter(
        columns[there],
        rows[there],
        s=large * shares[there],
        c=scaled[there],
        cmap="viridis_r",
        vmin=0,
        vmax=1,
        lw=0,
    )
    axes.set(xlim=(-0.5, len(domains) - 0.5), ylim=(len(features) - 0.5, -0.5), yticks=range(len(features)))
    axes.set(yticklabels=names, xticks=[])
    axes.tick_params(axis="y", length=0)
    heads.draw(axes)
    marked = profile.drop_duplicates("feature")["marker_of"].to_numpy()
    for row in np.flatnonzero(marked[1:] != marked[:-1]):
        axes.axhline(row + 0.5, color=NO_LABEL, lw=0.5, zorder=0)
    scale = axes_at(figure, key, top, 0.08, 1.1)
    colour_bar = figure.colorbar(points, cax=scale, ticks=[0, 1])
    colour_bar.set_ticklabels(["lowest", "highest"])
    colour_bar.set_label("mean of a feature")
    bare(colour_bar)
    sizes = axes_at(figure, key, top + 1.35, 1, 1)
    sizes.scatter([0.1] * 3, [0.25, 0.5, 0.75], s=[large * share for share in (0.25, 0.5, 1)], color=INK, lw=0)
    sizes.set(xlim=(0, 1), ylim=(1, 0))
    sizes.set_axis_off()
    sizes.text(0, 0.05, "spots with a count", va="center")
    for y, share in ((0.25, "25 %"), (0.5, "50 %"), (0.75, "100 %")):
        sizes.text(0.25, y, share, va="center")
    return figure


@mpl.rc_context(STYLE)
def training_curves(history: Mapping[int | str, pd.DataFrame]) -> Figure:
    """Losses over the epochs, one line per seed.

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
    legend, (legend_width, legend_height) = legend_of(figure, colours, "seed", height)
    legend_left, top = MARGIN + len(shown) * (axis + width + GAP), MARGIN + 1.5 * LINE
    figure.set_size_inches(legend_left + legend_width + MARGIN, top + max(height + 2.6 * LINE, legend_height) + MARGIN)
    place_legend(figure, legend, legend_left, top)
    for column, part in enumerate(shown):
        axes = axes_at(figure, MARGIN + axis + column * (axis + width + GAP), top, width, height)
        for seed in colours:
            if part in history[seed]:
                table = history[seed]
                # A single epoch needs a marker: a line would not show it.
                axes.plot(table["epoch"], table[part], color=colours[seed], lw=1, marker="." if len(table) == 1 else "")
        axes.set(title=titles[part], xlabel="epoch")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
        axes.ticklabel_format(axis="y", useOffset=False)
    return figure


@mpl.rc_context(STYLE)
def holdout(features: pd.DataFrame, coverage: pd.DataFrame) -> Figure:
    """Held-out scores of each feature against the baseline, and the coverage of intervals.

    Parameters
    ----------
    features, coverage
        As ``scores.summarise`` returns them; if every fold was skipped, the figure says so.
    """
    if features.empty:
        return note("Nothing could be hidden: checks.tsv says why.")
    side, axis, gap = 2.4, 0.55, 0.9
    top, both = MARGIN + 1.5 * LINE, not coverage.empty
    figure = Figure(figsize=(2 * MARGIN + axis + side + both * (gap + side), top + side + 2.6 * LINE + MARGIN))
    axes = axes_at(figure, MARGIN + axis, top, side, side)
    better = features["better_than_mean"].astype(bool)
    for chosen, colour, label in (
        (better, COLOURS[0], f"better than the mean ({better.sum():,})"),
        (~better, COLOURS[3], f"no better ({(~better).sum():,})"),
    ):
        own = features[chosen]
        axes.scatter(
            own["pearson_log_neighbors"], own["pearson_log"], s=9, color=colour, lw=0, alpha=0.7, label=label
        ).set_rasterized(True)
    values = features[["pearson_log", "pearson_log_neighbors"]].to_numpy()
    low, high = min(0, values.min()) - 0.05, max(values.max(), 0.1) + 0.05
    axes.plot([low, high], [low, high], color="grey", lw=0.6, zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high), title="features, on hidden spots")
    axes.set(xlabel="Pearson, nearest without integration", ylabel="Pearson, imputed")
    axes.legend(loc="lower right", handletextpad=0.1, borderaxespad=0)
    if both:
        axes = axes_at(figure, MARGIN + axis + side + gap, top, side, side)
        for _, fold in coverage.groupby("fold"):
            axes.plot(fold["nominal"], fold["actual"], color="#B3B3B3", lw=0.8)
        mean = coverage.groupby("nominal")["actual"].mean()
        axes.plot(mean.index, mean, color=COLOURS[0], marker="o", ms=3.5, lw=1.2, label="mean of folds")
        low = min(coverage["nominal"].min(), coverage["actual"].min()) - 0.05
        axes.plot([low, 1], [low, 1], color="grey", lw=0.6, zorder=0)
        axes.set(xlim=(low, 1), ylim=(low, 1), title="intervals", xlabel="nominal coverage")
        axes.set_ylabel("observed coverage, other folds")
        axes.legend(loc="upper left", borderaxespad=0)
    return figure
