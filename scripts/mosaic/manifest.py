"""A reference on disk: a folder, or one zip of it, and `reference.json`, which says what it holds.

`reference.json` is written last and has the size and SHA-256 of each file, so that a copy that was cut short or damaged
is told from a whole one. There is no pickle in it: h5ad, safetensors and JSON.
"""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mosaic.errors import InputError, few
from mosaic.files import atomic_write

# Raised when an older reader would misread what is written.
FORMAT = 1
MANIFEST = "reference.json"
_KEYS = ("format", "version", "seed", "config", "slices", "counts", "domains", "checks", "versions", "files")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_ANEW = "copy it again, or make it anew where it comes from"


def write_manifest(folder: str | Path, told: Mapping[str, Any]) -> None:
    """Write ``reference.json`` for the files of a folder.

    Parameters
    ----------
    folder
        Of the reference, with all its files.
    told
        All else: the keys of ``_KEYS`` but ``format`` and ``files``.
    """
    folder = Path(folder)
    files = {
        path.name: {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST and not path.name.startswith(".")
    }
    with atomic_write(folder / MANIFEST) as unfinished:
        unfinished.write_text(json.dumps({"format": FORMAT, **told, "files": files}, indent=1), encoding="utf-8")


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Read ``reference.json`` of a folder or a zip, and compare the sizes of the files with it.

    Raises
    ------
    InputError
        If it is no reference, cut short, of a newer format, or lacks files.
    """
    path = Path(path)
    where = f"reference {path}"
    if not path.exists():
        raise InputError("is not there", where=where, hint=f"give its folder or zip, relative to {Path.cwd()}")
    try:
        if path.is_dir():
            text = (path / MANIFEST).read_text(encoding="utf-8")
            sizes = {own.name: own.stat().st_size for own in path.iterdir()}
        else:
            with zipfile.ZipFile(path) as archive:
                inside = _inside(archive)
                text = archive.read(inside[MANIFEST]).decode("utf-8")
                sizes = {name: own.file_size for name, own in inside.items()}
    except (FileNotFoundError, KeyError) as error:
        hint = f"give the folder that has {MANIFEST}, such as results/reference/seed-1234, or a zip of it"
        raise InputError(f"has no {MANIFEST}, so it is no reference", where=where, hint=hint) from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"can't be read ({error})", where=where, hint=_ANEW) from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"{MANIFEST} is cut short or damaged ({error})", where=where, hint=_ANEW) from error
    version = found.get("format") if isinstance(found, dict) else None
    if isinstance(version, int) and version > FORMAT:
        problem = f"has format {version}, of version {found.get('version')}; this version reads up to {FORMAT}"
        raise InputError(problem, where=where, hint="use the newer version of this workflow")
    if version != FORMAT or (lacking := [key for key in _KEYS if key not in found]):
        told = f"lacks {', '.join(lacking)}" if version == FORMAT else f"has format {version!r}"
        raise InputError(f"{MANIFEST} {told}", where=where, hint=_ANEW)
    if gone := [name for name in found["files"] if name not in sizes]:
        raise InputError(f"lacks {few(gone)}", where=where, hint=_ANEW)
    if short := [name for name, own in found["files"].items() if sizes[name] != own["size"]]:
        name = short[0]
        problem = f"{name} has {sizes[name]:,} bytes instead of {found['files'][name]['size']:,}"
        raise InputError(problem, where=where, hint=_ANEW)
    return found


def checked(folder: str | Path, name: str) -> Path:
    """The path of a file of a reference; InputError if it is not what was written."""
    files, path = read_manifest(folder)["files"], Path(folder) / name
    if name not in files:
        problem = f"has no {name}"
        raise InputError(problem, where=f"reference {folder}", hint=f"it has {', '.join(files)}")
    if sha256(path) != files[name]["sha256"]:
        raise InputError(f"{name} is damaged: it is not what was written", where=f"reference {folder}", hint=_ANEW)
    return path


def unpack(path: str | Path, folder: str | Path) -> None:
    """Unpack a zip of a reference into a folder: the files that ``reference.json`` names, and nothing else."""
    files, folder = read_manifest(path)["files"], Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path) as archive:
        inside = _inside(archive)
        for name in (*files, MANIFEST):
            if not _NAME.fullmatch(name):
                raise InputError(f"{name!r} is no name of a file of it", where=f"reference {path}", hint=_ANEW)
            try:
                with (
                    archive.open(inside[name]) as source,
                    atomic_write(folder / name) as unfinished,
                    unfinished.open("wb") as target,
                ):
                    shutil.copyfileobj(source, target)
            except (zipfile.BadZipFile, EOFError, OSError) as error:
                raise InputError(f"{name} is damaged ({error})", where=f"reference {path}", hint=_ANEW) from error


def pack(folder: str | Path, path: str | Path) -> None:
    """Pack the folder of a reference into one zip; its files are compressed already."""
    folder = Path(folder)
    with atomic_write(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in (*read_manifest(folder)["files"], MANIFEST):
            archive.write(folder / name, name)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Files beside ``reference.json``, by their names; a zip may hold the folder or its files."""
    [place, *_] = [info.filename for info in archive.infolist() if Path(info.filename).name == MANIFEST] or [MANIFEST]
    folder = place.removesuffix(MANIFEST)
    return {
        info.filename.removeprefix(folder): info
        for info in archive.infolist()
        if info.filename.startswith(folder) and "/" not in info.filename.removeprefix(folder) and not info.is_dir()
    }
