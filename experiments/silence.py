"""Keeps the libraries from printing, with tracebacks, the errors that the program tells itself."""

from __future__ import annotations

import functools
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import tensorstore


def silence_libraries() -> None:
    """To be called once a process; more often does no harm.

    When a checkpoint can't be written, orbax logs each error that it raises as well, and
    tensorstore each array whose failure nobody waits for any more. What orbax had still to write
    then is never awaited, which Python says when it collects it, maybe at the very end.

    Orbax also collects tensorstore's metrics at each save, for a log that is off, and tensorstore
    never frees what it hands out: 24 lists a checkpoint, for as long as the process lives.
    """
    tensorstore.experimental_collect_matching_metrics = _no_metrics
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # The programs have no coroutines of their own.
    never_awaited = "coroutine '.*' was never awaited"
    warnings.filterwarnings("ignore", message=never_awaited, category=RuntimeWarning)
    if not isinstance(sys.unraisablehook, functools.partial):
        sys.unraisablehook = functools.partial(_print, sys.unraisablehook)


def _no_metrics(*_: Any, **__: Any) -> list[Any]:
    return []


def _print(usual: Callable[[Any], Any], unraisable: Any) -> None:
    """As usual, but for what tensorstore's threads have to tell an event loop that orbax closed
    when the first array failed."""
    error = unraisable.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        usual(unraisable)
