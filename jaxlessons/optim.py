"""A list of phases as one optax GradientTransformation, for all parameters or by groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlessons.errors import UserError
from jaxlessons.optimizers import Factory, add_scaled, default_beta2, find_factory, make
from jaxlessons.phase import is_number
from jaxlessons.schedules import (
    Phase,
    StepsPerEpoch,
    lr_schedule,
    momentum_schedule,
    phase_index,
    total_steps,
)

Groups = Mapping[str, float | Sequence[Phase]]
REST = -1  # the label of parameters that no group fits; a group's is its place


class PhasedState(NamedTuple):
    """step: int32 scalar, the steps taken; inner: one optimizer state a run of phases."""

    step: jax.Array
    inner: tuple[Any, ...]


def phased_optimizer(
    phases: Sequence[Phase],
    steps_per_epoch: StepsPerEpoch,
    groups: Groups | None = None,
    *,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """One optimizer whose rate, momentum, beta2 and weight decay follow `phases`, jittable.

    Neighbouring phases with the same optimizer share its state; where the optimizer changes,
    the new one starts fresh. A phase whose rate is 0 throughout is frozen: it computes no update
    and leaves the optimizer's state as it is. An optax factory gets the momentum as its `b1` or
    `momentum`, and the weight decay as its `weight_decay` where it has one; otherwise the decay
    is that of SGD or Adam, rate * weight_decay * params beside the step.

    groups: regular expression -> a multiplier of the rate, or phases of the group's own, for the
    parameters whose path, such as "stem/conv/kernel", has a match (`re.search`). The first
    group that fits counts; parameters that none fits follow `phases`. A group at 0 is frozen
    throughout: it has no state, and under jit its gradient is not computed either. So the
    lesson's freeze_to is {"trunk": 0}, and its layer groups {"block[1-4]": 0.01, "block5": 0.1}.

    clip_norm first scales the gradient down to that global norm, over all that isn't frozen.

    Raises:
      UserError: for an optimizer that doesn't exist or has no use for a phase's beta2, AdamW
        with coupled decay, clip_norm not above 0, a group that makes no sense; and, from the
        transformation itself, for a pattern that fits no parameter.
    """
    if clip_norm is not None and not (is_number(clip_norm) and clip_norm > 0):
        raise UserError(f"clip_norm is {clip_norm!r}: it must be above 0, or None for no clipping.")
    if not groups:
        return _after(partial(_clip, clip_norm), _phased(phases, steps_per_epoch))
    transforms = {REST: _phased(phases, steps_per_epoch)}
    for label, (pattern, own) in enumerate(groups.items()):
        _check_group(pattern, own, phases, steps_per_epoch)
        if not is_number(own):
            transforms[label] = _phased(own, steps_per_epoch)  # type: ignore[arg-type]
        elif own == 0:
            transforms[label] = optax.set_to_zero()
        else:
            transforms[label] = _phased(phases, steps_per_epoch, own)
    labels = partial(_labels, patterns=list(groups))
    frozen = {label for label, own in enumerate(groups.values()) if is_number(own) and own == 0}

    def prepare(grads: Any) -> Any:
        # Zeros, before anything is clipped, leave the frozen gradients unused.
        def keep(grad: jax.Array, label: int) -> jax.Array:
            return jnp.zeros_like(grad) if label in frozen else grad

        return _clip(clip_norm, jax.tree.map(keep, grads, labels(grads)))

    return _after(prepare, optax.partition(transforms, labels))


def _phased(
    phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch, multiplier: float = 1.0
) -> optax.GradientTransformation:
    """The optimizer of one group of parameters."""
    lr_at = lr_schedule(phases, steps_per_epoch)
    momentum_at = momentum_schedule(phases, steps_per_epoch)
    phase_at = phase_index(phases, steps_per_epoch)
    factories = [find_factory(phase) for phase in phases]
    runs, run_of_phase = _runs(factories)
    # The branch behind the runs' own is that of frozen phases.
    branch_of_phase = [
        run if np.any(phase.lr) else len(runs)
        for run, phase in zip(run_of_phase, phases, strict=True)
    ]
    beta2s = np.array(
        [
            default_beta2(f) if p.beta2 is None else p.beta2
            for p, f in zip(phases, factories, strict=True)
        ],
        np.float32,
    )
    coupled = np.array([0.0 if p.decoupled else p.weight_decay for p in phases], np.float32)
    decoupled = np.array([p.weight_decay if p.decoupled else 0.0 for p in phases], np.float32)

    def init(params: optax.Params) -> PhasedState:
        inner = tuple(make(run, 0.1, 0.9, 0.9, 0.0).init(params) for run in runs)
        return PhasedState(jnp.zeros([], jnp.int32), inner)

    def update(
        grads: optax.Updates, state: PhasedState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, PhasedState]:
        if params is None:
            raise ValueError("phased_optimizer: update needs the parameters as well.")
        phase = phase_at(state.step)
        lr, momentum = multiplier * lr_at(state.step), momentum_at(state.step)
        beta2, decay = jnp.asarray(beta2s)[phase], jnp.asarray(decoupled)[phase]
        if coupled.any():
            grads = add_scaled(grads, jnp.asarray(coupled)[phase], params)
        transforms = [make(run, lr, momentum, beta2, decay) for run in runs]
        branches = [_branch(run, transform) for run, transform in enumerate(transforms)]
        branch = jnp.asarray(branch_of_phase)[phase]
        updates, inner = jax.lax.switch(branch, [*branches, _frozen], grads, state.inner, params)
        return updates, PhasedState(state.step + 1, inner)

    return optax.GradientTransformation(init, update)


def _runs(factories: Sequence[Factory]) -> tuple[list[Factory], list[int]]:
    """The optimizer of each run of neighbours with the same one, and each phase's run."""
    runs: list[Factory] = []
    run_of_phase = []
    for factory in factories:
        if not runs or runs[-1] != factory:
            runs.append(factory)
        run_of_phase.append(len(runs) - 1)
    return runs, run_of_phase


def _branch(run: int, transform: optax.GradientTransformation) -> Callable[..., Any]:
    """(grads, inner states, params) -> updates, and the inner states with this run's moved on."""

    def branch(grads: Any, inner: tuple[Any, ...], params: Any) -> tuple[Any, tuple[Any, ...]]:
        updates, own = transform.update(grads, inner[run], params)
        updates = jax.tree.map(lambda u, p: u.astype(p.dtype), updates, params)
        return updates, (*inner[:run], own, *inner[run + 1 :])

    return branch


def _frozen(grads: Any, inner: tuple[Any, ...], params: Any) -> tuple[Any, tuple[Any, ...]]:
    return jax.tree.map(jnp.zeros_like, params), inner


def _clip(norm: float | None, grads: Any) -> Any:
    if norm is None:
        return grads
    return optax.clip_by_global_norm(norm).update(grads, optax.EmptyState())[0]


def _after(
    prepare: Callable[[Any], Any], inner: optax.GradientTransformation
) -> optax.GradientTransformation:
    """`inner`, with the same state, on gradients that `prepare` has changed."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return inner.update(prepare(grads), state, params)

    return optax.GradientTransformation(inner.init, update)


def _check_group(
    pattern: str, own: Any, phases: Sequence[Phase], steps_per_epoch: StepsPerEpoch
) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f"groups: {pattern!r} is no regular expression ({error}).") from error
    if isinstance(own, Sequence) and not isinstance(own, str):
        steps, whole = total_steps(own, steps_per_epoch), total_steps(phases, steps_per_epoch)
        if steps != whole:
            raise UserError(
                f"groups: the phases of {pattern!r} have {steps} steps, and all others {whole}: "
                "they must be equally long."
            )
    elif not is_number(own) or own < 0:
        raise UserError(
            f"groups: {pattern!r} has {own!r}: it must be a multiplier of the rate, 0 or more, or "
            "a list of phases."
        )


def _labels(tree: Any, patterns: Sequence[str]) -> Any:
    """Each leaf's group: the place of the first pattern found in its path, or REST."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise UserError(
                f"groups: {pattern!r} fits no parameter; their paths are like {paths[0]}."
            )
    labels = [
        next((k for k, pattern in enumerate(patterns) if re.search(pattern, path)), REST)
        for path in paths
    ]
    return jax.tree_util.tree_unflatten(structure, labels)
