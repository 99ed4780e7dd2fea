"""Named lists of phases: SGDR, 1cycle, triangular cycles, flat then cosine, steps, a warm-up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxlessons.errors import UserError
from jaxlessons.phase import Phase, Value, is_count, is_number


def sgdr(
    lr: float,
    cycles: int,
    cycle_length: float = 1,
    cycle_mult: float = 1,
    optimizer: Any = "adam",
    **settings: Any,
) -> list[Phase]:
    """Cosine annealing with warm restarts (Loshchilov and Hutter, 2016), as the lesson has it.

    `cycles` cosine phases from lr to 0, the k-th `cycle_length * cycle_mult**k` epochs long; the
    first twentieth of the first is spent at lr/100. `settings` are further fields of Phase.
    """
    _check_count("sgdr", cycles=cycles)
    _check_above_0("sgdr", cycle_mult=cycle_mult)
    if not is_number(lr):
        raise UserError(f"sgdr: lr is {lr!r}: it must be a number, the rate that cycles begin at.")
    settings["optimizer"] = optimizer
    slow = Phase(cycle_length / 20, lr / 100, **settings)
    lengths = [cycle_length * 19 / 20, *(cycle_length * cycle_mult**k for k in range(1, cycles))]
    return [slow, *(Phase(length, lr, "cosine", **settings) for length in lengths)]


def one_cycle(
    lr: float,
    epochs: float,
    *,
    start_div: float = 10.0,
    final_div: float = 1000.0,
    tail: float = 0.1,
    momentum: Value = (0.95, 0.85),
    optimizer: Any = "sgd",
    **settings: Any,
) -> list[Phase]:
    """Smith's 1cycle policy (2018) in the lesson's three linear phases.

    The rate rises from lr/start_div to lr and falls back while the momentum does the opposite;
    in the last `tail` of the epochs the rate goes on down to lr/final_div. momentum: (at the
    ends, at the peak), or one number for all.
    """
    if not is_number(tail) or not 0 < tail < 1:
        raise UserError(f"one_cycle: tail is {tail!r}: it must lie between 0 and 1.")
    _check_above_0("one_cycle", lr=lr, start_div=start_div, final_div=final_div)
    low, half = lr / start_div, epochs * (1 - tail) / 2
    relaxed, _ = _swing(momentum)
    settings["optimizer"] = optimizer
    return [
        *_up_and_down(low, lr, half, momentum, settings),
        Phase(epochs * tail, (low, lr / final_div), "linear", momentum=relaxed, **settings),
    ]


def cyclical(
    lr: float,
    cycles: int,
    cycle_length: float = 1,
    *,
    start_div: float = 10.0,
    momentum: Value = 0.9,
    optimizer: Any = "sgd",
    **settings: Any,
) -> list[Phase]:
    """Smith's triangular cycles (2015): from lr/start_div up to lr and back, both in a line.

    `cycles` of them, each `cycle_length` epochs. momentum: (at the ends, at the peak), or one
    number for all. `settings` are further fields of Phase.
    """
    _check_count("cyclical", cycles=cycles)
    _check_above_0("cyclical", lr=lr, start_div=start_div)
    settings["optimizer"] = optimizer
    return cycles * _up_and_down(lr / start_div, lr, cycle_length / 2, momentum, settings)


def flat_cosine(
    lr: float, epochs: float, *, flat: float = 0.75, optimizer: Any = "sgd", **settings: Any
) -> list[Phase]:
    """lr for the share `flat` of the epochs, then a cosine down to 0 (fastai's fit_flat_cos)."""
    if not is_number(flat) or not 0 < flat < 1:
        raise UserError(f"flat_cosine: flat is {flat!r}: it must lie between 0 and 1.")
    settings["optimizer"] = optimizer
    return [
        Phase(epochs * flat, lr, **settings),
        Phase(epochs * (1 - flat), lr, "cosine", **settings),
    ]


def step_decay(
    lr: float,
    lengths: Sequence[float],
    *,
    factor: float = 0.1,
    optimizer: Any = "sgd",
    **settings: Any,
) -> list[Phase]:
    """One phase of constant rate for each of `lengths` (epochs): lr, lr*factor, lr*factor^2 ..."""
    if not len(lengths):
        raise UserError("step_decay: lengths is empty: give the epochs at each rate.")
    _check_above_0("step_decay", lr=lr, factor=factor)
    settings["optimizer"] = optimizer
    return [Phase(length, lr * factor**k, **settings) for k, length in enumerate(lengths)]


def warm_up(phases: Sequence[Phase], epochs: float, *, start: float = 0.0) -> list[Phase]:
    """`phases` behind a further one in which the rate rises in a line, from `start` to theirs.

    It has the first phase's other settings, and the momentum that it begins with.
    """
    if not phases:
        raise UserError("The list of phases is empty: give at least one Phase.")
    first = phases[0]
    lr, momentum = (v[0] if isinstance(v, (tuple, list)) else v for v in (first.lr, first.momentum))
    if not is_number(start) or not 0 <= start <= lr:
        raise UserError(f"warm_up: start is {start!r}: it must be from 0 to the first rate, {lr}.")
    rise = dataclasses.replace(
        first,
        epochs=epochs,
        lr=(start, lr),
        lr_decay="linear",
        momentum=momentum,
        momentum_decay="none",
    )
    return [rise, *phases]


def _swing(momentum: Value) -> tuple[float, float]:
    """(at the ends, at the peak) of a cycle."""
    ends = tuple(momentum) if isinstance(momentum, (tuple, list)) else (momentum, momentum)
    if len(ends) != 2:
        raise UserError(
            f"momentum is {momentum!r}: it must be one number, or (at the ends, at the peak)."
        )
    return ends


def _up_and_down(
    low: float, high: float, half: float, momentum: Value, settings: dict[str, Any]
) -> list[Phase]:
    """Two linear phases of `half` epochs: low -> high -> low, the momentum the other way."""
    relaxed, tight = _swing(momentum)
    both = {"lr_decay": "linear", "momentum_decay": "linear", **settings}
    return [
        Phase(half, (low, high), momentum=(relaxed, tight), **both),
        Phase(half, (high, low), momentum=(tight, relaxed), **both),
    ]


def _check_count(recipe: str, **values: Any) -> None:
    for name, value in values.items():
        if not is_count(value):
            raise UserError(f"{recipe}: {name} is {value!r}: it must be a whole number from 1 up.")


def _check_above_0(recipe: str, **values: Any) -> None:
    for name, value in values.items():
        if not is_number(value) or value <= 0:
            raise UserError(f"{recipe}: {name} is {value!r}: it must be a number above 0.")
