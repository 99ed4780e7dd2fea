"""What comparisons of speed share: contestants in turns, ratios, what a process grows by."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments import memory

# Makes a contestant: a function that does the work once and is done when it returns.
Make = Callable[[], Callable[[], Any]]


class Ratio(NamedTuple):
    """How many times as fast: the median over the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def take_turns(
    calls: Mapping[str, Callable[[], Any]], rounds: int, pause: float
) -> dict[str, list[float]]:
    """The seconds of each contestant's calls, by name; all are called once a round.

    pause: seconds ahead of each call, in which the threads of the one before go to sleep, which
    would otherwise get in its way.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(pause)
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return seconds


@contextlib.contextmanager
def apart(makes: Mapping[str, Make]) -> Iterator[dict[str, Callable[..., Any]]]:
    """Each contestant's call, made and done in a process of its own; the makes are pickled.

    So no library's threads, or settings of the memory, get in the other's way. A call may be given
    how many times in a row to do the work, and gives what the last gave; it has half a millisecond
    or so of the way there and back in it.
    """
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(_process()) for name in makes}
        try:
            for name, make in makes.items():
                processes[name].submit(_keep, make).result()
            yield {name: partial(_call, process) for name, process in processes.items()}
        except BaseException:
            # Else the end waits for what they are at, such as a minute of compiling.
            for child in multiprocessing.active_children():
                child.terminate()
            raise


_kept: list[Callable[[], Any]] = []


def _keep(make: Make) -> None:
    _kept.append(make())


def _call_kept(times: int) -> Any:
    for _ in range(times):
        found = _kept[-1]()
    return found


def _call(process: ProcessPoolExecutor, times: int = 1) -> Any:
    return process.submit(_call_kept, times).result()


def _process() -> ProcessPoolExecutor:
    """Ctrl-C, which a terminal sends to all, is this process's to answer."""
    return ProcessPoolExecutor(
        1,
        multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )


def keeping_memory(make: Make) -> Callable[[], Any]:
    """What `make` makes, in a process that keeps the memory that it frees, as a run's does."""
    memory.one_heap()
    return make()


def ratio(own: Sequence[float], reference: Sequence[float]) -> Ratio:
    """How many times as fast as the reference, round by round: a machine's speed drifts."""
    ratios = sorted(b / a for a, b in zip(own, reference, strict=True))
    quarter = len(ratios) // 4
    return Ratio(statistics.median(ratios), ratios[quarter], ratios[-1 - quarter])


def peak_resident() -> int:
    """Bytes that this process has had in memory at most."""
    if sys.platform == "linux":
        # Of this program alone: ru_maxrss begins with what the parent had when it started us.
        status = Path("/proc/self/status").read_text()
        return 2**10 * int(status.split("VmHWM:")[1].split()[0])
    unit = 1 if sys.platform == "darwin" else 2**10
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_growth(make: Make, calls: int) -> int:
    """Bytes that making a contestant and calling it takes at its peak, whichever its library.

    On a CPU what the process grows by, compilation and what a library caches included; on a GPU
    what the libraries hold there. To be called in a process of its own: a peak is of a whole life.
    """
    before = peak_resident()
    call = make()
    for _ in range(calls):
        call()
    if jax.default_backend() == "cpu":
        return peak_resident() - before
    held = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    torch = sys.modules.get("torch")
    return held + (torch.cuda.max_memory_allocated() if torch else 0)


def peak_megabytes(makes: Mapping[str, Make], calls: int = 1) -> dict[str, float]:
    """Megabytes of `peak_growth`, each in a process of its own; the makes are pickled."""
    found = {}
    for name, make in makes.items():
        with _process() as alone:
            found[name] = alone.submit(peak_growth, make, calls).result() / 2**20
    return found
