"""The arithmetic of the comparison with PyTorch, and what it refuses."""

from types import SimpleNamespace

import pytest

from experiments import style_speed, style_torch
from experiments.style_speed import Config


def contestants(ours, theirs):
    analysis = SimpleNamespace(
        argument_size_in_bytes=2**20,
        temp_size_in_bytes=3 * 2**20,
        output_size_in_bytes=2**19,
        alias_size_in_bytes=2**19,
    )
    call = SimpleNamespace(memory_analysis=lambda: analysis)
    return (
        SimpleNamespace(values=ours, call=call, compile_seconds=4.0),
        SimpleNamespace(values=theirs, peak_bytes=lambda: None),
    )


def test_ratios_are_of_turns_side_by_side_and_of_the_time_to_equal_loss():
    ours, theirs = contestants([9.0, 5.0, 2.0, 1.0], [9.0, 8.0, 4.0, 3.0])
    # The first turn, with what is done but once, doesn't count; the machine then slows down.
    seconds = {"ours": [50.0, 1.0, 2.0, 4.0], "torch": [90.0, 2.0, 4.0, 8.0]}
    found = style_speed.figures(Config(turn=2), ours, theirs, seconds)
    assert found["ratio"] == 2.0
    assert found["quartiles"] == [2.0, 2.0]
    assert found["seconds_per_evaluation"] == {"ours": 1.0, "torch": 2.0}
    # 3.0 is what both reach: we after three evaluations, PyTorch after four.
    assert found["evaluations_to_equal_loss"] == {"ours": 3, "torch": 4}
    assert found["ratio_to_equal_loss"] == pytest.approx(2 * 4 / 3)
    assert found["memory_megabytes"] == {"ours": 4.0, "torch": None}


@pytest.mark.parametrize(
    ("installed", "words", "message"),
    [
        (None, "", "PyTorch is not installed"),
        (object(), "--scales 2", "--scales is not compared"),
        (object(), "--pool avg", "--pool is not compared"),
        (object(), "--style a.jpg b.jpg", "--style names 2: compared is one"),
        (object(), "--evaluations 10 --turn 6", "it must be two turns or more"),
    ],
)
def test_what_is_not_compared_is_refused(run_in, monkeypatch, installed, words, message):
    monkeypatch.setattr(style_torch, "torch", installed)
    done = run_in(style_speed.main, ["style_speed", *words.split()])
    assert (done.code, message in done.err) == (1, True), done.err
