"""Imports of a script: modules of this library, whose edits make its results stale, and third-party packages."""

import ast
import os
import platform
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from mosaic import __version__


def imported_modules(script: str | Path, scripts: str | Path | None = None) -> tuple[list[str], set[str]]:
    """Follow the imports of a script through the library beside it, without running anything.

    Parameters
    ----------
    script
        A Python file.
    scripts
        The folder with the package ``mosaic``; None: that of the script.

    Returns
    -------
    Sorted paths of the library modules that the script imports, directly or indirectly, and the top-level names of all
    other modules that any of them imports.
    """
    package = (Path(script).parent if scripts is None else Path(scripts)) / "mosaic"
    modules, waiting = {str(package / "__init__.py")}, [str(script)]
    foreign: set[str] = set()
    while waiting:
        file = waiting.pop()
        state = os.stat(file)
        own, others = _imported(file, str(package), state.st_mtime_ns, state.st_size)
        waiting += own - modules
        modules |= own
        foreign |= others
    return sorted(modules), foreign


def versions(names: Iterable[str] | None = None) -> dict[str, str]:
    """Versions of this library, of Python, and of the packages that have these modules.

    Parameters
    ----------
    names
        Top-level names of modules; Python's standard modules are ignored. None: all modules loaded in this process.

    Returns
    -------
    Version by package, this library and Python first.
    """
    names = {name.partition(".")[0] for name in (list(sys.modules) if names is None else names)}
    owners = metadata.packages_distributions()
    packages = {package for name in names - {"mosaic"} for package in owners.get(name, ())}
    found = {package: metadata.version(package) for package in sorted(packages, key=str.lower)}
    return {"mosaic": __version__, "Python": platform.python_version()} | found


# Every start of Snakemake asks for all scripts, most of which import the same modules; an edited file is read anew.
@cache
def _imported(file: str, package: str, changed: int, size: int) -> tuple[frozenset[str], frozenset[str]]:
    """Paths of the library modules, and top-level names of the others, that a file itself imports."""
    modules, foreign = set(), set()
    for name in _names(Path(file).read_text(encoding="utf-8")):
        top, *rest = name.split(".")
        if top != "mosaic":
            foreign.add(top)
            continue
        for depth in range(1, len(rest) + 1):
            path = Path(package).joinpath(*rest[:depth])
            # A name that is neither a wing nor a module is defined in a module.
            modules |= {str(own) for own in (path / "__init__.py", path.with_suffix(".py")) if own.exists()}
    return frozenset(modules), frozenset(foreign)


def _names(source: str) -> list[str]:
    names, waiting = [], list(ast.parse(source).body)
    # Statements alone: expressions, which are most of a file, import nothing.
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, block, [])
    return names
