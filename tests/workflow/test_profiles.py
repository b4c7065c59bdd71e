"""The profiles: Snakemake ignores a misspelt rule or resource without a word, so these are checked here."""

import re

import pytest
import yaml
from prove import pins
from running import REPOSITORY

SLURM = REPOSITORY / "profiles" / "slurm" / "config.yaml"
RULES = {
    name: int(minutes)
    for path in REPOSITORY.glob("workflow/rules/*.smk")
    for name, minutes in re.findall(r"^rule (\w+):.*?\bruntime=(\d+)", path.read_text(), flags=re.MULTILINE | re.DOTALL)
}
# Of the rules, and those that the plug-in for SLURM turns into arguments of sbatch.
RESOURCES = {"mem_mb", "runtime", "gpu", "gpu_model", "slurm_account", "slurm_partition"}


def uncommented(text: str) -> str:
    """A profile with all the lines that it offers to users in force."""
    return re.sub(r"^( *)# (\w+: \w+ +# <--)", r"\1\2", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("profiles/*/config*.yaml")), ids=lambda path: path.parent.name)
def test_profile_names_only_rules_and_resources_that_exist(path):
    profile = yaml.safe_load(uncommented(path.read_text()))
    assert set(profile.get("set-threads", {})) <= set(RULES)
    assert set(profile.get("set-resources", {})) <= set(RULES)
    for resources in profile.get("set-resources", {}).values():
        assert set(resources) <= RESOURCES
    for key in ("resources", "default-resources", "set-resource-scopes"):
        assert set(profile.get(key, {})) <= RESOURCES


def test_rules_ask_for_what_every_executor_knows():
    blocks = [
        block
        for path in REPOSITORY.glob("workflow/rules/*.smk")
        for block in re.findall(r"^    resources:\n((?: {8}.*\n)+)", path.read_text(), flags=re.MULTILINE)
    ]
    assert len(blocks) == len(RULES)
    assert {name for block in blocks for name in re.findall(r"^ {8}(\w+)=", block, flags=re.MULTILINE)} == {
        "mem_mb",
        "runtime",
        "gpu",
    }


def test_offered_lines_are_more_than_what_is_in_force():
    offered, in_force = (yaml.safe_load(text) for text in (uncommented(SLURM.read_text()), SLURM.read_text()))
    assert set(offered["default-resources"]) == {"slurm_account", "slurm_partition"}
    assert in_force["default-resources"] is None
    assert set(offered["set-resources"]["train"]) - set(in_force["set-resources"]["train"]) == {
        "slurm_partition",
        "gpu_model",
    }


def test_every_rule_gets_more_time_with_each_attempt_on_slurm():
    resources = yaml.safe_load(SLURM.read_text())["set-resources"]
    for attempt in (1, 2, 3):
        asked = {name: eval(own["runtime"], {"attempt": attempt}) for name, own in resources.items()}
        assert asked == {name: minutes * attempt for name, minutes in RULES.items()}


def test_documented_plug_in_is_the_tested_one():
    tested = pins((REPOSITORY / "requirements-test.lock").read_text())["snakemake-executor-plugin-slurm"]
    assert f"snakemake-executor-plugin-slurm=={tested}" in (REPOSITORY / "config" / "README.md").read_text()
