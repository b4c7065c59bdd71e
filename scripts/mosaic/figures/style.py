"""Shared by all figures: style, colours, fitted text, positions on the page, and spots on tissue; ``save`` writes one.

The functions of ``maps``, ``charts`` and ``tables`` take plain arrays, tables or dicts and return a matplotlib Figure.

Sizes are in inches and every panel has an explicit position. Spots therefore have the size of the distance between
them, and the page fits 1 to 12 slices, 2 to 30 domains and names of 30 characters.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from matplotlib.typing import RcKeyType
from natsort import natsort_keygen, ns

from mosaic.colours import COLOURS
from mosaic.errors import InputError
from mosaic.files import atomic_write
from mosaic.frame import Frame, read_frames
from mosaic.matrices import match_labels
from mosaic.spatial import astray, median_spot_distance

SMALL = 7  # points: ticks, legends, annotations
MEDIUM = 8  # points: titles
STYLE: dict[RcKeyType, Any] = {
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

NO_LABEL = "#D9D9D9"
INK = "#262626"

_NATURAL = natsort_keygen(alg=ns.IGNORECASE)

MARGIN = 0.12
GAP = 0.2
LINE = 0.16  # height of a line of small text
NAME = 2.0  # widest name before it is shortened: 30 characters fit


def palette(labels: Iterable) -> dict[str, str]:
    """A colour for each label: the same labels get the same colours, in any order.

    Parameters
    ----------
    labels
        Labels, repeated or not; missing ones are left out.

    Returns
    -------
    dict from label to hex colour, in natural order (``2`` before ``10``). Up to 8 are colour-blind safe
    (Okabe and Ito 2008), up to 30 can be told apart, more are still all different.
    """
    names = sorted({label for label in labels_of(labels) if label is not None}, key=natural)
    return dict(zip(names, _colours(len(names)), strict=True))


def matched_palette(domains: Iterable, truth: Iterable) -> tuple[dict[str, str], dict[str, str]]:
    """Colours for domains and for the truth: a domain has the colour of its matching true domain.

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
    domains, truth = labels_of(domains), labels_of(truth)
    names, true_colours = list(palette(domains)), palette(truth)
    overlap = pd.crosstab(domains, truth).reindex(index=names, columns=list(true_colours), fill_value=0)
    matched = match_labels(overlap)
    colours = {name: true_colours[other] for name, other in matched.items() if overlap.at[name, other] > 0}
    spare = iter(_colours(len(true_colours) + len(names))[len(true_colours) :])
    return {name: colours[name] if name in colours else next(spare) for name in names}, true_colours


def colours_of_counterparts(counterparts: pd.Series, first: Mapping[str, str]) -> dict[str, str]:
    """Colours of a run's domains without a truth: those of their counterparts in the first run.

    Parameters
    ----------
    counterparts
        Per domain its counterpart, as ``domain_names.name_domains`` finds it; missing: a colour of its own.
    first
        Colours of the first run's domains.
    """
    spare = (colour for colour in _colours(len(first) + len(counterparts)) if colour not in first.values())
    return {str(domain): next(spare) if pd.isna(other) else first[str(other)] for domain, other in counterparts.items()}


def _colours(count: int) -> list[str]:
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    # Imported here: it takes a second, and few figures have so many colours.
    import seaborn as sns

    return [*COLOURS, *sns.husl_palette(count - len(COLOURS), s=0.7, l=0.55).as_hex()]


def natural(label: str) -> tuple:
    """Natural sort key of labels: ``2`` comes before ``10``; of labels that differ in case alone, capitals first."""
    return _NATURAL(label), label


def labels_of(values: Iterable) -> np.ndarray:
    """Labels as strings; None for missing ones."""
    values = pd.Series(list(values), dtype=object)
    return np.array([None if pd.isna(value) else str(value) for value in values], dtype=object)


def colour_each(labels: np.ndarray, colours: Mapping[str, str]) -> np.ndarray:
    """RGBA (n x 4) of each label; light grey for missing ones."""
    strangers = sorted({label for label in labels if label is not None} - set(colours), key=natural)
    if strangers:
        raise InputError(
            f"no colour for {', '.join(strangers)}",
            hint="make the colours with style.palette from the labels of the whole run",
        )
    table = np.array([to_rgba(colour) for colour in [*colours.values(), NO_LABEL]])
    return table[pd.Categorical(labels, categories=list(colours)).codes]  # a missing label's code is -1: the last


def width_of(text: str, size: float) -> float:
    """Width of a line of text in inches."""
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0] / 72


def fit(text: str, width: float = NAME, size: float = SMALL) -> str:
    """A name from the user's data, ready to draw: shortened to ``width`` inches and never parsed as mathtext.

    The middle gives way to an ellipsis, because names mostly differ at their ends.
    """
    # Measuring is slow: of very long names, measure only the ends.
    text = text if len(text) <= 200 else text[:100] + text[-100:]
    # Control characters would make the SVG invalid.
    text = "".join(character if character.isprintable() else " " for character in text)
    short, kept = text, len(text)
    while kept > 1 and width_of(short, size) > width:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short.replace("$", r"\$")


class ColumnHeads:
    """Domains as the heads of a table's columns: their colours, to find them on the tissue, and their names.

    Parameters
    ----------
    colours
        Colour of each domain, in the order of the columns.
    cell
        Width of a column and height of a row, in inches.
    """

    def __init__(self, colours: Mapping[str, str], cell: float):
        self.colours, self.cell = colours, cell
        self.labels = [fit(name, size=SMALL - 1) for name in colours]
        longest = max((width_of(label, SMALL - 1) for label in self.labels), default=0)
        self.upright = longest > cell  # names, unlike numbers, are wider than a column
        # Above the first row.
        self.height = 0.75 * cell + (longest * 1.05 + 0.02 if self.upright else LINE)

    def draw(self, axes: Axes) -> None:
        """Draw them above axes whose first row is centred at 0 and whose columns are centred at 0, 1, ..."""
        rotation = 90 if self.upright else 0
        for place, (label, colour) in enumerate(zip(self.labels, self.colours.values(), strict=True)):
            axes.add_patch(Rectangle((place - 0.5, -0.5), 1, -0.45, color=colour, lw=0, clip_on=False))
            axes.text(place, -1.25, label, ha="center", va="bottom", size=SMALL - 1, rotation=rotation)


def axes_at(figure: Figure, left: float, top: float, width: float, height: float, **kwargs) -> Axes:
    """Axes at a position in inches from the figure's upper left corner."""
    page_width, page_height = figure.get_size_inches()
    box = (left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height)
    return figure.add_axes(box, **kwargs)


def text_at(figure: Figure, left: float, top: float, text: str, **kwargs) -> None:
    """Text at a position in inches from the figure's upper left corner."""
    page_width, page_height = figure.get_size_inches()
    figure.text(left / page_width, 1 - top / page_height, text, **kwargs)


def legend_of(figure: Figure, colours: Mapping[str, str], title: str, max_height: float) -> tuple[Legend, np.ndarray]:
    """A legend in as few columns as ``max_height`` inches allow, and its width and height in inches."""
    handles = [Line2D([], [], marker="o", linestyle="", markersize=5, color=colour) for colour in colours.values()]
    names = [fit(label) for label in colours]
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
        # The width of text varies slightly with the resolution.
        size = np.asarray(legend.get_window_extent().size) / figure.dpi * (1.04, 1)
        if size[1] <= max_height or columns == min(4, len(names)):
            break
        legend.remove()
    return legend, size


def place_legend(figure: Figure, legend: Legend, left: float, top: float) -> None:
    """Put a legend at a position in inches from the figure's upper left corner."""
    legend.set_bbox_to_anchor((left, figure.get_size_inches()[1] - top), transform=figure.dpi_scale_trans)


def bare(colour_bar: Colorbar) -> None:
    """Take the frame off a colour bar of colours alone, and draw them as pixels."""
    colour_bar.outline.set_visible(False)
    if colour_bar.solids is not None:  # contours have none
        colour_bar.solids.set_rasterized(True)


def note(text: str) -> Figure:
    """A line of text in the place of a figure that has nothing to show."""
    figure = Figure(figsize=(4.2, 2 * MARGIN + 2 * LINE))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def frames(paths: Sequence[str], *, image: bool, image_opacity: float) -> dict[str, Frame]:
    """The frames of slices, as figures draw them.

    Parameters
    ----------
    paths
        Of ``<results>/tissue/{slice}.json``.
    image
        Whether to draw the tissue image under the spots, in slices that have one.
    image_opacity
        From 0 to 1: below 1 its colours are paler, so that those of the spots stand out.

    Returns
    -------
    dict from slice to Frame.
    """
    found = read_frames(paths, images=image)
    for name, frame in found.items():
        if frame.image is not None:
            pale = 255 - image_opacity * (255.0 - frame.image)
            found[name] = frame._replace(image=np.round(pale).astype(np.uint8))
    return found


class Tissue:
    """A slice on the page: its image and spots (n x 2), the distance between them, their panel, the scale bar below.

    Spots far from all others (``spatial.astray``) are left out, and the panel says how many.

    Parameters
    ----------
    coords
        Coordinates of the spots.
    width, height
        Maximum size, in inches.
    frame
        Image and unit of the coordinates; an unknown unit has no bar.
    """

    def __init__(self, coords: np.ndarray, width: float, height: float, frame: Frame = Frame()):  # noqa: B008
        self.shown = ~astray(coords)
        self.coords = coords[self.shown]
        self.pitch = median_spot_distance(self.coords)
        self.low = self.coords.min(axis=0) - self.pitch
        self.high = self.coords.max(axis=0) + self.pitch
        extent = self.high - self.low
        self.scale = min(width / extent[0], height / extent[1])  # inches per unit of the coordinates
        self.width, self.height = extent * self.scale
        self.frame = frame

    @property
    def foot(self) -> float:
        """Height of the scale bar below the panel, in inches."""
        return 0 if self.frame.microns_per_unit is None else LINE

    def draw(self, figure: Figure, left: float, top: float, c: np.ndarray, **scatter) -> PathCollection:
        """Draw the spots as discs with colours ``c``; y points down, as in images.

        The discs nearly touch; over an image they leave room to see it, if they are large enough.
        """
        axes = axes_at(figure, left, top, self.width, self.height)
        step = self.pitch * self.scale * 72
        # The background washes out discs of a pixel or two: let these overlap a little.
        diameter = max(step * (0.95 if step > 2 else 1.2), 0.6)
        if self.frame.image is not None:
            self._image(axes, self.frame.image)
            diameter = max(0.65 * step, min(diameter, 2))
        colours = np.asarray(c)[self.shown]
        x, y = self.coords.T
        points = axes.scatter(x, y, s=diameter**2, linewidths=0, rasterized=True, c=colours, **scatter)
        axes.set(xlim=(self.low[0], self.high[0]), ylim=(self.high[1], self.low[1]), aspect="equal")
        axes.set_axis_off()
        if not self.shown.all():
            number = (~self.shown).sum()
            note = f"{number} spot{' lies' if number == 1 else 's lie'} far outside"
            # Below the tissue, if the scale bar leaves room.
            axes.text(1, -0.02, note, transform=axes.transAxes, ha="right", va="top", size=SMALL - 1)
        if self.frame.microns_per_unit is not None:
            self._scale_bar(axes, self.frame.microns_per_unit)
        return points

    def _image(self, axes: Axes, pixels: np.ndarray) -> None:
        """Draw the part of the image that the panel shows."""
        size = np.array([self.frame.width, self.frame.height])
        count = np.array(pixels.shape[1::-1])
        first = np.clip(np.floor(self.low / size * count), 0, count - 1).astype(int)
        last = np.clip(np.ceil(self.high / size * count), first + 1, count).astype(int)
        (x, y), (x_end, y_end) = first / count * size, last / count * size
        cut = pixels[first[1] : last[1], first[0] : last[0]]
        axes.imshow(cut, extent=(x, x_end, y_end, y), interpolation="antialiased", zorder=0)

    def _scale_bar(self, axes: Axes, um_per_unit: float) -> None:
        """A bar of 1, 2 or 5 times a power of ten, about a quarter of the tissue long, with its length beside it."""
        most = (self.high[0] - self.low[0]) * um_per_unit / 3
        steps = np.outer(10.0 ** np.arange(np.floor(np.log10(most)) - 1, np.log10(most) + 1), (1, 2, 5)).ravel()
        length = steps[steps <= most].max()
        share = length / (self.high[0] - self.low[0]) / um_per_unit
        # Below the tissue, in units of the panel height.
        y = -0.5 * LINE / self.height
        axes.plot([0, share], [y, y], color=INK, lw=1.5, solid_capstyle="butt", transform=axes.transAxes, clip_on=False)
        text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
        axes.text(share + 0.03, y, text, transform=axes.transAxes, va="center_baseline", size=SMALL)


def checked(coords: np.ndarray, *labels: Iterable) -> list[np.ndarray]:
    """Coordinates (n x 2) and labels (n) as arrays, with matching lengths."""
    arrays = [np.asarray(coords, dtype=float), *(labels_of(each) for each in labels)]
    if arrays[0].ndim != 2 or arrays[0].shape[1] != 2 or len({len(each) for each in arrays}) != 1 or not len(arrays[0]):
        raise InputError(
            f"coordinates of shape {arrays[0].shape} with labels for {[len(each) for each in arrays[1:]]} spots",
            hint="give coordinates of spots x 2, at least one spot, and a label per spot",
        )
    return arrays


def used(labels: np.ndarray, colours: Mapping[str, str]) -> dict[str, str]:
    """The colours to show in a legend."""
    there = set(labels)
    return {label: colours[label] for label in colours if label in there} | (
        {"not labelled": NO_LABEL} if None in there else {}
    )


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
    with atomic_write(svg_path) as unfinished:
        figure.savefig(unfinished, format="svg", dpi=SVG_DPI, metadata={"Date": None})
    with atomic_write(png_path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=PNG_DPI)
    figure.clear()


# Colour and sign of the status of a check: the sign repeats the colour.
STATUS_STYLE = {
    "pass": ("#009E73", "✓"),
    "warn": ("#E69F00", "!"),
    "fail": ("#D55E00", "✗"),
    "not checked": ("#8C8C8C", "–"),
}
