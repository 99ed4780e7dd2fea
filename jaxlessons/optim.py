"""A list of phases as one optax GradientTransformation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons.errors import UserError
from jaxlessons.schedules import Phase, lr_schedule, momentum_schedule, phase_index

# name -> (momentum, beta2) -> the direction of the step, before weight decay and rate.
# Momentum as in PyTorch: buffer = momentum * buffer + gradient.
OPTIMIZERS: dict[str, Callable[[Any, Any], optax.GradientTransformation]] = {
    "sgd": lambda momentum, beta2: optax.trace(momentum),
    "nesterov": lambda momentum, beta2: optax.trace(momentum, nesterov=True),
    "adam": lambda momentum, beta2: optax.scale_by_adam(b1=momentum, b2=beta2),
    "adamw": lambda momentum, beta2: optax.scale_by_adam(b1=momentum, b2=beta2),
}
DEFAULT_BETA2 = 0.999


class PhasedState(NamedTuple):
    """step: int32 scalar, the steps taken; inner: one optimizer state a run of phases."""

    step: jax.Array
    inner: tuple[Any, ...]


def phased_optimizer(
    phases: Sequence[Phase], steps_per_epoch: int, *, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """One optimizer whose rate, momentum and weight decay follow `phases`, jittable.

    Neighbouring phases with the same optimizer share its state; where the optimizer changes,
    the new one starts fresh. `clip_norm` first scales the gradient down to that global norm.

    Raises:
      UserError: for an unknown optimizer, AdamW with coupled decay, or clip_norm not above 0.
    """
    _check(phases, clip_norm)
    lr_at = lr_schedule(phases, steps_per_epoch)
    momentum_at = momentum_schedule(phases, steps_per_epoch)
    phase_at = phase_index(phases, steps_per_epoch)
    names, run_of_phase = _runs(phases)
    beta2s = np.array([DEFAULT_BETA2 if p.beta2 is None else p.beta2 for p in phases], np.float32)
    coupled = np.array([0.0 if p.decoupled else p.weight_decay for p in phases], np.float32)
    decoupled = np.array([p.weight_decay if p.decoupled else 0.0 for p in phases], np.float32)

    def init(params: optax.Params) -> PhasedState:
        inner = tuple(OPTIMIZERS[name](0.9, DEFAULT_BETA2).init(params) for name in names)
        return PhasedState(jnp.zeros([], jnp.int32), inner)

    def update(
        grads: optax.Updates, state: PhasedState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, PhasedState]:
        if params is None:
            raise ValueError("phased_optimizer: update needs the parameters as well.")
        phase, lr, momentum = phase_at(state.step), lr_at(state.step), momentum_at(state.step)
        beta2 = jnp.asarray(beta2s)[phase]
        if clip_norm is not None:
            grads, _ = optax.clip_by_global_norm(clip_norm).update(grads, optax.EmptyState())
        if coupled.any():
            grads = _add_scaled(grads, jnp.asarray(coupled)[phase], params)
        branches = [_direction(name, run, momentum, beta2) for run, name in enumerate(names)]
        run = jnp.asarray(run_of_phase)[phase]
        direction, inner = jax.lax.switch(run, branches, grads, state.inner)
        if decoupled.any():
            direction = _add_scaled(direction, jnp.asarray(decoupled)[phase], params)
        updates = jax.tree.map(lambda d: (-lr * d).astype(d.dtype), direction)
        return updates, PhasedState(state.step + 1, inner)

    return optax.GradientTransformation(init, update)


def _check(phases: Sequence[Phase], clip_norm: float | None) -> None:
    for phase in phases:
        if phase.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise UserError(f"Phase.optimizer is {phase.optimizer!r}: it must be one of {known}.")
        if phase.optimizer == "adamw" and phase.weight_decay and not phase.decoupled:
            raise UserError("adamw decouples its weight decay: for the coupled one take adam.")
    if clip_norm is not None and not clip_norm > 0:
        raise UserError(f"clip_norm is {clip_norm!r}: it must be above 0, or None for no clipping.")


def _runs(phases: Sequence[Phase]) -> tuple[list[str], list[int]]:
    """The optimizer of each run of neighbours with the same one, and each phase's run."""
    names: list[str] = []
    run_of_phase = []
    for phase in phases:
        if not names or names[-1] != phase.optimizer:
            names.append(phase.optimizer)
        run_of_phase.append(len(names) - 1)
    return names, run_of_phase


def _direction(name: str, run: int, momentum: jax.Array, beta2: jax.Array) -> Callable[..., Any]:
    """(grads, inner states) -> the same after one update of this run's state alone."""

    def branch(grads: Any, inner: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        direction, own = OPTIMIZERS[name](momentum, beta2).update(grads, inner[run])
        return direction, (*inner[:run], own, *inner[run + 1 :])

    return branch


def _add_scaled(tree: Any, scale: jax.Array, other: Any) -> Any:
    return jax.tree.map(lambda a, b: a + scale.astype(a.dtype) * b, tree, other)
