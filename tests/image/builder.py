"""The image of the Dockerfile, built and run by Buildah, which needs no daemon."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import urlopen

import pytest
from debian import install_or_skip
from running import REPOSITORY

PACKAGES = ("buildah", "debootstrap", "debian-archive-keyring")
MIRROR = "http://deb.debian.org/debian"
# Of the base, the image and two containers; each lies there as a whole.
SPACE = 15e9


class Buildah:
    """Images and containers in ``folder`` alone."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        places = ["--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/running"]
        command = ["buildah", *places, "--storage-driver", "vfs", *map(str, arguments)]
        own = os.environ | {"BUILDAH_ISOLATION": "chroot"}
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")
        return done

    def name(self, *arguments: str) -> str:
        """What a command prints last: the name of what it made."""
        return self(*arguments).stdout.split()[-1]

    def remove_all(self) -> None:
        # Plain folders; Buildah itself takes minutes to remove them.
        shutil.rmtree(self.folder)


class Image:
    """The image, and a container of it whose files lie in ``root``."""

    def __init__(self, buildah: Buildah):
        self.buildah = buildah
        _take_or_make_base(buildah)
        options = [f"--volume={path}:{inside}:ro" for path, inside in _what_pip_needs(buildah.folder)]
        self.image = buildah.name("bud", "--layers=false", *options, str(REPOSITORY))
        self.settings = json.loads(buildah("inspect", "--type", "image", self.image).stdout)["OCIv1"]["config"]
        self.container = buildah.name("from", self.image)
        self.root = Path(buildah.name("mount", self.container))

    def run(
        self, folder: Path, user: str, *arguments: str, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess:
        """As ``docker run --user USER --volume FOLDER:/work IMAGE ARGUMENTS``."""
        whole = [*options, f"--user={user}", f"--volume={folder}:/work", self.container]
        return self.buildah("run", *whole, "--", *self.settings["Entrypoint"], *arguments, check=False)


def installed_or_skip() -> None:
    """Install Buildah from Debian's packages; skips the tests where it can't be had, or could not work."""
    if not all(map(shutil.which, ("buildah", "debootstrap"))):
        install_or_skip("Buildah", *PACKAGES)
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("an image is built with mounts, which are not allowed here")
    if shutil.disk_usage(tempfile.gettempdir()).free < SPACE:
        pytest.skip(
            f"an image is built in {SPACE / 1e9:.0f} GB of disk, which {tempfile.gettempdir()} does not have free"
        )


def _take_or_make_base(buildah: Buildah) -> None:
    """The image after FROM: from its registry or, if that can't be reached, of Debian's packages."""
    (base,) = set(re.findall(r"^FROM (\S+)", (REPOSITORY / "Dockerfile").read_text(), flags=re.MULTILINE))
    name = f"docker.io/library/{base}"
    if buildah("pull", name, check=False).returncode == 0:
        return
    python, release = re.fullmatch(r"python:(3\.\d+)-slim-(\w+)", base).groups()
    try:
        urlopen(f"{MIRROR}/dists/{release}/Release", timeout=60).close()
    except OSError as error:
        pytest.skip(f"no registry has {base}, and {MIRROR} can't be reached either: {error}")
    root = buildah.folder / "base"
    # debootstrap does not look for a package that provides another.
    include = f"python{python},python{python}-venv,python3-distutils,ca-certificates"
    command = ["debootstrap", "--variant=minbase", f"--include={include}", release, str(root), MIRROR]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (root / "usr/bin/python").symlink_to(f"python{python}")
    container = buildah.name("from", "scratch")
    buildah("add", container, str(root), "/")
    buildah("commit", "--rm", container, name)
    shutil.rmtree(root)


def _what_pip_needs(folder: Path) -> list[tuple[str, str]]:
    """This machine's own settings of pip and the files they name, as paths here and in the image."""
    settings: dict[str, str] = {}
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = " ".join(ast.literal_eval(value).split())
    if not settings:
        return []
    configured = folder / "pip.conf"
    configured.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    words = " ".join(settings.values()).split()
    # An index links to files beside it.
    named = {word for word in words if word.startswith("/")}
    named |= {str(Path(urlparse(word).path).parent) for word in words if word.startswith("file://")}
    return [(str(configured), "/etc/pip.conf"), *((path, path) for path in sorted(named) if Path(path).exists())]
