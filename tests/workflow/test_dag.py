"""The jobs of every example and of every design, from dry-runs."""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from running import REPOSITORY, jobs_per_rule
from snakemake.utils import update_config

from mosaic import settings

SCHEMAS = ("config", "slices")
# How often each of these rules runs in each example.
COUNTS = ("qc", "normalize", "reduce", "build_graph", "impute", "plot_qc", "plot_features", "plot_imputed")
EXAMPLES = {
    "lymph_node": (4, 4, 2, 2, 2, 2, 2, 2),
    "lymph_node_protein": (2, 2, 1, 1, 0, 1, 1, 0),
    "misar_brain": (4, 4, 2, 2, 2, 2, 2, 2),
    "mouse_brain": (8, 8, 5, 5, 12, 0, 5, 12),
    "simulation": (4, 4, 2, 2, 2, 2, 2, 2),
}


@pytest.fixture(autouse=True)
def _stay_here():
    """Snakemake changes the working directory of this process."""
    here = Path.cwd()
    yield
    os.chdir(here)


def place_files(folder: Path, sheet: Path) -> None:
    for line in sheet.read_text().splitlines()[1:]:
        path = folder / line.split("\t")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(("name", "counts"), EXAMPLES.items())
def test_example(tmp_path, name, counts):
    sheet = Path("config/examples") / name / "slices.tsv"
    (tmp_path / sheet).parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / sheet, tmp_path / sheet)
    place_files(tmp_path, REPOSITORY / sheet)
    jobs = jobs_per_rule(tmp_path, REPOSITORY / "config" / "examples" / name / "config.yaml")
    assert tuple(jobs[rule] for rule in COUNTS) == counts
    assert {rule: jobs[rule] for rule in ("train", "embed", "cluster", "evaluate", "export", "simulate_demo")} == {
        "train": 1,
        "embed": 1,
        "cluster": 1,
        "evaluate": 1,
        "export": 1,
        "simulate_demo": 0,
    }


def test_no_example_without_a_test():
    folders = {path.parent.name for path in (REPOSITORY / "config" / "examples").glob("*/config.yaml")}
    assert folders == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_not_changed_by_the_demo_below_it(tmp_path, monkeypatch, name):
    """Run from the repository, Snakemake lays the example over the demo's config: nothing of the demo may remain."""
    monkeypatch.chdir(tmp_path)
    sheet = Path("config/examples") / name / "slices.tsv"
    sheet.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / sheet, sheet)
    place_files(tmp_path, sheet)
    schemas = [yaml.safe_load((REPOSITORY / f"workflow/schemas/{key}.schema.yaml").read_text()) for key in SCHEMAS]
    alone = yaml.safe_load((REPOSITORY / "config/examples" / name / "config.yaml").read_text())
    laid_over = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    update_config(laid_over, alone)
    assert settings.load(laid_over, *schemas) == settings.load(alone, *schemas)


def test_demo_makes_its_slices(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    jobs = jobs_per_rule(tmp_path, tmp_path / "config" / "config.yaml")
    assert jobs["simulate_demo"] == 1
    # Each modality of the one bridge slice is hidden in three stripes.
    assert jobs["check_fold"] == 6
    assert jobs["rank_markers"] == jobs["plot_markers"] == 2
    assert jobs["enforce"] == 0
    assert sum(jobs.values()) == 53


def test_seeds_multiply_what_hangs_on_them(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    path = tmp_path / "config" / "config.yaml"
    path.write_text(path.read_text() + "\nseeds: [0, 1, 2]\n")
    jobs = jobs_per_rule(tmp_path, path)
    assert {rule for rule, count in jobs.items() if count % 3 == 0} == {
        "train",
        "embed",
        "cluster",
        "impute",
        "evaluate",
        "project_latent",
        "plot_latent",
        "plot_domains",
        "plot_composition",
        "rank_markers",
        "plot_markers",
        "plot_imputed",
        "plot_metrics",
        "check",
        "confidence",
        "plot_checks",
        "check_fold",  # with the first seed alone, on six folds
    }
    assert jobs["check_fold"] == 6
    assert jobs["reduce"] == 2


def test_a_number_of_domains_to_be_chosen_is_drawn(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    path = tmp_path / "config" / "config.yaml"
    assert "plot_n_domains" not in jobs_per_rule(tmp_path, path)
    path.write_text(path.read_text().replace("n_domains: 5", "n_domains: auto") + "\nseeds: [0, 1]\n")
    jobs = jobs_per_rule(tmp_path, path)
    assert jobs["plot_n_domains"] == jobs["cluster"] == 2


def test_three_modalities_in_a_folder_with_dots_and_spaces(tmp_path):
    folder = tmp_path / "my runs.v2"
    folder.mkdir()
    rows = [("a-1", "rna"), ("a-1", "adt"), ("a-1", "atac"), ("b_2", "rna"), ("b_2", "atac"), ("c", "adt")]
    text = "slice\tmodality\tpath\n" + "".join(f"{s}\t{m}\t{s}.{m}.h5ad\n" for s, m in rows)
    (folder / "sheet.tsv").write_text(text)
    place_files(folder, folder / "sheet.tsv")
    kinds = {"rna": "rna", "adt": "protein", "atac": "epigenome"}
    config = {
        "slices": "sheet.tsv",
        "modalities": {name: {"kind": kind} for name, kind in kinds.items()},
        "cluster": {"method": "leiden", "resolution": 1.0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    jobs = jobs_per_rule(folder, folder / "config.yaml")
    assert jobs["qc"] == 6
    assert jobs["impute"] == 3


def test_another_workflow_can_take_it_as_a_module(tmp_path):
    (tmp_path / "s1.h5ad").touch()
    (tmp_path / "slices.tsv").write_text("slice\tmodality\tpath\ns1\tadt\ts1.h5ad\n")
    (tmp_path / "Snakefile").write_text(
        f"""
module mosaic:
    snakefile: {str(REPOSITORY / "Snakefile")!r}
    config: {{"slices": "slices.tsv", "modalities": {{"adt": {{"kind": "protein"}}}}, "cluster": {{"n_domains": 3}}}}
    pathvars:
        results="results/mosaic"

use rule * from mosaic as mosaic_*

rule all:
    default_target: True
    input: rules.mosaic_all.input
"""
    )
    jobs = jobs_per_rule(tmp_path, snakefile=tmp_path / "Snakefile")
    assert jobs["mosaic_qc"] == jobs["mosaic_train"] == jobs["mosaic_export"] == 1
    assert jobs["mosaic_impute"] == 0
