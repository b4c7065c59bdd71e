"""The jobs of every example and of every design, from dry-runs."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from running import REPOSITORY, config_of, jobs_per_rule
from snakemake.exceptions import MissingRuleException, WorkflowError

from mosaic import manifest
from mosaic.config import settings
from mosaic.errors import InputError

SCHEMAS = [
    yaml.safe_load((REPOSITORY / f"workflow/schemas/{name}.schema.yaml").read_text()) for name in ("config", "slices")
]
DEMO = {f"data/demo/{name}.h5ad" for name in ("s1.rna", "s1.adt", "s2.rna", "s3.adt")}
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
    assert folders == {*EXAMPLES, "new_slices"}


def config_of_the_demo() -> dict:
    given = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    return settings.load(given | {"slices": str(REPOSITORY / "config/slices.tsv")}, *SCHEMAS, made=DEMO)[0]


def place_reference(folder: Path, **changed) -> None:
    """A reference of the demo, as far as the DAG can tell."""
    config = config_of_the_demo()
    folder.mkdir(parents=True)
    for name in ("model.safetensors", "spots.h5ad", "features.rna.h5ad", "features.adt.h5ad", "counts.adt.h5ad"):
        (folder / name).write_text(name)
    slices = {"s1": ["rna", "adt"], "s2": ["rna"], "s3": ["adt"]}
    told = {"version": "0.1.0", "seed": 1234, "config": config, "slices": slices, "counts": ["adt"]}
    manifest.write_manifest(folder, {**told, "domains": {}, "checks": [], "versions": {}, **changed})


def test_new_slices_train_nothing(tmp_path):
    """The example: no job trains, and what stands in for training maps."""
    place_reference(tmp_path / "results/reference/seed-1234")
    example = Path("config/examples/new_slices")
    (tmp_path / example).mkdir(parents=True)
    shutil.copy(REPOSITORY / example / "slices.tsv", tmp_path / example)
    place_files(tmp_path, REPOSITORY / example / "slices.tsv")
    jobs = jobs_per_rule(tmp_path, REPOSITORY / example / "config.yaml")
    for rule in ("reduce", "build_graph", "train", "embed", "cluster", "impute", "holdout_fold", "unpack_reference"):
        assert jobs[rule] == 0
    mapping = ("map_features", "map_graph", "map_spots", "map_domains", "map_counts", "normalize", "export", "overview")
    assert {rule: jobs[rule] for rule in mapping} == dict.fromkeys(mapping, 1)


def test_a_zip_is_unpacked_and_without_counts_nothing_is_imputed(tmp_path):
    place_reference(tmp_path / "made", counts=[])
    manifest.pack(tmp_path / "made", tmp_path / "atlas.zip")
    example = Path("config/examples/new_slices")
    (tmp_path / example).mkdir(parents=True)
    shutil.copy(REPOSITORY / example / "slices.tsv", tmp_path / example)
    place_files(tmp_path, REPOSITORY / example / "slices.tsv")
    jobs = jobs_per_rule(tmp_path, REPOSITORY / example / "config.yaml", given=["reference=atlas.zip"])
    assert (jobs["unpack_reference"], jobs["map_counts"], jobs["map_domains"]) == (1, 0, 1)


def test_what_the_reference_decides_is_not_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place_reference(tmp_path / "atlas")
    (tmp_path / "s.tsv").write_text("slice\tmodality\tpath\ns1\trna\ta.h5ad\ns4\tatac\tb.h5ad\n")
    given = {"slices": "s.tsv", "reference": "atlas", "check_files": False}
    with pytest.raises(InputError, match="modality 'atac' is not in the config"):
        settings.load(given, *SCHEMAS)
    (tmp_path / "s.tsv").write_text("slice\tmodality\tpath\ns1\trna\ta.h5ad\n")
    with pytest.raises(InputError, match="slice s1 is in the reference, too"):
        settings.load(given, *SCHEMAS)
    with pytest.raises(InputError, match=r"config key cluster: comes from the reference(.|\n)*config key seeds"):
        settings.load(given | {"cluster": {"n_domains": 3}, "seeds": [1]}, *SCHEMAS)
    with pytest.raises(InputError, match=r"config key mapping.fine_tune: no slice of the sheet has two modalities"):
        settings.load(given | {"mapping": {"fine_tune": True}}, *SCHEMAS)
    with pytest.raises(InputError, match="trains nothing, so that nothing can be hidden"):
        settings.load(given | {"checks": {"imputation": True}}, *SCHEMAS)
    with pytest.raises(InputError, match="config key reference, 'elsewhere': is not there"):
        settings.load(given | {"reference": "elsewhere"}, *SCHEMAS)
    (tmp_path / "s.tsv").write_text("slice\tmodality\tpath\ns4\trna\ta.h5ad\n")
    found, _ = settings.load(given, *SCHEMAS)
    assert found["qc"]["rna"] == config_of_the_demo()["qc"]["rna"]
    assert (found["seeds"], found["methods"], found["checks"]["imputation"]) == ([1234], ["spamosaic"], False)


def test_a_reference_is_written_if_it_is_asked_for(tmp_path):
    place_files(tmp_path, REPOSITORY / "config/examples/simulation/slices.tsv")
    sheet = tmp_path / "config/examples/simulation/slices.tsv"
    sheet.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / "config/examples/simulation/slices.tsv", sheet)
    config = REPOSITORY / "config/examples/simulation/config.yaml"
    assert jobs_per_rule(tmp_path, config)["export_reference"] == 0
    asked = jobs_per_rule(tmp_path, config, given=["export={reference: true}", "seeds=[1,2]"])
    assert asked["export_reference"] == 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_stands_alone(tmp_path, monkeypatch, name):
    """In a folder that holds the demo's config: nothing of it is in what runs."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    example = Path("config/examples") / name
    place_files(tmp_path, example / "slices.tsv")
    alone, _ = settings.load(yaml.safe_load((example / "config.yaml").read_text()), *SCHEMAS)
    assert config_of(tmp_path, example / "config.yaml") == alone


def test_own_config_inherits_nothing_and_the_command_line_changes_single_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    place_files(tmp_path, tmp_path / "config/slices.tsv")
    own = {"modalities": {"rna": {"kind": "rna"}, "adt": {"kind": "protein"}}, "cluster": {"n_domains": 3}}
    Path("own.yaml").write_text(yaml.safe_dump(own))
    schema_alone, _ = settings.load(own, *SCHEMAS)
    found = config_of(tmp_path, Path("own.yaml"))
    assert found == schema_alone
    assert found["qc"]["rna"]["min_counts"] == 1
    assert found["train"]["T"] == 0.01
    assert found["truth"] is None

    given = ("seeds=[1,2]", "cluster={n_domains: 4}", "truth=1a", "um_per_unit=0.5", "train={T: 0.2}")
    changes = {"seeds": [1, 2], "truth": "1a", "um_per_unit": 0.5}
    over_own = config_of(tmp_path, Path("own.yaml"), given=given)
    assert over_own == found | changes | {
        "cluster": found["cluster"] | {"n_domains": 4},
        "train": found["train"] | {"T": 0.2},
    }
    demo = config_of(tmp_path)
    assert demo["qc"]["rna"]["min_counts"] == 100
    assert config_of(tmp_path, given=given) == demo | changes | {
        "cluster": demo["cluster"] | {"n_domains": 4},
        "train": demo["train"] | {"T": 0.2},
    }


def test_old_names_of_keys_are_taken_with_a_warning(tmp_path, monkeypatch, caplog):
    """From a file and from --config, whose numbers come as text."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    place_files(tmp_path, tmp_path / "config/slices.tsv")
    demo = config_of(tmp_path)
    Path("old.yaml").write_text("graph: {weigh_pairs: false}\ntrain: {n_latent: 8}\n")
    caplog.clear()
    found = config_of(tmp_path, Path("config/config.yaml"), Path("old.yaml"), given=["graph={K: 3}"])
    assert found == demo | {
        "graph": demo["graph"] | {"weight_mnn": False},
        "encoder": demo["encoder"] | {"K": 3, "n_latent": 8},
    }
    for old, new in (
        ("graph.K", "encoder.K"),
        ("graph.weigh_pairs", "graph.weight_mnn"),
        ("train.n_latent", "encoder.n_latent"),
    ):
        assert f"Config key {old} is now {new}" in caplog.text
    with pytest.raises(WorkflowError, match=r"graph.K: is now encoder.K, and both are given"):
        config_of(tmp_path, given=["graph={K: 3}", "encoder={K: 3}"])


def test_several_config_files_are_laid_over_each_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    Path("more.yaml").write_text("cluster: {n_domains: auto}\n")
    found = config_of(tmp_path, Path("config/config.yaml"), Path("more.yaml"))
    assert found["cluster"]["n_domains"] == "auto"
    assert found["truth"] == "domain"


@pytest.mark.parametrize("given", [False, True])
def test_a_key_given_twice_is_told(tmp_path, given):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    path = tmp_path / "config" / ("own.yaml" if given else "config.yaml")
    path.write_text((REPOSITORY / "config/config.yaml").read_text() + "train: {lr: 0.001}\n")
    first, last = (n for n, line in enumerate(path.read_text().splitlines(), 1) if line.startswith("train"))
    problem = rf"{path.name}, line {last}, key train: is there already, in line {first}"
    with pytest.raises(WorkflowError, match=problem):
        config_of(tmp_path, *([path] if given else []))


def test_jobs_have_the_config_of_the_run(checkout, raw_slice):
    """Jobs are processes of their own, which read the config again: the demo's beside it is not laid under theirs."""
    raw_slice(60).write_h5ad(checkout.folder / "s1.h5ad")
    (checkout.folder / "own.tsv").write_text("slice\tmodality\tpath\ns1\tadt\ts1.h5ad\n")
    own = "slices: own.tsv\nmodalities: {adt: {kind: protein}}\ncluster: {n_domains: 3}\n"
    (checkout.folder / "own.yaml").write_text(own)
    summary = "results/qc/s1.adt.json"
    wanted = (summary, "--configfile", "own.yaml", "--config", "qc={adt: {min_spots: 2}}", "seeds=[1,2]")
    done = checkout.snakemake(*wanted)
    assert done.returncode == 0, done.stdout + done.stderr
    # The demo's threshold, 100 counts, would have dropped all of these spots, of which none has so many.
    assert json.loads((checkout.folder / summary).read_text())["spots_kept"] == 60
    assert checkout.would_run(*wanted) == set()


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("spamosaic/seed-1234/imputed/s1.rna.h5ad", "slice s1 has rna"),
        ("spamosaic/seed-1234/figures/imputed.s1.adt.png", "slice s1 has adt"),
        ("check/folds/s2.rna.1.h5ad", "the run hides no s2.rna.1"),
        ("check/folds/s1.rna.4.h5ad", "folds are named slice.modality.part: s1.rna.1, s1.rna.2"),
        ("check/folds/s1.rna.01.h5ad", "the run hides no s1.rna.01"),
        ("qc/s2.adt.h5ad", "slice s2 did not measure adt"),
        ("spamosaic/seed-99/domains.tsv", "No rule to produce"),
        ("spamosaic/seed-01234/domains.tsv", "No rule to produce"),
        ("mofa/seed-1234/domains.tsv", "No rule to produce"),
    ],
)
def test_target_that_is_no_part_of_the_run_is_refused(tmp_path, target, problem):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    with pytest.raises((WorkflowError, MissingRuleException)) as caught:
        jobs_per_rule(tmp_path, targets=[f"results/{target}"])
    assert problem in str(caught.value)


def test_targets_of_the_self_check_are_refused_without_it(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    path = tmp_path / "config" / "config.yaml"
    path.write_text(path.read_text() + "checks: {imputation: false}\n")
    with pytest.raises(WorkflowError, match="the run hides no rna"):
        jobs_per_rule(tmp_path, targets=["results/check/features.rna.tsv"])


def test_union_imputes_what_panels_lack_in_every_slice_that_has_the_modality(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    path = tmp_path / "config" / "config.yaml"
    before = jobs_per_rule(tmp_path, path)
    jobs = jobs_per_rule(tmp_path, path, given=["modalities={rna: {kind: rna, features: union}}"])
    assert before["impute"] == 2
    assert jobs["impute"] == 4
    assert jobs["plot_imputed"] == before["plot_imputed"]
    with pytest.raises(WorkflowError, match="slice s1 has adt: nothing to impute"):
        jobs_per_rule(tmp_path, path, targets=["results/spamosaic/seed-1234/imputed/s1.adt.h5ad"])


def test_demo_makes_its_slices(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    jobs = jobs_per_rule(tmp_path, tmp_path / "config" / "config.yaml")
    assert jobs["simulate_demo"] == 1
    # Each modality of the one bridge slice is hidden in three stripes.
    assert jobs["holdout_fold"] == 6
    assert jobs["rank_markers"] == jobs["plot_markers"] == 2
    assert jobs["pair"] == 1
    assert jobs["enforce_checks"] == 0
    assert jobs["rank_spatial"] == jobs["plot_spatial"] == 2
    assert jobs["colocalise"] == 1
    assert not [rule for rule in jobs if "compare" in rule]
    assert sum(jobs.values()) == 66


def test_seeds_multiply_what_hangs_on_them(tmp_path):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    path = tmp_path / "config" / "config.yaml"
    path.write_text(path.read_text() + "\nseeds: [0, 1, 2]\n")
    jobs = jobs_per_rule(tmp_path, path)
    assert {rule for rule, count in jobs.items() if count % 3 == 0} == {
        "train",
        "embed",
        "cluster",
        "name_domains",
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
        "run_checks",
        "confidence",
        "plot_checks",
        "holdout_fold",  # with the first seed alone, on six folds
    }
    assert jobs["holdout_fold"] == 6
    assert jobs["reduce"] == 2


def test_conditions_are_compared_where_a_column_has_two_levels(tmp_path, caplog):
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    path, sheet = tmp_path / "config/config.yaml", tmp_path / "config/slices.tsv"
    path.write_text(path.read_text() + "\nconditions: {column: age}\n")
    rows = sheet.read_text().splitlines()

    def compared(ages):
        told = [rows[0] + "\tage", *(f"{row}\t{ages[row.split()[0]]}" for row in rows[1:])]
        sheet.write_text("\n".join(told) + "\n")
        return {rule: count for rule, count in jobs_per_rule(tmp_path, path).items() if "compare" in rule}

    expected = {f"{prefix}compare{suffix}": 1 for prefix, suffix in (("", "_composition"), ("", "_neighbours"))}
    expected |= {f"plot_compared_{name}": 1 for name in ("composition", "neighbours")}
    expected |= {"compare_features": 2, "plot_compared_features": 2}
    assert compared({"s1": "old", "s2": "young", "s3": ""}) == expected
    caplog.clear()
    assert compared({"s1": "old", "s2": "old", "s3": ""}) == {}
    assert "column age of the sheet has one level alone" in caplog.text


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
    # What the command line gives is the other workflow's.
    jobs = jobs_per_rule(tmp_path, snakefile=tmp_path / "Snakefile", given=["seeds=[1,2]", "mine=3"])
    assert jobs["mosaic_qc"] == jobs["mosaic_train"] == jobs["mosaic_export"] == 1
    assert jobs["mosaic_impute"] == 0
