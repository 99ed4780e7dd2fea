"""Texts and batches that no windows fit are told by their sizes; the longest text fits."""

import re
from functools import partial

import jax
import numpy as np
import pytest

from jaxlessons.data import windows
from jaxlessons.errors import UserError

KEY = jax.random.key(3)
ALL = {
    "streams": windows.streams,
    "whole": windows.whole,
    "sequential": partial(windows.sequential, key=KEY),
    "random": partial(windows.random, key=KEY),
    "jittered": partial(windows.jittered, key=KEY),
}


def told(message):
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("name", ALL)
def test_sizes_below_one_are_told(name):
    with told("The batch size is 0: it must be 1 or more."):
        ALL[name](1000, 0, 8)
    with told("The bptt is -1: it must be 1 or more."):
        ALL[name](1000, 4, -1)


@pytest.mark.parametrize(
    ("name", "needed"),
    [("streams", 513), ("jittered", 513), ("sequential", 520), ("random", 520)],
)
def test_a_text_too_short_is_told_with_the_length_that_is_enough(name, needed):
    for count in (0, 300, needed - 1):
        with told(
            f"A text of {count} characters is too short for 64 streams of 8: it takes {needed} or "
            "more; give a longer text, or a smaller batch size or bptt."
        ):
            ALL[name](count, 64, 8)
    assert len(ALL[name](needed, 64, 8).starts) == 1


def test_one_character_has_no_target():
    with pytest.raises(UserError, match=r"A text of 1 characters is too short .* takes 2 or more"):
        windows.whole(1, 64, 8)


@pytest.mark.parametrize("name", ALL)
def test_a_text_beyond_int32_is_told(name):
    with told("A text of 2,147,483,648 characters is too long: 2,147,483,647 is the most; cut it."):
        ALL[name](2**31, 64, 8)


def test_the_longest_text_overflows_nowhere():
    count = 2**31 - 1
    made = windows.streams(count, 2**16, 2**10)
    assert int(made.starts[-1, -1]) == 65535 * ((count - 1) // 65536) + 1024 * (
        len(made.starts) - 1
    )
    made = windows.whole(count, 2**16, 2**10)
    starts, lengths = (np.asarray(x).astype(np.int64) for x in made)
    assert lengths.min() >= 0
    assert lengths.sum() == count - 1
    assert (starts + lengths).max() == count - 1
