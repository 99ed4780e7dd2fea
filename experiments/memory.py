"""Memory that was freed is used again, or goes back to the system; with glibc, elsewhere nothing.

glibc's malloc has an arena for each few threads, and keeps what is freed in each: some 300 MB after
a compilation. Each checkpoint has new threads, and theirs spread over these arenas: a resident set
that grows for hundreds of epochs, although nothing is kept. And what is larger than 32 MB it maps
anew each time, such as what a step computes: on a CPU a seventh of Resnet2's went into page faults.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # mallopt's names for them


def one_heap() -> None:
    """Has all threads allocate in one heap, however much, which keeps what is freed until
    `give_back`; to be called before jax starts its own."""
    mallopt = _glibc("mallopt")
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)


def give_back() -> None:
    """Returns what is free to the system."""
    _glibc("malloc_trim")(0)


@functools.cache
def _glibc(name: str) -> Callable[..., object]:
    """The function, or what does nothing where there is another C library."""
    try:
        return getattr(ctypes.CDLL(None), name) if sys.platform == "linux" else _nothing
    except (OSError, AttributeError):
        return _nothing


def _nothing(*_: int) -> None:
    """In place of a function that isn't there."""
