"""The averages as training keeps them: in the jitted step, in a scan, and through checkpoints."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from jaxlessons import checkpoint, training
from jaxlessons.averaging import ema, swa
from jaxlessons.errors import UserError
from jaxlessons.training import Examples

RANDOM = np.random.RandomState(0)


class Net(nn.Module):
    """Small and quick to compile, with batch statistics and dropout."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=not train)(nn.relu(nn.Dense(8)(x)))
        return nn.Dense(3)(nn.Dropout(0.2, deterministic=not train)(x))


INPUTS = jnp.asarray(RANDOM.standard_normal((40, 6)), jnp.float32)
SPLIT = Examples(INPUTS, jnp.asarray(RANDOM.randint(0, 3, 40), jnp.int32))
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
AVERAGERS = {"swa": swa(4, 3), "ema": ema(0.7)}
STEPS = {
    name: training.make_train_step(Net().apply, OPTIMIZER, averager=averager)
    for name, averager in AVERAGERS.items()
}
PLAIN_STEP = training.make_train_step(Net().apply, OPTIMIZER)


@functools.cache
def _first_state(name, seed):
    averager = AVERAGERS.get(name)
    return training.create_state(Net(), OPTIMIZER, jax.random.key(seed), INPUTS[:2], averager)


def make_state(name=None, seed=0):
    """A copy, since a step consumes its state."""
    return jax.tree.map(jnp.copy, _first_state(name, seed))


def assert_close(a, b, rtol=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol / 10)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def fit(state, step, total_steps=14, **settings):
    return training.fit(state, step, SPLIT, batch_size=8, total_steps=total_steps, **settings)


def recording(step, params):
    """`step`, after which a copy of the parameters goes into the list."""

    def recorded(state, split, place):
        state, sums = step(state, split, place)
        params.append(jax.tree.map(np.array, state.params))
        return state, sums

    return recorded


@pytest.mark.slow
@pytest.mark.parametrize("name", AVERAGERS)
def test_training_keeps_the_average_of_the_parameters_after_each_of_its_steps(name):
    params = []
    state = fit(make_state(name), recording(STEPS[name], params), steps_per_call=1)
    assert len(params) == 14
    if name == "swa":
        params = [params[step - 1] for step in (7, 10, 13)]
        weights = np.full(3, 1 / 3)
    else:
        weights = 0.7 ** np.arange(13, -1, -1.0)
        weights /= weights.sum()
    assert int(state.average.count) == len(params)
    expected = jax.tree.map(
        lambda *leaves: np.tensordot(weights, np.stack(leaves).astype(np.float64), 1), *params
    )
    assert_close(state.average.params, expected)
    # And training itself takes no notice of it.
    assert_close(state.params, fit(make_state(), PLAIN_STEP, steps_per_call=1).params)


def test_a_scan_keeps_the_same_average_as_the_loop():
    loop, scan = (fit(make_state("swa"), STEPS["swa"], 10, steps_per_call=n) for n in (1, 5))
    assert int(loop.average.count) == int(scan.average.count) == 2
    assert_close(loop.average.params, scan.average.params, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", AVERAGERS)
def test_a_run_stopped_and_resumed_has_the_same_average_bit_for_bit(name, tmp_path):
    step = STEPS[name]
    whole = fit(make_state(name), step, steps_per_call=1)
    checkpoint.save(tmp_path, fit(make_state(name), step, total_steps=8, steps_per_call=1))
    state = checkpoint.restore(tmp_path, make_state(name, seed=9))
    assert int(state.step) == 8
    assert int(state.average.count) == {"swa": 1, "ema": 8}[name]
    assert_same(fit(state, step, steps_per_call=1), whole)


class OlderState(struct.PyTreeNode):
    """A TrainState from before there were averages."""

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: tuple
    key: jax.Array


def test_states_without_an_average_come_back_whenever_they_were_saved(tmp_path):
    state = make_state(seed=1)
    fields = {name: getattr(state, name) for name in OlderState.__dataclass_fields__}
    checkpoint.save(tmp_path / "new", state)
    checkpoint.save(tmp_path / "old", OlderState(**fields))
    for folder in ("new", "old"):
        restored = checkpoint.restore(tmp_path / folder, make_state(seed=2))
        assert restored.average is None
        assert_same(restored, state)


def test_a_state_with_an_average_and_one_without_are_not_taken_for_each_other(tmp_path):
    with_average, without = make_state("swa"), make_state()
    checkpoint.save(tmp_path / "with", with_average)
    checkpoint.save(tmp_path / "without", without)
    with pytest.raises(UserError, match=r"average\.count is int32\[\] there and missing here"):
        checkpoint.restore(tmp_path / "with", without)
    with pytest.raises(UserError, match=r"average\.count is missing there and int32\[\] here"):
        checkpoint.restore(tmp_path / "without", with_average)


def test_a_step_with_an_averager_refuses_a_state_without_an_average():
    place = training.Place(jnp.arange(8), jnp.int32(0))
    with pytest.raises(ValueError, match="averager") as caught:
        STEPS["ema"](make_state(), SPLIT, place)
    assert str(caught.value) == "averager: the state has no average, create it with one too."
