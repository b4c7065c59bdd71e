"""Proof of the environments in envs/: `make envs` makes each anew and runs in it the tests of what its scripts reach.

    python envs/prove.py [NAME ...]

Each gets a virtual environment with exactly the pins of its file, and pytest. All that its scripts import is imported,
and the tests of every module of the library that they reach must pass. Needs Python alone.
"""

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
from mosaic.imports import reached

REPOSITORY = Path(__file__).parents[1]
RULES = sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))
# What `make envs` proves: the baselines' environments are heavy, and their pins are their own.
OWN_RULES = [path for path in RULES if path.name != "baselines.smk"]


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
            path = REPOSITORY / "envs" / f"{baseline.env}.yaml"
            by_env[path].append(REPOSITORY / "scripts" / f"embed_{baseline.script}.py")
    return by_env


def needed(scripts: list[Path]) -> tuple[set[str], list[Path]]:
    """Names of all modules that scripts import, and the test files of those of the library, <wing>/test_<room>.py."""
    modules, foreign = set(), set()
    for script in scripts:
        own, others = reached(script)
        rooms = [Path(module).relative_to(REPOSITORY / "scripts" / "mosaic") for module in own]
        modules |= {room for room in rooms if room.name != "__init__.py"}
        foreign |= others
    tests = [REPOSITORY / "tests" / "unit" / room.with_name(f"test_{room.name}") for room in sorted(modules)]
    names = {".".join(("mosaic", *room.with_suffix("").parts)) for room in modules}
    return foreign | names, [path for path in tests if path.exists()]


def prove(env: Path, scripts: list[Path], folder: Path) -> None:
    """Make ``env`` in ``folder`` and run the tests in it; raises CalledProcessError at what fails."""
    # All at once, as conda does.
    make(env, folder, torch_first=False)
    tester = pins((REPOSITORY / "requirements-test.lock").read_text())["pytest"]
    install(folder, f"pytest=={tester}")
    imported, tests = needed(scripts)
    _python(folder, "-c", f"import {', '.join(sorted(imported))}")
    _python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, tests))


def _python(folder: Path, *arguments: str) -> None:
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONUSERBASE")}
    own |= {"PYTHONPATH": str(REPOSITORY / "scripts"), "PYTHONNOUSERSITE": "1"}
    subprocess.run([folder / "bin" / "python", *arguments], cwd=REPOSITORY, env=own, check=True)


def main(names: list[str]) -> int:
    """Prove the environments of these names, or all."""
    by_env = {env: scripts for env, scripts in scripts_by_env().items() if not names or env.stem in names}
    if unknown := set(names) - {env.stem for env in by_env}:
        sys.exit(f"envs/ has no {', '.join(sorted(unknown))}")

    def proved(env: Path) -> bool:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                prove(env, by_env[env], Path(folder))
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
    sys.exit(main(sys.argv[1:]))
