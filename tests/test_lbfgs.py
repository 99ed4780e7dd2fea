"""The two-loop recursion against optax, against the matrices it avoids, and against the inverse."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons.lbfgs import direction

RANDOM = np.random.RandomState(0)
SIZE = 6


def quadratic():
    """A Hessian with eigenvalues from 1 to 10, and its function's gradient."""
    turn = np.linalg.qr(RANDOM.normal(size=(SIZE, SIZE)))[0]
    hessian = turn @ np.diag(np.geomspace(1, 10, SIZE)) @ turn.T
    return hessian, lambda x: hessian @ x


def rosenbrock(x):
    """In four dimensions; its minimum is at 1, 1, 1, 1."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


HESSIAN, QUADRATIC = quadratic()
START = RANDOM.normal(size=SIZE)


def direction_of(points, gradients, memory):
    return direction(
        gradients[-1], *([b - a for a, b in pairwise(x)][-memory:] for x in (points, gradients))
    )


def by_matrices(points, gradients, memory):
    """-H g with H made by the updates of BFGS in full: V^T H V + rho s s^T from the oldest on."""
    steps, changes = (
        np.diff(np.asarray(x, np.float64), axis=0)[-memory:] for x in (points, gradients)
    )
    inverse = np.eye(len(points[0])) * (steps[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
    for s, y in zip(steps, changes, strict=True):
        rho = 1 / (s @ y)
        v = np.eye(len(s)) - rho * np.outer(y, s)
        inverse = v.T @ inverse @ v + rho * np.outer(s, s)
    return -inverse @ np.asarray(gradients[-1], np.float64)


@pytest.mark.parametrize("memory", [3, 10])
@pytest.mark.parametrize("problem", ["quadratic", "rosenbrock"])
def test_fifteen_directions_are_optaxs_and_those_of_bfgs_in_full(problem, memory):
    with jax.enable_x64(True):
        if problem == "quadratic":
            gradient, length = QUADRATIC, 0.5
            start = jnp.asarray(START)
        else:
            gradient, length = jax.jit(jax.grad(rosenbrock)), 0.2
            start = jnp.array([-0.5, 0.3, 0.8, 0.2])
        solver = optax.scale_by_lbfgs(memory)
        update, state = jax.jit(solver.update), solver.init(start)
        points, gradients = [start], [gradient(start)]
        for step in range(15):
            found = direction_of(points, gradients, memory)
            expected, state = update(gradients[-1], state, points[-1])
            np.testing.assert_allclose(found, -expected, rtol=1e-8, atol=1e-12)
            if step:
                full = by_matrices(points, gradients, memory)
                np.testing.assert_allclose(found, full, rtol=1e-8, atol=1e-12)
            points.append(points[-1] + length * found)
            gradients.append(gradient(points[-1]))
        # The two memories differ from one another, or the test would not tell them apart.
        others = direction_of(points, gradients, 13 - memory)
        assert not np.allclose(direction_of(points, gradients, memory), others, rtol=1e-3)


def test_exact_line_searches_find_a_quadratics_inverse_and_its_minimum():
    """Conjugate steps, as many as dimensions, leave nothing of the Hessian to be learnt."""
    with jax.enable_x64(True):
        points, gradients = [jnp.asarray(START)], []
        gradients.append(QUADRATIC(points[0]))
        for _ in range(SIZE):
            along = direction_of(points, gradients, SIZE)
            step = -(gradients[-1] @ along) / (along @ HESSIAN @ along)
            points.append(points[-1] + step * along)
            gradients.append(QUADRATIC(points[-1]))
        np.testing.assert_allclose(points[-1], 0, atol=1e-8)
        steps, changes = (list(jnp.diff(jnp.stack(x), axis=0)) for x in (points, gradients))
        conjugate = np.stack(steps) @ HESSIAN @ np.stack(steps).T
        scale = np.sqrt(np.diag(conjugate))
        np.testing.assert_allclose(conjugate / np.outer(scale, scale), np.eye(SIZE), atol=1e-6)
        inverse = np.stack([-direction(unit, steps, changes) for unit in jnp.eye(SIZE)])
        np.testing.assert_allclose(inverse, np.linalg.inv(HESSIAN), atol=1e-6)


def test_the_newest_step_is_what_its_change_of_the_gradient_leads_back_to():
    """The secant equation H y = s, which every quasi-Newton method keeps."""
    steps = [jnp.asarray(RANDOM.normal(size=SIZE), jnp.float32) for _ in range(4)]
    changes = [jnp.asarray(HESSIAN @ np.asarray(s), jnp.float32) for s in steps]
    found = -direction(changes[-1], steps, changes)
    np.testing.assert_allclose(found, steps[-1], rtol=1e-4, atol=1e-5)


def test_with_nothing_learnt_it_is_the_gradient_downwards_cut_to_length_one():
    short, long = jnp.array([0.3, -0.4]), jnp.array([30.0, -40.0])
    np.testing.assert_allclose(direction(short, [], []), -short, rtol=1e-6)
    np.testing.assert_allclose(direction(long, [], []), [-0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(direction(jnp.zeros(2), [], []), [0, 0])


def test_it_leads_down_wherever_the_steps_met_positive_curvature():
    for seed in range(20):
        random = np.random.RandomState(seed)
        steps, changes = random.normal(size=(2, 5, SIZE))
        signs = np.sign((steps * changes).sum(1, keepdims=True))
        gradient = jnp.asarray(random.normal(size=SIZE), jnp.float32)
        found = direction(
            gradient, *(list(jnp.asarray(x, jnp.float32)) for x in (steps, signs * changes))
        )
        assert float(gradient @ found) < 0


def test_steps_and_changes_must_be_as_many():
    one = jnp.ones(2)
    with pytest.raises(ValueError, match="zip"):
        direction(one, [one, one], [one])
