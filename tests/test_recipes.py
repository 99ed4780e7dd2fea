"""The named lists of phases, at every boundary."""

import re

import jax
import numpy as np
import pytest

from jaxlessons.errors import UserError
from jaxlessons.schedules import (
    Phase,
    cyclical,
    flat_cosine,
    lr_schedule,
    momentum_schedule,
    one_cycle,
    sgdr,
    step_decay,
    total_steps,
    warm_up,
)


def cosine(start, end, n):
    """In float64: the cosine's values at the n steps of a phase."""
    return end + (start - end) / 2 * (1 + np.cos(np.pi * np.arange(n) / n))


def rates(phases, per_epoch, steps):
    return np.asarray(jax.jit(lr_schedule(phases, per_epoch))(np.asarray(steps)))


def test_sgdr_restarts_after_growing_cycles_and_warms_up():
    phases = sgdr(0.2, 3, cycle_length=1, cycle_mult=2, weight_decay=0.01)
    assert [p.steps(100) for p in phases] == [5, 95, 200, 400]
    assert total_steps(phases, 100) == 700
    assert {(p.optimizer, p.weight_decay) for p in phases} == {("adam", 0.01)}
    values = np.asarray(jax.jit(lr_schedule(phases, 100))(np.arange(701)))
    np.testing.assert_array_equal(values[:5], np.float32(0.002))
    for first, n in ((5, 95), (100, 200), (300, 400)):
        expected = cosine(0.2, 0.0, n)
        np.testing.assert_allclose(values[first : first + n], expected, rtol=1e-5, atol=1e-7)
    assert values[700] == 0


def test_one_cycle_meets_its_ends():
    phases = one_cycle(0.4, 10, start_div=8, final_div=100, tail=0.2, optimizer="nesterov")
    assert [p.steps(10) for p in phases] == [40, 40, 20]
    lr, momentum = (jax.jit(f(phases, 10)) for f in (lr_schedule, momentum_schedule))
    where = np.array([0, 20, 40, 60, 80, 90, 100])
    rates = [0.05, 0.225, 0.4, 0.225, 0.05, 0.027, 0.004]
    np.testing.assert_allclose(lr(where), rates, rtol=1e-5)
    np.testing.assert_allclose(momentum(where), [0.95, 0.9, 0.85, 0.9, 0.95, 0.95, 0.95], rtol=1e-6)
    assert {p.optimizer for p in phases} == {"nesterov"}


def test_flat_cosine_stays_and_then_falls_to_nothing():
    phases = flat_cosine(0.3, 8, flat=0.25, optimizer="adam", weight_decay=0.1)
    expected = [*[0.3] * 20, *cosine(0.3, 0, 60), 0]
    np.testing.assert_allclose(rates(phases, 10, np.arange(81)), expected, rtol=1e-5, atol=1e-7)
    assert {(p.optimizer, p.weight_decay) for p in phases} == {("adam", 0.1)}


def test_cyclical_is_a_triangle_and_the_momentum_its_mirror():
    phases = cyclical(0.8, 2, cycle_length=2, start_div=4, momentum=(0.9, 0.5), optimizer="adam")
    up, down = [0.2, 0.35, 0.5, 0.65], [0.8, 0.65, 0.5, 0.35]
    steps = np.arange(17)
    np.testing.assert_allclose(rates(phases, 4, steps), [*up, *down, *up, *down, 0.2], rtol=1e-6)
    momenta = jax.jit(momentum_schedule(phases, 4))(steps)
    fall, rise = [0.9, 0.8, 0.7, 0.6], [0.5, 0.6, 0.7, 0.8]
    np.testing.assert_allclose(momenta, [*fall, *rise, *fall, *rise, 0.9], rtol=1e-6)
    assert {p.optimizer for p in phases} == {"adam"}


def test_step_decay_has_one_rate_a_length():
    phases = step_decay(0.5, [2, 1, 0.5], factor=0.2, momentum=0.8)
    expected = [0.5] * 8 + [0.1] * 4 + [0.02] * 2
    np.testing.assert_allclose(rates(phases, 4, np.arange(14)), expected, rtol=1e-6)
    assert total_steps(phases, 4) == 14
    assert {p.momentum for p in phases} == {0.8}


def test_a_warm_up_meets_what_follows_it():
    after = one_cycle(0.4, 10, momentum=(0.95, 0.85), optimizer="adam", weight_decay=0.01)
    phases = warm_up(after, 2, start=0.01)
    assert phases[1:] == after
    expected = [0.01, 0.0175, 0.025, 0.0325, 0.04]
    np.testing.assert_allclose(rates(phases, 2, np.arange(5)), expected, rtol=1e-6)
    assert momentum_schedule(phases, 2)(np.int32(3)) == np.float32(0.95)
    assert (phases[0].optimizer, phases[0].weight_decay) == ("adam", 0.01)
    assert rates(warm_up([Phase(1, 0.1)], 1), 10, 0) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sgdr(0.1, 0), "sgdr: cycles is 0: it must be a whole number from 1 up."),
        (lambda: sgdr(0.1, 1.5), "sgdr: cycles is 1.5"),
        (lambda: sgdr(0.1, True), "sgdr: cycles is True"),
        (lambda: sgdr(0.1, 2, cycle_mult=0), "sgdr: cycle_mult is 0: it must be a number above 0"),
        (lambda: sgdr(-0.1, 2), "Phase.lr is -0.001"),
        (lambda: one_cycle(0.1, 5, tail=1.0), "one_cycle: tail is 1.0: it must lie between 0"),
        (lambda: one_cycle(0.1, -5), "Phase.epochs is -2.25"),
        (lambda: sgdr("x", 2), "sgdr: lr is 'x': it must be a number, the rate that cycles"),
        (lambda: one_cycle(0.1, 5, tail="x"), "one_cycle: tail is 'x'"),
        (lambda: one_cycle(0.1, 5, final_div=0), "one_cycle: final_div is 0: it must be a"),
        (lambda: one_cycle(0.1, 5, momentum=(0.9,)), "momentum is (0.9,): it must be one number"),
        (lambda: cyclical(0.1, 0), "cyclical: cycles is 0: it must be a whole number from 1 up."),
        (lambda: cyclical(0.1, 2, start_div=0), "cyclical: start_div is 0: it must be a number"),
        (lambda: flat_cosine(0.1, 5, flat=1), "flat_cosine: flat is 1: it must lie between 0 and"),
        (lambda: flat_cosine(-1, 5), "Phase.lr is -1"),
        (lambda: step_decay(0.1, []), "step_decay: lengths is empty: give the epochs at each"),
        (lambda: step_decay(0.1, [1, 0]), "Phase.epochs is 0"),
        (lambda: step_decay(0.1, [1], factor=-1), "step_decay: factor is -1: it must be a number"),
        (lambda: warm_up([], 1), "The list of phases is empty: give at least one Phase."),
        (
            lambda: warm_up([Phase(1, (0.1, 0.2), "linear")], 1, start=0.15),
            "warm_up: start is 0.15: it must be from 0 to the first rate, 0.1.",
        ),
    ],
)
def test_a_recipe_without_meaning_is_refused(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()
