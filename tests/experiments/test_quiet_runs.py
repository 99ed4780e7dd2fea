"""Only what the program tells itself is kept from being printed."""

import gc
import logging
import subprocess
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from experiments import silence
from jaxlessons import checkpoint


def test_nothing_but_a_closed_loop_goes_unsaid(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    silence.silence_libraries()
    hook = sys.unraisablehook
    silence.silence_libraries()
    assert sys.unraisablehook is hook
    errors = [
        RuntimeError("Event loop is closed"),
        RuntimeError("another"),
        ValueError("Event loop is closed"),
    ]
    found = [SimpleNamespace(exc_value=error) for error in errors]
    for unraisable in found:
        hook(unraisable)
    assert said == found[1:]


@pytest.mark.parametrize("name", ["absl", "asyncio"])
def test_errors_that_libraries_log_before_they_raise_them_are_not_shown(name, caplog):
    silence.silence_libraries()
    logging.getLogger(name).error("a traceback")
    assert caplog.records == []
    logging.getLogger("another").error("an error")
    assert len(caplog.records) == 1


COROUTINE_LEFT = """
import sys
from experiments import silence
async def write(): pass
def leave():
    kept = []
    kept.extend([kept, write()])
if sys.argv[1:]: silence.silence_libraries()
leave()
sys.exit("error: The disk is full.")
"""


@pytest.mark.parametrize("silent", [True, False])
def test_the_last_words_stay_the_last_when_a_failed_save_left_coroutines(silent):
    words = [sys.executable, "-c", COROUTINE_LEFT, *(["silent"] * silent)]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 1
    # Without it the warning comes, so the test would see it.
    assert ("never awaited" in ended.stderr) == (not silent)
    assert (ended.stderr == "error: The disk is full.\n") == silent


@pytest.mark.slow
def test_saving_leaves_nothing_behind_in_memory(tmp_path):
    silence.silence_libraries()
    state = {"kernel": jnp.ones((4, 4))}

    def lists(first, last):
        for step in range(first, last):
            checkpoint.save(tmp_path, state, step=step)
        gc.collect()
        return sum(type(kept) is list for kept in gc.get_objects())

    # Tensorstore's metrics were 24 for each that was saved.
    before = lists(0, 10)
    assert lists(10, 20) - before < 20
