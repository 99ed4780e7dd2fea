"""A block in which nothing warns, which several threads may be in at once."""

from __future__ import annotations

import threading
import warnings


class Quiet:
    """`with QUIET:`; warnings come back when the last thread has left.

    `warnings.catch_warnings` alone puts back what it found, which was another thread's silence.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.before = warnings.catch_warnings()
                self.before.__enter__()
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.before.__exit__(None, None, None)


QUIET = Quiet()
