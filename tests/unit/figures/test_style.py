"""The figures: colours by independent arithmetic, layout by the boxes of the text as drawn, content by the artists."""

import io
import itertools
import time
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.cbook import is_math_text
from matplotlib.collections import PathCollection
from matplotlib.colors import same_color, to_hex, to_rgb
from matplotlib.image import imread
from matplotlib.text import Text

from mosaic.analyse.n_domains import split_tree
from mosaic.check.checks import CHECKS
from mosaic.errors import InputError
from mosaic.figures import charts, comparisons, maps, n_domains, spatial_features, style, tables
from mosaic.frame import Frame, write_frame

NASTY = ["s1", "_a_slice_with_a_very_long_name", "$E_{1}$ <b>&amp;</b> ΩЖ\x07 µm", "cost $5 or $6", "W" * 30]
EXTREMES = [(1, 30), (5, 2), (12, 30)]


def names(count: int) -> list[str]:
    return [*NASTY, *(f"sample_2024_replicate_number_{i:02d}" for i in range(12))][:count]


def grid(count: int, aspect: float = 1.0, pitch: float = 100.0) -> np.ndarray:
    columns = max(int(np.sqrt(count / aspect)), 1)
    row, column = np.divmod(np.arange(count), columns)
    return np.column_stack([column, row]) * pitch


def framed(frame: Frame, side: float = 1000.0) -> Frame:
    """The same with an image: black, with a white square in the middle of its second quarter from the left."""
    image = np.zeros((40, 40, 3), np.uint8)
    image[18:22, 13:17] = 255
    return frame._replace(image=image, width=side, height=side)


class Run:
    """What a run with so many slices and domains hands to the figures."""

    def __init__(self, n_slices: int, n_domains: int, per_slice: int = 90):
        random = np.random.default_rng(1)
        aspects = itertools.cycle([1, 0.3, 3, 1.4])
        self.slices = names(n_slices)
        self.coords = {name: grid(per_slice, next(aspects)) for name in self.slices}
        labels = np.arange(per_slice) % n_domains + 1
        self.domains = {name: labels.astype(str) for name in self.slices}
        self.truth = {name: np.array([f"true_$domain$_of_a_long_name_{i:02d}" for i in labels]) for name in self.slices}
        self.slice = np.repeat(self.slices, per_slice)
        self.domain = np.tile(labels.astype(str), n_slices)
        self.modality = np.where(np.arange(len(self.slice)) % 3, "rna+adt", "rna+adt+atac+histone")
        self.umap = random.normal(size=(len(self.slice), 2))
        counts = random.negative_binomial(3, 0.003, len(self.slice))
        counts[0] = 0
        self.metrics = pd.DataFrame(
            {
                "slice": self.slice,
                "total_counts": counts,
                "n_features": counts // 2,
                "mito_percent": random.beta(2, 15, len(self.slice)) * 100,
                "kept": counts > 200,
            }
        )
        self.thresholds = {name: {"total_counts": (200.0, 9000.0), "mito_percent": (None, 30)} for name in self.slices}
        self.history = {
            seed: pd.DataFrame(
                {"epoch": [1, 2, 3], "loss": [3.0, 2, 1], "contrastive": [2.0, 1, 0.5], "reconstruction": 1}
            )
            for seed in range(n_slices)
        }
        self.curve = pd.DataFrame({"n_domains": range(2, 3 + n_domains), "standard_error": 0.01}).assign(
            silhouette=lambda table: 1 / table["n_domains"], chosen=lambda table: table["n_domains"] == 2
        )
        named = np.unique(self.domain, return_inverse=True)[1]
        self.tree = split_tree({n: named * n // n_domains for n in self.curve["n_domains"]}, np.asarray(self.domain))

        self.composition = pd.crosstab(pd.Series(self.domain, name="domain"), self.slice, normalize="columns")
        self.domain_colours = style.palette(self.domain)
        self.long_names = {name: f"domain $x$ with a long name {name}" for name in self.domain_colours}
        features = [f"{'A_GENE_WITH_A_LONG_NAME-' if i % 2 else '$x$'}{i}" for i in range(40)]
        self.profile = pd.DataFrame(
            [
                (domain, feature, random.random(), random.random(), list(self.domain_colours)[i % n_domains])
                for domain in self.domain_colours
                for i, feature in enumerate(features)
            ],
            columns=["domain", "feature", "mean", "share", "marker_of"],
        )

    def frames(self):
        """An image and a unit for each slice but every third."""
        return {name: framed(Frame(microns_per_unit=0.5)) for i, name in enumerate(self.slices) if i % 3 != 1}

    def compared(self):
        """Slices of three levels with hostile names: per slice, and per contrast and domain."""
        random = np.random.default_rng(2)
        levels = [self.slices[0], NASTY[2], "W" * 30]
        names = list(self.long_names.values())
        shares = pd.DataFrame(itertools.product(levels * 3, names), columns=["level", "domain"])
        shares["share"] = random.random(len(shares))
        tests = pd.DataFrame(itertools.product(levels[1:], names), columns=["level", "domain"])
        tests = tests.assign(
            reference=levels[0], difference=-1.234, p_adj=0.0123, n_features=20_000, n_different=12_345
        )
        tests = tests.assign(note=np.where(np.arange(len(tests)) % 3, "", "not tested: 1 and 2 replicates are needed"))
        tests.loc[tests["note"] != "", ["p_adj", "n_features"]] = [np.nan, 0]
        return shares, tests, {self.long_names[key]: colour for key, colour in self.domain_colours.items()}

    def differential(self, p_adj=0.001):
        _, tests, colours = self.compared()
        rows = itertools.product(tests["level"].unique(), colours, range(8))
        table = pd.DataFrame(rows, columns=["level", "domain", "feature"])
        table["feature"] = [f"$x$ A_FEATURE-{feature}" for feature in table["feature"]]
        table = table.assign(reference=tests["reference"][0], p_adj=p_adj, log2_fold_change=np.arange(len(table)) - 9.0)
        return comparisons.differential_features(table, tests, colours)

    def neighbours(self):
        _, tests, colours = self.compared()
        pairs = pd.DataFrame(itertools.combinations_with_replacement(colours, 2), columns=["domain", "neighbour"])
        table = tests[["level", "reference"]].drop_duplicates().merge(pairs, how="cross")
        table = table.assign(mean_level=1.0, mean_reference=-2.0, difference=3.0, p_adj=0.01)
        return comparisons.neighbourhoods(table, colours, NOTES)

    def spatial(self):
        random = np.random.default_rng(3)
        each = pd.DataFrame(random.random((300, len(self.slices))), columns=self.slices)
        each.index = [f"{'A_GENE_WITH_A_LONG_NAME-' if i % 2 else '$x$'}{i}" for i in range(300)]
        ranked = pd.concat([each.mean(axis=1).rename("morans_i"), each], axis=1).assign(p_adj=0.01)
        return spatial_features.spatial_ranking(ranked, style.palette(self.slices))

    def imputed(self, **more):
        first, second = self.coords[self.slices[0]], self.coords[self.slices[-1]]
        features = ["CD3", "chr1:1000000-$1000500_a_long_name", "B", "C", "D", "E"][: len(self.slices)]
        random = np.random.default_rng(0)
        imputed = random.gamma(2, 3, (len(first), len(features)))
        measured = random.poisson(20000, (len(second), len(features)))
        return maps.imputed_on_tissue(
            first, imputed, features, second, measured, (self.slices[0], self.slices[-1]), **more
        )


NOTES = ["4 of $x$, 4 of old: no p-value of a permutation can be below 0.029. " + "W" * 200]
PAIRS = pd.DataFrame(
    {
        "first_modality": "rna",
        "first": [f"A_GENE_WITH_A_VERY_LONG_NAME_{i}" for i in range(50)],
        "second_modality": "a_modality_with_a_long_name",
        "second": [f"$x$ protein {i}" for i in range(50)],
        "bivariate_morans_i": np.linspace(0.9, -0.4, 50),
        "correlation": np.linspace(0.7, -0.6, 50),
        "p_adj": np.linspace(0.002, 1, 50),
    }
)
CORRECTED = {"method": "pair_shift", "ilisi_before": 0.17, "ilisi_after": 0.83}
SCORES = pd.DataFrame({"metric": ["ARI"], "scope": ["all"], "value": [0.5], "direction": ["up"]})
UNCORRECTED = {"method": "none"}
# Every check with every status.
CHECKED = pd.DataFrame(
    [
        (check.name, check.meaning, f"≥ {check.good}", f"< {check.bad}", status, value, check.advice[status])
        for check in CHECKS
        for status, value in (("pass", 1234.5), ("warn", 0.21), ("fail", -0.5), ("not checked", np.nan))
    ],
    columns=["check", "meaning", "good", "bad", "status", "value", "advice"],
)
HIDDEN = pd.DataFrame(
    {
        "pearson_log": np.linspace(-0.2, 0.9, 12),
        "pearson_log_neighbors": np.linspace(0.1, 0.6, 12),
        "better_than_mean": np.arange(12) > 3,
    }
)
COVERAGE = pd.DataFrame({"fold": ["a", "b"] * 2, "nominal": [0.5, 0.5, 0.9, 0.9], "actual": [0.4, 0.6, 0.8, 0.95]})
FIGURES = {
    "qc": lambda run: charts.qc_distributions(run.metrics, run.thresholds),
    "qc without metrics": lambda run: charts.qc_distributions(run.metrics[["slice", "kept"]], {}),
    "features": lambda run: maps.features_umap(run.umap, run.umap * 2, run.slice, CORRECTED),
    "features without Harmony": lambda run: maps.features_umap(run.umap, None, run.slice, UNCORRECTED),
    "latent": lambda run: maps.latent_umap(run.umap, run.slice, run.modality, run.domain),
    "tissue": lambda run: maps.domains_on_tissue(run.coords, run.domains),
    "tissue and truth": lambda run: maps.domains_on_tissue(run.coords, run.domains, run.truth),
    "tissue, latent space and truth": lambda run: maps.domains_on_tissue(
        run.coords, run.domains, run.truth, by_latent={name: np.roll(own, 3) for name, own in run.domains.items()}
    ),
    "tissue and scale": lambda run: maps.domains_on_tissue(run.coords, run.domains, run.truth, frames=run.frames()),
    "confidence": lambda run: maps.confidence_on_tissue(
        run.coords, {name: np.linspace(0, 1, len(own)) for name, own in run.coords.items()}, "share of seeds " * 5
    ),
    "confidence and image": lambda run: maps.confidence_on_tissue(
        run.coords, {name: np.linspace(0, 1, len(own)) for name, own in run.coords.items()}, "c", frames=run.frames()
    ),
    "composition": lambda run: charts.domain_composition(run.composition, run.domain_colours),
    "markers": lambda run: charts.marker_dots(run.profile, run.domain_colours),
    "markers of named domains": lambda run: charts.marker_dots(
        run.profile.replace(run.long_names), {run.long_names[key]: own for key, own in run.domain_colours.items()}
    ),
    "no markers": lambda run: charts.marker_dots(run.profile.iloc[:0], run.domain_colours),
    "one domain per slice": lambda run: charts.marker_dots(run.profile.iloc[:0], run.domain_colours, ranked=False),
    "number of domains": lambda run: n_domains.choice_of_number(run.curve, run.tree, run.domain_colours),
    "composition by level": lambda run: comparisons.composition_by_level(*run.compared(), NOTES),
    "differential features": Run.differential,
    "no differential features": lambda run: run.differential(p_adj=0.5),
    "neighbourhoods": Run.neighbours,
    "spatial features": Run.spatial,
    "co-localised": lambda run: spatial_features.colocalisation(PAIRS),
    "nothing co-localised": lambda run: spatial_features.colocalisation(PAIRS.iloc[:0]),
    "training": lambda run: charts.training_curves(run.history),
    "checks": lambda run: tables.checks(CHECKED),
    "hidden, imputed": lambda run: charts.holdout(HIDDEN, COVERAGE),
    "hidden, imputed, without intervals": lambda run: charts.holdout(HIDDEN, COVERAGE.iloc[:0]),
    "nothing hidden": lambda run: charts.holdout(HIDDEN.iloc[:0], COVERAGE.iloc[:0]),
    "imputed": Run.imputed,
    "imputed, checked": lambda run: run.imputed(
        notes=["hidden spots: r = -0.12, no better than the mean"] * 6,
        frames=(Frame(microns_per_unit=7), framed(Frame())),
    ),
}


@pytest.fixture
def drawn(monkeypatch):
    """A function that draws a figure and gives every text that came onto it, with its box in pixels."""
    record = {}
    original = Text.draw

    def draw(self, renderer):
        if self.get_visible() and self.get_text().strip():
            record[id(self)] = (self, self.get_window_extent(renderer))
        original(self, renderer)

    monkeypatch.setattr(Text, "draw", draw)
    # Points take time and move no text.
    monkeypatch.setattr(PathCollection, "draw", mpl.artist.allow_rasterization(lambda self, renderer: None))

    def collect(figure):
        record.clear()
        figure.savefig(io.BytesIO(), format="rgba", dpi=100)  # png would be compressed
        return list(record.values())

    return collect


def points(figure) -> list[PathCollection]:
    return [artist for axes in figure.axes for artist in axes.collections if isinstance(artist, PathCollection)]


def overlapping(boxes) -> list[tuple]:
    """The pairs among (name, box in pixels) that share more than half a pixel each way."""
    extents = np.array([box.extents for _, box in boxes]).reshape(-1, 4)
    low, high = extents[:, :2], extents[:, 2:]
    shared = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).min(axis=2) > 0.5
    return [(boxes[one][0], boxes[other][0]) for one, other in zip(*np.nonzero(np.triu(shared, 1)), strict=True)]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


# ---------------------------------------------------------------------------------------------------------- layout
@pytest.mark.parametrize("size", EXTREMES, ids=lambda size: f"{size[0]} slices, {size[1]} domains")
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_overlaps(name, size, drawn):
    figure = FIGURES[name](Run(*size))
    found = drawn(figure)
    assert found
    page = figure.get_window_extent()
    signs = {"✓", "!", "✗", "–"}  # in the lights of the checks, larger
    assert {text.get_fontsize() for text, _ in found if text.get_text() not in signs} <= {6, 7, 8}
    for text, box in found:
        inside = page.x0 <= box.x0 and page.y0 <= box.y0 and box.x1 <= page.x1 and box.y1 <= page.y1
        assert inside, f"{text.get_text()!r} leaves the page"
    assert not overlapping([(text.get_text(), box) for text, box in found])
    panels = [(axes, axes.get_window_extent()) for axes in figure.axes]
    assert not overlapping(panels)
    for axes, extent in panels:
        # Ticks, legends and the page's own text belong to no axes.
        strangers = [(text.get_text(), box) for text, box in found if text.axes is not axes]
        assert not [pair for pair in overlapping([(axes, extent), *strangers]) if axes in pair]


def test_long_names_lose_their_middle(drawn):
    run = Run(5, 2)
    for name in ("qc", "tissue", "latent"):
        written = [text.get_text() for text, _ in drawn(FIGURES[name](run))]
        shortened = [text for text in written if set(text) == {"W", "…"}]
        assert shortened, name
        assert "_a_slice_with_a_very_long_name" in written, name  # 30 characters of common width fit


def test_a_long_legend_is_broken_into_columns():
    heights = {count: FIGURES["latent"](Run(1, count)).get_size_inches()[1] for count in (2, 30)}
    assert heights[30] == heights[2]


# ---------------------------------------------------------------------------------------------------------- colours
def test_palette_is_in_natural_order_and_the_same_for_the_same_labels():
    labels = ["10", "2", "1", None, "2", np.nan]
    assert list(style.palette(labels)) == ["1", "2", "10"]
    assert list(style.palette(["b", "a10", "B", "a9", "a"])) == ["a", "a9", "a10", "B", "b"]
    assert style.palette(labels) == style.palette(reversed(labels)) == style.palette([1, 2, 10])
    assert style.palette(pd.Categorical(["b", "a"])) == {"a": "#0072B2", "b": "#E69F00"}


@pytest.mark.parametrize("count", [1, 2, 8, 9, 30, 45])
def test_palette_colours_differ(count):
    colours = style.palette(range(count)).values()
    assert len({to_hex(colour) for colour in colours}) == count


def test_palette_can_be_told_apart_by_colour_blind_eyes():
    # Viénot, Brettel and Mollon (1999): what a dichromat sees, in linear RGB; the published coefficients.
    seen_by = {
        "normal": np.eye(3),
        "protan": [[0.1124, 0.8876, 0], [0.1124, 0.8876, 0], [0.0040, -0.0040, 1]],
        "deutan": [[0.2927, 0.7073, 0], [0.2927, 0.7073, 0], [-0.0223, 0.0223, 1]],
    }
    rgb = np.array([to_rgb(colour) for colour in style.palette(range(30)).values()])
    for eyes, matrix in seen_by.items():
        seen = np.clip(rgb**2.2 @ np.transpose(matrix), 0, 1)
        # CIE L*a*b* with D65, from its definition.
        xyz = seen @ np.transpose([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        x, y, z = np.cbrt(np.clip(xyz / [0.9505, 1, 1.089], 1e-6, None)).T
        lab = np.column_stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])
        distance = np.linalg.norm(lab[:, None] - lab, axis=2) + np.eye(30) * 1000
        assert distance[:8, :8].min() > 10, eyes  # a just noticeable difference is 2.3
        assert distance.min() > 4, eyes


def test_matched_palette_by_hand():
    # 1 and 3 are mostly b, but 1 has more of it; 2 is all a; 4 is where the truth is unknown.
    domains = [1, 1, 1, 3, 3, 2, 2, 2, 2, 4]
    truth = ["b", "b", "b", "b", "b", "a", "a", "a", "a", None]
    colours, true_colours = style.matched_palette(domains, truth)
    assert true_colours == style.palette(["a", "b"])
    assert (colours["1"], colours["2"]) == (true_colours["b"], true_colours["a"])
    assert list(colours) == ["1", "2", "3", "4"]
    assert len(set(colours.values())) == 4


def test_matched_palette_maximises_the_overlap_as_a_whole():
    # Greedy would pair 1 with a (6 spots) and leave 2 with b (0); together 1-b and 2-a share 5 + 5.
    domains = np.repeat([1, 1, 2], [6, 5, 5])
    truth = np.repeat(["a", "b", "a"], [6, 5, 5])
    colours, true_colours = style.matched_palette(domains, truth)
    assert colours == {"1": true_colours["b"], "2": true_colours["a"]}


def test_domains_without_any_truth_get_plain_colours():
    colours, true_colours = style.matched_palette(["1", "2"], [None, None])
    assert colours == style.palette(["1", "2"])
    assert true_colours == {}


def test_one_slice_has_one_colour_in_all_figures():
    colours = style.palette(["s1", "s2", "s3"])
    umap = maps.features_umap(np.zeros((2, 2)), None, ["s3", "s3"], UNCORRECTED, colours=colours)
    assert same_color(points(umap)[0].get_facecolor()[0], colours["s3"])
    metrics = pd.DataFrame({"slice": ["s3"] * 9, "total_counts": range(9), "kept": True})
    violin = charts.qc_distributions(metrics, {}, colours=colours).axes[0].collections[0]
    assert same_color(violin.get_facecolor()[0, :3], colours["s3"])
    with pytest.raises(InputError, match="no colour for s4"):
        maps.features_umap(np.zeros((2, 2)), None, ["s3", "s4"], UNCORRECTED, colours=colours)


# ----------------------------------------------------------------------------------------------------------- tissue
@pytest.mark.parametrize("aspect", [0.25, 1, 4])
def test_tissue_has_equal_aspect_points_down_and_spots_that_nearly_touch(aspect):
    coords = grid(60, aspect, pitch=7.3) + 1000
    figure = maps.domains_on_tissue({"s": coords}, {"s": np.ones(len(coords))})
    figure.savefig(io.BytesIO(), dpi=72)  # one pixel is one point
    figure.set_dpi(72)
    (axes,) = figure.axes
    assert axes.get_aspect() == 1
    right, down = axes.transData.transform([coords[0] + (7.3, 0), coords[0] + (0, 7.3)]) - axes.transData.transform(
        coords[0]
    )
    np.testing.assert_allclose(right, [-down[1], 0], atol=1e-6)
    np.testing.assert_allclose(down[0], 0, atol=1e-6)
    assert right[0] > 0 > down[1]
    (spots,) = points(figure)
    assert 0.9 * right[0] < np.sqrt(spots.get_sizes()[0]) <= right[0]
    box = axes.get_window_extent()
    assert box.contains(*axes.transData.transform(coords.min(axis=0)))
    assert box.contains(*axes.transData.transform(coords.max(axis=0)))


def test_tissue_draws_each_spot_in_the_colour_of_its_domain_and_truth():
    coords = {"s2": grid(4), "s10": grid(4), "s1": grid(3)}
    domains = {"s2": ["1", "1", "2", "2"], "s10": ["1", "2", "2", None], "s1": ["1", "1", "2"]}
    truth = {"s2": ["b", "b", "a", "a"], "s10": ["b", "a", None, "a"]}
    figure = maps.domains_on_tissue(coords, domains, truth)
    one, two, missing = "#E69F00", "#0072B2", "#D9D9D9"  # a is first, and 2 matches it
    expected = [
        [one, one, two],  # domains of s1, s2, s10
        [one, one, two, two],
        [one, two, two, missing],
        [one, one, two, two],  # truth of s2, s10
        [one, two, missing, two],
    ]
    assert [[to_hex(colour).upper() for colour in panel.get_facecolor()] for panel in points(figure)] == expected
    assert "no truth" in texts(figure)
    titles = [text.get_text() for text in figure.texts if text.get_text() in coords]
    assert titles == ["s1", "s2", "s10"]
    entries = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert entries == [["1", "2", "not labelled"], ["a", "b", "not labelled"]]


def test_tissue_shows_where_the_latent_space_alone_calls_another_domain():
    coords = {"s1": grid(4), "s2": grid(4)}
    figure = maps.domains_on_tissue(
        coords, {"s1": list("1122"), "s2": list("1122")}, by_latent={"s1": list("1221"), "s2": list("1122")}
    )
    one, two, agreed = "#0072B2", "#E69F00", "#D9D9D9"
    colours = [[to_hex(colour).upper() for colour in panel.get_facecolor()] for panel in points(figure)]
    assert colours[2:] == [[agreed, two, agreed, one], [agreed] * 4]
    assert "latent space alone: 25 % differ" in texts(figure)


def test_a_spot_far_from_all_others_is_left_out_and_the_panel_says_so():
    coords = np.vstack([[(1e9, 1e9)], grid(90)])
    labels = ["2", *["1"] * 90]
    drawn = {
        "domains": maps.domains_on_tissue({"s": coords}, {"s": labels}),
        "confidence": maps.confidence_on_tissue(
            {"s": coords}, {"s": np.linspace(0, 1, 91)}, "x", frames={"s": Frame(microns_per_unit=0.5)}
        ),
        "imputed": maps.imputed_on_tissue(coords, np.ones((91, 1)), ["a"], coords, np.ones((91, 1)), ("s", "t")),
    }
    for name, figure in drawn.items():
        for panel in points(figure):
            np.testing.assert_array_equal(panel.get_offsets(), grid(90), err_msg=name)
            assert panel.axes.get_xlim()[1] < 1e4
            assert panel.axes.get_ylim()[0] < 1e4
        assert texts(figure).count("1 spot lies far outside") == (2 if name == "imputed" else 1)
    (domains,) = points(drawn["domains"])
    assert {to_hex(colour).upper() for colour in domains.get_facecolor()} == {"#0072B2"}
    coords[1] = -1e9
    assert "2 spots lie far outside" in texts(maps.domains_on_tissue({"s": coords}, {"s": labels}))


@pytest.mark.parametrize("coords", [[[3.0, 4.0]], [[3.0, 4.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 5.0]]])
def test_tissue_of_hardly_any_spots(coords):
    figure = maps.domains_on_tissue({"s": coords}, {"s": ["1"] * len(coords)})
    figure.savefig(io.BytesIO())
    assert np.isfinite(points(figure)[0].get_sizes()).all()


@pytest.mark.parametrize(
    "fault",
    [
        lambda: maps.domains_on_tissue({}, {}),
        lambda: maps.domains_on_tissue({"s": grid(3)}, {"s": ["1"] * 4}),
        lambda: maps.features_umap(np.zeros((3, 2)), np.zeros((4, 2)), ["s"] * 3, CORRECTED),
        lambda: maps.features_umap(np.zeros((3, 1)), None, ["s"] * 3, UNCORRECTED),
        lambda: maps.latent_umap(np.zeros((0, 2)), [], [], []),
        lambda: maps.imputed_on_tissue(grid(3), np.ones((3, 1)), ["a"], grid(4), np.ones((4, 2)), ("s", "t")),
        lambda: maps.imputed_on_tissue(grid(3), np.ones((3, 0)), [], grid(4), np.ones((4, 0)), ("s", "t")),
        lambda: n_domains.choice_of_number(Run(1, 2).curve.assign(chosen=False), Run(1, 2).tree, {}),
        lambda: charts.training_curves({1: pd.DataFrame({"epoch": [], "loss": []})}),
        lambda: charts.qc_distributions(pd.DataFrame({"slice": [], "kept": []}), {}),
        lambda: tables.metrics_table(SCORES.iloc[:0]),
        lambda: tables.metrics_table(SCORES.assign(direction="sideways")),
        lambda: tables.metrics_table(pd.concat([SCORES] * 2)),
    ],
)
def test_what_cannot_be_drawn_is_an_input_error(fault):
    with pytest.raises(InputError):
        fault()


# -------------------------------------------------------------------------------------------------------------- umap
def test_umap_panels():
    run = Run(2, 5)
    assert [axes.get_title() for axes in FIGURES["features"](run).axes] == [
        "before, iLISI 0.17",
        "after pair shift, iLISI 0.83",
    ]
    assert [axes.get_title() for axes in FIGURES["features without Harmony"](run).axes] == ["without batch correction"]
    figure = FIGURES["latent"](run)
    assert [legend.get_title().get_text() for legend in figure.legends] == ["slice", "measured", "domain"]
    assert texts(figure).count("UMAP1") == texts(figure).count("UMAP2") == 3
    for panel, labels in zip(points(figure), (run.slice, run.modality, run.domain), strict=True):
        colours = style.palette(labels)
        expected = {(*xy, to_hex(colours[label])) for xy, label in zip(run.umap, labels, strict=True)}
        found = zip(panel.get_offsets(), map(to_hex, panel.get_facecolor()), strict=True)
        assert {(*xy, colour) for xy, colour in found} == expected


# ---------------------------------------------------------------------------------------------------------------- qc
def qc_lines(figure) -> set[tuple[int, int, float]]:
    """(panel, row, value) of every vertical line as long as a threshold's."""
    return {
        (panel, round(float(np.mean(line.get_ydata()))), float(line.get_xdata()[0]))
        for panel, axes in enumerate(figure.axes)
        for line in axes.lines
        if np.ptp(line.get_ydata()) > 0.8
    }


def test_thresholds_are_drawn_where_they_are():
    metrics = pd.DataFrame(
        {
            "slice": np.repeat(["s10", "s2"], 50),
            "total_counts": np.tile(np.arange(50) * 20, 2),
            "n_features": np.arange(100) + 1,
            "mito_percent": np.linspace(0, 40, 100),
            "kept": [True] * 60 + [False] * 40,
        }
    )
    thresholds = {"s2": {"total_counts": (100, 1500.5), "mito_percent": (None, 25)}, "s10": {"n_features": (0, None)}}
    figure = charts.qc_distributions(metrics, thresholds)
    # s2 comes before s10
    assert qc_lines(figure) == {(0, 0, 100), (0, 0, 1500.5), (2, 0, 25), (1, 1, 0)}
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert all(low <= line.get_xdata()[0] <= high for line in axes.lines)
    assert [text for text in texts(figure) if " of " in text] == ["40 of 50 (80.0%)", "0 of 50 (0.0%)"]
    dots = points(figure)[0].get_offsets()
    np.testing.assert_array_equal(np.sort(dots[:, 0]), np.arange(10, 50) * 20)


def test_qc_panels_follow_what_was_measured():
    run = Run(2, 2)
    labels = [axes.get_xlabel() for axes in FIGURES["qc"](run).axes]
    assert labels == ["counts per spot", "features per spot", "mitochondrial counts (%)"]
    assert len(charts.qc_distributions(run.metrics.assign(mito_percent=np.nan), {}).axes) == 2
    (axes,) = FIGURES["qc without metrics"](run).axes
    kept = run.metrics.groupby("slice", sort=False)["kept"].sum()
    widths = [bar.get_width() for bar in axes.patches[2:]]
    assert sorted(widths) == sorted(kept)


@pytest.mark.parametrize(
    "values", [[0, 0, 0], [5, 5, 5], [7], [950, 1000, 1050], [0, 1e7, 3], [0.5, 0.7, np.nan], [3e4, 3.1e4, 3.2e4]]
)
def test_qc_axis_has_readable_ticks(values, drawn):
    metrics = pd.DataFrame({"slice": "s", "total_counts": values, "n_features": values, "kept": True})
    figure = charts.qc_distributions(metrics, {})
    found = drawn(figure)
    ticks = set(figure.axes[0].get_xticklabels()) & {text for text, _ in found}
    assert 2 <= len(ticks) <= 8
    assert not overlapping(found)


# ---------------------------------------------------------------------------------------------------------- the rest
def test_the_image_lies_where_the_spots_say_and_the_discs_leave_it_room(tmp_path):
    """The white square is at (375, 500): drawn there, whatever part of the image the panel shows; y points down."""
    coords = np.array([(x, y) for x in range(300, 500, 25) for y in range(400, 700, 25)], float)
    frames = {"s": framed(Frame())}
    figures = [maps.domains_on_tissue({"s": coords}, {"s": np.ones(len(coords))}, frames=own) for own in (frames, {})]
    sizes = [np.sqrt(points(figure)[0].get_sizes()[0]) for figure in figures]
    assert sizes[0] / sizes[1] == pytest.approx(0.65 / 0.95)
    (picture,) = figures[0].axes[0].images
    left, right, bottom, top = picture.get_extent()
    rows, columns = np.nonzero(picture.get_array()[..., 0] == 255)
    height, width = picture.get_array().shape[:2]
    assert (left, right, top, bottom) == (275, 500, 375, 700)
    assert left + (columns.mean() + 0.5) / width * (right - left) == pytest.approx(375)
    assert top + (rows.mean() + 0.5) / height * (bottom - top) == pytest.approx(500)
    for name, figure in zip("ab", figures, strict=True):
        style.save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    shown = imread(tmp_path / "a.png")[..., :3]
    assert (shown.max(axis=2) < 0.05).sum() > 0.2 * (imread(tmp_path / "b.png")[..., :3].min(axis=2) < 0.9).sum()


def test_slices_without_image_or_unit_look_as_ever(tmp_path):
    run = Run(3, 4, per_slice=30)
    for name, frames in (("a", None), ("b", {}), ("c", dict.fromkeys(run.slices, Frame(spot_diameter=55.0)))):
        figure = maps.domains_on_tissue(run.coords, run.domains, frames=frames)
        style.save(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
    for kind in ("svg", "png"):
        assert len({(tmp_path / f"{name}.{kind}").read_bytes() for name in "abc"}) == 1


def test_only_slices_of_a_known_unit_have_a_scale_bar():
    run = Run(3, 2)
    frames = {run.slices[0]: Frame(microns_per_unit=1.0), run.slices[2]: Frame(microns_per_unit=100.0)}
    written = texts(maps.domains_on_tissue(run.coords, run.domains, frames=frames))
    assert sum(text.endswith((" µm", " mm")) and text[0].isdigit() for text in written) == 2


def test_the_config_says_whether_and_how_strong_images_are_drawn(tmp_path):
    write_frame(framed(Frame(microns_per_unit=2.0)), "s", tmp_path / "s.json")
    paths = [str(tmp_path / "s.json")]
    assert style.frames(paths, image=False, image_opacity=1.0)["s"] == Frame(microns_per_unit=2.0)
    for opacity, black in ((1.0, 0), (0.6, 102), (0.0, 255)):
        image = style.frames(paths, image=True, image_opacity=opacity)["s"].image
        assert (image.min(), image.max(), image.dtype) == (black, 255, np.uint8)


def test_training_curves():
    table = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 1.0], "contrastive": [2.0, 0.5], "reconstruction": np.nan})
    figure = charts.training_curves({10: table, 2: table * 2})
    assert [axes.get_title() for axes in figure.axes] == ["loss", "contrastive loss"]
    np.testing.assert_array_equal([line.get_ydata() for line in figure.axes[0].lines], [[6, 2], [3, 1]])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["2", "10"]


def test_the_choice_of_a_number_shows_how_domains_split():
    labels = {2: np.repeat([0, 1], [60, 40]), 3: np.repeat([0, 2, 1], [58, 2 + 10, 30]), 4: np.repeat([3, 0, 2, 1], 25)}
    tree = split_tree(labels, np.repeat(["a", "b", "c"], [58, 12, 30]))
    curve = pd.DataFrame({"n_domains": [2, 3, 4], "objective": [1.0, 3, 3.5], "chosen": [False, True, False]})
    above, below = n_domains.choice_of_number(curve, tree, style.palette(["a", "b", "c"])).axes
    assert above.get_title() == "3 domains"
    two, three, four = (circles.get_offsets()[:, 0] for circles in above.collections)
    assert [len(two), len(three), len(four)] == [2, 3, 4]
    # At 3, one domain has all its spots of the first, one 2 of 12, and one none.
    widths = {}
    for line in above.lines:
        left, right = line.get_xdata()
        widths.setdefault((left, right), []).append(line.get_linewidth())
    np.testing.assert_allclose(
        sorted(widths[2, 3]), [n_domains._WIDEST * n / 100 if n > 4 else 0.4 for n in (2, 10, 30, 58)]
    )
    # The domain of the result is drawn in its own colour; one of which a half lies elsewhere is paler.
    shown = [to_hex(colour).upper() for colour in above.collections[1].get_facecolor()]
    assert sorted(shown) == sorted(style.palette(["a", "b", "c"]).values())
    line, choice = below.lines
    np.testing.assert_array_equal(line.get_xydata(), curve[["n_domains", "objective"]])
    np.testing.assert_array_equal(choice.get_xydata(), [[3, 3]])


def test_the_choice_of_a_number_marks_what_was_as_good():
    curve = pd.DataFrame(
        {
            "n_domains": [2, 3, 4],
            "silhouette": [0.1, 0.5, 0.48],
            "standard_error": [0.02, 0.03, 0.01],
            "chosen": [False, False, True],
        }
    )
    labels = {number: np.arange(12) % number for number in (2, 3, 4)}
    tree = split_tree(labels, labels[4].astype(str))
    below = n_domains.choice_of_number(curve, tree, style.palette(tree["like"])).axes[1]
    line, bound, choice = below.lines
    np.testing.assert_array_equal(line.get_xydata(), curve[["n_domains", "silhouette"]])
    np.testing.assert_allclose(bound.get_ydata(), 0.47)
    np.testing.assert_array_equal(choice.get_xydata(), [[4, 0.48]])


def test_imputed_and_measured_share_their_scale():
    imputed = np.column_stack([np.linspace(0, 50, 40), np.zeros(40)])
    measured = np.column_stack([np.linspace(0, 99, 61), np.zeros(61)])
    figure = maps.imputed_on_tissue(grid(40), imputed, ["a", "b"], grid(61), measured, ("s1", "s2"))
    first, second, third, fourth = points(figure)
    pooled = np.sort(np.concatenate([imputed[:, 0], measured[:, 0]]))
    # 101 values: the percentiles are the second lowest and the second highest.
    assert first.get_clim() == second.get_clim() == pytest.approx((pooled[1], pooled[99]))
    assert third.get_clim() == fourth.get_clim() == (0, 1)
    np.testing.assert_array_equal(second.get_array(), measured[:, 0])
    assert texts(figure).count("counts") == 2
    assert texts(figure).count("imputed\ns1") == texts(figure).count("measured\ns2") == 2


def test_a_check_is_drawn_with_its_light_its_number_and_what_to_do():
    figure = tables.checks(CHECKED)
    (axes,) = figure.axes
    assert [to_hex(line.get_color()) for line in axes.lines[:4]] == [
        to_hex(colour) for colour, _ in style.STATUS_STYLE.values()
    ]
    written = " ".join(texts(figure)).replace("\N{NO-BREAK SPACE}", " ")
    for check in CHECKS:
        for status, advice in check.advice.items():
            assert f"{check.name}: {status} " in written
            assert advice in written
    assert written.count("not measured; passes") == len(CHECKS)
    assert written.count("1,234 (") == written.count("-0.500 (") == len(CHECKS)
    figure.set_dpi(style.PNG_DPI)  # letters are wider in the PNG
    figure.draw_without_rendering()
    assert max(text.get_window_extent().x1 for text in axes.texts) < figure.bbox.x1


def test_features_on_hidden_spots_are_told_apart_and_coverage_is_the_mean_of_the_folds():
    scores, intervals = charts.holdout(HIDDEN, COVERAGE).axes
    better, others = points(scores.figure)
    np.testing.assert_allclose(better.get_offsets()[:, 1], HIDDEN["pearson_log"][4:])
    np.testing.assert_allclose(others.get_offsets()[:, 0], HIDDEN["pearson_log_neighbors"][:4])
    assert {"better than the mean (8)", "no better (4)"} <= set(texts(scores.figure))
    (mean,) = (line for line in intervals.lines if line.get_label() == "mean of folds")
    np.testing.assert_allclose(mean.get_xydata(), [[0.5, 0.5], [0.9, 0.875]])
    (note,) = texts(charts.holdout(HIDDEN.iloc[:0], COVERAGE.iloc[:0]))
    assert note == "Nothing could be hidden: checks.tsv says why."


def test_domains_of_further_runs_have_the_colours_of_their_counterparts():
    first = style.palette(["0", "1", "2"])
    counterparts = pd.Series([2, None, 0, None], [0, 1, 2, 3], dtype="Int64")
    colours = style.colours_of_counterparts(counterparts, first)
    assert list(colours) == ["0", "1", "2", "3"]
    assert (colours["0"], colours["2"]) == (first["2"], first["0"])
    assert len({*colours.values(), *first.values()}) == 5


def test_domains_on_tissue_take_the_colours_given():
    # Those of a reference: the truth of the slices has the colours of its domains, and none of another's.
    coords = {"s": np.column_stack(np.divmod(np.arange(12), 4)).astype(float)}
    domains, truth = np.repeat(["0", "1", "3"], 4), np.repeat(["b", "c", "a", "d"], (4, 4, 3, 1))
    given = dict(zip("0123", style.COLOURS, strict=False))
    figure = maps.domains_on_tissue(coords, {"s": domains}, {"s": truth}, colours=given)
    drawn, true = ([to_hex(colour).upper() for colour in panel.get_facecolors()] for panel in points(figure))
    assert drawn == [given[domain] for domain in domains]
    assert true[:11] == drawn[:11]
    assert true[11] not in given.values()


def test_without_markers_the_figure_says_why():
    nothing = Run(1, 2).profile.iloc[:0]
    (none,) = texts(charts.marker_dots(nothing, {}))
    (alone,) = texts(charts.marker_dots(nothing, {}, ranked=False))
    assert none == "No feature marks a domain in every slice."
    assert alone.startswith("No slice has two domains")


def test_composition_by_level_shows_each_slice_and_each_test():
    shares = pd.DataFrame(
        [("old", "a", 0.25), ("old", "b", 0.75), ("young", "a", 0.5), ("young", "b", 0.5)],
        columns=["level", "domain", "share"],
    )
    tests = pd.DataFrame({"level": "young", "reference": "old", "domain": ["a", "b"], "difference": [0.52, -0.52]})
    figure = comparisons.composition_by_level(
        shares, tests.assign(p_adj=[0.031, np.nan]), {"b": "#0072B2", "a": "#E69F00"}, ["a note"]
    )
    assert {"young", "against old", "+0.52, adj. p 0.031", "-0.52, not tested", "a note"} <= set(texts(figure))
    # Rows in the order of the colours, levels above each other.
    drawn = np.concatenate([panel.get_offsets() for panel in points(figure)])
    np.testing.assert_allclose(drawn[:, 0], [75, 50, 25, 50])
    assert (drawn[:2, 1] < 0.5).all()
    assert (drawn[2:, 1] > 0.5).all()


def test_differential_features_are_those_at_five_percent_and_what_was_not_tested_is_told():
    features = pd.DataFrame(
        {
            "level": "young",
            "reference": "old",
            "domain": ["a"] * 7 + ["b"],
            "feature": [f"g{number}" for number in range(7)] + ["g0"],
            "p_adj": [0.001] * 6 + [0.2, np.nan],
            "log2_fold_change": [2.0, -4, 1, 1, 1, 1, 1, 3],
        }
    )
    tests = pd.DataFrame({"level": "young", "reference": "old", "domain": ["a", "b"], "n_features": [7, 0]})
    tests = tests.assign(n_different=[6, 0], note=["", "not tested: too few"])
    figure = comparisons.differential_features(features, tests, {"a": "#0072B2", "b": "#E69F00"})
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == ["g0", "g1", "g2", "g3", "g4"]
    assert {"young against old", "6", "–", "b: not tested: too few."} <= set(texts(figure))
    (dots,) = points(figure)
    np.testing.assert_array_equal(np.ma.filled(dots.get_array(), np.nan)[:4], [2, 3, -4, np.nan])
    assert dots.get_clim() == (-4, 4)


def test_neighbourhoods_are_symmetric_and_marked_where_they_differ():
    table = pd.DataFrame({"level": "young", "reference": "old", "domain": ["a", "a"], "neighbour": ["a", "b"]})
    table = table.assign(mean_reference=[1, -1], mean_level=[1, 0.5], difference=[0, 1.5], p_adj=[0.9, 0.01])
    figure = comparisons.neighbourhoods(table, {"b": "#0072B2", "a": "#E69F00", "c": "#009E73"}, [])
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(images[0], [[np.nan, -1], [-1, 1]])
    np.testing.assert_array_equal(images[2], [[np.nan, 1.5], [1.5, 0]])
    assert {"old", "young", "young minus old"} <= set(texts(figure))
    (marks,) = points(figure)
    assert sorted(marks.get_offsets().tolist()) == [[0, 1], [1, 0]]


def test_spatial_features_show_each_slice_and_how_many_are_spatial():
    ranked = pd.DataFrame({"morans_i": np.linspace(0.9, 0, 50), "lowest": 0.0, "p_adj": [0.01] * 20 + [0.5] * 30})
    ranked = ranked.assign(s1=ranked["morans_i"], s2=0.1).set_axis([f"g{number}" for number in range(50)])
    figure = spatial_features.spatial_ranking(ranked, style.palette(["s1", "s2"]))
    assert "20 of 50 at 5 %" in texts(figure)
    first = points(figure)[0]
    np.testing.assert_allclose(first.get_offsets()[:, 0], ranked["s1"][:40])
    assert {"g0", "g39"} <= set(texts(figure))
    assert "g40" not in texts(figure)
    figure = spatial_features.colocalisation(PAIRS)
    within, near = points(figure)
    np.testing.assert_allclose(near.get_offsets()[:, 0], PAIRS["bivariate_morans_i"][:40])
    np.testing.assert_allclose(within.get_offsets()[:, 0], PAIRS["correlation"][:40])


def test_held_out_pairs_stand_beside_those_that_training_saw():
    """Each pair of modalities in one row, whichever was hidden; the mean over the folds."""
    metrics = pd.DataFrame(
        [
            ("iLISI", "all", 0.5, "up"),
            *(
                (metric, scope, 0.0, "down")
                for scope in ("s1:rna~adt", "s2:rna~adt")
                for metric in ("FOSCTTM (training pairs)", "matching score")
            ),
        ],
        columns=["metric", "scope", "value", "direction"],
    )
    hidden = {
        "adt": [("s1:rna~adt", 0.2), ("s1:rna~adt", 0.4), ("s2:rna~adt", 0.1)],
        "rna": [("s1:adt~rna", 0.6), ("s2:adt~rna", np.nan)],
    }
    folds = [pd.DataFrame(rows, columns=["scope", "foscttm"]) for rows in hidden.values()]
    both = tables.with_held_out(metrics, folds)
    values = both.set_index(["metric", "scope"])["value"]
    assert values["FOSCTTM (held-out pairs)"].to_dict() == pytest.approx({"s1:rna~adt": 0.4, "s2:rna~adt": 0.1})
    assert values["FOSCTTM (training pairs)"].eq(0).all()
    assert list(tables.metrics_table(both)["arrows"])[1:3] == ["FOSCTTM (training pairs)", "FOSCTTM (held-out pairs)"]
    assert len(both) == len(metrics) + 2
    assert tables.with_held_out(metrics, []) is metrics


def test_metrics_table_has_a_row_for_each_scope():
    scores = pd.DataFrame(
        [
            ("ARI", "all", 0.12345, "up"),
            ("ARI", "s1", np.nan, "up"),
            ("PAS", "s1", 1234.5, "down"),
            ("NMI with slice", "all", 0.5, "neither"),
        ],
        columns=["metric", "scope", "value", "direction"],
    )
    assert tables.metrics_table(scores) == {
        "arrows": {"ARI": "↑", "PAS": "↓", "NMI with slice": ""},
        "rows": {"all": ["0.123", "", "0.500"], "s1": ["n/a", "1,234", ""]},
    }


# ------------------------------------------------------------------------------------------------------------- files
@pytest.mark.parametrize("name", ["qc", "latent", "tissue and truth", "training", "imputed"])
def test_files_are_well_formed_the_same_twice_and_hold_names_as_text(name, tmp_path):
    run = Run(4, 3, per_slice=30)
    for turn in "ab":
        style.save(FIGURES[name](run), tmp_path / f"{turn}.svg", tmp_path / f"{turn}.png")
    for kind in ("svg", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    root = ET.parse(tmp_path / "a.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    written = ["".join(text.itertext()) for text in root.iter(f"{space}text")]
    if name not in ("training", "imputed"):  # which name no such slice
        assert "$E_{1}$ <b>&amp;</b> ΩЖ  µm" in written
    if name != "training":
        assert any("cost $5 or $6" in text for text in written)
    # Points are pictures, 200 to the inch.
    pictures = [picture for picture in root.iter(f"{space}image") if float(picture.get("width")) > 20]
    if name != "training":
        assert pictures
        assert len(list(root.iter(f"{space}use"))) < 300


def test_png_has_150_dots_to_the_inch_and_saving_releases_the_figure(tmp_path):
    figure = FIGURES["tissue"](Run(1, 2))
    inches = figure.get_size_inches()
    style.save(figure, tmp_path / "a.svg", tmp_path / "a.png")
    np.testing.assert_allclose(imread(tmp_path / "a.png").shape[1::-1], inches * 150, atol=1)
    assert not figure.axes


def test_a_check_without_folds_says_so(tmp_path):
    figure = charts.holdout(pd.DataFrame(), pd.DataFrame())
    assert "Nothing could be hidden" in figure.texts[0].get_text()
    style.save(figure, tmp_path / "a.svg", tmp_path / "a.png")


def test_nothing_global_changes(tmp_path):
    before = dict(mpl.rcParams)  # which settles on a backend
    style.save(FIGURES["qc"](Run(1, 2)), tmp_path / "a.svg", tmp_path / "a.png")
    assert dict(mpl.rcParams) == before


def test_a_hundred_thousand_spots_take_seconds(tmp_path):
    run = Run(2, 12, per_slice=50_000)
    for name in ("tissue", "qc"):
        start = time.process_time()
        style.save(FIGURES[name](run), tmp_path / "a.svg", tmp_path / "a.png")
        assert time.process_time() - start < 10, name
        assert (tmp_path / "a.svg").stat().st_size < 5e6, name


@pytest.mark.parametrize("name", ["x" * 300, "W" * 100_000, "$" * 1000, "i" * 150])
def test_a_name_of_any_length_fits(name):
    short = style.fit(name)
    assert "…" in short
    assert style.width_of(short.replace(r"\$", "$"), style.SMALL) <= style.NAME
    assert not is_math_text(short)


def test_a_marker_that_a_domain_can_not_have_has_dots_of_the_others():
    profile = pd.DataFrame(
        {
            "domain": ["0", "1", "2"],
            "feature": "CD3E",
            "mean": [1.0, 3.0, np.nan],
            "share": [0.5, 1.0, np.nan],
            "marker_of": "1",
        }
    )
    figure = charts.marker_dots(profile, style.palette(["0", "1", "2"]))
    dots = points(figure)[0]
    assert dots.get_offsets().tolist() == [[0, 0], [1, 0]]
    assert dots.get_array().tolist() == [0, 1]
