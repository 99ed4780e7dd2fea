"""Stopping cleanly: Ctrl-C and SIGTERM, which let a run save, and then end it with their code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from jaxlessons import devices

KEPT = "\nStopped: the checkpoints so far are kept, --resume goes on."


class Stopped(KeyboardInterrupt):
    """The program ends because of the signal `number`, with this sentence."""

    def __init__(self, number: int, sentence: str = KEPT) -> None:
        super().__init__(sentence)
        self.number = number


class Stop:
    """Whether the user asked to stop, in any of the processes, which all must ask together; the
    second Ctrl-C doesn't wait for the step to end."""

    def __init__(self) -> None:
        self.signal = 0
        # Apart from it, since a signal may come while the processes ask each other.
        self.agreed = 0

    def __call__(self) -> bool:
        self.agreed = devices.highest(self.signal)
        return bool(self.agreed)

    def leave(self, sentence: str) -> NoReturn:
        """Ends the program with the signal's code and, below all else, how to go on."""
        raise Stopped(self.agreed or self.signal, sentence)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM only make a note within this block.

        One that came too late for the block to `leave` is raised at its end, so none is lost.
        """

        def note(number: int, _frame: Any) -> None:
            if self.signal:
                raise Stopped(number)
            self.signal = number

        with handling(note):
            yield
        if self.signal:
            raise Stopped(self.signal)


@contextlib.contextmanager
def handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `handler` within this block."""
    old = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _never_dropped():
            yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


# In seconds: by then the finalizer is done, and nobody notices the wait.
AGAIN_AFTER = 0.05


@contextlib.contextmanager
def _never_dropped() -> Iterator[None]:
    """A `Stopped` that Python drops is raised anew, at the end of the block if not before, unless
    the block ends by another error.

    Python prints and drops what is raised within a finalizer or a callback of its garbage
    collector (JAX has one), and a signal's handler may be called there as well as anywhere.
    """
    dropped: list[Stopped] = []
    timers: list[threading.Timer] = []
    others = sys.unraisablehook

    def raise_again(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Stopped):
            others(unraisable)
            return
        dropped.append(unraisable.exc_value)
        # Later, since here the handler would be called within the finalizer once more.
        signal_again = (os.getpid(), unraisable.exc_value.number)
        timers.append(threading.Timer(AGAIN_AFTER, os.kill, signal_again))
        timers[-1].start()

    sys.unraisablehook = raise_again
    try:
        yield
        if dropped:
            raise dropped[-1]
    finally:
        sys.unraisablehook = others
        # While the handlers still stand, upon one whose time has just come.
        for timer in timers:
            timer.cancel()
            timer.join()
