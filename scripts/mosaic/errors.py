"""`InputError`: a problem in the user's input, with its location and how to fix it."""

from collections.abc import Sequence


def printable(text: str) -> str:
    """Text from a file, with control characters, line breaks and direction marks escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class InputError(Exception):
    """A fault in the user's data, sample sheet or configuration. Unprintable characters are escaped.

    Parameters
    ----------
    problem
        What is wrong, in one sentence.
    where
        The file, key or line with the fault.
    hint
        What the user can do about it.
    """

    def __init__(self, problem: str, *, where: str | None = None, hint: str | None = None):
        self.problem = problem
        self.where = where
        self.hint = hint
        text = printable(f"{where}: {problem}" if where else problem)
        super().__init__(f"{text}\n    Hint: {printable(hint)}" if hint else text)

    @classmethod
    def of_all(cls, faults: Sequence["InputError"], what: str) -> "InputError":
        """One error that lists all of ``faults``, for checks that report everything at once."""
        lines = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(faults, start=1))
        count = f"{len(faults)} fault" + ("s" if len(faults) > 1 else "")
        whole = cls(f"{count} in {what}")
        whole.args = (f"{whole}:\n{lines}",)  # the faults are already printable and have line breaks
        return whole


def few(names: Sequence, most: int = 3) -> str:
    """The first names, for a message."""
    names = [shortened(str(name)) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def shortened(text: str, most: int = 60) -> str:
    """The beginning and the end of a text that is longer than ``most``."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"
