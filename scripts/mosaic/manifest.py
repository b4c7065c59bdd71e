"""A reference or a model on disk: a folder, or one zip of it, with a manifest in JSON, which says what it holds.

The manifest is written last and has the size and SHA-256 of each file, so that a copy that was cut short or damaged
is told from a whole one. There is no pickle in it: h5ad, safetensors and JSON.
"""

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mosaic.errors import InputError, few
from mosaic.files import atomic_write

# Raised when an older reader would misread what is written.
FORMAT = 1
MANIFEST = "reference.json"


class Kind(NamedTuple):
    """What a folder holds.

    Attributes
    ----------
    name
        In a word, for messages.
    manifest
        Name of the JSON file that says what it holds.
    keys
        What that must say, beside ``format``, ``version`` and ``files``.
    example
        Where it comes from, for messages.
    """

    name: str
    manifest: str
    keys: tuple[str, ...]
    example: str


REFERENCE = Kind(
    "reference",
    MANIFEST,
    ("seed", "config", "slices", "counts", "domains", "checks", "versions"),
    "such as results/reference/seed-1234",
)
# Of the class ``SpaMosaic``.
MODEL = Kind(
    "model", "spamosaic.json", ("seed", "settings", "slices", "modalities", "counts", "history"), "as save wrote it"
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_ANEW = "copy it again, or make it anew where it comes from"


def write_manifest(folder: str | Path, told: Mapping[str, Any], kind: Kind = REFERENCE) -> None:
    """Write the manifest for the files of a folder.

    Parameters
    ----------
    folder
        With all its files.
    told
        ``version``, of the software, and the keys of the kind.
    kind
        What it holds.
    """
    folder = Path(folder)
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != kind.manifest and not path.name.startswith(".")
    }
    with atomic_write(folder / kind.manifest) as unfinished:
        unfinished.write_text(json.dumps({"format": FORMAT, **told, "files": files}, indent=1), encoding="utf-8")


def read_manifest(path: str | Path, kind: Kind = REFERENCE) -> dict[str, Any]:
    """Read the manifest of a folder or a zip, and compare the sizes of the files with it.

    Raises
    ------
    InputError
        If it holds another kind, is cut short, of a newer format, or lacks files.
    """
    path = Path(path)
    where = f"{kind.name} {path}"
    if not path.exists():
        raise InputError("is not there", where=where, hint=f"give its folder or zip, relative to {Path.cwd()}")
    try:
        if path.is_dir():
            text = (path / kind.manifest).read_text(encoding="utf-8")
            sizes = {own.name: own.stat().st_size for own in path.iterdir()}
        else:
            with zipfile.ZipFile(path) as archive:
                inside = _inside(archive, kind)
                text = archive.read(inside[kind.manifest]).decode("utf-8")
                sizes = {name: own.file_size for name, own in inside.items()}
    except (FileNotFoundError, KeyError) as error:
        hint = f"give the folder that has {kind.manifest}, {kind.example}, or a zip of it"
        raise InputError(f"has no {kind.manifest}, so it is no {kind.name}", where=where, hint=hint) from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"can't be read ({error})", where=where, hint=_ANEW) from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"{kind.manifest} is cut short or damaged ({error})", where=where, hint=_ANEW) from error
    version = found.get("format") if isinstance(found, dict) else None
    if isinstance(version, int) and version > FORMAT:
        problem = f"has format {version}, of version {found.get('version')}; this version reads up to {FORMAT}"
        raise InputError(problem, where=where, hint="use the newer version of this workflow")
    if version != FORMAT or (lacking := [key for key in ("version", "files", *kind.keys) if key not in found]):
        told = f"lacks {', '.join(lacking)}" if version == FORMAT else f"has format {version!r}"
        raise InputError(f"{kind.manifest} {told}", where=where, hint=_ANEW)
    if gone := [name for name in found["files"] if name not in sizes]:
        raise InputError(f"lacks {few(gone)}", where=where, hint=_ANEW)
    if short := [name for name, own in found["files"].items() if sizes[name] != own["size"]]:
        name = short[0]
        problem = f"{name} has {sizes[name]:,} bytes instead of {found['files'][name]['size']:,}"
        raise InputError(problem, where=where, hint=_ANEW)
    return found


def checked(folder: str | Path, name: str, kind: Kind = REFERENCE) -> Path:
    """The path of a file of the folder; InputError if it is not what was written."""
    files, path, where = read_manifest(folder, kind)["files"], Path(folder) / name, f"{kind.name} {folder}"
    if name not in files:
        raise InputError(f"has no {name}", where=where, hint=f"it has {', '.join(files)}")
    if sha256(path) != files[name]["sha256"]:
        raise InputError(f"{name} is damaged: it is not what was written", where=where, hint=_ANEW)
    return path


@contextmanager
def writing(path: str | Path, kind: Kind = REFERENCE) -> Iterator[Path]:
    """The folder into which all files and the manifest are to be written: the path or, for ``.zip``, what is packed.

    An earlier folder of the same kind is replaced.

    Raises
    ------
    InputError
        If the folder is there and has other files.
    """
    path = Path(path)
    if path.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            pack(folder, path, kind)
        return
    if path.exists() and not path.is_dir():
        raise InputError("is a file", where=str(path), hint="give a folder, or a name that ends with .zip")
    if path.is_dir() and any(path.iterdir()):
        known = [*read_manifest(path, kind)["files"], kind.manifest] if (path / kind.manifest).exists() else []
        if others := [own.name for own in path.iterdir() if own.name not in known]:
            hint = "give a path that is not there, or an empty folder"
            raise InputError(f"is there, and has other files: {few(others)}", where=str(path), hint=hint)
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)
    yield path


@contextmanager
def reading(path: str | Path, kind: Kind = REFERENCE) -> Iterator[Path]:
    """The folder whose files are to be read: the path or, for a zip, what was unpacked from it."""
    if Path(path).is_file():
        with tempfile.TemporaryDirectory() as folder:
            unpack(path, folder, kind)
            yield Path(folder)
    else:
        yield Path(path)


def unpack(path: str | Path, folder: str | Path, kind: Kind = REFERENCE) -> None:
    """Unpack a zip into a folder: the files that its manifest names, and nothing else."""
    files, folder, where = read_manifest(path, kind)["files"], Path(folder), f"{kind.name} {path}"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path) as archive:
        inside = _inside(archive, kind)
        for name in (*files, kind.manifest):
            if not _NAME.fullmatch(name):
                raise InputError(f"{name!r} is no name of a file of it", where=where, hint=_ANEW)
            try:
                with (
                    archive.open(inside[name]) as source,
                    atomic_write(folder / name) as unfinished,
                    unfinished.open("wb") as target,
                ):
                    shutil.copyfileobj(source, target)
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                raise InputError(f"{name} is damaged ({error})", where=where, hint=_ANEW) from error


def pack(folder: str | Path, path: str | Path, kind: Kind = REFERENCE) -> None:
    """Pack a folder into one zip; its files are compressed already."""
    folder = Path(folder)
    with atomic_write(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in (*read_manifest(folder, kind)["files"], kind.manifest):
            archive.write(folder / name, name)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(archive: zipfile.ZipFile, kind: Kind) -> dict[str, zipfile.ZipInfo]:
    """Files beside the manifest, by their names; a zip may hold the folder or its files."""
    own = kind.manifest
    [place, *_] = [info.filename for info in archive.infolist() if Path(info.filename).name == own] or [own]
    folder = place.removesuffix(own)
    return {
        info.filename.removeprefix(folder): info
        for info in archive.infolist()
        if info.filename.startswith(folder) and "/" not in info.filename.removeprefix(folder) and not info.is_dir()
    }
