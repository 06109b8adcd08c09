"""Why a model can't be exported; the message, one line, is for the user."""


class Refused(Exception):
    """The source, or an option, is of a kind that is not supported."""

    status = 2


class Damaged(Refused):
    """A file of the source is missing, damaged or does not fit the others."""

    status = 3
