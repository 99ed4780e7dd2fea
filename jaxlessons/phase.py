"""A training phase: how long it is, how rate and momentum run in it, and what else it sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from jaxlessons.errors import UserError

Decay = str | tuple[str, float]
Value = float | tuple[float, float]
Curve = Callable[[Any], jax.Array]

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
      optimizer: a name that `optim.phased_optimizer` knows, or any optax factory that takes
        `learning_rate`, such as `optax.radam`.
      weight_decay: its strength; see `decoupled`.
      decoupled: True shrinks the parameters beside the step (Loshchilov and Hutter, 2017);
        False adds weight_decay * params to the gradient (an L2 penalty).
      beta2: the second decay of optimizers that have one; None is the optimizer's own default.
      batch_size, image_size, data: what `progressive.fit` trains on in this phase; None is as in
        the whole run. image_size in pixels; data is a name of the caller's.

    Raises:
      UserError: for any field that makes no sense, naming it.
    """

    epochs: float
    lr: Value
    lr_decay: Decay = "none"
    momentum: Value = 0.9
    momentum_decay: Decay = "none"
    optimizer: str | Callable[..., Any] = "sgd"
    weight_decay: float = 0.0
    decoupled: bool = True
    beta2: float | None = None
    batch_size: int | None = None
    image_size: int | None = None
    data: Hashable = None

    def __post_init__(self) -> None:
        if not is_number(self.epochs) or self.epochs <= 0:
            raise UserError(f"Phase.epochs is {self.epochs!r}: it must be a number above 0.")
        _check_curve("lr", self.lr, self.lr_decay, upper=math.inf)
        _check_curve("momentum", self.momentum, self.momentum_decay, upper=1.0)
        if not (isinstance(self.optimizer, str) or callable(self.optimizer)):
            raise UserError(
                f"Phase.optimizer is {self.optimizer!r}: it must be a name or an optax factory."
            )
        if not is_number(self.weight_decay) or self.weight_decay < 0:
            raise UserError(f"Phase.weight_decay is {self.weight_decay!r}: it must be 0 or more.")
        if not isinstance(self.decoupled, (bool, np.bool_)):
            raise UserError(f"Phase.decoupled is {self.decoupled!r}: it must be True or False.")
        if self.beta2 is not None and (not is_number(self.beta2) or not 0 <= self.beta2 < 1):
            raise UserError(f"Phase.beta2 is {self.beta2!r}: it must be in [0, 1), or None.")
        for name in ("batch_size", "image_size"):
            value = getattr(self, name)
            if value is not None and not is_count(value):
                raise UserError(f"Phase.{name} is {value!r}: it must be 1 or more, or None.")

    def steps(self, steps_per_epoch: int) -> int:
        """Its length in steps: epochs * steps_per_epoch, rounded, at least 1."""
        return max(1, round(self.epochs * steps_per_epoch))


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number; True and False are none."""
    kinds = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number from 1 up."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and bool(value >= 1)


def ends(value: Value, decay: Decay) -> tuple[float, float]:
    """Where a phase's rate or momentum starts and ends; one number with a decay ends at 0."""
    if isinstance(value, (tuple, list)):
        start, end = map(float, value)
        return start, end
    return float(value), (float(value) if decay == "none" else 0.0)


def curve(value: Value, decay: Decay) -> Curve:
    """The curve over the fraction t = i/n of its phase, exact at t = 0 and t = 1.

    The formulas are those at the head of `schedules`.
    """
    kind, power = (decay, 1.0) if isinstance(decay, str) else decay
    start, end = ends(value, decay)

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

    def at(t: jax.Array) -> jax.Array:
        # The formulas are off by a rounding at their ends; the ends are what people check.
        return jnp.where(t <= 0, start, jnp.where(t >= 1, end, inner(jnp.clip(t, 0, 1))))

    return at


def _is_pair(value: Any) -> TypeGuard[tuple[Any, Any]]:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _check_curve(name: str, value: Value, decay: Decay, upper: float) -> None:
    """Refuses a value, a decay, or a pair of them that has no meaning."""
    kind, power = decay if _is_pair(decay) else (decay, None)
    if kind not in DECAYS:
        names = ", ".join(DECAYS)
        raise UserError(f"Phase.{name}_decay is {decay!r}: it must be one of {names}.")
    if (kind == "polynomial") != (power is not None) or (
        power is not None and (not is_number(power) or power <= 0)
    ):
        raise UserError(
            f"Phase.{name}_decay is {decay!r}: only the polynomial has a power, which must be "
            f'above 0; write ("polynomial", 2).'
        )
    ends = tuple(value) if _is_pair(value) else (value,)
    if not all(is_number(v) and 0 <= v < upper for v in ends):
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
