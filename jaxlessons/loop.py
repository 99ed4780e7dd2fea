"""The loop around a jitted step: epochs, calls to the device, callbacks, and when to stop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from jaxlessons.devices import SINGLE
from jaxlessons.metrics import Sums
from jaxlessons.watch import Watch, check_finite

# (state, data, one step's inputs) -> (state, sums); the old state is consumed.
Step = Callable[[Any, Any, Any], tuple[Any, Sums]]


class EpochEnd(NamedTuple):
    """What a loop tells after an epoch. epoch: those finished; metrics: means over its steps.

    After a resume in the middle of an epoch its metrics are those of the steps since then.
    """

    epoch: int
    state: Any
    metrics: dict[str, float]


def run(
    state: Any,
    step: Step,
    data: Any,
    inputs: Callable[[Any, int], Any],
    *,
    per_epoch: int,
    total_steps: int,
    steps_per_call: int,
    on_steps: Callable[[int, Sums], None] = lambda step, sums: None,
    on_epoch: Callable[[EpochEnd], None] = lambda end: None,
    should_stop: Callable[[], bool] = lambda: False,
    begin_epoch: Callable[[Any], Any] = lambda state: state,
    began: tuple[int, int] = (0, 0),
    share: Callable[[Any], Any] = SINGLE.share_steps,
) -> Any:
    """Steps `state` (with `.step` and `.variables`) until `total_steps` or `should_stop()`.

    inputs: (state, epoch) -> a pytree of arrays `[per_epoch, ...]`, each step's own. data: what
    all steps see. steps_per_call: how many steps one `lax.scan` holds; 1 calls the step itself.
    begin_epoch: state -> state, ahead of an epoch's first step. share: brings the inputs
    of some steps onto the device. The callbacks and `began` are those of `training.fit`.

    Raises:
      NonFiniteError: when the loss or, at an epoch's end or a stop, the parameters are not
        finite; neither `on_epoch` nor the caller gets to save such a state.
    """
    call = _make_call(step, steps_per_call)
    done = int(state.step)
    while done < total_steps:
        epoch, into = divmod(done - began[0], per_epoch)
        epoch_start, epoch = done - into, epoch + began[1]
        epoch_end = min(epoch_start + per_epoch, total_steps)
        own = inputs(state, epoch)
        state = state if into else begin_epoch(state)
        watch = Watch(on_steps)
        for first, last in _calls(done, epoch_start, epoch_end, steps_per_call):
            part = slice(first - epoch_start, last - epoch_start)
            now = share(jax.tree.map(lambda array: array[part], own))  # noqa: B023
            state, sums = call(state, data, now)
            watch.add(last, sums)
            done = last
            if should_stop():
                break
        watch.flush()
        check_finite(state.variables, done)
        if done < epoch_end:
            break
        on_epoch(EpochEnd(epoch + 1, state, watch.mean.result()))
        if should_stop():
            break
    return state


def _calls(step: int, epoch_start: int, end: int, per_call: int) -> Iterator[tuple[int, int]]:
    """[first, last) of each call. Counted from the epoch's start, so that a resumed run makes
    the same calls as an unbroken one, and the same compiled programs."""
    while step < end:
        last = min(epoch_start + ((step - epoch_start) // per_call + 1) * per_call, end)
        yield step, last
        step = last


@functools.lru_cache(maxsize=8)
def _make_call(step: Step, per_call: int) -> Step:
    """The step for inputs that have a leading axis of steps."""

    def scanned(state: Any, data: Any, inputs: Any) -> tuple[Any, Sums]:
        return jax.lax.scan(lambda state, own: step(state, data, own), state, inputs)

    def single(state: Any, data: Any, inputs: Any) -> tuple[Any, Sums]:
        return step(state, data, jax.tree.map(lambda x: x[0], inputs))

    return single if per_call == 1 else jax.jit(scanned, donate_argnums=0)
