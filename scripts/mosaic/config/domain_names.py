"""Names of domains, from the config or from a TSV that it names."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mosaic.config.schema import _Validator, key_of, shown
from mosaic.errors import InputError


def read_names(given: str | Mapping, schema: Mapping) -> tuple[dict[str, str], list[InputError]]:
    """Names of domains by the domains' numbers as text, and what is wrong with them.

    Parameters
    ----------
    given
        Names by number, or the path of a TSV in UTF-8 with the columns ``domain`` and ``name``; a line that begins with
        ``#`` is a comment.
    schema
        JSON Schema of a name.
    """
    if isinstance(given, str):
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            problem = f"{shown(given)} can't be read ({getattr(error, 'strerror', None) or error})"
            hint = f"give names by number, as in {{0: follicle}}, or the path of a TSV, relative to {Path.cwd()}"
            return {}, [InputError(problem, where=key_of("domains", "names"), hint=hint)]
        rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line and line[0] != "#"]
        if not rows or rows[0][1] != ["domain", "name"]:
            hint = "its first line is: domain, name, separated by a tab"
            return {}, [InputError("the columns are not domain and name", where=given, hint=hint)]
        entries = [(f"{given}, line {number}", cells[0], "\t".join(cells[1:])) for number, cells in rows[1:]]
    else:
        entries = [(key_of("domains", "names", key), str(key), name) for key, name in given.items()]
    return _checked(entries, schema)


def _checked(entries: Iterable[tuple[str, str, str]], schema: Mapping) -> tuple[dict[str, str], list[InputError]]:
    names: dict[str, str] = {}
    faults = []
    for where, domain, name in entries:
        # As the tables write numbers: 3, not 03.
        if not domain.isascii() or not domain.isdigit() or str(int(domain)) != domain:
            hint = "domains have numbers from 0 on, as the figures of the first run show"
            faults.append(InputError(f"{shown(domain)} is no number of a domain", where=where, hint=hint))
        elif not _Validator(schema).is_valid(name):
            faults.append(InputError(f"{shown(name)} is not valid", where=where, hint=schema["description"]))
        elif domain in names or name in names.values():
            what = f"domain {domain} has a name" if domain in names else f"another domain is called {shown(name)}"
            faults.append(InputError(f"{what} already", where=where, hint="give each domain a name of its own"))
        else:
            names[domain] = name
    return names, faults
