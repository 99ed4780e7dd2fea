"""Memory that was freed is used again, or goes back to the system; with glibc, elsewhere nothing.

glibc's malloc has an arena for each few threads, and keeps what is freed in each: some 300 MB after
a compilation. Each checkpoint has new threads, and theirs spread over these arenas: a resident set
that grows for hundreds of epochs, although nothing is kept. And what is larger than 32 MB it maps
anew each time, such as what a step computes: on a CPU a seventh of Resnet2's went into page faults.

In one heap these are spared, but a block that is freed may not be found again: once something small
has been put into its place, one of the same size no longer fits, and the heap grows by all of it.
So a thread looks after it, and gives back what is free when that is too much.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # mallopt's names for them

# Between looks at what is in use, and the least between two that give back: for each of those the
# next step pays with the page faults that are to be spared.
SECONDS, PAUSE = 1.0, 10.0
# What may be resident: so many times what was in use at most, and so many bytes.
TIMES, BESIDE = 1.5, 2**30


class _Mallinfo2(ctypes.Structure):
    """glibc's account of its heaps, in bytes; uordblks: in use."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


@functools.cache
def one_heap() -> None:
    """Has all threads allocate in one heap, however much, which keeps what is freed until
    `give_back`, or until it is far more than was ever in use; to be called before jax starts its
    own."""
    mallopt = _glibc("mallopt")
    mallopt(M_ARENA_MAX, 1)
    if _glibc("mallinfo2") is _nothing:  # older than 2.33: nothing tells when it is too much
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    threading.Thread(target=_look_after, name="heap", daemon=True).start()


def give_back() -> None:
    """Returns what is free to the system."""
    _glibc("malloc_trim")(0)


def _look_after() -> None:
    """For as long as the process lives."""
    mallinfo2, page = _glibc("mallinfo2"), os.sysconf("SC_PAGE_SIZE")
    mallinfo2.restype = _Mallinfo2  # type: ignore[attr-defined]
    # Read without a buffer, which might be what is put into a block's place.
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    most, given = 0, 0.0
    while True:
        time.sleep(SECONDS)
        resident = int(os.pread(statm, 100, 0).split()[1]) * page
        if resident < BESIDE:  # the account takes a lock on the heap, and milliseconds
            continue
        most = max(most, mallinfo2().uordblks)  # type: ignore[attr-defined]
        if resident > TIMES * most + BESIDE and time.monotonic() > given + PAUSE:
            give_back()
            given = time.monotonic()


@functools.cache
def _glibc(name: str) -> Callable[..., object]:
    """The function, or what does nothing where there is another C library."""
    try:
        return getattr(ctypes.CDLL(None), name) if sys.platform == "linux" else _nothing
    except (OSError, AttributeError):
        return _nothing


def _nothing(*_: int) -> None:
    """In place of a function that isn't there."""
