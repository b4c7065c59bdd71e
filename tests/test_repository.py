"""What the repository says in two places is the same in both, and what one file says of another holds."""

import re
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


@pytest.mark.parametrize("path", list((REPOSITORY / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_ci_only_reads(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    for word in ("pull_request_target", "secrets."):
        assert word not in path.read_text()


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
