import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.errors import UserError
from jaxlessons.schedules import (
    Phase,
    cycle_ends,
    lr_schedule,
    momentum_schedule,
    one_cycle,
    phase_index,
    phase_steps,
    sgdr,
    total_steps,
)


def closed_form(kind, start, end, i, n):
    """In float64: the value at step i of a phase of n steps."""
    t = np.float64(i) / n
    if kind == "cosine":
        return end + (start - end) / 2 * (1 + np.cos(np.pi * t))
    if kind == "exponential":
        return start * (end / start) ** t
    if isinstance(kind, tuple):
        return end + (start - end) * (1 - t) ** kind[1]
    return start + (end - start) * t  # linear, and none where start == end


CURVES = [
    ("none", 0.3, 0.3),
    ("linear", 0.3, 0.7),
    ("linear", 0.7, 0.0),
    ("cosine", 0.9, 0.1),
    ("cosine", 0.0, 0.6),
    ("exponential", 0.9, 1e-4),
    ("exponential", 1e-3, 0.8),
    (("polynomial", 0.5), 0.8, 0.1),
    (("polynomial", 0.5), 0.0, 0.9),
    (("polynomial", 3), 0.5, 0.0),
]


def value_of(kind, start, end):
    return start if kind == "none" else (start, end)


@pytest.mark.parametrize(("kind", "start", "end"), CURVES)
def test_every_step_has_the_closed_form(kind, start, end):
    value = value_of(kind, start, end)
    phases = [Phase(3, value, kind, value, kind)]
    steps = np.arange(30)
    expected = closed_form(kind, start, end, np.minimum(steps, 21), 21)
    lr, momentum = lr_schedule(phases, 7), momentum_schedule(phases, 7)
    for values in jax.jit(lambda steps: (lr(steps), momentum(steps)))(steps):
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=2e-7)
        assert values[0] == np.float32(start)
        np.testing.assert_array_equal(values[21:], np.float32(end))


def test_phases_follow_each_other_with_exact_starts():
    phases = [Phase(k, value_of(*curve), curve[0]) for k, curve in enumerate(CURVES, 1)]
    schedule, index = (jax.jit(f(phases, 4)) for f in (lr_schedule, phase_index))
    expected, starts, owner = [], [], []
    for k, (kind, start, end) in enumerate(CURVES, 1):
        starts.append(len(expected))
        expected += [closed_form(kind, start, end, i, 4 * k) for i in range(4 * k)]
        owner += [k - 1] * 4 * k
    values = schedule(jnp.arange(len(expected)))
    np.testing.assert_allclose(values, expected, rtol=2e-6, atol=2e-7)
    np.testing.assert_array_equal(values[np.array(starts)], np.float32([c[1] for c in CURVES]))
    np.testing.assert_array_equal(index(np.arange(len(expected))), owner)
    assert schedule(len(expected)) == schedule(10**9) == np.float32(CURVES[-1][2])
    assert index(10**9) == len(CURVES) - 1
    assert total_steps(phases, 4) == len(expected)


def test_jit_ints_numpy_ints_and_arrays_agree():
    phases = [Phase(2, (0.5, 0.1), "cosine"), Phase(1, 0.05)]
    eager, jitted = lr_schedule(phases, 5), jax.jit(lr_schedule(phases, 5))
    expected = np.append(closed_form("cosine", 0.5, 0.1, np.arange(10), 10), np.full(6, 0.05))
    np.testing.assert_allclose(eager(np.arange(16)), expected, rtol=1e-6)
    np.testing.assert_allclose(jitted(np.arange(16).reshape(4, 4)).ravel(), expected, rtol=1e-6)
    for step in (0, 4, 9, 10, 15):
        assert eager(step) == pytest.approx(expected[step], rel=1e-6)
        for kind in (int, np.int32, np.int64, jnp.int32):
            assert jitted(kind(step)) == pytest.approx(expected[step], rel=1e-6)


def test_boundaries_are_exact_beyond_float32s_whole_numbers():
    n = 2**24 + 3
    phases = [Phase(1, 0.5), Phase(1, (0.25, 0.125), "linear"), Phase(1, 0.0625)]
    schedule = jax.jit(lr_schedule(phases, n))
    steps = (0, n - 1, n, 2 * n, 3 * n)
    assert [float(schedule(s)) for s in steps] == [0.5, 0.5, 0.25, 0.0625, 0.0625]
    assert schedule(2 * n - 1) == pytest.approx(0.125, rel=1e-6)
    assert schedule(n + n // 2) == pytest.approx(0.1875, rel=1e-6)


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "steps"),
    [
        (0.5, 7, 4),
        (0.26, 10, 3),
        (1.24, 10, 12),
        (0.001, 10, 1),
        (2.5, 3, 8),
        (np.float32(2), 9, 18),
    ],
)
def test_fractional_epochs_round_and_never_pass_their_end(epochs, per_epoch, steps):
    phases = [Phase(epochs, (0.8, 0.2), ("polynomial", 0.5)), Phase(1, 0.05)]
    assert total_steps(phases, per_epoch) == steps + per_epoch
    values = np.asarray(jax.jit(lr_schedule(phases, per_epoch))(np.arange(steps + 2)))
    expected = [0.2 + 0.6 * math.sqrt(1 - i / steps) for i in range(steps)]
    np.testing.assert_allclose(values, [*expected, 0.05, 0.05], rtol=1e-6)


def test_square_root_decay_is_a_number_at_every_step():
    schedule = jax.jit(lr_schedule([Phase(1, 0.1, ("polynomial", 0.5))], 977))
    values = schedule(np.arange(-2, 1200))
    assert np.isfinite(values).all()
    assert (np.diff(values) <= 0).all()
    assert values[-1] == 0


def test_each_phase_can_have_its_own_steps_per_epoch():
    phases = [Phase(2, (0.8, 0.2), "linear"), Phase(0.5, 0.1), Phase(1, (0.4, 0.0), "linear")]
    assert phase_steps(phases, [3, 8, 2]) == [6, 4, 2]
    assert total_steps(phases, np.array([3, 8, 2])) == 12
    values = jax.jit(lr_schedule(phases, (3, 8, 2)))(np.arange(13))
    expected = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.1, 0.1, 0.1, 0.1, 0.4, 0.2, 0]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_cycles_end_where_the_rate_starts_again_higher_or_training_ends():
    warm_restarts = sgdr(0.1, 3, cycle_length=1, cycle_mult=2)
    assert cycle_ends([Phase(2, 0.1), *warm_restarts], 100) == [300, 500, 900]
    assert cycle_ends(one_cycle(0.1, 10), 10) == [100]
    assert cycle_ends([Phase(1, 0.1), Phase(1, (0.1, 0.2), "linear")], 10) == []
    # A fall to where the next phase goes on is no end.
    falls = [Phase(1, (0.4, 0.2), "linear"), Phase(1, (0.2, 0.1), "cosine"), Phase(1, 0.3)]
    assert cycle_ends(falls, 10) == [20]


def test_one_value_with_a_decay_ends_at_zero():
    schedule = jax.jit(lr_schedule([Phase(1, 0.4, "linear")], 4))
    np.testing.assert_allclose(schedule(np.arange(6)), [0.4, 0.3, 0.2, 0.1, 0, 0], atol=1e-7)


def test_lists_mean_the_same_as_tuples():
    steps = np.arange(9)
    as_list = jax.jit(lr_schedule([Phase(1, [0.4, 0.1], ["polynomial", 2])], 8))(steps)
    as_tuple = jax.jit(lr_schedule([Phase(1, (0.4, 0.1), ("polynomial", 2))], 8))(steps)
    np.testing.assert_array_equal(as_list, as_tuple)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "Phase.epochs is 0: it must be a number above 0."),
        ({"epochs": -1}, "Phase.epochs is -1: it must be a number above 0."),
        ({"epochs": NAN}, "Phase.epochs is nan"),
        ({"epochs": INF}, "Phase.epochs is inf"),
        ({"epochs": True}, "Phase.epochs is True"),
        ({"epochs": "3"}, "Phase.epochs is '3'"),
        ({"lr": -0.1}, "Phase.lr is -0.1: it must be a number 0 or more, or (start, end) of such."),
        ({"lr": NAN}, "Phase.lr is nan"),
        ({"lr": True}, "Phase.lr is True"),
        ({"lr": None}, "Phase.lr is None"),
        ({"lr": (0.1, INF), "lr_decay": "linear"}, "Phase.lr is (0.1, inf)"),
        ({"lr": (0.1,)}, "Phase.lr is (0.1,): it must be a number 0 or more, or (start, end)"),
        ({"lr": [], "lr_decay": "linear"}, "Phase.lr is []"),
        ({"lr": [3, 2, 1], "lr_decay": "linear"}, "Phase.lr is [3, 2, 1]"),
        ({"lr": (0.1, 0.2)}, "Phase.lr is (0.1, 0.2), with no decay: set lr_decay too."),
        ({"lr_decay": "cosin"}, "Phase.lr_decay is 'cosin': it must be one of none, linear, "),
        ({"lr_decay": None}, "Phase.lr_decay is None: it must be one of none, linear, "),
        ({"lr_decay": ()}, "Phase.lr_decay is ()"),
        ({"lr_decay": "polynomial"}, "Phase.lr_decay is 'polynomial': only the polynomial has a"),
        ({"lr_decay": ("polynomial",)}, "Phase.lr_decay is ('polynomial',)"),
        ({"lr_decay": ("polynomial", 2, 3)}, "Phase.lr_decay is ('polynomial', 2, 3)"),
        ({"lr_decay": ("polynomial", 0)}, "which must be above 0"),
        ({"lr_decay": ("polynomial", NAN)}, 'above 0; write ("polynomial", 2).'),
        ({"lr_decay": ("linear", 2)}, "only the polynomial has a power"),
        ({"lr_decay": "exponential"}, "Phase.lr is 0.1: an exponential needs (start, end), both"),
        ({"lr": (0.1, 0), "lr_decay": "exponential"}, "Phase.lr is (0.1, 0): an exponential"),
        ({"lr": (0, 0.1), "lr_decay": "exponential"}, "Phase.lr is (0, 0.1): an exponential"),
        ({"momentum": 1}, "Phase.momentum is 1: it must be a number in [0, 1), or"),
        ({"momentum": (0.9, 1.5), "momentum_decay": "linear"}, "Phase.momentum is (0.9, 1.5)"),
        ({"momentum": (0.9, 0.8)}, "with no decay: set momentum_decay too."),
        ({"momentum_decay": "x"}, "Phase.momentum_decay is 'x'"),
        ({"weight_decay": -1}, "Phase.weight_decay is -1: it must be 0 or more."),
        ({"weight_decay": NAN}, "Phase.weight_decay is nan"),
        ({"beta2": 1.0}, "Phase.beta2 is 1.0: it must be in [0, 1), or None."),
        ({"optimizer": 3}, "Phase.optimizer is 3: it must be a name or an optax factory."),
        ({"decoupled": "no"}, "Phase.decoupled is 'no': it must be True or False."),
        ({"batch_size": 0}, "Phase.batch_size is 0: it must be 1 or more, or None."),
        ({"batch_size": 2.0}, "Phase.batch_size is 2.0"),
        ({"image_size": -8}, "Phase.image_size is -8: it must be 1 or more, or None."),
        ({"image_size": True}, "Phase.image_size is True"),
    ],
)
def test_a_phase_without_meaning_is_refused(fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Phase(**{"epochs": 1, "lr": 0.1, **fields})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: total_steps([], 5), "The list of phases is empty: give at least one Phase."),
        (lambda: lr_schedule([], 5), "The list of phases is empty"),
        (lambda: momentum_schedule([Phase(1, 0.1)], 0), "steps_per_epoch is 0: it must be 1 or"),
        (lambda: total_steps([Phase(1, 0.1)], -3), "steps_per_epoch is -3"),
        (
            lambda: lr_schedule(Phase(1, 0.1), 5),
            "phases is a single Phase: put it into a list.",
        ),
        (
            lambda: lr_schedule([Phase(1, 0.1), 0.1], 5),
            "Number 1 in the list of phases is 0.1: it must be a Phase.",
        ),
        (lambda: total_steps([Phase(1, 0.1)], 2.5), "steps_per_epoch is 2.5: it must be 1 or"),
        (
            lambda: total_steps([Phase(1, 0.1)], [3, 4]),
            "steps_per_epoch has 2 numbers for 1 phases: give one number, or one a phase.",
        ),
        (lambda: total_steps([Phase(1, 0.1)], [0]), "steps_per_epoch is 0"),
    ],
)
def test_a_schedule_without_meaning_is_refused(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()
