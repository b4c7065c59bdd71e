"""The pins: each environment declares what its rules' scripts reach, at the version that the tests proved."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import rattler
import yaml
from prove import (
    OWN_RULES,
    RULES,
    SEPARATE,
    TESTED_WITH,
    baseline_scripts_by_env,
    files_to_run,
    needed,
    pins,
    room_tests,
    scripts_by_env,
)

from mosaic.imports import imported_modules

REPOSITORY = Path(__file__).parents[2]
# Packages that an environment needs though no script imports them: scanpy imports them in the method that asks.
BEHIND_OTHERS = {"seurat_v3": {"scikit-misc"}}
# Of the baselines, by a module that a script imports: what the package does not declare, or what only baselines need.
BEHIND_BASELINES = {
    "spamosaic": {"spamosaic", "annoy", "harmony-pytorch", "hnswlib", "scanpy", "scikit-learn", "scikit-misc"}
    | {"torch-geometric"},
    "muon": {"mofapy2"},
    "scvi": {"scvi-tools"},
    "scmomat": {"scmomat"},
    "scmidas": {"scmidas", "torchaudio"},
    "torchvision": {"torchvision"},
    "cellcharter": {"cellcharter"},
    "squidpy": {"squidpy"},
    "spatialdata": {"spatialdata"},
}


def separate_scripts_by_env():
    return baseline_scripts_by_env() | SEPARATE


LOCK = pins((REPOSITORY / "requirements.lock").read_text())


@pytest.mark.parametrize(("env", "scripts"), scripts_by_env().items(), ids=lambda value: getattr(value, "stem", ""))
def test_environment_declares_exactly_what_its_scripts_reach(env, scripts):
    declared = pins(env.read_text())
    assert declared == {name: LOCK[name] for name in declared}
    distributions = packages_distributions()
    needed = set()
    for script in scripts:
        modules, foreign = imported_modules(script)
        needed |= {distributions[name][0] for name in foreign - set(sys.stdlib_module_names)}
        sources = "".join(Path(module).read_text() for module in modules)
        for mark, packages in BEHIND_OTHERS.items():
            needed |= packages if mark in sources else set()
    assert set(declared) == needed


def test_every_test_runs_with_no_package_that_an_environment_lacks():
    by_env = scripts_by_env()
    run = files_to_run(by_env)
    packages = {env: set(pins(env.read_text())) for env in by_env}
    for env, scripts in by_env.items():
        for test in needed(scripts)[1]:
            assert any(packages[other] <= packages[env] and test in run[other] for other in by_env), (env, test)
    assert sum(map(len, run.values())) < sum(len(needed(scripts)[1]) for scripts in by_env.values())


@pytest.mark.parametrize(("env", "scripts"), separate_scripts_by_env().items(), ids=lambda v: getattr(v, "stem", ""))
def test_environment_of_its_own_declares_exactly_what_its_scripts_reach(env, scripts):
    distributions = packages_distributions()
    needed = set()
    for script in scripts:
        for name in imported_modules(script)[1] - set(sys.stdlib_module_names):
            needed |= BEHIND_BASELINES.get(name, set())
            if name in distributions:
                needed.add(distributions[name][0])
            else:
                assert name in BEHIND_BASELINES, f"{script.name} imports {name}: which package is it of?"
    declared = pins(env.read_text())
    assert set(declared) == needed
    # What reads and writes files must do so alike on both sides.
    for name in ("anndata", "h5py", "mudata", "pillow", "torch"):
        assert declared.get(name, LOCK[name]) == LOCK[name]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "envs").glob("*.yaml")), ids=lambda path: path.stem)
def test_conda_understands_an_environment(path):
    """Its channels and, by the parser of a solver, all that is not PyPI's; whether it solves needs a channel."""
    env = yaml.safe_load(path.read_text())
    assert set(env) == {"channels", "dependencies"}
    assert env["channels"] == ["conda-forge", "nodefaults"]
    *specs, by_pip = env["dependencies"]
    assert [rattler.MatchSpec(spec, strict=True).name.normalized for spec in specs] == ["python", "pip"]
    assert set(by_pip) == {"pip"}


def test_rule_of_baselines_has_what_a_reader_expects():
    others = {path.stem: path.read_text() for path in RULES if path not in OWN_RULES}
    assert set(others) == {"baselines", "spatialdata"}
    for rule in others.values():
        for part in ('"""', "log:", "benchmark:", "conda:", "threads:", "mem_mb=", "runtime=", "message:", "library="):
            assert part in rule


def test_makefile_makes_every_environment_of_baselines():
    makefile = (REPOSITORY / "Makefile").read_text()
    named = re.search(r"^BASELINES := (.+)$", makefile, flags=re.MULTILINE).group(1).split()
    assert set(named) == {env.stem for env in baseline_scripts_by_env()}
    assert re.search(r"^SEPARATE := \$\(BASELINES\) spatialdata$", makefile, flags=re.MULTILINE)


def test_every_rule_has_what_a_reader_expects():
    for path in OWN_RULES:
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name = rule.split(":")[0]
            for part in ('"""', "log:", "conda:", "threads:", "mem_mb=", "runtime=", "message:", "library=library("):
                assert part in rule, f"rule {name} has no {part}"
            assert f'library=library("{name}")' in rule
            assert f'"../../scripts/{name}.py"' in rule


def test_no_env_script_or_module_is_left_over():
    by_env = scripts_by_env() | separate_scripts_by_env()
    used = {script for scripts in by_env.values() for script in scripts}
    assert set((REPOSITORY / "scripts").glob("*.py")) == used
    assert set((REPOSITORY / "envs").glob("*.yaml")) == set(by_env)
    modules = {Path(module) for script in used for module in imported_modules(script)[0]}
    assert set((REPOSITORY / "scripts" / "mosaic").rglob("*.py")) - modules == {
        # Of the workflow itself: common.smk reads these; and of notebooks.
        REPOSITORY / "scripts" / "mosaic" / f"{name}.py"
        for name in (
            "config/design",
            "config/domain_names",
            "config/faults",
            "config/methods",
            "config/sample_sheet",
            "config/settings",
            "api",
            "pipeline",
            "reference",
            "sheet",
        )
    }


def test_every_room_of_the_library_has_tests_or_says_where_they_are():
    library = REPOSITORY / "scripts" / "mosaic"
    rooms = {path.relative_to(library) for path in library.rglob("*.py")} - {
        path.relative_to(library) for path in library.rglob("__init__.py")
    }
    assert set(map(Path, TESTED_WITH)) <= rooms
    for room in rooms:
        tests = room_tests(room)
        assert tests is None or tests.is_file(), f"{room} has no {tests}, and is not in TESTED_WITH of envs/prove.py"
        alone = room.with_name(f"test_{room.name}")
        assert str(room) not in TESTED_WITH or not (REPOSITORY / "tests" / "unit" / alone).exists(), f"{alone} exists"


def test_an_edit_of_the_reader_makes_stale_what_reads_users_files_alone():
    scripts = (REPOSITORY / "scripts").glob("*.py")
    readers = {
        path.stem for path in scripts if any("prepare/read.py" in module for module in imported_modules(path)[0])
    }
    assert readers == {"annotate", "check", "match_features", "qc", "read_tissue"}


def test_no_script_hides_an_installed_package():
    by_env = scripts_by_env() | separate_scripts_by_env()
    names = {script.stem for scripts in by_env.values() for script in scripts}
    assert not names & (set(packages_distributions()) | set(sys.stdlib_module_names))


# What rooms import that are of no use without it: `published`, `midas`, `spatial_data`.
SEPARATELY = {"spamosaic", "scmidas", "torchvision", "spatialdata"}


def test_package_declares_exactly_what_it_imports_and_the_lock_pins_it():
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    declared = {re.match(r"[\w-]+", requirement).group() for requirement in listed}
    distributions = packages_distributions()
    needed = set(BEHIND_OTHERS["seurat_v3"])
    for module in (REPOSITORY / "scripts" / "mosaic").rglob("*.py"):
        foreign = imported_modules(module, REPOSITORY / "scripts")[1]
        needed |= {distributions[name][0] for name in foreign - set(sys.stdlib_module_names) - SEPARATELY}
    assert declared == {name.lower() for name in needed}
    assert declared <= {name.lower() for name in LOCK}


def test_scripts_are_thin():
    for path in (REPOSITORY / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 45, path
    assert len((REPOSITORY / "workflow" / "Snakefile").read_text().splitlines()) <= 60
