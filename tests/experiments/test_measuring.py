"""What the comparisons of speed are made of: turns, ratios, growth."""

import itertools
import os
import time
from functools import partial

import numpy as np
import pytest

from experiments import measuring


def test_contestants_take_turns_and_are_timed_by_themselves(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(measuring.time, "sleep", lambda pause: clock.append(pause))

    def contestant(name, seconds):
        def call():
            order.append(name)
            clock[0] += seconds

        return call

    calls = {"a": contestant("a", 1.5), "b": contestant("b", 4.0)}
    assert measuring.take_turns(calls, 3, pause=0.25) == {"a": [1.5] * 3, "b": [4.0] * 3}
    assert order == ["a", "b"] * 3
    assert clock[1:] == [0.25] * 6


def test_a_ratio_is_of_rounds_side_by_side_so_that_drift_cancels():
    # The machine slows down tenfold; in each round the reference takes twice as long.
    own = [1.0, 2.0, 4.0, 8.0, 10.0]
    assert measuring.ratio(own, [2 * s for s in own]) == (2.0, 2.0, 2.0)
    ratio = measuring.ratio([1.0] * 8, [8.0, 1.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0])
    assert ratio == (4.5, 3.0, 6.0)


@pytest.mark.slow
def test_growth_is_of_what_was_held_at_the_peak():
    # As much again as this process ever held: its peak has to rise by what it holds now.
    peak = measuring.peak_resident()

    def make():
        held = np.ones(peak // 8)
        return held.sum

    assert 2**25 < measuring.peak_growth(make, 1) <= 1.1 * peak


def hold(megabytes):
    held = np.ones(megabytes * 2**17)
    return lambda: held + 1


def count(start):
    calls = itertools.count(start)
    return lambda: (os.getpid(), next(calls))


@pytest.mark.slow
def test_contestants_apart_keep_their_state_each_in_its_process():
    with measuring.apart({"a": partial(count, 1), "b": partial(count, 10)}) as calls:
        found = [call() for _ in range(2) for call in calls.values()]
        found.append(calls["b"](3))
    pids, numbers = zip(*found, strict=True)
    assert numbers == (1, 10, 2, 11, 14)
    assert pids[:2] == pids[2:4] == (pids[0], pids[4])
    assert len({*pids, os.getpid()}) == 3


def rest(seconds):
    return partial(time.sleep, seconds)


def stop_a_rest():
    with measuring.apart({"a": partial(rest, 300)}) as calls:
        # What calls["a"]() does, but for waiting.
        calls["a"].args[0].submit(measuring._call_kept, 1)
        time.sleep(0.5)
        raise KeyboardInterrupt


@pytest.mark.slow
def test_who_stops_does_not_wait_for_what_contestants_are_at():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stop_a_rest()
    assert time.monotonic() - began < 100


def test_memory_is_kept_from_before_a_contestant_is_made(monkeypatch):
    done = []
    monkeypatch.setattr(measuring.memory, "one_heap", lambda: done.append("kept"))
    assert measuring.keeping_memory(lambda: done.append("made") or len)("ab") == 2
    assert done == ["kept", "made"]


@pytest.mark.slow
def test_what_goes_wrong_apart_is_told():
    broken = measuring.apart({"a": partial(sorted, [1, "two"])})
    with pytest.raises(TypeError, match="not supported"), broken:
        raise AssertionError("it was made")


@pytest.mark.slow
def test_each_contestant_has_a_process_of_its_own():
    found = measuring.peak_megabytes({n: partial(hold, n) for n in (50, 200)})
    assert found[50] == pytest.approx(100, rel=0.1)
    assert found[200] == pytest.approx(400, rel=0.1)
