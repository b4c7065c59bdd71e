"""The workflow used from elsewhere: deployed by snakedeploy, as a module of a repository on GitHub, or beside another.

No network is needed: Snakemake finds the repository in its cache, where it keeps a clone of each that it has used.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mudata as md
import pytest
import yaml
from running import REPOSITORY, jobs_per_rule, stats
from snakedeploy.deploy import WorkflowDeployer
from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import LocalGitFile, LocalSourceFile

# Told apart from the library of this repository by its version.
VERSION = "0.0.7"


@pytest.fixture(autouse=True)
def _stay_here():
    """Snakemake changes the working directory of this process."""
    here = Path.cwd()
    yield
    os.chdir(here)


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_all_that_rules_need_is_listed():
    if not (REPOSITORY / ".git").exists():
        pytest.skip("this is no clone")
    needed = (
        "scripts",
        "workflow/schemas",
        "workflow/report/*.j2",
        "resources/*.yaml",
        "resources/explorer/explorer.js",
    )
    tracked = git(REPOSITORY, "ls-files", *needed, "resources/explorer/index.html").splitlines()
    # The folder of schemas in the library is a link.
    expected = sorted(name for name in tracked if not (REPOSITORY / name).is_symlink())
    listed = (REPOSITORY / "workflow/sources.txt").read_text().splitlines()
    assert listed == expected, f"workflow/sources.txt lacks or has too many: {sorted({*listed} ^ {*expected})}"


class Hosted:
    """A release of the workflow as it is on GitHub, in a source cache that replaces the user's."""

    def __init__(self, folder: Path, checkout: Path):
        (checkout / "scripts/mosaic/__init__.py").write_text(f'"""Another version."""\n\n__version__ = "{VERSION}"\n')
        git(checkout, "init", "--quiet")
        git(checkout, "add", "--all")
        git(checkout, "commit", "--quiet", "--message", "A release")
        git(checkout, "tag", "v1.0.0")
        self.cache = folder
        self.clone = folder / "snakemake/snakemake/source-cache/snakemake-git-cache/github.com/acme/mosaic"
        git(checkout, "clone", "--quiet", "--bare", ".", str(self.clone))

    def deploy(self, folder: Path) -> None:
        """As `snakedeploy deploy-workflow ADDRESS . --tag v1.0.0`."""
        with WorkflowDeployer(source=str(self.clone), dest=folder, tag="v1.0.0") as deployer:
            deployer.deploy(name="mosaic")

    def snakemake(self, folder: Path, *arguments: str) -> str:
        """Standard output of a run, in which another version of the library is installed."""
        own = {"XDG_CACHE_HOME": str(self.cache), "PYTHONPATH": str(REPOSITORY / "scripts")}
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        done = subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def hosted(make_checkout, tmp_path_factory):
    return Hosted(tmp_path_factory.mktemp("cache"), make_checkout().folder)


def test_a_workflow_that_uses_a_release_finds_all_its_files(hosted, tmp_path):
    """The Snakefile of config/README.md, with a second module of the same release; and what snakedeploy writes."""
    hosted.deploy(tmp_path)
    address = 'github("acme/mosaic", path="workflow/Snakefile", tag="v1.0.0")'
    assert address in (tmp_path / "workflow/Snakefile").read_text()
    (shown,) = re.findall(r"```snakemake\n(.*?)```", (REPOSITORY / "config/README.md").read_text(), flags=re.DOTALL)
    shown = shown.replace("OWNER/REPOSITORY", "acme/mosaic").replace("v0.1.0", "v1.0.0")
    assert address in shown
    second = f"""
import yaml

with open("config/config.yaml") as given:
    assert config == yaml.safe_load(given), "the module completed the config of the workflow that uses it"

module other:
    snakefile: {address}
    config: config | {{"seeds": [1, 2]}}
    prefix: "other"

use rule * from other exclude simulate_demo as other_*
"""
    (tmp_path / "Snakefile").write_text(shown + second)
    jobs = stats(hosted.snakemake(tmp_path, "--dry-run", "share", "other_export", "--snakefile", "Snakefile"))
    assert jobs["share"] == jobs["spamosaic_export"] == jobs["other_export"] == jobs["spamosaic_simulate_demo"] == 1
    assert (jobs["spamosaic_train"], jobs["other_train"]) == (1, 2)


@pytest.mark.slow
def test_a_deployed_workflow_runs(hosted, tmp_path):
    """From the demo's slices to the result, by the library of the release and no other; then there is nothing to do."""
    hosted.deploy(tmp_path)
    path = tmp_path / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config |= {"train": {"n_epochs": 2}, "checks": {"imputation": False}}
    path.write_text(yaml.safe_dump(config))
    # One of its slices has every step of the chain but imputation.
    sheet = tmp_path / "config/slices.tsv"
    rows = sheet.read_text().splitlines(keepends=True)
    sheet.write_text("".join(row for row in rows if row.startswith(("slice\t", "s3\t"))))
    wanted = ("results/integrated.h5mu", "results/figures/qc.adt.png")
    hosted.snakemake(tmp_path, *wanted)
    assert set(md.read_h5mu(tmp_path / "results/integrated.h5mu").mod) == {"adt"}
    used = [json.loads(record.read_text())["mosaic"] for record in (tmp_path / "results/logs").rglob("*.versions.json")]
    assert set(used) == {VERSION}
    assert "Nothing to be done" in hosted.snakemake(tmp_path, "--dry-run", *wanted)
    # The text above the report sees the config of the workflow that uses the module, which has no defaults.
    hosted.snakemake(tmp_path, "--report", "report.html", *wanted)
    assert "Sample sheet" in (tmp_path / "report.html").read_text()


MODULE = """
configfile: "config.yaml"

module mosaic:
    snakefile: {snakefile!r}
    config: config
    {place}

use rule * from mosaic as mosaic_*

rule make_slice:
    output: "made/s1.h5ad"
    shell: "touch {{output}}"

rule all:
    default_target: True
    input: {target!r}
"""


def planned(folder: Path, place: str, target: str, snakefile: Path = REPOSITORY / "workflow/Snakefile"):
    """Jobs of a workflow that uses this one as a module, on a slice that it makes itself."""
    (folder / "slices.tsv").write_text("slice\tmodality\tpath\ns1\tadt\tmade/s1.h5ad\n")
    config = {"slices": "slices.tsv", "check_files": False, "modalities": {"adt": {"kind": "protein"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"cluster": {"n_domains": 3}}))
    (folder / "Snakefile").write_text(MODULE.format(snakefile=str(snakefile), place=place, target=target))
    return jobs_per_rule(folder, snakefile=folder / "Snakefile")


def test_a_prefix_goes_before_the_results_and_not_before_what_the_sheet_names(tmp_path):
    jobs = planned(tmp_path, 'prefix: "sub"', "sub/results/integrated.h5mu")
    assert jobs["make_slice"] == jobs["mosaic_qc"] == jobs["mosaic_export"] == 1


def test_pathvars_move_the_results(tmp_path):
    jobs = planned(tmp_path, 'pathvars: results="sub/mosaic"', "sub/mosaic/integrated.h5mu")
    assert jobs["make_slice"] == jobs["mosaic_qc"] == jobs["mosaic_export"] == 1


def test_two_versions_in_one_workflow_are_told(tmp_path, checkout):
    """Here the second is this process's own, which has the library of this repository."""
    with pytest.raises(WorkflowError, match="give them all the same tag"):
        planned(tmp_path, "", "results/integrated.h5mu", snakefile=checkout.folder / "workflow/Snakefile")


def test_snakemake_cannot_run_scripts_of_a_local_git_address():
    """If this fails, Snakemake can: take the sentence on git+file:// out of config/README.md, and test it."""
    with pytest.raises(TypeError):
        LocalGitFile("repository", "workflow/rules", ref="main").join(LocalSourceFile("../../scripts/qc.py"))
