"""Which characters of a text make up a batch: index arithmetic on the device.

A text of `count` tokens has count - 1 targets: token i is the input whose target is token i + 1. A
scheme lays windows over the inputs, `batch` of them a step. In all but `random`, lane b of a step
goes on where lane b of the step before ended, so that a recurrent model's state carries over.

`count`, `batch` and `bptt` are Python integers, and all shapes follow from them: under `jax.jit` a
new key compiles nothing. Every scheme raises UserError when `batch` or `bptt` is less than 1, when
the text is too short for one window in each lane, or too long for int32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxlessons.errors import UserError

INT32_LIMIT = 2**31
# torchtext's: one window in 20 is drawn around half of bptt, and none has less than 5 characters.
HALVED = 0.05
SHORTEST = 5


class Windows(NamedTuple):
    """An epoch's windows, to be scanned over; input t of a window is valid for t < length.

    starts: `[steps, batch]` int32, where each window's inputs begin.
    lengths: `[steps, batch]` int32, 1 or more, except in `whole`.
    """

    starts: jax.Array
    lengths: jax.Array


def gather(
    tokens: jax.Array, starts: jax.Array, lengths: jax.Array, width: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Inputs and targets, `[batch, width]` int32, and which of them count, `[batch, width]` bool.

    tokens: `[count]` integers; starts, lengths: `[batch]`, one step of Windows. Beyond a window's
    length come some other tokens of the text.
    """
    step = jnp.arange(width, dtype=jnp.int32)[None, :]
    place = jnp.clip(starts[:, None] + step, 0, len(tokens) - 2)
    mask = step < lengths[:, None]
    return tokens[place].astype(jnp.int32), tokens[place + 1].astype(jnp.int32), mask


def streams(count: int, batch: int, bptt: int) -> Windows:
    """The text cut in `batch` parallel streams, each in windows of `bptt` (the lesson's).

    Left out are less than `bptt` targets at the end of each stream, and less than `batch` at the
    text's.
    """
    _check(count, batch, bptt, needed=batch * bptt + 1)
    lane = (count - 1) // batch
    return _lanes(jnp.int32(0), lane, lane // bptt, batch, bptt)


def sequential(count: int, batch: int, bptt: int, key: jax.Array) -> Windows:
    """d2l's sequential partition: `streams` from a random one of the first `bptt` characters on.

    There are as many steps whatever the offset: those that fit with the largest.
    """
    _check(count, batch, bptt, needed=batch * bptt + bptt)
    lane = (count - bptt) // batch
    offset = jax.random.randint(key, (), 0, bptt, jnp.int32)
    return _lanes(offset, lane, lane // bptt, batch, bptt)


def random(count: int, batch: int, bptt: int, key: jax.Array) -> Windows:
    """d2l's random sampling: windows of `bptt` side by side from a random offset on, shuffled.

    No state carries over. Left out are, each time, up to 2 bptt - 2 targets at the text's ends, and
    the up to batch - 1 windows that the last batch would lack.
    """
    _check(count, batch, bptt, needed=batch * bptt + bptt)
    offset_key, order_key = jax.random.split(key)
    offset = jax.random.randint(offset_key, (), 0, bptt, jnp.int32)
    windows = (count - bptt) // bptt
    steps = windows // batch
    order = jax.random.permutation(order_key, jnp.arange(windows, dtype=jnp.int32))
    starts = offset + bptt * order[: steps * batch].reshape(steps, batch)
    return Windows(starts, jnp.full_like(starts, bptt))


def whole(count: int, batch: int, bptt: int) -> Windows:
    """For evaluation: each of the count - 1 targets once, in `batch` streams of equal length +-1.

    The last windows of a stream may be shorter than `bptt`, or have length 0: there the state is
    to stay as it is.
    """
    _check(count, batch, bptt, needed=2)
    least, longer = divmod(count - 1, batch)
    steps = math.ceil((least + (longer > 0)) / bptt)
    lane = jnp.arange(batch, dtype=jnp.int32)[None, :]
    begin = lane * least + jnp.minimum(lane, longer)
    end = begin + least + (lane < longer)
    starts = jnp.minimum(begin + bptt * jnp.arange(steps, dtype=jnp.int32)[:, None], end)
    return Windows(starts, jnp.minimum(end - starts, bptt))


def jittered(count: int, batch: int, bptt: int, key: jax.Array, deviation: float = 5.0) -> Windows:
    """`streams` whose windows' lengths are drawn anew in each step, the same for all lanes.

    As torchtext and fast.ai do, a length is the floor of a normal draw with that deviation around
    `bptt`, or in 5 % of the steps around bptt/2, and 5 or more (`bptt`, where that is less).
    Departing from them, to keep shapes static, it is `jittered_width` or less, and the number of
    steps is what the mean length makes it. So that the lengths add up to the stream's, random ones
    of them are then made longer or shorter by 1, as often as it takes. Left out are less than
    `batch` targets at the text's end (more only where windows of these lengths can't cover a
    stream).
    """
    if not 0 <= deviation < math.inf:
        raise UserError(f"The deviation of the windows' lengths is {deviation}: it must be >= 0.")
    _check(count, batch, bptt, needed=batch * bptt + 1)
    lane = (count - 1) // batch
    low, high = min(SHORTEST, bptt), jittered_width(bptt, deviation)
    steps = min(max(1, round(lane / _mean_length(bptt, deviation))), lane // low)
    if steps * high >= INT32_LIMIT:
        raise UserError(f"A text of {count:,} characters is too long for jittered windows; cut it.")

    lengths = _lengths(key, steps, bptt, deviation, min(lane, steps * high))
    begin = jnp.cumsum(lengths, dtype=jnp.int32) - lengths
    starts = begin[:, None] + lane * jnp.arange(batch, dtype=jnp.int32)[None, :]
    return Windows(starts, jnp.broadcast_to(lengths[:, None], starts.shape))


def jittered_width(bptt: int, deviation: float = 5.0) -> int:
    """The longest window of `jittered`: two deviations above `bptt`."""
    return bptt + math.ceil(2 * deviation)


class Scheme(NamedTuple):
    """A way to train. windows: (count, batch, bptt, key) -> Windows; width: bptt -> gather's.

    carried: whether a lane goes on where it ended, so that the state is to be kept between steps.
    """

    windows: Callable[[int, int, int, jax.Array], Windows]
    carried: bool
    width: Callable[[int], int] = lambda bptt: bptt


SCHEMES = {
    "streams": Scheme(lambda count, batch, bptt, key: streams(count, batch, bptt), carried=True),
    "jittered": Scheme(jittered, carried=True, width=jittered_width),
    "sequential": Scheme(sequential, carried=True),
    "random": Scheme(random, carried=False),
}


def _check(count: int, batch: int, bptt: int, needed: int) -> None:
    for name, value in (("batch size", batch), ("bptt", bptt)):
        if value < 1:
            raise UserError(f"The {name} is {value}: it must be 1 or more.")
    if count >= INT32_LIMIT:
        raise UserError(
            f"A text of {count:,} characters is too long: {INT32_LIMIT - 1:,} is the most; cut it."
        )
    if count < needed:
        raise UserError(
            f"A text of {count:,} characters is too short for {batch:,} streams of {bptt:,}: it "
            f"takes {needed:,} or more; give a longer text, or a smaller batch size or bptt."
        )


def _lanes(offset: jax.Array, lane: int, steps: int, batch: int, bptt: int) -> Windows:
    """Windows of `bptt` in streams that begin every `lane` characters from `offset` on."""
    step = jnp.arange(steps, dtype=jnp.int32)[:, None]
    starts = offset + lane * jnp.arange(batch, dtype=jnp.int32)[None, :] + bptt * step
    return Windows(starts, jnp.full_like(starts, bptt))


def _mean_length(bptt: int, deviation: float) -> float:
    """The mean of a draw clipped to low..high: low + the sum of P(x >= k) over low < k <= high."""

    def above(k: int, mean: float) -> float:
        if deviation == 0:
            return float(mean >= k)
        return math.erfc((k - mean) / (deviation * math.sqrt(2))) / 2

    low, high = min(SHORTEST, bptt), jittered_width(bptt, deviation)
    lengths = range(low + 1, high + 1)
    return low + sum((1 - HALVED) * above(k, bptt) + HALVED * above(k, bptt / 2) for k in lengths)


# Compiled, since a loop that is run op by op would be compiled anew in each call.
@partial(jax.jit, static_argnames=("steps", "bptt", "deviation", "total"))
def _lengths(key: jax.Array, steps: int, bptt: int, deviation: float, total: int) -> jax.Array:
    """`[steps]` int32, drawn as `jittered` says, that add up to `total`."""
    low, high = min(SHORTEST, bptt), jittered_width(bptt, deviation)
    halved_key, length_key, settle_key = jax.random.split(key, 3)
    halved = jax.random.bernoulli(halved_key, HALVED, (steps,))
    draw = jnp.where(halved, bptt / 2, bptt) + deviation * jax.random.normal(length_key, (steps,))
    drawn = jnp.clip(jnp.floor(draw), low, high).astype(jnp.int32)
    return _settle(settle_key, drawn, total, low, high)


def _settle(key: jax.Array, lengths: jax.Array, total: int, low: int, high: int) -> jax.Array:
    """Adds or takes 1 at random places, within low..high, until `lengths` add up to `total`."""

    def pass_over(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        key, lengths = state
        key, place_key = jax.random.split(key)
        lack = total - jnp.sum(lengths, dtype=jnp.int32)
        has_room = jnp.where(lack > 0, lengths < high, lengths > low)
        luck = jnp.where(has_room, jax.random.uniform(place_key, lengths.shape), 2.0)
        rank = jnp.argsort(jnp.argsort(luck))
        chosen = has_room & (rank < jnp.abs(lack))
        return key, lengths + jnp.where(chosen, jnp.sign(lack), 0)

    def unsettled(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.sum(state[1], dtype=jnp.int32) != total

    return jax.lax.while_loop(unsettled, pass_over, (key, lengths))[1]
