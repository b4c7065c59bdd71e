"""Registry of the figures of the report: what each needs, where it stands, and what the first page says of it.

Each has a rule and a script, ``plot_{name}``, and a caption, ``workflow/report/{name}.rst``; docs/adding_a_figure.md
has the steps.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

# What a run may have, and with which wildcards; common.smk says what this run has.
Need = Literal[
    "modality",  # each modality
    "counts",  # each modality with counts
    "hidden modality",  # each modality that held-out validation hides
    "missing modality",  # each modality that a slice lacks, with the slice
    "training",  # the model of this workflow, beside or without baselines
    "confidence",  # a confidence of domains: from several seeds, or from the clustering
    "chosen number",  # a number of domains that the run chose
    "counts of two",  # a slice with two modalities with counts
    "conditions",  # a column of the sheet with two levels, which the config names
    "conditions and counts",  # the same, and each modality with counts
]


class FirstPage(NamedTuple):
    """What the first page of the report says of a figure of the first run.

    Attributes
    ----------
    title
        Its heading.
    advice
        What a good one looks like, and a bad one.
    without
        It is there only where the run does not draw this other figure; None: always.
    """

    title: str
    advice: str
    without: str | None = None


class ReportFigure(NamedTuple):
    """A figure, or a page, of the report.

    Attributes
    ----------
    path
        Below the folder of the results, without ending. What its wildcards are of, it is drawn for each: ``method`` and
        ``seed`` of the run, ``slice`` and ``modality`` of what it needs. The file's name begins with that of the figure
        if it has a ``first_page``.
    category, subcategory
        Where it stands in the report; one of the categories of ``workflow/report/workflow.rst``.
    label
        What the list of the category calls it; may have wildcards.
    needs
        What a run must have for it; None: every run has it.
    first_page
        What the first page says of it; None: it is not there.
    of
        Method and seed that the list names in runs of several, beside those of its path; ``first`` is the first seed.
    endings
        Of its files, the last of which is in the report and, as a picture or a table, on its first page.
    """

    path: str
    category: str
    label: str
    subcategory: str | None = None
    needs: Need | None = None
    first_page: FirstPage | None = None
    of: Mapping[str, str] = {}
    endings: tuple[str, ...] = ("svg", "png")


_RUN = "{method}/seed-{seed}/figures/"

# Those of the first page in its order.
FIGURES = {
    "overview": ReportFigure(
        "overview", "0 Overview", "at a glance", of={"method": "all", "seed": "all"}, endings=("html",)
    ),
    "checks": ReportFigure(f"{_RUN}checks", "0 Overview", "checks"),
    "holdout": ReportFigure(
        "figures/check.{modality}",
        "0 Overview",
        "hidden {modality}, imputed",
        needs="hidden modality",
        of={"method": "spamosaic", "seed": "first"},
    ),
    "qc": ReportFigure(
        "figures/qc.{modality}", "1 Input", "quality of {modality}", subcategory="Quality control", needs="counts"
    ),
    "features": ReportFigure(
        "figures/features.{modality}",
        "1 Input",
        "{modality} before and after correction",
        subcategory="Features by slice",
        needs="modality",
    ),
    "spatial": ReportFigure(
        "figures/spatial.{modality}",
        "1 Input",
        "spatially variable, {modality}",
        subcategory="Spatial structure",
        needs="counts",
    ),
    "colocalisation": ReportFigure(
        "figures/colocalisation",
        "1 Input",
        "co-localised features",
        subcategory="Spatial structure",
        needs="counts of two",
    ),
    "training": ReportFigure(
        "figures/training", "2 Integration", "losses over epochs", subcategory="Training", needs="training"
    ),
    "domains": ReportFigure(
        f"{_RUN}domains",
        "3 Domains",
        "domains on tissue",
        first_page=FirstPage(
            "Domains on tissue",
            "Good: coherent regions that recur in slices of the same tissue. Bad: salt and pepper, or a domain that "
            "fills one slice and no other.",
        ),
    ),
    "latent": ReportFigure(
        f"{_RUN}latent",
        "2 Integration",
        "UMAP of the latent space",
        subcategory="Latent space",
        first_page=FirstPage(
            "Latent space",
            "Good: slices and modalities mix, domains part. Bad: an island of one slice, or of one set of modalities: "
            "these spots were not integrated.",
        ),
    ),
    "composition": ReportFigure(f"{_RUN}composition", "3 Domains", "share of each slice"),
    "markers": ReportFigure(
        f"{_RUN}markers.{{modality}}",
        "3 Domains",
        "markers, {modality}",
        needs="counts",
        first_page=FirstPage(
            "Markers of the domains",
            "Good: each domain has features that are dark and large in its own column alone. Bad: columns that look "
            "alike; their domains are one to this modality.",
        ),
    ),
    "n_domains": ReportFigure(f"{_RUN}n_domains", "3 Domains", "number of domains", needs="chosen number"),
    "confidence": ReportFigure(
        "{method}/figures/confidence", "3 Domains", "confidence on tissue", needs="confidence", of={"seed": "all"}
    ),
    "imputed": ReportFigure(
        f"{_RUN}imputed.{{slice}}.{{modality}}",
        "4 Imputation",
        "{modality} imputed in {slice}",
        needs="missing modality",
        first_page=FirstPage(
            "Imputed features",
            "Good: the imputed map follows the anatomy as the measured one does. Bad: a flat map, or one that follows "
            "nothing.",
            without="markers",
        ),
    ),
    "metrics": ReportFigure(
        f"{_RUN}metrics",
        "5 Metrics",
        "metrics",
        first_page=FirstPage(
            "Metrics",
            "Good: iLISI well above 0, FOSCTTM of held-out pairs near 0 and, where the truth is known, ARI near 1. "
            "Bad: iLISI near 0, as slices lie apart, or FOSCTTM of held-out pairs near 0.5, which is chance; of the "
            "pairs that training saw it is near 0 either way.",
        ),
        endings=("html",),
    ),
    "compared_composition": ReportFigure(
        f"{_RUN}compared_composition", "6 Conditions", "composition by condition", needs="conditions"
    ),
    "compared_features": ReportFigure(
        f"{_RUN}compared_features.{{modality}}",
        "6 Conditions",
        "differential features, {modality}",
        needs="conditions and counts",
    ),
    "compared_neighbours": ReportFigure(
        f"{_RUN}compared_neighbours", "6 Conditions", "neighbouring domains by condition", needs="conditions"
    ),
}


def labels(name: str, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, str]:
    """Labels of a figure in the report: its own, and method and seed where the run has several.

    Parameters
    ----------
    name
        Which of ``FIGURES``.
    methods, seeds
        Those of the run.
    """
    figure = FIGURES[name]
    of = {key: f"{{{key}}}" for key in ("method", "seed") if f"{{{key}}}" in figure.path} | dict(figure.of)
    if of.get("seed") == "first":
        of["seed"] = str(seeds[0])
    several = {"method": len(methods) > 1, "seed": len(seeds) > 1}
    return {"figure": figure.label} | {key: of[key] for key in several if several[key] and key in of}


def drawn(
    has: Mapping[Need, Sequence[Mapping[str, str]]], methods: Sequence[str], seeds: Sequence[int]
) -> Iterator[str]:
    """Files of the figures of a run that are in its report, below the folder of the results.

    Parameters
    ----------
    has
        Per need the wildcards of each case in the run; none where the run lacks it.
    methods, seeds
        Those of the run.
    """
    for figure in FIGURES.values():
        files = (
            _file(figure, {**case, "method": method, "seed": seed})
            for case, method, seed in product(_cases(figure, has), methods, seeds)
        )
        yield from dict.fromkeys(files)


def on_first_page(
    has: Mapping[Need, Sequence[Mapping[str, str]]], methods: Sequence[str], seeds: Sequence[int]
) -> Iterator[str]:
    """Files of the figures of the report's first page: of the first run, and of several cases the first.

    Parameters
    ----------
    has, methods, seeds
        As for ``drawn``.
    """
    for figure in FIGURES.values():
        if figure.first_page is None:
            continue
        other = figure.first_page.without
        if other is None or not _cases(FIGURES[other], has):
            for case in _cases(figure, has)[:1]:
                yield _file(figure, {**case, "method": methods[0], "seed": seeds[0]})


def _cases(figure: ReportFigure, has: Mapping[Need, Sequence[Mapping[str, str]]]) -> Sequence[Mapping[str, str]]:
    return [{}] if figure.needs is None else has[figure.needs]


def _file(figure: ReportFigure, wildcards: Mapping[str, Any]) -> str:
    return f"{figure.path.format(**wildcards)}.{figure.endings[-1]}"
