"""Windows of a random length: they cover every stream, and are as long as torchtext's."""

import math
import re

import jax
import numpy as np
import pytest

from jaxlessons.data import windows
from jaxlessons.errors import UserError

KEY = jax.random.key(3)


JITTERED = [
    *[(480_714, 64, 8, 5.0), (30_000, 64, 70, 5.0), (513, 64, 8, 5.0)],
    *[(1000, 1, 1, 0.5), (1000, 8, 3, 0.0)],
]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "batch", "bptt", "deviation"), JITTERED)
def test_jittered_windows_cover_every_stream_side_by_side(count, batch, bptt, deviation):
    lane = (count - 1) // batch
    for seed in range(5):
        made = windows.jittered(count, batch, bptt, jax.random.key(seed), deviation)
        lengths, starts = np.asarray(made.lengths), np.asarray(made.starts)
        assert starts.dtype == lengths.dtype == np.int32
        assert (lengths == lengths[:, :1]).all()
        assert lengths.min() >= min(5, bptt)
        assert lengths.max() <= windows.jittered_width(bptt, deviation) == bptt + 2 * deviation
        assert starts[0].tolist() == [b * lane for b in range(batch)]
        assert (starts[1:] == starts[:-1] + lengths[:-1]).all()
        # All of the stream, if windows of these lengths can cover it.
        assert lengths[:, 0].sum() == (lane if deviation or bptt > 5 else lane // bptt * bptt)


def torchtext_lengths(count, bptt, deviation, random):
    """max(5, int(normal)) as torchtext and fast.ai draw, less what is cut off above."""
    mean = np.where(random.random(count) < 0.95, bptt, bptt / 2)
    drawn = np.maximum(min(5, bptt), random.normal(mean, deviation).astype(int))
    return np.minimum(drawn, bptt + 2 * deviation)


@pytest.mark.slow
@pytest.mark.parametrize("bptt", [8, 70])
def test_jittered_lengths_are_distributed_as_torchtexts(bptt):
    count, batch = 1_000_001, 4
    made = windows.jittered(count, batch, bptt, KEY)
    ours = np.asarray(made.lengths)[:, 0]
    theirs = torchtext_lengths(1_000_000, bptt, 5, np.random.default_rng(0))
    assert len(ours) == pytest.approx(250_000 / theirs.mean(), rel=1e-3)
    # The largest distance of the distributions: Kolmogorov and Smirnov's, at a level of 1e-3.
    levels = np.arange(100)
    distance = (ours[:, None] <= levels).mean(0) - (theirs[:, None] <= levels).mean(0)
    assert abs(distance).max() < 1.95 / len(ours) ** 0.5
    # No step's length tells the next one's, and the start is as the end.
    assert abs(np.corrcoef(ours[1:], ours[:-1])[0, 1]) < 4 / len(ours) ** 0.5
    half = len(ours) // 2
    assert ours[:half].mean() == pytest.approx(ours[half:].mean(), abs=8 * ours.std() / half**0.5)


def test_without_deviation_only_the_halved_windows_differ():
    lengths = np.asarray(windows.jittered(200_001, 1, 40, KEY, 0.0).lengths)[:, 0]
    values, counts = np.unique(lengths, return_counts=True)
    share = dict(zip(values.tolist(), counts / len(lengths), strict=True))
    assert share[40] > 0.9
    assert sum(share[v] for v in share if v <= 22) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("deviation", [-1.0, math.inf, math.nan])
def test_a_deviation_that_is_none_is_told(deviation):
    message = f"The deviation of the windows' lengths is {deviation}: it must be >= 0."
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        windows.jittered(1000, 4, 8, KEY, deviation)
