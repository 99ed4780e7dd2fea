"""The learning rate finder against closed forms, and what it refuses."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons import lr_find, training
from jaxlessons.errors import UserError
from jaxlessons.training import Examples

CURVATURE = 3.0
SPLIT = Examples(jnp.zeros((64, 1)), jnp.zeros(64, jnp.int32))


def quadratic_apply(variables, inputs, train, rngs, mutable):
    return jnp.broadcast_to(variables["params"]["w"], (len(inputs), 1)), {}


def quadratic_loss(logits, labels):
    return CURVATURE / 2 * logits[:, 0] ** 2


QUADRATIC = training.TrainState(
    step=jnp.int32(0),
    params={"w": jnp.array([[2.0]])},
    batch_stats={},
    opt_state=(),
    key=jax.random.key(4),
)


def quadratic_sweep(make_optimizer, values, **settings):
    settings = {"batch_size": 8, "loss": quadratic_loss, **settings}
    return lr_find.sweep(QUADRATIC, SPLIT, quadratic_apply, make_optimizer, values, **settings)


def smooth(losses, beta):
    """fast.ai's: an average that starts at 0, divided by 1 - beta^(steps so far)."""
    average, smoothed = 0.0, []
    for i, loss in enumerate(losses, 1):
        average = beta * average + (1 - beta) * loss
        smoothed.append(average / (1 - beta**i))
    return np.array(smoothed)


def heavy_ball(rates, momenta, decays=None):
    """The quadratic's losses by hand, in float64, each before its step."""
    w, buffer, seen = 2.0, 0.0, []
    decays = np.zeros(len(rates)) if decays is None else decays
    for rate, momentum, decay in zip(rates, momenta, decays, strict=True):
        seen.append(CURVATURE / 2 * w * w)
        buffer = momentum * buffer + CURVATURE * w
        w -= rate * (buffer + decay * w)
    return np.array(seen)


@pytest.mark.parametrize("scan", [False, True])
def test_plain_descent_on_a_quadratic_has_the_losses_of_the_closed_form(scan):
    rates = np.geomspace(1e-3, 0.4, 40)
    found = quadratic_sweep(optax.sgd, rates, scan=scan, name="rate")
    # w is multiplied by (1 - curvature * rate) in each step.
    w = 2 * np.cumprod(np.append(1, 1 - CURVATURE * rates[:-1]))
    np.testing.assert_allclose(found.losses, CURVATURE / 2 * w**2, rtol=2e-4, atol=1e-12)
    np.testing.assert_allclose(found.smoothed, smooth(found.losses, 0.98), rtol=1e-5)
    np.testing.assert_array_equal(found.values, rates)
    assert (found.diverged_at, found.name) == (None, "rate")


def test_momentum_lives_on_from_value_to_value():
    found = lr_find.lr_find(
        QUADRATIC,
        SPLIT,
        quadratic_apply,
        start=1e-4,
        end=0.1,
        steps=30,
        batch_size=8,
        loss=quadratic_loss,
    )
    rates = np.geomspace(1e-4, 0.1, 30)
    np.testing.assert_allclose(found.losses, heavy_ball(rates, [0.9] * 30), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.values, rates)
    assert found.name == "learning rate"


def test_the_usual_range_is_the_lessons():
    found = lr_find.lr_find(QUADRATIC, SPLIT, quadratic_apply, loss=quadratic_loss)
    np.testing.assert_allclose(found.values[:2], [1e-7, 1e-7 * 10 ** (8 / 99)])
    assert found.diverged_at < 10
    assert np.isclose(np.log10(found.diverged_at * 1e7) / (8 / 99), len(found.values))


def test_momentum_and_weight_decay_are_swept_alike():
    settings = {"batch_size": 8, "loss": quadratic_loss, "steps": 20}
    found = lr_find.momentum_sweep(QUADRATIC, SPLIT, quadratic_apply, lr=0.02, **settings)
    momenta = np.linspace(0.5, 0.99, 20)
    np.testing.assert_array_equal(found.values, momenta)
    np.testing.assert_allclose(found.losses, heavy_ball([0.02] * 20, momenta), rtol=1e-4, atol=1e-6)
    assert found.name == "momentum"

    found = lr_find.weight_decay_sweep(
        QUADRATIC, SPLIT, quadratic_apply, lr=0.02, momentum=0.5, start=1e-2, end=10, **settings
    )
    decays = np.geomspace(1e-2, 10, 20)
    np.testing.assert_array_equal(found.values, decays)
    by_hand = heavy_ball([0.02] * 20, [0.5] * 20, decays)
    np.testing.assert_allclose(found.losses, by_hand, rtol=1e-4, atol=1e-6)
    assert found.name == "weight decay"


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("factor", [1.5, 4.0])
def test_it_stops_where_the_smoothed_loss_leaves_its_least_behind(scan, factor):
    rates = np.geomspace(0.01, 10, 60)
    found = quadratic_sweep(optax.sgd, rates, scan=scan, smoothing=0.5, diverged=factor)
    w = 2 * np.cumprod(np.append(1, 1 - CURVATURE * rates[:-1]))
    smoothed = smooth(CURVATURE / 2 * w**2, 0.5)
    first = int(np.argmax(smoothed > factor * np.minimum.accumulate(smoothed)))
    assert 20 < first < 60
    assert (len(found.values), found.diverged_at) == (first, rates[first])
    np.testing.assert_allclose(found.smoothed, smoothed[:first], rtol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("scan", [False, True])
def test_it_stops_at_a_loss_that_is_not_finite(bad, scan):
    def sgd(rate):
        return optax.sgd(jnp.where(rate == 7, bad, rate))

    values = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 7, 0.1, 0.1])
    found = quadratic_sweep(sgd, values, scan=scan)
    assert len(found.losses) == 7  # the step of the 7 still saw a good loss
    assert found.diverged_at == 0.1
    assert np.isfinite(found.losses).all()
    assert np.isfinite(found.smoothed).all()


def find(**settings):
    settings = {"loss": quadratic_loss, **settings}
    split = settings.pop("split", SPLIT)
    return lr_find.lr_find(QUADRATIC, split, quadratic_apply, **settings)


def sweep_momentum(start, end):
    return lr_find.momentum_sweep(QUADRATIC, SPLIT, quadratic_apply, lr=1, start=start, end=end)


ZERO_OR_MORE = "the start must be 0 or more, and the end above it and below 1."
ABOVE = "the start must be above 0, and the end above it."


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: find(start=1, end=0.1),
            f"The learning rate is to be swept from 1 to 0.1: {ABOVE}",
        ),
        (lambda: find(start=0), f"The learning rate is to be swept from 0 to 10: {ABOVE}"),
        (lambda: find(end=np.nan), f"The learning rate is to be swept from 1e-07 to nan: {ABOVE}"),
        (
            lambda: sweep_momentum(0.5, 1.0),
            f"The momentum is to be swept from 0.5 to 1: {ZERO_OR_MORE}",
        ),
        (
            lambda: sweep_momentum(0.9, 0.5),
            f"The momentum is to be swept from 0.9 to 0.5: {ZERO_OR_MORE}",
        ),
        (
            lambda: find(steps=4),
            "A sweep needs a list of at least 5 finite values, one a step: these are 4.",
        ),
        (lambda: find(steps=-1), "these are 0."),
        (
            lambda: quadratic_sweep(optax.sgd, [1, 2, 3, np.inf, 4]),
            "A sweep needs a list of at least 5 finite values",
        ),
        (
            lambda: find(split=Examples(SPLIT.inputs[:0], SPLIT.labels[:0])),
            "The split is empty: a sweep needs training examples.",
        ),
        (
            lambda: find(batch_size=65),
            "The batch size is 65: it must be from 1 to the 64 training examples.",
        ),
        (lambda: find(smoothing=1), "smoothing is 1: it must be in [0, 1), as 0.98."),
        (lambda: find(diverged=1), "diverged is 1: it must be above 1, as 4 times the least loss."),
        (
            lambda: find(start=5, end=50, steps=10, batch_size=8),
            "The sweep diverged at step 2 of 10, at a learning rate of 6.46: begin it lower, or "
            "check the inputs and the loss.",
        ),
    ],
)
def test_a_sweep_without_meaning_is_refused(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()
