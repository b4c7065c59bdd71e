"""For the site: a section *Returns* of our docstrings is prose, where numpydoc expects a type first."""

import re

import griffe

# Until the next heading, which is underlined.
SECTION = re.compile(r"^(Returns|Yields)\n-+\n(.*?)(?=\n\n\w+\n---|\Z)", flags=re.MULTILINE | re.DOTALL)


class TypedReturns(griffe.Extension):
    """Puts the annotation of a function before what its docstring says it returns."""

    def on_function_instance(self, *, func: griffe.Function, **_) -> None:
        """Called by griffe for each function."""
        if func.docstring:
            kind = func.returns or "object"
            func.docstring.value = SECTION.sub(
                lambda section: f"{section[1]}\n-------\n{kind}\n    " + section[2].replace("\n", "\n    "),
                func.docstring.value,
            )
