"""Training phases, and the optax schedules that follow from a list of them.

With i the step inside a phase, n its number of steps, and s -> e its ends:

    linear          s + (e - s) i/n
    cosine          e + (s - e)/2 (1 + cos(pi i/n))
    exponential     s (e/s)^(i/n)
    polynomial, p   e + (s - e) (1 - i/n)^p

So step 0 of a phase is its start value, and its end value is what step n would have: the first
step of the next phase. After the last phase a schedule stays at the last end value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from jaxlessons.errors import UserError

Decay = str | tuple[str, float]
Value = float | tuple[float, float]
Schedule = Callable[[Any], jax.Array]

DECAYS = ("none", "linear", "cosine", "exponential", "polynomial")


@dataclass(frozen=True)
class Phase:
    """A stretch of training in which rate and momentum each follow one curve.

    Attributes:
      epochs: its length; a fraction is rounded to whole steps, and it has at least one.
      lr: the rate, or (start, end). A single number with a decay ends at 0.
      lr_decay: "none", "linear", "cosine", "exponential" or ("polynomial", power).
      momentum: SGD's momentum or Adam's beta1, or (start, end).
      momentum_decay: as lr_decay.
      optimizer: a name that `optim.phased_optimizer` knows.
      weight_decay: its strength; see `decoupled`.
      decoupled: True shrinks the parameters beside the step (Loshchilov and Hutter, 2017);
        False adds weight_decay * params to the gradient (an L2 penalty).
      beta2: Adam's second decay; None is 0.999.

    Raises:
      UserError: for any field that makes no sense, naming it.
    """

    epochs: float
    lr: Value
    lr_decay: Decay = "none"
    momentum: Value = 0.9
    momentum_decay: Decay = "none"
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    decoupled: bool = True
    beta2: float | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.epochs) or self.epochs <= 0:
            raise UserError(f"Phase.epochs is {self.epochs!r}: it must be a number above 0.")
        _check_curve("lr", self.lr, self.lr_decay, upper=math.inf)
        _check_curve("momentum", self.momentum, self.momentum_decay, upper=1.0)
        if not _is_number(self.weight_decay) or self.weight_decay < 0:
            raise UserError(f"Phase.weight_decay is {self.weight_decay!r}: it must be 0 or more.")
        if self.beta2 is not None and (not _is_number(self.beta2) or not 0 <= self.beta2 < 1):
            raise UserError(f"Phase.beta2 is {self.beta2!r}: it must be in [0, 1), or None.")

    def steps(self, steps_per_epoch: int) -> int:
        """Its length in steps: epochs * steps_per_epoch, rounded, at least 1."""
        return max(1, round(self.epochs * steps_per_epoch))


def total_steps(phases: Sequence[Phase], steps_per_epoch: int) -> int:
    """The steps of all phases together; raises UserError for an empty list."""
    _check_phases(phases, steps_per_epoch)
    return sum(phase.steps(steps_per_epoch) for phase in phases)


def lr_schedule(phases: Sequence[Phase], steps_per_epoch: int) -> Schedule:
    """The learning rate by step: takes an integer or an array of them, inside jit or not."""
    curves = [_curve(p.lr, p.lr_decay) for p in phases]
    return _join(curves, phases, steps_per_epoch)


def momentum_schedule(phases: Sequence[Phase], steps_per_epoch: int) -> Schedule:
    """The momentum (beta1) by step, as `lr_schedule`."""
    curves = [_curve(p.momentum, p.momentum_decay) for p in phases]
    return _join(curves, phases, steps_per_epoch)


def phase_index(phases: Sequence[Phase], steps_per_epoch: int) -> Schedule:
    """step -> index of the phase it lies in; the last one for every step after the end."""
    _check_phases(phases, steps_per_epoch)
    ends = np.cumsum([phase.steps(steps_per_epoch) for phase in phases])

    def index(step: Any) -> jax.Array:
        return jnp.searchsorted(jnp.asarray(ends[:-1]), jnp.asarray(step), side="right")

    return index


def sgdr(
    lr: float,
    cycles: int,
    cycle_length: float = 1,
    cycle_mult: float = 1,
    optimizer: str = "adam",
    **settings: Any,
) -> list[Phase]:
    """Cosine annealing with warm restarts (Loshchilov and Hutter, 2016), as the lesson has it.

    `cycles` cosine phases from lr to 0, the k-th `cycle_length * cycle_mult**k` epochs long; the
    first twentieth of the first is spent at lr/100. `settings` are further fields of Phase.
    """
    if not isinstance(cycles, int) or isinstance(cycles, bool) or cycles < 1:
        raise UserError(f"sgdr: cycles is {cycles!r}: it must be a whole number from 1 up.")
    if not _is_number(cycle_mult) or cycle_mult <= 0:
        raise UserError(f"sgdr: cycle_mult is {cycle_mult!r}: it must be a number above 0.")
    if not _is_number(lr):
        raise UserError(f"sgdr: lr is {lr!r}: it must be a number, the rate that cycles begin at.")
    settings["optimizer"] = optimizer
    warm_up = Phase(cycle_length / 20, lr / 100, **settings)
    lengths = [cycle_length * 19 / 20, *(cycle_length * cycle_mult**k for k in range(1, cycles))]
    return [warm_up, *(Phase(length, lr, "cosine", **settings) for length in lengths)]


def one_cycle(
    lr: float,
    epochs: float,
    *,
    start_div: float = 10.0,
    final_div: float = 1000.0,
    tail: float = 0.1,
    momentum: Value = (0.95, 0.85),
    optimizer: str = "sgd",
    **settings: Any,
) -> list[Phase]:
    """Smith's 1cycle policy (2018) in the lesson's three linear phases.

    The rate rises from lr/start_div to lr and falls back while the momentum does the opposite;
    in the last `tail` of the epochs the rate goes on down to lr/final_div. momentum: (at the
    ends, at the peak), or one number for all.
    """
    if not 0 < tail < 1:
        raise UserError(f"one_cycle: tail is {tail!r}: it must lie between 0 and 1.")
    for name, value in (("lr", lr), ("start_div", start_div), ("final_div", final_div)):
        if not _is_number(value) or value <= 0:
            raise UserError(f"one_cycle: {name} is {value!r}: it must be a number above 0.")
    low, high, half = lr / start_div, lr, epochs * (1 - tail) / 2
    relaxed, tight = momentum if isinstance(momentum, tuple) else (momentum, momentum)
    settings["optimizer"] = optimizer
    swing = {"lr_decay": "linear", "momentum_decay": "linear", **settings}
    return [
        Phase(half, (low, high), momentum=(relaxed, tight), **swing),
        Phase(half, (high, low), momentum=(tight, relaxed), **swing),
        Phase(epochs * tail, (low, lr / final_div), "linear", momentum=relaxed, **settings),
    ]


def _is_number(value: Any) -> TypeGuard[float]:
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def _is_pair(value: Any) -> TypeGuard[tuple[Any, Any]]:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _check_phases(phases: Sequence[Phase], steps_per_epoch: int) -> None:
    if not phases:
        raise UserError("The list of phases is empty: give at least one Phase.")
    if steps_per_epoch < 1:
        raise UserError(f"steps_per_epoch is {steps_per_epoch!r}: it must be 1 or more.")


def _check_curve(name: str, value: Value, decay: Decay, upper: float) -> None:
    """Refuses a value, a decay, or a pair of them that has no meaning."""
    kind, power = decay if _is_pair(decay) else (decay, None)
    if kind not in DECAYS:
        names = ", ".join(DECAYS)
        raise UserError(f"Phase.{name}_decay is {decay!r}: it must be one of {names}.")
    if (kind == "polynomial") != (power is not None) or (
        power is not None and (not _is_number(power) or power <= 0)
    ):
        raise UserError(
            f"Phase.{name}_decay is {decay!r}: only the polynomial has a power, which must be "
            f'above 0; write ("polynomial", 2).'
        )
    ends = tuple(value) if _is_pair(value) else (value,)
    if not all(_is_number(v) and 0 <= v < upper for v in ends):
        limit = "0 or more" if upper == math.inf else f"in [0, {upper:g})"
        raise UserError(
            f"Phase.{name} is {value!r}: it must be a number {limit}, or (start, end) of such."
        )
    if len(ends) == 2 and kind == "none":
        raise UserError(f"Phase.{name} is {value!r}, with no decay: set {name}_decay too.")
    if kind == "exponential" and (len(ends) == 1 or min(ends) <= 0):
        raise UserError(
            f"Phase.{name} is {value!r}: an exponential needs (start, end), both above 0."
        )


def _curve(value: Value, decay: Decay) -> Schedule:
    """The curve over the fraction t = i/n of its phase, exact at t = 0 and t = 1."""
    kind, power = (decay, 1.0) if isinstance(decay, str) else decay
    if isinstance(value, (tuple, list)):
        start, end = map(float, value)
    else:
        start, end = float(value), (float(value) if kind == "none" else 0.0)

    def inner(t: jax.Array) -> jax.Array:
        match kind:
            case "none" | "linear":
                return start + (end - start) * t
            case "cosine":
                return end + (start - end) / 2 * (1 + jnp.cos(jnp.pi * t))
            case "exponential":
                return start * jnp.exp(math.log(end / start) * t)
            case _:
                return end + (start - end) * (1 - t) ** power

    def curve(t: jax.Array) -> jax.Array:
        # The formulas are off by a rounding at their ends; the ends are what people check.
        return jnp.where(t <= 0, start, jnp.where(t >= 1, end, inner(jnp.clip(t, 0, 1))))

    return curve


def _join(curves: list[Schedule], phases: Sequence[Phase], steps_per_epoch: int) -> Schedule:
    index = phase_index(phases, steps_per_epoch)
    lengths = np.array([phase.steps(steps_per_epoch) for phase in phases])
    starts = np.cumsum(lengths) - lengths

    def schedule(step: Any) -> jax.Array:
        step = jnp.asarray(step)
        here = index(step)
        values = jnp.zeros(step.shape, jnp.float32)
        for k, curve in enumerate(curves):
            # Whole numbers are subtracted before anything is rounded to float32.
            t = (step - int(starts[k])).astype(jnp.float32) / np.float32(lengths[k])
            values = jnp.where(here == k, curve(t).astype(jnp.float32), values)
        return values

    return schedule
