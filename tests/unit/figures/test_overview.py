"""The report's first page: what it says, and that nothing of the user's becomes markup in it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from mosaic.check import checks
from mosaic.figures import overview, pages, tables

TEMPLATES = Path(__file__).parents[3] / "workflow" / "report"
HOSTILE = "</script><script>document.title='OWNED'</script><img src=x onerror=alert(1)>'\"&"


class Tags(HTMLParser):
    """Names of the tags of a page, its attributes' values and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.values, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [f"{name}={value}" for name, value in attrs]

    def handle_data(self, data):
        self.text += f"{data} "


def checks_of(ilisi):
    metrics = pd.DataFrame({"metric": ["iLISI"], "scope": ["all"], "value": [ilisi]})
    return checks.run_checks(metrics, pd.DataFrame({"slice": ["s1", "s2"], "domain": [0, 0]}), [], [])


def metrics_page():
    scores = [("ARI", "all", 0.81234, "up"), ("ARI", HOSTILE, np.nan, "up"), ("PAS", HOSTILE, 0.25, "down")]
    table = tables.metrics_table(pd.DataFrame(scores, columns=["metric", "scope", "value", "direction"]))
    return pages.render(TEMPLATES / "metrics.html.j2", title="spamosaic, seed 0", **table)


@pytest.fixture
def write(tmp_path):
    """Maker of the page of a mosaic of two slices, one without protein, and its tags."""
    Figure(figsize=(1, 1)).savefig(tmp_path / "domains.png")
    (tmp_path / "metrics.html").write_text(metrics_page())
    counts = {
        ("s1", "rna"): {"spots_in": 1500, "spots_kept": 1100, "spots_dropped_by_reason": {"off tissue": 300}},
        ("s1", "adt"): {"spots_in": 1500, "spots_kept": 1200, "spots_dropped_by_reason": {"few counts": 300}},
        ("s2", "rna"): {"spots_in": 900, "spots_kept": 900, "spots_dropped_by_reason": {}},
    }
    counts["s1", "rna"]["controls"] = {"NegControlProbe_1": 1000, "Blank-1": 100}
    config = {
        "slices": HOSTILE,
        "truth": HOSTILE,
        "recipe": "default",
        "methods": ["spamosaic"],
        "seeds": [0],
        "modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}},
        "qc": {"rna": {"mito_prefix": HOSTILE}},
        "encoder": {"net": "wlgcn", "K": 2, "n_hidden": 128, "n_latent": 32, "dropout": 0.2},
        "train": {"T": 0.1, "lr": 0.01, "n_epochs": None},
        "graph": {"intra_knns": 10, "inter_knn_base": 10, "w_g": 0.8},
        "cluster": {"method": "mixture", "n_domains": 3, "resolution": None},
        "impute": {"method": "matching", "n_neighbors": 25},
        "mapping": {"fine_tune": True, "fine_tune_epochs": 50},
    }

    shared = {
        "spots": [{"slice": "s1", "first": "rna", "second": "adt", "shared": 1050, "smaller": 1100, "apart": 0.0}],
        "features": [{"modality": "rna", "shared": 600, "smallest": 15000}],
        "few_below": 0.8,
        "warnings": [f"slice s1: {HOSTILE}"],
    }
    same = {"Python": "3.11.9", "torch": "1.0", "left-pad": "1"}

    def make(runs, versions=None, onto=None):
        versions = versions or {("train", "seed-0"): same, ("embed", "seed-0"): same}
        domains = pd.DataFrame({"domain": np.arange(2100) % 3})
        figures = {"domains": tmp_path / "domains.png", "metrics": tmp_path / "metrics.html"}
        columns = {"donor": {"s1": HOSTILE, "s2": "D7"}, "age": {}}
        corrections = {
            "rna": {"method": "pair_shift", "ilisi_before": 0.0, "ilisi_after": 0.04, "moved": 0.9, "rounds": 7},
            "adt": {"method": "none", "ilisi_before": None, "ilisi_after": None, "moved": 0.0},
        }
        corrections["rna"]["apart"], corrections["adt"]["apart"] = True, False
        template = TEMPLATES / "overview.html.j2"
        return overview.overview(
            template,
            counts,
            shared,
            corrections,
            runs,
            domains - (onto is not None),
            figures,
            config | {"reference": "atlas"},
            versions,
            columns,
            onto,
        )

    return make


def test_page_says_what_went_in_and_came_out(write):
    page = Tags(write({("spamosaic", 0): checks_of(0.64)}))
    text = re.sub(r"\s+", " ", page.text)
    for part in (
        "2,100 spots of 2 slices, rna, adt: 3 domains",
        "1,100 of 1,500, 300 of which lie beside the tissue",
        "2 controls set apart, with 1,100 counts",
        "1,200 of 1,500 ",
        "Slice donor age rna",
        "rna pair shift 0.00 0.04 0.90 7",
        "adt one slice",
        " s2 D7 ",
        "not measured, imputed",
        "imputed counts: adt of s2",
        "1,200 of 1,500 1,050 of 1,100",  # the row of s1 ends with its pairs
        "Features shared 600 of 15,000",
        "slice s1: </script>",
        "0.64 pass",
        "not checked",
        "mixture, n_domains 3",
        "n_epochs by size",
        "encoder net wlgcn, K 2, n_hidden 128, n_latent 32, dropout 0.2 ",
        "Metrics Good: iLISI well above 0",
        "spamosaic, seed 0 scope ARI ↑ PAS ↓ all 0.812 </script>",
        "n/a 0.250 ↑ higher is better",
        "Python 3.11.9, torch 1.0 ",
    ):
        assert part in text, part
    assert "left-pad" not in text
    assert "differ between steps" not in text
    assert page.tags.count("img") == 1
    # The share of features is marked, and that of spots is not; slices that lie apart are.
    assert page.values.count("class=few") == 3


def test_slices_on_a_reference_lack_what_the_reference_has(write):
    onto = {
        "slices": {"s9": ["rna"]},
        "checks": [{"check": "imputation", "status": "warn"}],
        "versions": {"mosaic": "7"},
    }
    for kept, imputed in (
        (["adt", "rna"], "adt of s2"),
        ([], "none: the slices lack no modality of which there are"),
    ):
        told = onto | {"version": "0", "seed": 3, "counts": kept}
        text = re.sub(r"\s+", " ", Tags(write({("spamosaic", 0): checks_of(0.64)}, onto=told)).text)
        assert f"imputed counts: {imputed}" in text
        assert "atlas, of mosaic 7, seed 3" in text
        assert "fine-tuning 50 epochs" in text
        assert "imputation warn" in text
        assert "and 2 domains" in text  # spots in none are no third


def test_each_run_has_its_lights_and_the_worst_gives_the_advice(write):
    text = re.sub(r"\s+", " ", Tags(write({("spamosaic", 0): checks_of(0.64), ("spamosaic", 1): checks_of(0.05)})).text)
    assert "spamosaic, seed 0 spamosaic, seed 1" in text
    assert "0.64 pass" in text
    assert "0.05 fail" in text
    assert "Slices lie apart" in text
    assert "of 2 runs" in text


def test_nothing_of_the_users_is_markup(write):
    page = write({("spamosaic", 0): checks_of(0.64)})
    read = Tags(page)
    assert "script" not in read.tags
    assert read.tags.count("img") == 1
    assert not [value for value in read.values if value.startswith("on")]
    assert "<script" not in page.lower()
    assert "</script" not in page.lower()
    assert "OWNED" in read.text


def test_the_table_of_metrics_is_a_page_of_its_own():
    page = Tags(metrics_page())
    assert page.tags.count("tr") == 3
    assert page.tags.count("td") == 4
    assert page.values.count("class=lacking") == 1
    assert not {"script", "img"} & set(page.tags)


def test_a_variable_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError, match="'title' is undefined"):
        pages.render(TEMPLATES / "metrics.html.j2", arrows={}, rows={})


def test_the_page_asks_for_nothing_from_elsewhere(write):
    values = Tags(write({("spamosaic", 0): checks_of(0.64)})).values
    asked = [v for v in values if v.startswith(("src=", "href=")) and not v.startswith("src=data:image/png;base64,")]
    # The explorer is in the folder of the results, as the report is, and opens when a reader clicks.
    assert asked == ["href=explorer/index.html"]


def test_versions_are_those_that_each_step_had(write):
    """An upgrade between training and clustering is said, not the version of the day on which the page was made."""
    versions = {
        ("train", "seed-0"): {"Python": "3.11.9", "torch": "1.0", "scipy": "1.1"},
        ("train", "seed-1"): {"Python": "3.11.9", "torch": "1.1", "scipy": "1.1"},
        ("embed", "seed-0"): {"Python": "3.11.9", "torch": "1.1", "scipy": "1.1"},
        ("cluster", "spamosaic.seed-0"): {"Python": "3.11.9", "scipy": "1.2"},
        ("evaluate", "spamosaic.seed-0"): {"Python": "3.11.9", "scipy": "1.2"},
    }
    text = re.sub(r"\s+", " ", Tags(write({("spamosaic", 0): checks_of(0.64)}, versions)).text)
    assert "versions Python 3.11.9 versions that differ between steps" in text
    assert "torch 1.0 (train seed-0), torch 1.1 (train seed-1, embed);" in text
    assert "scipy 1.1 (train, embed), scipy 1.2 (cluster, evaluate)" in text
