"""Make a lasting virtual environment of one of these files, with pip alone; `make baselines` does for all baselines.

    python envs/make_venv.py envs/mofa.yaml .venv-mofa

Needs a Python of the version that the file names, and nothing else.
"""

import re
import subprocess
import sys
import venv
from pathlib import Path


def pins(text: str) -> dict[str, str]:
    """Names and versions of the packages that a file pins exactly."""
    return dict(re.findall(r"^\s*(?:- )?([\w.-]+)==([\w.+-]+)\s*$", text, flags=re.MULTILINE))


def make(env: Path, folder: Path, *, torch_first: bool = True) -> None:
    """Make ``env`` in ``folder``, whatever was there.

    Parameters
    ----------
    env
        A file of conda whose packages come from PyPI.
    folder
        Where to.
    torch_first
        Install torch by itself before all else, so that no other package pulls a build of its own choice; otherwise
        all at once, as conda does.

    Raises
    ------
    subprocess.CalledProcessError
        If pip fails.
    """
    text = env.read_text(encoding="utf-8")
    version = re.search(r"^  - python=(\S+)$", text, flags=re.MULTILINE).group(1)
    if version != f"{sys.version_info.major}.{sys.version_info.minor}":
        sys.exit(f"{env.name} is for Python {version}: run this with it, as in make PYTHON=python{version} ...")
    venv.create(folder, with_pip=True, clear=True)
    pip = re.search(r"^  - pip=(\S+)$", text, flags=re.MULTILINE).group(1)
    declared = pins(text)
    install(folder, f"pip=={pip}")
    if torch_first and "torch" in declared:
        install(folder, f"torch=={declared['torch']}")
    install(folder, *(f"{name}=={number}" for name, number in declared.items()))


def install(folder: Path, *wanted: str) -> None:
    """Install packages with the pip of a virtual environment."""
    if not wanted:
        return
    command = [folder / "bin" / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    # What is used is compiled when it is first imported: a fraction of all that is installed.
    command += ["--no-compile", *wanted]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    make(Path(sys.argv[1]), Path(sys.argv[2]))
