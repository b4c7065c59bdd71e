"""Programs that tests need and PyPI does not have, from Debian's packages."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def install_or_skip(what: str, *packages: str) -> None:
    """Install Debian's packages; skips the tests, with the reason, where they can't be had."""
    if os.geteuid() != 0:
        pytest.skip(f"{what} is not installed, and installing it needs root")
    if shutil.which("apt-get") is None:
        pytest.skip(f"{what} is not installed, and there is no apt-get to install it with")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Tests run side by side, and apt-get does not wait for another of its kind.
    with (Path(tempfile.gettempdir()) / "spamosaic-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", *command], env=quiet, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"apt-get {command[0]} failed: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
