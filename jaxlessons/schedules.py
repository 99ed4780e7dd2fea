"""The optax schedules that follow from a list of phases; the named lists are from `recipes`.

With i the step inside a phase, n its number of steps, and s -> e its ends:

    linear          s + (e - s) i/n
    cosine          e + (s - e)/2 (1 + cos(pi i/n))
    exponential     s (e/s)^(i/n)
    polynomial, p   e + (s - e) (1 - i/n)^p

So step 0 of a phase is its start value, and its end value is what step n would have: the first
step of the next phase. After the last phase a schedule stays at the last end value.

Everywhere `steps_per_epoch` is one number, or one a phase where their batch sizes differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlessons.errors import UserError
from jaxlessons.phase import Curve, Phase, curve, ends, is_count
from jaxlessons.recipes import cyclical, flat_cosine, one_cycle, sgdr, step_decay, warm_up

__all__ = [
    "Phase",
    "cycle_ends",
    "cyclical",
    "flat_cosine",
    "lr_schedule",
    "momentum_schedule",
    "one_cycle",
    "phase_index",
    "phase_steps",
    "sgdr",
    "step_decay",
    "total_steps",
    "warm_up",
]

Schedule = Callable[[Any], jax.Array]
StepsPerEpoch = int | Sequence[int]


def phase_steps(phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch) -> list[int]:
    """Each phase's length in steps.

    Raises:
      UserError: for an empty list, something in it that is no Phase, or steps_per_epoch that
        are not whole numbers from 1 up, one in all or one a phase.
    """
    if isinstance(phases, Phase):
        raise UserError("phases is a single Phase: put it into a list.")
    if not phases:
        raise UserError("The list of phases is empty: give at least one Phase.")
    for k, phase in enumerate(phases):
        if not isinstance(phase, Phase):
            raise UserError(f"Number {k} in the list of phases is {phase!r}: it must be a Phase.")
    alike = not isinstance(steps_per_epoch, (Sequence, np.ndarray))
    each: Sequence[Any] = [steps_per_epoch] * len(phases) if alike else steps_per_epoch  # type: ignore[assignment]
    if len(each) != len(phases):
        raise UserError(
            f"steps_per_epoch has {len(each)} numbers for {len(phases)} phases: give one number, "
            "or one a phase."
        )
    for number in each:
        if not is_count(number):
            raise UserError(f"steps_per_epoch is {number!r}: it must be 1 or more.")
    return [phase.steps(int(number)) for phase, number in zip(phases, each, strict=True)]


def total_steps(phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch) -> int:
    """The steps of all phases together; raises UserError for an empty list."""
    return sum(phase_steps(phases, steps_per_epoch))


def lr_schedule(phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch) -> Schedule:
    """The learning rate by step: takes an integer or an array of them, inside jit or not."""
    lengths = phase_steps(phases, steps_per_epoch)
    return _join([curve(p.lr, p.lr_decay) for p in phases], lengths)


def momentum_schedule(phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch) -> Schedule:
    """The momentum (beta1) by step, as `lr_schedule`."""
    lengths = phase_steps(phases, steps_per_epoch)
    return _join([curve(p.momentum, p.momentum_decay) for p in phases], lengths)


def phase_index(phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch) -> Schedule:
    """step -> index of the phase it lies in; the last one for every step after the end."""
    return _index(phase_steps(phases, steps_per_epoch))


def cycle_ends(phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch) -> list[int]:
    """The steps at which a falling rate ends, because a higher one follows or nothing does.

    There the networks of a snapshot ensemble are taken (Huang et al., 2017).
    """
    finished = np.cumsum(phase_steps(phases, steps_per_epoch))
    rates = [ends(phase.lr, phase.lr_decay) for phase in phases]
    following = [*(start for start, _ in rates[1:]), np.inf]
    return [
        int(step)
        for step, (start, end), after in zip(finished, rates, following, strict=True)
        if end < start and end < after
    ]


def _index(lengths: list[int]) -> Schedule:
    boundaries = np.cumsum(lengths)[:-1]

    def index(step: Any) -> jax.Array:
        return jnp.searchsorted(jnp.asarray(boundaries), jnp.asarray(step), side="right")

    return index


def _join(curves: list[Curve], lengths: list[int]) -> Schedule:
    index, starts = _index(lengths), np.cumsum(lengths) - lengths

    def schedule(step: Any) -> jax.Array:
        step = jnp.asarray(step)
        here = index(step)
        values = jnp.zeros(step.shape, jnp.float32)
        for k, at in enumerate(curves):
            # Whole numbers are subtracted before anything is rounded to float32.
            t = (step - int(starts[k])).astype(jnp.float32) / np.float32(lengths[k])
            values = jnp.where(here == k, at(t).astype(jnp.float32), values)
        return values

    return schedule
