"""The one exception whose text is meant for the user."""

FOREIGN = (Exception, SystemExit)
"""What foreign code may raise where that is an answer and no mistake of ours: some exits where a package is missing."""


class OptcheckError(Exception):
    """Something a user can mend; its text is one line: what was found, what was expected, what mends it."""


def one_line(error: BaseException) -> str:
    """`error` as ``Type: first line of its message``, for reports that have one line for it."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0].strip()}" if lines else name
