"""Pages and tables of the report: the workflow's templates, filled in."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined


def render(template: str | Path, **given: Any) -> str:
    """Fill in a template; what it is given becomes text, whatever it holds.

    Parameters
    ----------
    template
        A Jinja2 template of HTML. Its filter ``grouped`` writes a whole number with a comma between thousands.
    given
        Its variables. HTML of this workflow's own stays so only where the template says ``| safe``.

    Returns
    -------
    A fragment: it stands by itself in a browser, and inside another page.

    Raises
    ------
    jinja2.UndefinedError
        If the template has a variable that is not given.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["grouped"] = "{:,}".format
    return environment.from_string(Path(template).read_text(encoding="utf-8")).render(given) + "\n"
