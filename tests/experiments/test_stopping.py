"""Ctrl-C and SIGTERM end a program in one sentence, whatever it does when they come."""

import os
import signal
import sys
import time

import pytest

from experiments import command_line
from experiments.stopping import AGAIN_AFTER, Stop, handling
from jaxlessons.data import cifar10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ahead_of_training_ends_in_one_sentence(run, monkeypatch, number):
    before = signal.getsignal(number)
    monkeypatch.setattr(cifar10, "load", lambda data_dir: os.kill(os.getpid(), number))
    result = run("cifar_cnn --model simple --name mine")
    assert result.code == 128 + number
    assert result.err == "\nStopped: the checkpoints so far are kept, --resume goes on.\n"
    assert signal.getsignal(number) is before


def stop_by(signals, leave=True):
    """The exit code of a program that these signals reach while it trains."""

    def main():
        stop = Stop()
        with stop.listening():
            for number in signals:
                os.kill(os.getpid(), number)
            if leave and stop():
                stop.leave("Saved.")
        raise AssertionError("it went on after the signal")

    with pytest.raises(SystemExit) as end:
        command_line.run(main)
    return end.value.code


def test_the_first_signal_saves_and_the_second_does_not_wait(capsys):
    assert stop_by([signal.SIGTERM]) == 143
    assert capsys.readouterr().err == "Saved.\n"
    assert stop_by([signal.SIGINT, signal.SIGTERM]) == 143
    assert "Saved" not in capsys.readouterr().err


def test_a_signal_that_comes_when_training_has_just_ended_is_not_lost(capsys):
    assert stop_by([signal.SIGTERM], leave=False) == 143
    assert "the checkpoints so far are kept" in capsys.readouterr().err


class SignalWhenFinalized:
    """Where Python drops what a signal's handler raises."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("rest", [lambda: time.sleep(60), lambda: None], ids=["waiting", "ending"])
def test_a_signal_that_python_drops_within_a_finalizer_is_not_lost(capsys, rest):
    def main():
        SignalWhenFinalized()
        rest()

    hook, started = sys.unraisablehook, time.monotonic()
    with pytest.raises(SystemExit) as end:
        command_line.run(main)
    assert end.value.code == 143
    assert time.monotonic() - started < 30
    assert capsys.readouterr().err == (
        "\nStopped: the checkpoints so far are kept, --resume goes on.\n"
    )
    assert sys.unraisablehook is hook
    # Nor does it come once more, when nobody handles it any longer.
    time.sleep(2 * AGAIN_AFTER)


def test_what_else_a_finalizer_raises_is_still_shown(monkeypatch):
    class Broken:
        def __del__(self):
            raise ValueError("broken")

    shown = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda unraisable: shown.append(unraisable.exc_value)
    )
    with handling(lambda number, frame: None):
        Broken()
    assert [str(error) for error in shown] == ["broken"]
