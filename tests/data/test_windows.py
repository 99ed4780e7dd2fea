"""Each scheme against one written in plain Python, and what is promised of all."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.data import windows

CASES = [
    (513, 64, 8),
    (1000, 4, 8),
    (1001, 7, 13),
    (33, 1, 32),
    (65, 2, 32),
    (40, 3, 1),
    (30, 1, 1),
]
KEY = jax.random.key(3)


def rows(made):
    """[steps][lane] of (start, length), as Python integers."""
    starts, lengths = np.asarray(made.starts), np.asarray(made.lengths)
    assert starts.dtype == lengths.dtype == np.int32
    assert starts.shape == lengths.shape
    pairs = zip(starts.tolist(), lengths.tolist(), strict=True)
    return [list(zip(s, n, strict=True)) for s, n in pairs]


def targets_of(steps):
    """Every target's place, once for each time that it is counted."""
    return [start + t + 1 for step in steps for start, length in step for t in range(length)]


def assert_carries_over(steps):
    for before, after in pairwise(steps):
        for (start, length), (following, _) in zip(before, after, strict=True):
            assert following == start + length


def assert_within(steps, count):
    places = targets_of(steps)
    assert len(set(places)) == len(places)
    assert min(places) >= 1
    assert max(places) <= count - 1


# Gathering.


def test_windows_hold_the_text_and_the_character_after():
    text = "the quick brown fox"
    tokens = jnp.array([ord(c) for c in text], jnp.uint8)
    starts, lengths = jnp.array([0, 4, 14, 18]), jnp.array([5, 3, 4, 0])
    inputs, targets, mask = windows.gather(tokens, starts, lengths, 6)
    assert inputs.dtype == targets.dtype == jnp.int32
    assert inputs.shape == targets.shape == mask.shape == (4, 6)
    for row, (start, length) in enumerate([(0, 5), (4, 3), (14, 4), (18, 0)]):
        assert mask[row].tolist() == [True] * length + [False] * (6 - length)
        valid = slice(0, length)
        assert "".join(map(chr, inputs[row, valid])) == text[start : start + length]
        assert "".join(map(chr, targets[row, valid])) == text[start + 1 : start + length + 1]


def test_gathering_is_the_same_compiled_and_over_a_scan():
    tokens = jnp.arange(100, dtype=jnp.int32) * 7 % 50
    made = windows.whole(100, 4, 6)

    def step(total, window):
        inputs, targets, mask = windows.gather(tokens, *window, 6)
        return total + jnp.sum(jnp.where(mask, targets * targets + inputs, 0)), None

    total, _ = jax.jit(lambda: jax.lax.scan(step, jnp.int32(0), made))()
    values = [i * 7 % 50 for i in range(100)]
    assert int(total) == sum(y * y + x for x, y in pairwise(values))


# The lesson's streams and d2l's two ways.


@pytest.mark.parametrize(("count", "batch", "bptt"), CASES)
def test_streams_lie_side_by_side(count, batch, bptt):
    steps = rows(windows.streams(count, batch, bptt))
    lane = (count - 1) // batch
    expected, position = [], 0
    while position + bptt <= lane:
        expected.append([(lane * b + position, bptt) for b in range(batch)])
        position += bptt
    assert steps == expected
    assert_carries_over(steps)
    assert_within(steps, count)
    left_out = count - 1 - len(targets_of(steps))
    assert left_out <= batch * (bptt - 1) + batch - 1


@pytest.mark.parametrize(("count", "batch", "bptt"), [(1000, 4, 8), (1001, 7, 13), (64, 1, 32)])
def test_the_sequential_partition_is_d2ls(count, batch, bptt):
    offsets = set()
    for seed in range(40):
        steps = rows(windows.sequential(count, batch, bptt, jax.random.key(seed)))
        offset = steps[0][0][0]
        offsets.add(offset)
        # d2l's: the text from the offset on, reshaped to lanes; as many steps as always fit.
        lane = (count - bptt) // batch
        for i, step in enumerate(steps):
            assert step == [(offset + b * lane + i * bptt, bptt) for b in range(batch)]
        assert len(steps) == lane // bptt
        assert_carries_over(steps)
        assert_within(steps, count)
    assert min(offsets) >= 0
    assert max(offsets) < bptt
    assert len(offsets) > min(bptt, 40) / 2


@pytest.mark.parametrize(("count", "batch", "bptt"), [(993, 4, 8), (1001, 7, 13), (64, 1, 32)])
def test_random_windows_are_d2ls(count, batch, bptt):
    offsets, orders = set(), set()
    for seed in range(40):
        steps = rows(windows.random(count, batch, bptt, jax.random.key(seed)))
        starts = [start for step in steps for start, length in step if length == bptt]
        assert len(starts) == len(steps) * batch == (count - bptt) // bptt // batch * batch
        assert len({start % bptt for start in starts}) == 1
        offsets.add(starts[0] % bptt)
        orders.add(tuple(start // bptt for start in starts))
        assert_within(steps, count)
        assert min(starts) >= 0
        uncovered = count - 1 - len(starts) * bptt
        assert uncovered <= 2 * bptt - 2 + (batch - 1) * bptt
    assert len(offsets) > min(bptt, 40) / 2
    assert len(orders) == (1 if len(starts) == 1 else 40)


def test_random_windows_reach_both_ends_of_the_text():
    reached = set()
    for seed in range(200):
        reached |= set(targets_of(rows(windows.random(50, 2, 5, jax.random.key(seed)))))
    assert reached == set(range(1, 50))


# Evaluation.


@pytest.mark.parametrize(
    ("count", "batch", "bptt"),
    [*CASES, (2, 1, 1), (2, 64, 8), (50, 64, 8), (66, 64, 8), (1026, 64, 8), (120_179, 64, 70)],
)
def test_the_whole_text_is_counted_once_whatever_the_batch(count, batch, bptt):
    steps = rows(windows.whole(count, batch, bptt))
    assert sorted(targets_of(steps)) == list(range(1, count))
    assert_carries_over(steps)
    assert all(0 <= start < count and length <= bptt for step in steps for start, length in step)
    totals = [sum(step[b][1] for step in steps) for b in range(batch)]
    assert max(totals) - min(totals) <= 1
    assert len(steps) == math.ceil(max(totals) / bptt)
    for lane in zip(*steps, strict=True):
        lengths = [length for _, length in lane]
        assert lengths == sorted(lengths, reverse=True)  # full ones, a shorter one, empty ones


# Compilation.


KEYED = {
    "sequential": windows.sequential,
    "random": windows.random,
    "jittered": windows.jittered,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KEYED)
def test_a_new_key_changes_the_windows_and_compiles_nothing(name):
    traces = []

    @jax.jit
    def epoch(key):
        traces.append(key)
        made = KEYED[name](1000, 4, 8, key)

        def step(total, window):
            return total + jnp.sum(windows.gather(tokens, *window, 18)[2]), None

        return made, jax.lax.scan(step, jnp.int32(0), made)[0]

    tokens = jnp.zeros(1000, jnp.int32)
    seen = set()
    for seed in range(5):
        made, total = epoch(jax.random.key(seed))
        eager = KEYED[name](1000, 4, 8, jax.random.key(seed))
        for mine, theirs in zip(made, eager, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert int(total) == int(made.lengths.sum())
        seen.add(np.asarray(made.starts).tobytes())
    assert len(traces) == 1
    assert len(seen) >= 4


def test_the_schemes_by_name_say_what_carries_over():
    assert {name: scheme.carried for name, scheme in windows.SCHEMES.items()} == {
        "streams": True,
        "jittered": True,
        "sequential": True,
        "random": False,
    }
    for scheme in windows.SCHEMES.values():
        made = scheme.windows(1000, 4, 8, KEY)
        assert int(made.lengths.max()) <= scheme.width(8)
        if scheme.carried:
            assert_carries_over(rows(made))
    assert windows.SCHEMES["jittered"].width(8) == 18
