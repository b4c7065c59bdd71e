"""A sample sheet and a config to start from, of what instruments and their software left behind.

    python -m mosaic.sheet FOLDER [FOLDER ...] [--to my-run]

Looks for all that the workflow can read in folders, or at files; prints what it found and what it guessed; writes
``slices.tsv`` and ``config.yaml``. Nothing is read but names and tables of features.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from mosaic.config import layouts
from mosaic.config.readers import READERS, known, reader_of
from mosaic.config.schema import read_yaml
from mosaic.config.settings import SCHEMAS, load
from mosaic.errors import InputError, printable
from mosaic.prepare.read import FUNCTIONS
from mosaic.prepare.readers.features import KINDS
from mosaic.prepare.readers.parts import Found

# How deep below a folder is looked for what can be read.
_DEPTH = 3

# Files that are looked at below a folder; one that is named is looked at whatever its name.
_ENDINGS = (".h5ad", ".h5mu", ".gef", ".gem", ".gem.gz")

# Ends of the names of files that stand for a modality.
_MODALITY = re.compile(r"[._-](rna|gex|adt|prot|protein|atac)$", flags=re.IGNORECASE)

# Folders that no slice is named after.
_GENERIC = ("outs", "spatial", "binned_outputs", "data", "")


class Source(NamedTuple):
    """A path that can be read, and a modality that it holds."""

    path: str
    format: str
    slice: str
    found: Found


def find(path: str, depth: int = _DEPTH) -> Iterator[tuple[str, str]]:
    """What can be read at a path or below it, with the name of its reader."""
    name = reader_of(path)
    if name is not None:
        yield path, name
    elif os.path.isdir(path) and depth:
        for inner in layouts.listed(path):
            below = os.path.join(path, inner)
            if os.path.isdir(below) or inner.lower().endswith(_ENDINGS):
                yield from find(below, depth - 1)


def sources(paths: list[str]) -> tuple[list[Source], list[InputError]]:
    """Modalities of all that is found at paths, and what could not be read.

    Slices are named after their file or folder; a name that is taken gets a number.
    """
    found, faults = [], []
    taken: dict[str, str] = {}
    for given in paths:
        there = list(find(given))
        if not there:
            what = "holds nothing that can be read" if os.path.exists(given) else "is not there"
            faults.append(InputError(what, where=given, hint=f"what can be read is {known()}"))
        for path, name in there:
            try:
                contents = FUNCTIONS[name].contents(path)
            except InputError as fault:
                faults.append(fault)
                continue
            except Exception as error:  # libraries raise all kinds of exceptions on a damaged file
                faults.append(InputError(f"can't be read ({type(error).__name__}: {error})", where=path))
                continue
            alone = len(contents) == 1
            for part in contents:
                own, modality = _names(path, part, alone=alone)
                # Files of one slice, such as s1_rna and s1_adt, have its name; else one path is one slice.
                key = os.path.dirname(path) if modality else path
                own = _free(own, key if part.slice is None else f"{key}#{part.slice}", taken)
                if modality:
                    part = part._replace(modality=modality, kind=KINDS[modality], told=part.told.partition(";")[0])
                found.append(Source(path, name, own, part))
    return _unified(found), faults


def _unified(found: list[Source]) -> list[Source]:
    """One name for all modalities of a kind, unless a slice has two of them: else nothing would link the slices."""
    names: dict[str, str] = {}
    for source in found:
        names.setdefault(source.found.kind, source.found.modality)
    keys = [(source.slice, source.found.kind) for source in found]
    several = {kind for name, kind in keys if keys.count((name, kind)) > 1}

    def named(source: Source) -> Source:
        part, name = source.found, names[source.found.kind]
        if part.kind in several or part.modality == name:
            return source
        # What a file calls otherwise stands after #.
        inside = part.name or (part.modality if source.format in ("h5mu", "spatialdata") else "")
        return source._replace(found=part._replace(modality=name, name=inside))

    return [named(source) for source in found]


def _names(path: str, part: Found, *, alone: bool) -> tuple[str, str]:
    """Names of the slice and, if the file is named after it, of the modality."""
    if part.slice is not None:
        return _plain(part.slice), ""
    parts = Path(path).resolve().parts
    stem = next((name for name in reversed(parts) if name.lower() not in _GENERIC), "slice")
    if os.path.isfile(path):
        stem = re.sub(r"(\.tissue)?\.(h5ad|h5mu|h5|gef|gem|zarr|csv|tsv|txt)(\.gz)?$", "", stem)
        modality = _MODALITY.search(stem)
        if alone and modality:
            return _plain(stem[: modality.start()]), modality[1].lower()
    return _plain(re.sub(r"\.zarr$", "", stem)), ""


def _plain(name: str) -> str:
    """A name with the characters that the sheet takes, beginning with a letter or digit."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:90] or "slice"


def _free(name: str, key: str, taken: dict[str, str]) -> str:
    """The name, or with a number behind it if another path has it."""
    number, free = 1, name
    while taken.setdefault(free, key) != key:
        number += 1
        free = f"{name}_{number}"
    return free


def write(found: list[Source], folder: Path) -> tuple[Path, Path]:
    """Write ``slices.tsv`` and ``config.yaml``; raises InputError if one is there.

    Paths are relative to the working directory if they lie in it.
    """
    sheet, config = folder / "slices.tsv", folder / "config.yaml"
    for path in (sheet, config):
        if path.exists():
            raise InputError("is there already", where=str(path), hint="name another folder with --to, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["slice\tmodality\tpath"]
    for source in found:
        place = os.path.relpath(source.path) if _inside(source.path) else os.path.abspath(source.path)
        rows.append("\t".join([source.slice, source.found.modality, _with(place, source.found.name)]))
    sheet.write_text("\n".join(rows) + "\n", encoding="utf-8")
    config.write_text(_config(found, sheet), encoding="utf-8")
    return sheet, config


def _inside(path: str) -> bool:
    return not os.path.relpath(path).startswith("..")


def _config(found: list[Source], sheet: Path) -> str:
    kinds = {source.found.modality: source.found.kind for source in found}
    lines = [
        "# To start from: config/README.md explains every key, docs/your_data.md what is read.",
        f"slices: {yaml.safe_dump(os.path.relpath(sheet), default_style=None).splitlines()[0]}",
        "",
        "modalities:",
        *(f"  {name}: {{kind: {kind}}}" for name, kind in kinds.items()),
    ]
    fragments = {source.found.modality for source in found if source.format == "fragments"}
    if fragments:
        lines.append("  # Fragments are counted in bins of 5,000 base pairs, unless `peaks` names a BED file:")
        lines += [f"  # {name}: {{kind: epigenome, peaks: peaks.bed}}" for name in sorted(fragments)]
    if any(source.format == "cosmx" for source in found):
        lines.append("\n# CosMx: micrometres per pixel, 0.12028 of today's instruments and 0.18 of the first.")
        lines.append("# um_per_unit: 0.12028")
    lines.append("\n# A number, or auto.\ncluster: {n_domains: auto}")
    lines.append("\n# An obs column with true domains, if there is one.\ntruth: null")
    return "\n".join(lines) + "\n"


def _with(path: str, name: str) -> str:
    """A path and the name of a part of it, as the sheet writes them."""
    return f"{path}#{name}" if name else path


def report(found: list[Source], faults: list[InputError]) -> str:
    """What was found, in words: a line per modality and path."""
    lines = []
    for source in found:
        part = source.found
        cells = [source.slice, f"{part.modality} ({part.kind})", READERS[source.format].label, part.told]
        lines.append("\t".join([*cells, _with(source.path, part.name)]))
    columns = [line.split("\t") for line in lines]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in columns]
    lines += [f"Not read: {fault}" for fault in faults]
    return "\n".join(map(_line, lines))


def _line(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def parser() -> argparse.ArgumentParser:
    """The arguments of the program."""
    made = argparse.ArgumentParser(prog="python -m mosaic.sheet", description=(__doc__ or "").splitlines()[0])
    made.add_argument("paths", nargs="+", metavar="FOLDER", help="a folder to look through, or a file")
    made.add_argument("--to", default="my-run", metavar="FOLDER", help="where to write (default: %(default)s)")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit status, 1 if nothing was found or written."""
    asked = parser().parse_args(arguments)
    found, faults = sources(asked.paths)
    print(report(found, faults))
    if not found:
        return 1
    try:
        sheet, config = write(found, Path(asked.to))
    except InputError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"\nWritten: {sheet} and {config}. Names of slices and modalities, and kinds, are guessed: mend them there.")
    for fault in _told(config):
        print(f"Still to do: {fault}")
    print(f"Next: snakemake --cores 1 --configfile {config} check")
    return 0


def _told(config: Path) -> list[str]:
    """Faults of what was written: what slices lack so that they can be integrated."""
    schemas = [read_yaml(SCHEMAS / f"{name}.schema.yaml") for name in ("config", "slices")]
    try:
        load(read_yaml(config), *schemas)
    except InputError as error:
        return [str(error)]
    return []


if __name__ == "__main__":
    sys.exit(main())
