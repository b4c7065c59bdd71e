"""What the user did not mean: one exception that says what is wrong, where, and how to mend it."""

from collections.abc import Sequence


class InputError(Exception):
    """A fault in the user's data, sheet or configuration.

    Parameters
    ----------
    problem
        What is wrong, in one sentence.
    where
        The file, key or line that holds the fault.
    hint
        What the user can do about it.
    """

    def __init__(self, problem: str, *, where: str | None = None, hint: str | None = None):
        self.problem = problem
        self.where = where
        self.hint = hint
        text = f"{where}: {problem}" if where else problem
        super().__init__(f"{text}\n    Hint: {hint}" if hint else text)

    @classmethod
    def of_all(cls, faults: Sequence["InputError"], what: str) -> "InputError":
        """One error that lists all of ``faults``, for checks that report everything at once."""
        lines = "\n".join(f"  {number}. {fault}" for number, fault in enumerate(faults, start=1))
        count = f"{len(faults)} fault" + ("s" if len(faults) > 1 else "")
        return cls(f"{count} in {what}:\n{lines}")
