"""Maps of spots: UMAPs of features and of the latent space, and tissue maps of domains and counts."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from scipy import sparse

from mosaic.errors import InputError
from mosaic.figures.style import (
    GAP,
    INK,
    LINE,
    MARGIN,
    MEDIUM,
    SMALL,
    STYLE,
    Tissue,
    axes_at,
    bare,
    checked,
    colour_each,
    fit,
    legend_of,
    matched_palette,
    natural,
    palette,
    place_legend,
    text_at,
    used,
)
from mosaic.frame import Frame

if TYPE_CHECKING:
    import anndata as ad


def _umaps(panels: Sequence[tuple[str, np.ndarray, np.ndarray, Mapping[str, str], str | None]]) -> Figure:
    """UMAPs in a row; a panel is title, coordinates, labels, colours, and the title of its legend or None."""
    side, foot, figure = 2.6, 0.2, Figure()
    page = MARGIN
    places: list[tuple[float, Legend | None, float, float]] = []
    for _, _, labels, colours, legend_title in panels:
        left, page = page + foot, page + foot + side + GAP
        if legend_title is not None:
            legend, (width, height) = legend_of(figure, used(labels, colours), legend_title, side)
            places.append((left, legend, page, height))
            page += width + GAP
        else:
            places.append((left, None, page, 0.0))
    top = MARGIN + 1.5 * LINE
    tallest = max(side, *(height for *_, height in places))
    figure.set_size_inches(page - GAP + MARGIN, top + tallest + foot + MARGIN)
    for (title, coords, labels, colours, _), (left, placed, legend_left, _) in zip(panels, places, strict=True):
        axes = axes_at(figure, left, top, side, side)
        # In random order, so that the last slice does not hide the others.
        order = np.random.default_rng(0).permutation(len(coords))
        size = np.clip(9000 / len(coords), 0.4, 9)
        x, y = coords[order].T
        axes.scatter(x, y, c=colour_each(labels, colours)[order], s=size, linewidths=0, rasterized=True)
        # One scale for both axes, so that distances are comparable.
        centre = (coords.max(axis=0) + coords.min(axis=0)) / 2
        reach = max(np.ptp(coords, axis=0).max() * 0.52, 1e-6)
        axes.set(xlim=centre[0] + np.array((-reach, reach)), ylim=centre[1] + np.array((-reach, reach)))
        axes.set(aspect="equal", title=title)
        axes.set_axis_off()
        axes.plot([0, 0, 0.15], [0.15, 0, 0], color=INK, lw=0.8, transform=axes.transAxes, clip_on=False)
        axes.text(0, -0.02, "UMAP1", transform=axes.transAxes, va="top", size=SMALL - 1)
        axes.text(-0.02, 0, "UMAP2", transform=axes.transAxes, ha="right", va="bottom", rotation=90, size=SMALL - 1)
        if placed is not None:
            place_legend(figure, placed, legend_left, top)
    return figure


@mpl.rc_context(STYLE)
def features_umap(
    before: np.ndarray,
    after: np.ndarray | None,
    slices: Iterable,
    correction: Mapping,
    *,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """UMAP of one modality's features before and after batch correction, coloured by slice.

    Parameters
    ----------
    before
        UMAP coordinates (spots x 2) of the features before batch correction.
    after
        The same after it; None: no batch correction, and one panel that says so.
    slices
        Slice of each spot.
    correction
        Record of the correction (``batch_correction.Correction.record``).
    colours
        Colour of each slice, from ``palette`` of all the run's slices. Default: the palette of ``slices``.

    Raises
    ------
    InputError
        If coordinates and labels do not match, or a slice has no colour.
    """
    before, slices = checked(before, slices)
    colours = colours or palette(slices)
    if after is None:
        return _umaps([("without batch correction", before, slices, colours, "slice")])
    after, _ = checked(after, slices)
    titles = (
        f"before, iLISI {correction['ilisi_before']:.2f}",
        f"after {correction['method'].replace('_', ' ').replace('harmony', 'Harmony')}, "
        f"iLISI {correction['ilisi_after']:.2f}",
    )
    return _umaps([(titles[0], before, slices, colours, None), (titles[1], after, slices, colours, "slice")])


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
    """UMAP of the latent space, coloured by slice, by modalities and by domain.

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
        If coordinates and labels do not match, or a label has no colour.
    """
    coords, slices, modalities, domains = checked(coords, slices, modalities, domains)
    return _umaps(
        [
            ("by slice", coords, slices, slice_colours or palette(slices), "slice"),
            ("by modality", coords, modalities, palette(modalities), "measured"),
            ("by domain", coords, domains, domain_colours or palette(domains), "domain"),
        ]
    )


class _Grid:
    """Slices side by side in rows of equal cells, four at most in a row.

    Parameters
    ----------
    coords
        Slice to coordinates (spots x 2).
    lanes
        Number of times that each row is repeated, one below the other.
    frames
        Slice to image and unit of its coordinates; slices may be absent.
    """

    def __init__(self, coords: Mapping[str, np.ndarray], lanes: int = 1, frames: Mapping[str, Frame] | None = None):
        if not coords:
            raise InputError("no slice to draw")
        self.names = sorted(coords, key=natural)
        self.lanes = lanes
        self.columns = int(np.ceil(len(coords) / np.ceil(len(coords) / 4)))
        self.cell = {1: 4.0, 2: 3.2, 3: 2.6}.get(self.columns, 2.15)
        room, known = (self.cell, 1.6 * self.cell), frames or {}
        self.tissues = {name: Tissue(coords[name], *room, known.get(name, Frame())) for name in self.names}
        self.rows = [self.names[start : start + self.columns] for start in range(0, len(coords), self.columns)]
        self.heights = [max(self.tissues[name].height for name in row) for row in self.rows]
        self.foot = max(tissue.foot for tissue in self.tissues.values())
        lane = [height + self.foot for height in self.heights]
        self.width = self.columns * (self.cell + GAP)
        self.height = sum(lanes * each + 1.5 * LINE + GAP + (lanes - 1) * GAP / 2 for each in lane) - GAP

    def places(self, left: float, top: float) -> Iterator[tuple[str, int, float, float, float]]:
        """For each slice and lane: name, lane, left and top of the cell, and its height, in inches."""
        for row, height in zip(self.rows, self.heights, strict=True):
            top += 1.5 * LINE
            for lane in range(self.lanes):
                for column, name in enumerate(row):
                    yield name, lane, left + column * (self.cell + GAP), top, height
                top += height + self.foot + GAP / 2
            top += GAP / 2

    def draw(self, figure: Figure, name: str, left: float, top: float, height: float, **scatter) -> PathCollection:
        """Draw a slice in the middle of its cell."""
        tissue = self.tissues[name]
        place = left + (self.cell - tissue.width) / 2, top + (height - tissue.height) / 2
        return tissue.draw(figure, *place, **scatter)

    def title(self, figure: Figure, name: str, left: float, top: float) -> None:
        """Write a slice's name above its cell."""
        text = fit(name, self.cell, MEDIUM)
        text_at(figure, left + self.cell / 2, top - LINE / 2, text, ha="center", size=MEDIUM)


@mpl.rc_context(STYLE)
def domains_on_tissue(
    coords: Mapping[str, np.ndarray],
    domains: Mapping[str, Iterable],
    truth: Mapping[str, Iterable] | None = None,
    *,
    by_latent: Mapping[str, Iterable] | None = None,
    colours: Mapping[str, str] | None = None,
    frames: Mapping[str, Frame] | None = None,
) -> Figure:
    """Domains of all slices side by side on tissue, above where they differ from another way and the true ones.

    Parameters
    ----------
    coords
        Slice to coordinates (spots x 2), in any unit; y points down. Scales differ between slices.
    domains
        Slice to domain of each spot.
    truth
        Slice to true domain of each spot, missing where unknown; slices may be absent. A true domain has the colour of
        the domain that it is matched with.
    by_latent
        Slice to domain of each spot by the latent space alone. A row below the domains has the colour of this domain
        where it differs, and grey elsewhere.
    colours
        Colour of each domain. Default: those of ``matched_palette``, without a truth those of ``palette``.
    frames
        Slice to the image to draw under its spots and the unit of its coordinates, for a scale bar (``style.frames``);
        slices may be absent.

    Raises
    ------
    InputError
        If no slice is given, or coordinates and labels do not belong together.
    """
    names = sorted(coords, key=natural)
    coords = {name: checked(coords[name])[0] for name in names}
    called = {name: checked(coords[name], domains[name])[1] for name in names}
    true = {name: checked(coords[name], truth[name])[1] for name in names if name in truth} if truth else {}
    differing = {}
    if by_latent:
        differing = {name: checked(coords[name], by_latent[name])[1] for name in names}
        shares = np.concatenate([differing[name] != called[name] for name in names]).mean()
        for name in names:
            differing[name][differing[name] == called[name]] = None
    grid = _Grid(coords, 1 + bool(differing) + bool(true), frames)
    pooled = np.concatenate([called[name] for name in names])
    if true:
        pooled_truth = np.concatenate([true.get(name, np.full(len(called[name]), None)) for name in names])
        matched, true_colours = matched_palette(pooled, pooled_truth)
    else:
        matched, true_colours = palette(pooled), {}
    if colours:
        true_colours = _as_given(colours, matched, true_colours)
    colours = colours or matched

    lanes = [("domain", called, colours)]
    if differing:
        lanes.append((f"latent space alone: {100 * shares:.0f} % differ", differing, colours))
    if true:
        lanes.append(("truth", true, true_colours))
    left, figure = MARGIN + (1.5 * LINE if len(lanes) > 1 else 0), Figure()
    room = (max(grid.height, 2.5) - GAP) / grid.lanes
    legends = [legend_of(figure, used(pooled, colours), "domain", room)]
    if true:
        known = np.concatenate(list(true.values()))
        legends.append(legend_of(figure, used(known, true_colours), "truth", room))
    legend_height = sum(size[1] for _, size in legends) + GAP * (len(legends) - 1)
    figure.set_size_inches(
        left + grid.width + max(size[0] for _, size in legends) + MARGIN,
        max(grid.height, legend_height) + 2 * MARGIN,
    )
    legend_top = MARGIN
    for legend, (_, height) in legends:
        place_legend(figure, legend, left + grid.width, legend_top)
        legend_top += height + GAP

    for name, lane, cell_left, top, height in grid.places(left, MARGIN):
        kind, labels, table = lanes[lane]
        if len(lanes) > 1 and cell_left == left:
            text_at(figure, MARGIN, top + height / 2, kind, rotation=90, va="center")
        if lane == 0:
            grid.title(figure, name, cell_left, top)
        if name in labels:
            grid.draw(figure, name, cell_left, top, height, c=colour_each(labels[name], table))
        else:
            text_at(figure, cell_left + grid.cell / 2, top + height / 2, "no truth", ha="center", color="grey")
    return figure


def _as_given(
    colours: Mapping[str, str], matched: Mapping[str, str], true_colours: Mapping[str, str]
) -> dict[str, str]:
    """Colours of true domains as given to the domains that ``matched_palette`` matches with them, others apart.

    Colours that come from elsewhere, as those of a reference, would otherwise stand for other true domains.
    """
    given = {colour: colours[domain] for domain, colour in matched.items()}
    taken = {*colours.values(), *true_colours.values()}
    more = palette(map(str, range(len(taken) + len(true_colours)))).values()
    spare = iter([colour for colour in more if colour not in taken])
    return {
        name: given[colour] if colour in given else next(spare) if colour in colours.values() else colour
        for name, colour in true_colours.items()
    }


@mpl.rc_context(STYLE)
def confidence_on_tissue(
    coords: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    label: str,
    *,
    frames: Mapping[str, Frame] | None = None,
) -> Figure:
    """Confidence of each spot's domain, on the tissue of every slice.

    Parameters
    ----------
    coords, frames
        As for ``domains_on_tissue``.
    values
        Slice to the confidence of each spot, 0 to 1.
    label
        Label of the colour bar.

    Raises
    ------
    InputError
        If no slice is given.
    """
    grid = _Grid({name: checked(own)[0] for name, own in coords.items()}, 1, frames)
    bar = 2.2
    page = MARGIN + grid.width + 0.08 + 0.75 + MARGIN, max(grid.height, bar + LINE) + 2 * MARGIN
    figure = Figure(figsize=page)
    for name, _, left, top, height in grid.places(MARGIN, MARGIN):
        grid.title(figure, name, left, top)
        colours = np.asarray(values[name], float)
        points = grid.draw(figure, name, left, top, height, c=colours, cmap="cividis", vmin=0, vmax=1)
    axes = axes_at(figure, MARGIN + grid.width, MARGIN + 1.5 * LINE, 0.08, bar)
    colour_bar = figure.colorbar(points, cax=axes, ticks=[0, 0.25, 0.5, 0.75, 1])
    colour_bar.set_label("\n".join(textwrap.wrap(label, 30)))
    bare(colour_bar)
    return figure


@mpl.rc_context(STYLE)
def imputed_on_tissue(
    coords: np.ndarray,
    imputed: np.ndarray,
    names: Sequence[str],
    measured_coords: np.ndarray,
    measured: np.ndarray,
    slice_names: tuple[str, str],
    *,
    notes: Sequence[str] | None = None,
    frames: tuple[Frame, Frame] = (Frame(), Frame()),
) -> Figure:
    """Imputed counts of the slice that lacks a modality, beside measured counts of a slice that has it.

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
    notes
        A line below the name of each feature, such as its held-out score; None: no lines.
    frames
        Image and unit of the coordinates of the imputed and of the measured slice.

    Returns
    -------
    Figure in which the two panels of a feature share one colour scale, from the 1st to the 99th percentile of both.

    Raises
    ------
    InputError
        If no feature is given or the shapes do not agree.
    """
    pair = [(checked(coords)[0], np.asarray(imputed)), (checked(measured_coords)[0], np.asarray(measured))]
    for spots, counts in pair:
        if counts.shape != (len(spots), len(names)) or not len(names):
            raise InputError(f"counts of shape {counts.shape} for {len(spots)} spots and {len(names)} features")
    cell, bar, ticks = 1.75, 0.08, 0.6
    columns = min(len(names), 2)
    tissues = [Tissue(spots, cell, 1.6 * cell, frame) for (spots, _), frame in zip(pair, frames, strict=True)]
    height = max(tissue.height for tissue in tissues)
    head = 3.3 * LINE + (0 if notes is None else LINE)
    block = 2 * cell + 1.5 * GAP + bar + ticks, head + height + max(tissue.foot for tissue in tissues) + GAP
    rows = int(np.ceil(len(names) / columns))
    figure = Figure(figsize=(2 * MARGIN + columns * (block[0] + GAP) - GAP, 2 * MARGIN + rows * block[1] - GAP))
    for number, feature in enumerate(names):
        left = MARGIN + number % columns * (block[0] + GAP)
        top = MARGIN + number // columns * block[1]
        pooled = np.concatenate([counts[:, number] for _, counts in pair]).astype(float)
        low, high = np.percentile(pooled, [1, 99])
        if high <= low:  # a feature with counts in less than 1 % of the spots
            low, high = pooled.min(), max(pooled.max(), pooled.min() + 1)
        middle = left + cell + GAP / 2
        text_at(
            figure,
            middle,
            top + LINE / 2,
            fit(str(feature), 1.75 * cell, MEDIUM),
            ha="center",
            va="center",
            size=MEDIUM,
            weight="bold",
        )
        if notes is not None:
            text_at(figure, middle, top + 1.4 * LINE, notes[number], ha="center", va="center", color="#4D4D4D")
        top += head
        for side, (tissue, (_, counts), how) in enumerate(zip(tissues, pair, ("imputed", "measured"), strict=True)):
            cell_left = left + side * (cell + GAP)
            title = f"{how}\n{fit(str(slice_names[side]), cell)}"
            text_at(figure, cell_left + cell / 2, top - LINE / 2, title, ha="center", va="bottom")
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
        bar_axes = axes_at(figure, left + 2 * cell + 1.5 * GAP, top + (height - bar_height) / 2, bar, bar_height)
        extend = ("neither", "max", "min", "both")[(pooled.max() > high) + 2 * (pooled.min() < low)]
        colour_bar = figure.colorbar(points, cax=bar_axes, extend=extend, label="counts")
        colour_bar.locator = mpl.ticker.MaxNLocator(4)
        bare(colour_bar)
    return figure


def most_variable(measured: "ad.AnnData", n_features: int = 4) -> list[str]:
    """Names of the features whose measured counts differ most between spots, by the variance of log1p.

    Parameters
    ----------
    measured
        Spots x features with ``layers["counts"]`` (kind ``features``: X, without log1p).
    n_features
        Number of features.
    """
    # Imported here: it takes half a second, and one figure needs it.
    from sklearn.utils.sparsefuncs import mean_variance_axis

    counts = measured.layers.get("counts")
    values = sparse.csr_matrix(measured.X) if counts is None else counts.log1p()
    _, variance = mean_variance_axis(sparse.csr_matrix(values), axis=0)
    return measured.var_names[np.argsort(-variance, kind="stable")[:n_features]].tolist()


def held_out_notes(imputed: "ad.AnnData", names: Sequence[str]) -> list[str] | None:
    """Held-out score of each feature as text; None without held-out validation.

    Parameters
    ----------
    imputed
        As ``write_imputed`` writes it.
    names
        Of the features.
    """
    if "better_than_mean" not in imputed.var:
        return None
    notes = []
    for row in imputed.var.loc[list(names)].itertuples():
        verdict = "" if row.better_than_mean else ", no better than the mean"
        notes.append(
            f"hidden spots: r = {row.pearson_log:.2f}{verdict}" if np.isfinite(row.pearson_log) else "not checked"
        )
    return notes
