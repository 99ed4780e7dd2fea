"""Minimises a function of one array, an evaluation at a time, in compiled calls of k evaluations.

The unit is one evaluation of the function and its gradient, because that is what costs time: a
budget of 1000 is 1000 of them, whatever the method makes of it. A line search is therefore no
loop inside an iteration: each evaluation either takes the point that it tried or shortens the
step for the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import lax

from jaxlessons.averaging import Average, ema_update, swa_init

# (point, data) -> (value, a dict of parts to be recorded); data: a pytree of arrays.
Objective = Callable[[jax.Array, Any], tuple[jax.Array, dict[str, jax.Array]]]
Gradient = Callable[[jax.Array], tuple[tuple[jax.Array, dict[str, jax.Array]], jax.Array]]

# The share of the decrease which the slope promises that a step must reach (Armijo, 1966).
SUFFICIENT = 1e-4
# L-BFGS forgets its memory when it has to shorten a step below this.
SHORTEST = 1e-3


class State(struct.PyTreeNode):
    """Where a descent is, and which point it evaluates next: point + step * direction."""

    point: jax.Array  # the last that was taken
    value: jax.Array  # float32 scalar, there; inf before the first evaluation
    direction: jax.Array  # shaped as point
    slope: jax.Array  # float32 scalar, gradient . direction
    step: jax.Array  # float32 scalar
    solver: Any  # the optax transformation's state


class Minimizer(NamedTuple):
    """init: point -> State. evaluate: (State, value and gradient) -> (State, record), jittable.

    The record is the objective's parts, the value, and whether the point tried was taken.
    """

    init: Callable[[jax.Array], State]
    evaluate: Callable[[State, Gradient], tuple[State, dict[str, jax.Array]]]


def lbfgs(memory: int = 10) -> Minimizer:
    """L-BFGS (Liu and Nocedal, 1989), its direction by `optax.scale_by_lbfgs`, with backtracking.

    A step begins at 1 and is taken when the value falls by enough; else it is shortened to the
    minimum of the parabola through what is known, to between a tenth and a half. Where the memory
    leads up, or nowhere, it is begun anew.
    """
    solver = optax.scale_by_lbfgs(memory)

    def init(point: jax.Array) -> State:
        return _start(point, solver.init(point))

    def turn(gradient: jax.Array, memory: Any, point: jax.Array) -> tuple[Any, ...]:
        ascent, memory = solver.update(gradient, memory, point)
        return -ascent, -jnp.vdot(gradient, ascent), memory

    def anew(gradient: jax.Array, point: jax.Array) -> tuple[Any, ...]:
        # The barrier: XLA would make its zeros, and then what follows from them, when it compiles.
        return turn(gradient, lax.optimization_barrier(solver.init(point)), point)

    def take(state: State, point: jax.Array, value: jax.Array, gradient: jax.Array) -> State:
        found = turn(gradient, state.solver, point)
        direction, slope, memory = lax.cond(
            found[1] < 0, lambda: found, lambda: anew(gradient, point)
        )
        return State(point, value, direction, slope, jnp.ones_like(state.step), memory)

    def shorten(state: State, value: jax.Array) -> State:
        excess = value - state.value - state.slope * state.step
        share = -state.slope * state.step / (2 * excess)
        share = jnp.where(jnp.isfinite(share), jnp.clip(share, 0.1, 0.5), 0.1)
        return state.replace(step=state.step * share)

    def again(state: State) -> State:
        direction, slope, fresh = anew(state.solver.updates, state.point)
        # The step stays as short as it has become: a long one was just refused.
        return state.replace(direction=direction, slope=slope, solver=fresh)

    def evaluate(state: State, gradient_of: Gradient) -> tuple[State, dict[str, jax.Array]]:
        tried = state.point + state.step * state.direction
        (value, parts), gradient = gradient_of(tried)
        enough = value <= state.value + SUFFICIENT * state.step * state.slope
        taken = enough & jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
        state = lax.cond(
            taken,
            lambda: take(state, tried, value, gradient),
            lambda: shorten(state, value),
        )
        state = lax.cond(state.step < SHORTEST, again, lambda state: state, state)
        return state, {**parts, "value": value, "taken": taken}

    return Minimizer(init, evaluate)


def adam(lr: float = 0.02) -> Minimizer:
    """Adam (Kingma and Ba, 2014): every point is taken, so the value may rise on the way."""
    solver = optax.adam(lr)

    def init(point: jax.Array) -> State:
        return _start(point, solver.init(point))

    def evaluate(state: State, gradient_of: Gradient) -> tuple[State, dict[str, jax.Array]]:
        point = state.point + state.direction
        (value, parts), gradient = gradient_of(point)
        direction, memory = solver.update(gradient, state.solver)
        slope = jnp.vdot(gradient, direction)
        state = State(point, value, direction, slope, state.step, memory)
        return state, {**parts, "value": value, "taken": jnp.array(True)}

    return Minimizer(init, evaluate)


def _start(point: jax.Array, solver: Any) -> State:
    zero = jnp.zeros([], jnp.float32)
    return State(point, zero + jnp.inf, jnp.zeros_like(point), zero, zero + 1, solver)


class Descent(struct.PyTreeNode):
    """A descent and the exponential moving average of the points that it took."""

    state: State
    average: Average


def begin(minimizer: Minimizer, point: jax.Array) -> Descent:
    """The descent that starts at `point`, float32 of any shape."""
    # Copies: optax begins with arrays that are one another, and each is donated once.
    return jax.tree.map(jnp.copy, Descent(minimizer.init(point), swa_init(point)))


def make_call(
    minimizer: Minimizer, objective: Objective, evaluations: int, decay: float = 0.99
) -> Any:
    """(descent, data) -> (descent, record), compiled, which makes `evaluations` evaluations.

    The record's arrays are `[evaluations]`. The old descent is consumed. decay: of the average.
    """

    def one(descent: Descent, data: Any) -> tuple[Descent, dict[str, jax.Array]]:
        gradient_of = jax.value_and_grad(lambda point: objective(point, data), has_aux=True)
        state, record = minimizer.evaluate(descent.state, gradient_of)
        average = lax.cond(
            record["taken"],
            lambda: ema_update(descent.average, state.point, decay),
            lambda: descent.average,
        )
        return Descent(state, average), record

    def many(descent: Descent, data: Any) -> tuple[Descent, dict[str, jax.Array]]:
        if evaluations == 1:  # XLA's CPU code for a convolution in a loop has one thread
            descent, record = one(descent, data)
            return descent, jax.tree.map(lambda x: x[None], record)
        return lax.scan(lambda descent, _: one(descent, data), descent, length=evaluations)

    return jax.jit(many, donate_argnums=0)


def call_bytes(compiled: Any) -> int:
    """What a compiled call takes at its height, by the compiler's count: inputs, outputs that are
    not the inputs' own, and room."""
    found = compiled.memory_analysis()
    kept = found.output_size_in_bytes - found.alias_size_in_bytes
    return int(found.argument_size_in_bytes + kept + found.temp_size_in_bytes)
