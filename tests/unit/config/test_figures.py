"""The registry of figures: which files a run draws, what the report calls them, and that the workflow has each."""

import re
import string
from pathlib import Path

import pytest

from mosaic.config import figures
from mosaic.config.figures import FIGURES, ReportFigure

REPOSITORY = Path(__file__).parents[3]
# A mosaic of RNA in both slices and ADT in s1, with counts, trained by this workflow, and nothing else.
HAS = {
    "modality": [{"modality": "rna"}, {"modality": "adt"}],
    "counts": [{"modality": "rna"}, {"modality": "adt"}],
    "hidden modality": [],
    "missing modality": [{"slice": "s2", "modality": "adt"}],
    "training": [{}],
    "confidence": [],
    "chosen number": [],
    "counts of two": [{}],
    "conditions": [],
    "conditions and counts": [],
}


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_a_run_draws_what_it_has():
    run = "spamosaic/seed-0/figures"
    files = set(figures.drawn(HAS, ["spamosaic"], [0]))
    assert files >= {
        "overview.html",
        "figures/qc.rna.png",
        "figures/qc.adt.png",
        "figures/features.rna.png",
        "figures/features.adt.png",
        "figures/spatial.rna.png",
        "figures/spatial.adt.png",
        "figures/colocalisation.png",
        "figures/training.png",
        *(f"{run}/{name}.png" for name in ("checks", "domains", "latent", "composition")),
        f"{run}/metrics.html",
        f"{run}/markers.rna.png",
        f"{run}/markers.adt.png",
        f"{run}/imputed.s2.adt.png",
    }
    assert not [path for path in files if re.search("check\\.|confidence|n_domains|compared", path)]


@pytest.mark.parametrize("need", HAS)
def test_more_of_a_need_is_more_figures(need):
    case = {"modality": "atac", "slice": "s3"}
    before = list(figures.drawn(HAS | {need: []}, ["spamosaic"], [0]))
    more = set(figures.drawn(HAS | {need: [case]}, ["spamosaic"], [0])) - set(before)
    assert len(more) == sum(figure.needs == need for figure in FIGURES.values()) > 0


def test_methods_and_seeds_multiply_what_hangs_on_them_and_nothing_comes_twice():
    files = list(figures.drawn(HAS | {"confidence": [{}]}, ["spamosaic", "mofa"], [0, 1, 2]))
    assert len(set(files)) == len(files)
    assert sum(path.endswith("/latent.png") for path in files) == 6
    assert sum(path.endswith("/imputed.s2.adt.png") for path in files) == 6
    assert sum(path.endswith("/confidence.png") for path in files) == 2
    assert files.count("figures/training.png") == files.count("overview.html") == 1


def test_first_page_shows_the_first_run_and_imputed_features_only_without_markers():
    def shown(has):
        return [path.split("/figures/")[1] for path in figures.on_first_page(has, ["mofa", "spamosaic"], [7, 1])]

    assert shown(HAS) == ["domains.png", "latent.png", "markers.rna.png", "metrics.html"]
    ready = HAS | {"counts": []}
    assert shown(ready) == ["domains.png", "latent.png", "imputed.s2.adt.png", "metrics.html"]
    assert shown(ready | {"missing modality": []}) == ["domains.png", "latent.png", "metrics.html"]
    assert next(figures.on_first_page(HAS, ["mofa", "spamosaic"], [7, 1])).startswith("mofa/seed-7/")


def test_labels_name_method_and_seed_only_where_the_run_has_several():
    assert figures.labels("latent", ["spamosaic"], [0]) == {"figure": "UMAP of the latent space"}
    both = ["spamosaic", "mofa"], [5, 6]
    of = {name: figures.labels(name, *both) for name in FIGURES}
    run = {"method": "{method}", "seed": "{seed}"}
    assert of["latent"] == {"figure": "UMAP of the latent space"} | run
    assert of["confidence"] == {"figure": "confidence on tissue", "method": "{method}", "seed": "all"}
    assert of["holdout"] == {"figure": "hidden {modality}, imputed", "method": "spamosaic", "seed": "5"}
    assert of["overview"] == {"figure": "at a glance", "method": "all", "seed": "all"}
    assert of["qc"] == {"figure": "quality of {modality}"}
    assert figures.labels("markers", ["spamosaic"], [5, 6]) == {"figure": "markers, {modality}", "seed": "{seed}"}


@pytest.mark.parametrize(("name", "figure"), FIGURES.items(), ids=list(FIGURES))
def test_an_entry_is_whole(name: str, figure: ReportFigure):
    """Its rule draws it and its caption is there; labels have no wildcard that the path lacks."""
    rules = (REPOSITORY / "workflow/rules/figures.smk").read_text()
    rule = name if name == "overview" else f"plot_{name}"
    (body,) = re.findall(rf"^rule {rule}:\n(.*?)(?=^rule |\Z)", rules, flags=re.MULTILINE | re.DOTALL)
    assert f'**drawn("{name}"),' in body
    assert (REPOSITORY / f"workflow/report/{name}.rst").is_file()
    assert placeholders(figure.label) <= placeholders(figure.path)
    if figure.first_page is not None:
        assert figure.path.rpartition("/")[2].split(".")[0] == name
        assert figure.first_page.without in (None, *FIGURES)


def test_every_rule_and_every_caption_is_of_an_entry():
    rules = (REPOSITORY / "workflow/rules/figures.smk").read_text()
    assert sorted(re.findall(r'\*\*drawn\("(\w+)"\)', rules)) == sorted(FIGURES)
    assert len(re.findall(r"^rule ", rules, flags=re.MULTILINE)) == len(FIGURES)
    assert not re.findall(r"\breport\(", rules)
    captions = {path.stem for path in (REPOSITORY / "workflow/report").glob("*.rst")}
    assert captions == {*FIGURES, "workflow"}


def test_every_category_has_a_question_on_the_first_page():
    text = (REPOSITORY / "workflow/report/workflow.rst").read_text()
    assert re.findall(r'^  "(\d .+?)":', text, flags=re.MULTILINE) == sorted({f.category for f in FIGURES.values()})


def test_the_workflow_says_of_every_need_whether_a_run_has_it():
    text = (REPOSITORY / "workflow/rules/common.smk").read_text().split("HAS = {")[1].split("\n}")[0]
    assert re.findall(r'^    "(.+?)":', text, flags=re.MULTILINE) == list(figures.Need.__args__) == list(HAS)
