"""The one exception that means: the input is wrong, and here is what to do about it."""


class UserError(ValueError):
    """Wrong input, told in one sentence: what was wrong, where, and what to do.

    The experiments print it without a traceback; any other exception is a bug.
    """


def reason(error: BaseException) -> str:
    """What `error` says, fit to stand within a sentence: one line, not long, all of it printable.

    The errors of a library that met a broken file quote what was in it.
    """
    line = next(iter(str(error).strip().splitlines()), "")[:200]
    shown = "".join(letter if letter.isprintable() else "?" for letter in line)
    return shown.rstrip(". ") or type(error).__name__
