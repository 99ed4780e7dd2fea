"""Training that is ended by SIGTERM saves, says how to go on, and exits with 143."""

import random
import signal
import time

import pytest
from crash_endings import assert_ascending, assert_one_sentence, assert_same_arrays, timeless
from crash_processes import last_line, writings

TERMINATED = 128 + signal.SIGTERM


def assert_same_epochs(broken, whole):
    """The records at epochs' ends, but for the means of an epoch that was broken off."""
    ours, theirs = timeless(broken.records()), timeless(whole.records())
    assert_ascending(ours)
    ends = {record["step"] for record in theirs}
    assert {record["step"] for record in ours} >= ends
    for before, record in zip([None, *ours], ours, strict=False):
        if record["step"] not in ends:
            continue
        other = next(r for r in theirs if r["step"] == record["step"])
        if before is not None and before["step"] not in ends:
            record = {k: v for k, v in record.items() if not k.startswith("train_")}
            other = {k: v for k, v in other.items() if not k.startswith("train_")}
        assert record == other


def terminate(run, condition):
    """Sends SIGTERM once `condition(process)` holds; the sentence that it ends with."""
    with run.go_on() as process:
        assert process.wait_for(lambda: condition(process)), process.err
        assert process.send(signal.SIGTERM) == TERMINATED, process.err
        return process


def a_moment_of_training(run, chance):
    """A condition that holds soon after an epoch's end, many epochs before the last."""
    before = last_line(run.path)

    def due(process):
        met = process.stepped and last_line(run.path) != before
        if met:
            # Less than an epoch, so that no machine is too fast for it.
            time.sleep(chance.uniform(0, 0.2))
        return met

    return due


@pytest.mark.slow
def test_sigterm_saves_and_the_end_is_that_of_an_unbroken_run(runs, unbroken):
    whole, run, chance = unbroken("char"), runs("char", "terminated"), random.Random(5)

    def training():
        return a_moment_of_training(run, chance)

    def writing():
        return lambda process: process.stepped and writings(run.path)["checkpoint"]

    for moment in (training, writing, training):
        process = terminate(run, moment())
        assert_one_sentence(process, "and saved: go on by python -m experiments.char_rnn --resume")
        step = run.good_steps()[-1]
        assert f"Stopped at step {step} of 660" in process.err
        assert run.records()[-1]["step"] == step
    with run.resume() as process:
        assert process.end() == 0, process.err
    last = whole.good_steps()[-1]
    assert run.good_steps()[-1] == last
    assert_same_arrays(run, whole, last)
    assert_same_epochs(run, whole)


@pytest.mark.slow
def test_sigterm_outside_of_training_ends_in_a_sentence_too(runs):
    run = runs("cifar", "terminated")
    moments = [
        lambda process: "Data: " in process.out,
        lambda process: next(run.path.glob(".curves.*.png"), None),
    ]
    for moment in moments:
        process = terminate(run, moment)
        assert_one_sentence(process, "Stopped: the checkpoints so far are kept, --resume goes on.")
        assert not list(run.path.glob(".*"))
    with run.resume() as process:
        assert process.end() == 0, process.err
    assert (run.path / "curves.png").exists()
