"""Proof of the environments in envs/: `make envs` makes each anew and runs in it the tests of what its scripts reach.

    python envs/prove.py [--imports] [NAME ...]

Each gets a virtual environment with exactly the pins of its file, and pytest with hypothesis. All that its scripts
import is imported, and the tests of every module of the library that they reach must pass: here, or in another of these
environments that has nothing which this one lacks. With --imports only those tests run that `make test` skips: it runs
all others with the same versions, in one environment. Needs Python alone.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from make_venv import install, make, pins

from mosaic.config.methods import BASELINES
from mosaic.imports import imported_modules

REPOSITORY = Path(__file__).parents[1]
RULES = sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))
# What `make envs` proves: the baselines' environments are heavy, and their pins are their own.
OWN_RULES = [path for path in RULES if path.name not in ("baselines.smk", "spatialdata.smk")]
# Scripts that run in a Python of their own, by the environment.
SEPARATE = {REPOSITORY / "envs" / "spatialdata.yaml": [REPOSITORY / "scripts" / "export_spatialdata.py"]}
# Rooms of the library without a test file of their own, and where their tests are; None: only whole runs test them.
TESTED_WITH = {
    "threads.py": "test_neighbors.py",
    "manhattan.py": "test_neighbors.py",
    "errors.py": "test_logs.py",
    "colours.py": None,  # a constant
    "mnn.py": "integrate/test_graph.py",
    "embedding.py": "test_spots.py",
    "config/clusterers.py": "analyse/test_domains.py",
    "config/encoders.py": "integrate/test_encoders.py",
    "config/readers.py": "prepare/test_read.py",
    "config/layouts.py": "prepare/readers/test_space_ranger.py",
    "config/defaults.py": "config/test_settings.py",
    "config/design.py": "config/test_settings.py",
    "config/domain_names.py": "config/test_settings.py",
    "config/schema.py": "config/test_settings.py",
    "config/sample_sheet.py": "config/test_settings.py",
    "config/faults.py": "config/test_settings.py",
    "simulate/design.py": "simulate/test_counts.py",
    "simulate/tissue.py": "simulate/test_counts.py",
    "prepare/readers/h5ad.py": "prepare/test_read.py",
    "prepare/readers/parts.py": "prepare/test_read.py",
    "prepare/readers/hdf5.py": "prepare/test_read.py",
    "prepare/readers/features.py": "prepare/readers/test_space_ranger.py",
    "prepare/readers/images.py": "prepare/readers/test_space_ranger.py",
    "prepare/readers/positions.py": "prepare/readers/test_space_ranger.py",
    "prepare/readers/tenx.py": "prepare/readers/test_space_ranger.py",
    "prepare/readers/matrices.py": "prepare/readers/test_matrix_with_positions.py",
    "prepare/readers/tables.py": "prepare/readers/test_imaging.py",
    "prepare/readers/xenium.py": "prepare/readers/test_imaging.py",
    "prepare/readers/merscope.py": "prepare/readers/test_imaging.py",
    "prepare/readers/cosmx.py": "prepare/readers/test_imaging.py",
    "integrate/checkpoint.py": "integrate/test_training.py",
    "integrate/model.py": "integrate/test_training.py",
    "analyse/alignment.py": "analyse/test_tissue_field.py",
    "analyse/random_field.py": "analyse/test_tissue_field.py",
    "analyse/mixture.py": "analyse/test_tissue_field.py",  # and analyse/test_domains.py
    "analyse/leiden.py": "analyse/test_domains.py",
    "analyse/n_domains.py": "analyse/test_domains.py",
    "analyse/donors.py": "analyse/test_impute.py",
    "analyse/regression.py": "analyse/test_impute.py",
    "analyse/intervals.py": "analyse/test_impute.py",
    "analyse/reference_files.py": None,  # tests/unit/test_reference.py, which needs the whole chain
    "analyse/imputed.py": "analyse/test_impute.py",
    "analyse/umap.py": None,  # tests/test_designs.py
    "check/folds.py": None,  # tests/test_holdout.py
    "check/scores.py": None,  # tests/test_holdout.py
    "figures/charts.py": "figures/test_style.py",
    "figures/n_domains.py": "figures/test_style.py",
    "figures/comparisons.py": "figures/test_style.py",
    "figures/spatial_features.py": "figures/test_style.py",
    "figures/pages.py": "figures/test_overview.py",
    "figures/tables.py": "figures/test_style.py",
    "baselines/published.py": None,  # tests/workflow/test_baseline_runs.py, where the published package is installed
    "baselines/midas.py": None,  # likewise, where MIDAS is
    "api.py": None,  # tests/test_api.py
}
# What tests need beyond their rooms, installed once all that the scripts import was imported: tests of
# training build the graphs to train on; tests of spots read slices, whose images Pillow opens; the tests of threads are
# those of the search for neighbours; and those of normalisation compare with muon.
FOR_TESTS = {
    "prepare": ("muon",),
    "analyse": ("muon",),
    "train": ("faiss-cpu", "numba", "scikit-learn", "pillow"),
    "graph": ("pillow",),
    "check": ("pillow",),
    "spatialdata": ("faiss-cpu", "numba", "scikit-learn"),
}


def baseline_scripts_by_env() -> dict[Path, list[Path]]:
    """Of the baselines that need an environment of their own."""
    by_env = {}
    for baseline in BASELINES.values():
        if baseline.separate:
            path = REPOSITORY / "envs" / f"{baseline.env}.yaml"
            by_env.setdefault(path, []).append(REPOSITORY / "scripts" / f"embed_{baseline.script}.py")
    return by_env


def scripts_by_env() -> dict[Path, list[Path]]:
    """Of the rules of this workflow, and of the baselines that their environments serve."""
    by_env = {}
    for path in OWN_RULES:
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            env, script = (re.search(rf'{key}:\s*"([^"]+)"', rule).group(1) for key in ("conda", "script"))
            by_env.setdefault((path.parent / env).resolve(), []).append((path.parent / script).resolve())
    for baseline in BASELINES.values():
        if not baseline.separate:
            by_env[REPOSITORY / "envs" / f"{baseline.env}.yaml"].append(
                REPOSITORY / "scripts" / f"embed_{baseline.script}.py"
            )
    return by_env


def needed(scripts: list[Path]) -> tuple[set[str], list[Path]]:
    """Names of all modules that scripts import, and the test files of the library's rooms among them."""
    modules, foreign = set(), set()
    for script in scripts:
        own, others = imported_modules(script)
        rooms = [Path(module).relative_to(REPOSITORY / "scripts" / "mosaic") for module in own]
        modules |= {room for room in rooms if room.name != "__init__.py"}
        foreign |= others
    names = {".".join(("mosaic", *room.with_suffix("").parts)) for room in modules}
    return foreign | names, sorted({room_tests(room) for room in modules} - {None})


def room_tests(room: Path) -> Path | None:
    """The file with the tests of a room of the library, such as analyse/markers.py; None if only whole runs test it."""
    tests = TESTED_WITH.get(room.as_posix(), room.with_name(f"test_{room.name}"))
    return None if tests is None else REPOSITORY / "tests" / "unit" / tests


def files_to_run(by_env: dict[Path, list[Path]]) -> dict[Path, list[Path]]:
    """Per environment the test files to run in it: those that none with a part of its packages runs."""
    declared = {env: set(pins(env.read_text()).items()) for env in by_env}
    reached = {env: needed(scripts)[1] for env, scripts in by_env.items()}
    return {
        env: [
            test
            for test in tests
            if not any(declared[other] < declared[env] and test in reached[other] for other in by_env)
        ]
        for env, tests in reached.items()
    }


def prove(env: Path, scripts: list[Path], tests: list[Path], folder: Path) -> None:
    """Make ``env`` in ``folder`` and run these tests in it; raises CalledProcessError at what fails."""
    # All at once, as conda does.
    make(env, folder, torch_first=False)
    _python(folder, "-c", f"import {', '.join(sorted(needed(scripts)[0]))}")
    if not tests:
        return
    locked = pins((REPOSITORY / "requirements.lock").read_text())
    locked |= pins((REPOSITORY / "requirements-test.lock").read_text())
    for_tests = ("pytest", "hypothesis", *FOR_TESTS.get(env.stem, ()))
    install(folder, *(f"{name}=={locked[name]}" for name in for_tests))
    _python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-W", "default", *map(str, tests))


def _python(folder: Path, *arguments: str) -> None:
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONUSERBASE")}
    own |= {"PYTHONPATH": str(REPOSITORY / "scripts"), "PYTHONNOUSERSITE": "1"}
    subprocess.run([folder / "bin" / "python", *arguments], cwd=REPOSITORY, env=own, check=True)


def main(names: list[str], *, imports: bool = False) -> int:
    """Prove the environments of these names, or all; with ``imports`` as with --imports."""
    known = scripts_by_env() | SEPARATE
    by_env = {env: scripts for env, scripts in known.items() if not names or env.stem in names}
    if unknown := set(names) - {env.stem for env in by_env}:
        sys.exit(f"envs/ has no {', '.join(sorted(unknown))}")

    tests = files_to_run(by_env)
    if imports:
        tests = {env: own if env in SEPARATE else [] for env, own in tests.items()}

    def proved(env: Path) -> bool:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                prove(env, by_env[env], tests[env], Path(folder))
            except subprocess.CalledProcessError as error:
                print(f"{env.stem}: failed at {' '.join(map(str, error.cmd[1:4]))} ...", flush=True)
                return False
        print(f"== {env.stem}: proved in {time.monotonic() - began:.0f} s", flush=True)
        return True

    # Two at once: pip waits for the network and for files half of the time.
    with ThreadPoolExecutor(2) as pool:
        failed = [env.stem for env, well in zip(by_env, pool.map(proved, by_env), strict=True) if not well]
    print(f"{len(by_env) - len(failed)} of {len(by_env)} environments proved; failed: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--imports", action="store_true")
    options.add_argument("names", nargs="*")
    given = options.parse_args()
    sys.exit(main(given.names, imports=given.imports))
