"""Descents of functions whose course is known in closed form, or done again by a plain loop."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize

from jaxlessons import minimize
from jaxlessons.averaging import ema_update, swa_init
from jaxlessons.lbfgs import direction

VALLEY = np.array([-1.2, 1.0], np.float32)  # where Rosenbrock's function is begun by custom


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


def descend(function, start, evaluations, minimizer=None, per_call=1, decay=0.99):
    """(the descent, its record with the points tried)."""

    def objective(point, data):
        return function(point), {"point": point, "doubled": 2 * function(point)}

    minimizer = minimizer or minimize.lbfgs()
    call = minimize.make_call(minimizer, objective, per_call, decay)
    descent, records = minimize.begin(minimizer, jnp.asarray(start, jnp.float32)), []
    for _ in range(evaluations // per_call):
        descent, record = call(descent, ())
        records.append(jax.tree.map(np.asarray, record))
    return descent, {name: np.concatenate([r[name] for r in records]) for name in records[0]}


@pytest.fixture(scope="module")
def valley():
    """Sixty evaluations of Rosenbrock's function, one a call."""
    return descend(rosenbrock, VALLEY, 60)


def scipys_evaluations(goal):
    seen = []

    def value(x):
        seen.append(optimize.rosen(x))
        return seen[-1]

    optimize.minimize(value, VALLEY.astype(float), jac=optimize.rosen_der, method="L-BFGS-B")
    return 1 + int(np.argmax(np.array(seen) < goal))


def test_a_quadratic_is_solved():
    random = np.random.RandomState(0)
    turn = np.linalg.qr(random.normal(size=(12, 12)))[0]
    hessian = jnp.asarray(turn @ np.diag(np.geomspace(1, 100, 12)) @ turn.T, jnp.float32)
    goal = jnp.asarray(random.normal(size=12), jnp.float32)

    def function(x):
        return 0.5 * (x.ravel() - goal) @ hessian @ (x.ravel() - goal)

    descent, _ = descend(function, np.zeros((2, 2, 3)), 60, per_call=20)
    np.testing.assert_allclose(descent.state.point.ravel(), goal, atol=1e-4)


def test_rosenbrocks_valley_takes_about_as_many_evaluations_as_scipys(valley):
    descent, record = valley
    ours = 1 + int(np.argmax(record["taken"] & (record["value"] < 1e-6)))
    assert 1 < ours <= 50  # 45 on the CPU where this was written
    assert ours <= 1.25 * scipys_evaluations(1e-6)
    np.testing.assert_allclose(descent.state.point, [1, 1], atol=1e-3)


def test_a_point_is_taken_where_the_value_fell_by_enough_and_nowhere_else(valley):
    point, value, taken = (valley[1][name] for name in ("point", "value", "taken"))
    gradient_of, at = jax.jit(jax.grad(rosenbrock)), 0
    assert taken[0]
    for tried in range(1, 30):
        promised = float(gradient_of(point[at]) @ (point[tried] - point[at]))
        assert promised < 0
        assert taken[tried] == (value[tried] <= value[at] + 1e-4 * promised)
        at = tried if taken[tried] else at
    assert 15 < taken[:30].sum() < 28


def test_the_value_never_rises_and_the_record_is_of_what_was_tried(valley):
    descent, record = valley
    shapes = {"point": (60, 2), "doubled": (60,), "value": (60,), "taken": (60,)}
    assert {name: values.shape for name, values in record.items()} == shapes
    kept = record["value"][record["taken"]]
    assert (np.diff(kept) <= 0).all()
    np.testing.assert_array_equal(record["doubled"], 2 * record["value"])
    expected = [optimize.rosen(point) for point in record["point"].astype(float)]
    np.testing.assert_allclose(record["value"], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(record["point"][0], VALLEY)
    np.testing.assert_array_equal(descent.state.point, record["point"][record["taken"]][-1])
    assert descent.state.value == kept[-1]


def test_each_point_follows_from_the_earlier_ones_as_by_hand(valley):
    """The direction is `lbfgs.direction`'s; a refused step is cut to the parabola's minimum."""
    both = jax.jit(jax.value_and_grad(rosenbrock))
    points, gradients, value, slope, step = [], [], 0.0, 0.0, 1.0
    tries, taken = valley[1]["point"], valley[1]["taken"]
    for tried, kept, following in zip(tries[:30], taken[:30], tries[1:31], strict=True):
        found, gradient = both(jnp.asarray(tried))
        if kept:
            points, gradients = [*points, tried], [*gradients, gradient]
            value, step = found, 1.0
        else:
            share = -slope * step / (2 * (found - value - slope * step))
            step *= float(np.clip(share, 0.1, 0.5))
        steps, changes = ([b - a for a, b in pairwise(x)][-10:] for x in (points, gradients))
        along = direction(gradients[-1], steps, changes)
        slope = gradients[-1] @ along
        np.testing.assert_allclose(points[-1] + step * along, following, rtol=1e-3, atol=1e-4)


def test_evaluations_of_one_call_are_those_of_as_many_calls_bit_for_bit(valley):
    together = descend(rosenbrock, VALLEY, 60, per_call=20)
    jax.tree.map(np.testing.assert_array_equal, valley, together)


def test_a_step_too_long_is_cut_to_the_parabolas_minimum_but_by_ten_at_most():
    # Steepness 100 x, so the first step has length 1 and is too long. A parabola is its own.
    for start, expected in ((0.3, [0.3, -0.7, 0.0]), (0.01, [0.01, -0.99, -0.09, 0.0])):
        descent, record = descend(lambda x: 50 * x[0] ** 2, [start], len(expected))
        np.testing.assert_allclose(record["point"][:, 0], expected, atol=2e-6)
        assert list(record["taken"]) == [True, *[False] * (len(expected) - 2), True]
        assert descent.state.step == 1


def logarithm(x):
    return jnp.sum(10 * x - jnp.log(x))  # lowest at 0.1, nothing below 0


def test_where_the_function_has_no_value_the_step_goes_back():
    descent, record = descend(logarithm, [0.9, 0.8], 40)
    assert np.isnan(record["value"]).any()
    assert not record["taken"][np.isnan(record["value"])].any()
    np.testing.assert_allclose(descent.state.point, [0.1, 0.1], rtol=1e-3)
    assert np.isfinite(descent.average.params).all()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2 * jnp.sqrt(jnp.abs(x[0])),  # at 0 there is a value and no gradient
        lambda x: jnp.where(x[0] > 0.5, x[0], -jnp.inf),  # there a gradient and no value
    ],
)
def test_without_one_of_value_and_gradient_the_step_goes_back(function):
    descent, record = descend(function, [1.0], 3)
    np.testing.assert_allclose(record["point"][:, 0], [1, 0, 0.9], atol=1e-6)
    assert list(record["taken"]) == [True, False, True]
    assert float(descent.state.value) == pytest.approx(float(function(np.array([0.9]))), rel=1e-5)


def test_without_a_value_at_the_start_nothing_is_ever_taken():
    descent, record = descend(logarithm, [-1.0, 0.5], 12)
    assert not record["taken"].any()
    assert np.isinf(descent.state.value)
    np.testing.assert_array_equal(record["point"], [[-1, 0.5]] * 12)
    assert descent.average.count == 0


def test_a_memory_that_leads_up_is_begun_anew():
    """On -x^2 / 2 the curvature is negative: Newton would climb to 0. Steps end at length 1."""
    _, record = descend(lambda x: -0.5 * x[0] ** 2, [0.5], 5)
    np.testing.assert_allclose(record["point"][:, 0], [0.5, 1, 2, 3, 4], rtol=1e-6)
    assert record["taken"].all()


def test_a_memory_whose_every_step_is_refused_is_begun_anew():
    minimizer = minimize.lbfgs()

    def objective(x, there):
        return jnp.where(there, rosenbrock(x), jnp.nan), {}

    call = minimize.make_call(minimizer, objective, 1)
    descent, straight, steps = minimize.begin(minimizer, jnp.asarray(VALLEY)), [], []
    # A step is cut by ten each time; below a thousandth the gradient itself is followed.
    for there in [True] * 9 + [False] * 5 + [True] * 2:
        descent, record = call(descent, there)
        along, gradient = descent.state.direction, jax.grad(rosenbrock)(descent.state.point)
        straight.append(np.allclose(along, -gradient / jnp.linalg.norm(gradient), atol=1e-4))
        steps.append(float(descent.state.step))
    np.testing.assert_allclose(steps[8:14], 10.0 ** -np.arange(6), rtol=1e-4)
    assert not any(straight[8:11])
    assert all(straight[12:14])
    assert record["taken"].all()


def test_adam_is_optaxs_by_a_loop(valley):
    descent, record = descend(rosenbrock, VALLEY, 30, minimize.adam(0.05))
    solver, point = optax.adam(0.05), jnp.asarray(VALLEY)
    memory, gradient_of = solver.init(point), jax.jit(jax.grad(rosenbrock))
    for found in record["point"]:
        np.testing.assert_allclose(found, point, rtol=1e-5)
        last = point
        step, memory = solver.update(gradient_of(point), memory)
        point = optax.apply_updates(point, step)
    np.testing.assert_allclose(descent.state.point, last, rtol=1e-5)
    assert descent.state.value == record["value"][-1]
    assert (np.diff(record["value"]) > 0).any()  # it may rise on the way
    assert record["taken"].all()


@pytest.mark.parametrize(
    ("minimizer", "decay"), [(minimize.lbfgs(), 0.5), (minimize.adam(0.05), 0.99)]
)
def test_the_average_is_of_the_points_taken(minimizer, decay):
    descent, record = descend(rosenbrock, VALLEY, 20, minimizer, 5, decay)
    average = swa_init(jnp.zeros(2))
    for point in record["point"][record["taken"]]:
        average = ema_update(average, jnp.asarray(point), decay)
    assert descent.average.count == record["taken"].sum()
    np.testing.assert_allclose(descent.average.params, average.params, rtol=1e-5)


def test_a_budget_is_evaluations_and_not_one_more():
    seen, minimizer = [], minimize.lbfgs()

    def counted(point, data):
        value = rosenbrock(point)
        jax.debug.callback(lambda found: seen.append(float(found)), value)
        return value, {}

    call = minimize.make_call(minimizer, counted, 7)
    descent, values = minimize.begin(minimizer, jnp.asarray(VALLEY)), []
    for _ in range(5):
        descent, record = call(descent, ())
        values += record["value"].tolist()
    jax.effects_barrier()
    assert len(seen) == len(values) == 35
    assert sorted(seen) == sorted(values)


def test_a_call_takes_the_old_descent_but_not_the_array_it_began_with():
    minimizer, start = minimize.lbfgs(), jnp.asarray(VALLEY)
    begun = minimize.begin(minimizer, start)
    call = minimize.make_call(minimizer, lambda x, scale: (scale * rosenbrock(x), {}), 1)
    _, record = call(begun, 3.0)
    assert begun.state.point.is_deleted()
    np.testing.assert_array_equal(start, VALLEY)
    # What goes along as data may differ from call to call.
    assert float(record["value"][0]) == pytest.approx(3 * 24.2, rel=1e-5)
