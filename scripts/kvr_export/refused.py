"""Why a model can't be exported; the message, one line, is for the user."""


class Refused(Exception):
    """The source, or an option, is of a kind that is not supported."""

    status = 2


class Damaged(Refused):
    """A file of the source is missing, damaged or does not fit the others."""

    status = 3


def one_line(error: object, most: int = 300) -> str:
    """A message, which may be a loader's of many lines, as one that is not too long."""
    return " ".join(str(error).split())[:most]
