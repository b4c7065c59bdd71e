"""What the repository says in two places is the same in both, and what one file says of another holds."""

import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from prove import pins

import mosaic

REPOSITORY = Path(__file__).parents[1]
# Of the comparison alone, which has no schema.
WITHOUT_SCHEMA = {"benchmark.yaml"}
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
