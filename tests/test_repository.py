"""What the repository says in two places is the same in both, and what one file says of another holds."""

import json
import os
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml
from covered import REASONS, faults
from jsonschema import Draft202012Validator
from prove import pins

import mosaic

REPOSITORY = Path(__file__).parents[1]
# Of the benchmark and the study alone, which have no schema.
WITHOUT_SCHEMA = {"benchmark.yaml", "study.yaml"}
CONFIGS = sorted(
    path
    for folder in ("config", "resources")
    for path in (REPOSITORY / folder).rglob("*.yaml")
    if path.name not in WITHOUT_SCHEMA
)


def test_the_citation_has_the_version_of_the_package():
    assert yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())["version"] == mosaic.__version__


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_an_editor_finds_the_schema_that_a_config_follows(path):
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", path.read_text().splitlines()[0])
    assert named, "the first line names no schema"
    schema = yaml.safe_load((path.parent / named.group(1)).read_text())
    assert not list(Draft202012Validator(schema).iter_errors(yaml.safe_load(path.read_text())))


def test_pre_commit_runs_the_versions_of_the_lock():
    locked = pins((REPOSITORY / "requirements-test.lock").read_text())
    repositories = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    revs = {hook["id"]: repository["rev"] for repository in repositories for hook in repository["hooks"]}
    for tool, hook in (("ruff", "ruff-check"), ("ruff", "ruff-format"), ("snakefmt", "snakefmt"), ("typos", "typos")):
        assert revs[hook] == f"v{locked[tool]}"


# docs/threat_model.md says why.
LOADS_CODE = re.compile(
    r"^\s*(import|from) (pickle|dill|joblib|shelve|marshal)\b|\btorch\.load\(|\byaml\.(unsafe_|full_)?load\("
    r"|allow_pickle|(?<![\w.])(eval|exec)\(|shell=True|os\.system",
    flags=re.MULTILINE,
)


@pytest.mark.parametrize(
    "code", ["import pickle", "torch.load(path)", "yaml.load(text)", "x = eval(name)", "shell=True"]
)
def test_what_loads_code_is_seen(code):
    assert LOADS_CODE.search(code)


def test_nothing_loads_code():
    sources = [
        path
        for folder in ("scripts", "workflow")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".py", ".smk") or path.name == "Snakefile"
    ]
    assert len(sources) > 100
    assert not {path: LOADS_CODE.search(path.read_text()) for path in sources if LOADS_CODE.search(path.read_text())}


def test_no_shell_takes_a_name():
    """Numbers go to the shell as they are; every other value is quoted."""
    commands = [
        command
        for path in (REPOSITORY / "workflow").rglob("*.smk")
        for command in re.findall(r"\n    shell:\n((?: {8}.*\n)+)", path.read_text())
    ]
    assert commands
    for value in re.findall(r"\{(.+?)\}", "".join(commands)):
        assert value.endswith(":q") or value in ("wildcards.seed", "params.threads"), f"{{{value}}} is not quoted"


# Jobs of a release that write, and where; they run after a merge or on a tag, never for a pull request.
WRITING = {
    ("release.yml", "propose"): {"contents": "write", "pull-requests": "write"},
    ("release.yml", "pypi"): {"id-token": "write"},
    ("release.yml", "image"): {"contents": "read", "packages": "write"},
    ("release.yml", "site"): {"contents": "read", "pages": "write", "id-token": "write"},
}


@pytest.mark.parametrize("path", list((REPOSITORY / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_ci_only_reads_but_for_a_release(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions") == WRITING.get((path.name, name))
    # YAML reads the key `on` as true.
    assert "pull_request_target" not in workflow[True]
    assert "pull_request" not in workflow[True] or path.name != "release.yml"
    assert "secrets." not in path.read_text()


def test_a_release_raises_the_version_wherever_it_stands():
    config = json.loads((REPOSITORY / "release-please-config.json").read_text())
    (package,) = config["packages"].values()
    raised = [file if isinstance(file, str) else file["path"] for file in package["extra-files"]]
    assert raised == ["scripts/mosaic/__init__.py", "CITATION.cff"]
    # In a file of no known format, release-please raises the version in lines with this word.
    line = next(line for line in (REPOSITORY / raised[0]).read_text().splitlines() if line.startswith("__version__"))
    assert line == f'__version__ = "{mosaic.__version__}"  # x-release-please-version'
    manifest = json.loads((REPOSITORY / ".release-please-manifest.json").read_text())
    assert manifest == {".": mosaic.__version__}


@pytest.mark.parametrize(
    ("title", "well"),
    [("fix: a cut file", True), ("feat(config)!: keys", True), ("Fix a cut file", False), ("fix:", False)],
)
def test_titles_of_pull_requests(title, well):
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/pr_title.yml").read_text())
    (step,) = workflow["jobs"]["title"]["steps"]
    done = subprocess.run(["bash", "-c", step["run"]], env=os.environ | {"TITLE": title}, check=False)
    assert (done.returncode == 0) == well


# As the catalog of workflows reads them: a missing Snakefile or one rule file of another name keeps the workflow out.
def test_the_catalog_takes_the_workflow():
    workflow = REPOSITORY / "workflow"
    assert (workflow / "Snakefile").is_file()
    assert {path.suffix for path in (workflow / "rules").iterdir()} == {".smk"}
    usage = yaml.safe_load((REPOSITORY / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert usage["software-stack-deployment"] == {"conda": True}
    assert (REPOSITORY / "config/README.md").is_file()
    assert "snakemake workflow" in (REPOSITORY / "README.md").read_text().lower()


def described(schema: dict, path: str = ""):
    for name, own in schema.get("properties", {}).items():
        yield f"{path}{name}", own.get("description", "")
        yield from described(own, f"{path}{name}.")


def test_the_catalog_shows_a_table_of_the_config():
    """A cell of its table is a description as it stands."""
    schema = yaml.safe_load((REPOSITORY / "workflow/schemas/config.schema.yaml").read_text())
    for name, text in described(schema):
        assert text, f"{name} has no description"
        assert "|" not in text, name
        assert "\n" not in text.strip(), name


def test_the_threat_model_names_tests_that_are_there():
    page = (REPOSITORY / "docs/threat_model.md").read_text()
    files = set(re.findall(r"tests/[\w/]+\.py", page))
    assert files
    assert all((REPOSITORY / file).is_file() for file in files)
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    for name in re.findall(r"\btest_\w+\b(?!\.py)", page):
        assert f"def {name}(" in tests, f"there is no {name}"


def test_a_module_with_few_tested_lines_is_told_unless_a_reason_is_given():
    percent = {"store.py": 79.9, "spots.py": 80.0, "check/folds.py": 20.0}
    assert faults(percent, {"check/folds.py": "whole runs alone run it"}) == [
        "store.py: tests run 79.9 % of its lines, and 80 % are the least; add tests, or the reason to REASONS in "
        "tests/helpers/covered.py"
    ]
    assert len(faults(percent, {"check/folds.py": "-", "store.py": "-", "spots.py": "-", "gone.py": "-"})) == 2


def test_reasons_for_few_tested_lines_are_of_modules_that_are_there():
    assert all((REPOSITORY / "scripts/mosaic" / module).is_file() for module in REASONS)


NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)
    assert f"notebooks/{path.name}" in (REPOSITORY / "README.md").read_text()
