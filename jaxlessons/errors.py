"""The one exception that means: the input is wrong, and here is what to do about it."""


class UserError(ValueError):
    """Wrong input, told in one sentence: what was wrong, where, and what to do.

    The experiments print it without a traceback; any other exception is a bug.
    """
