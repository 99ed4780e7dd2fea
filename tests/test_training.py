"""fit, its steps and its evaluation, by their values."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons import checkpoint, training
from jaxlessons.data import augment
from jaxlessons.errors import UserError
from jaxlessons.models.convnet import ConvBnNet, SimpleNet
from jaxlessons.training import Examples
from jaxlessons.watch import NonFiniteError

IMAGES = np.random.RandomState(0).randint(0, 256, (70, 8, 8, 3)).astype(np.uint8)
LABELS = np.random.RandomState(1).randint(0, 10, 70).astype(np.int32)
SPLIT = Examples(jnp.asarray(IMAGES), jnp.asarray(LABELS))
normalize = partial(augment.normalize, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def flip_and_normalize(key, batch, place):
    return batch._replace(inputs=normalize(augment.random_flip(key, batch.inputs)))


def only_normalize(key, batch, place):
    return batch._replace(inputs=normalize(batch.inputs))


class Net(nn.Module):
    """Small and quick to compile, with all that can go wrong on resume."""

    features: int = 12

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(self.features)(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.relu(x))
        return nn.Dense(10)(nn.Dropout(0.3, deterministic=not train)(x))


class Setup:
    def __init__(self, module, optimizer, change):
        self.module, self.optimizer = module, optimizer
        self.step = training.make_train_step(module.apply, optimizer, augment=change)

    def state(self, seed=0):
        key = jax.random.key(seed)
        return training.create_state(self.module, self.optimizer, key, normalize(IMAGES[:2]))

    def fit(self, state, total_steps=17, **settings):
        settings = {"batch_size": 16, "total_steps": total_steps, **settings}
        return training.fit(state, self.step, SPLIT, **settings)


@pytest.fixture(scope="module")
def setup():
    return Setup(Net(), optax.sgd(0.05, momentum=0.9), flip_and_normalize)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def test_the_first_state_is_the_modules_own_initialisation():
    module, key = ConvBnNet((4, 6)), jax.random.key(5)
    state = training.create_state(module, optax.adam(1e-3), key, normalize(IMAGES[:2]))
    expected = jax.jit(module.init)(jax.random.split(key)[0], normalize(IMAGES[:2]))
    assert jax.tree.structure(state.variables) == jax.tree.structure(dict(expected))
    for a, b in zip(jax.tree.leaves(state.variables), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert int(state.step) == 0
    assert not np.any(jax.tree.leaves(state.opt_state[0].mu)[0])


@pytest.mark.parametrize(
    ("per_call", "stop_after"),
    [pytest.param(1, 8, marks=pytest.mark.slow), (3, 6)],
    ids=["at an epoch's end", "in the middle of one"],
)
def test_a_run_stopped_and_resumed_ends_bit_for_bit_like_an_unbroken_one(
    setup, tmp_path, per_call, stop_after
):
    whole = setup.fit(setup.state(), steps_per_call=per_call)
    seen = []
    stopped = setup.fit(
        setup.state(),
        steps_per_call=per_call,
        on_steps=lambda step, sums: seen.append(step),
        should_stop=lambda: bool(seen) and seen[-1] >= stop_after - 2 * per_call,
    )
    assert 0 < int(stopped.step) < 17
    checkpoint.save(tmp_path, stopped)
    resumed = setup.fit(checkpoint.restore(tmp_path, setup.state(seed=9)), steps_per_call=per_call)
    assert int(resumed.step) == 17
    assert_same(whole, resumed)


def test_a_scan_over_steps_equals_the_loop_over_them(setup):
    loop, scan = (setup.fit(setup.state(), steps_per_call=n) for n in (1, 4))
    for a, b in zip(jax.tree.leaves(loop.params), jax.tree.leaves(scan.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_step_is_the_gradient_step_worked_out_by_hand():
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(10)(x.reshape(x.shape[0], -1))

    setup = Setup(Linear(), optax.sgd(0.1), only_normalize)
    state = setup.state()
    kernel = np.asarray(state.params["Dense_0"]["kernel"], np.float64)
    rows = np.arange(16)
    x = np.asarray(normalize(IMAGES[rows]), np.float64).reshape(16, -1)
    logits = x @ kernel
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (probabilities - np.eye(10)[LABELS[rows]]) / 16
    place = training.Place(jnp.asarray(rows), jnp.int32(0))
    state, sums = setup.step(state, SPLIT, place)
    after = state.params["Dense_0"]
    np.testing.assert_allclose(after["kernel"], kernel - 0.1 * x.T @ error, atol=1e-5)
    np.testing.assert_allclose(after["bias"], -0.1 * error.sum(0), atol=1e-6)
    loss = -np.log(probabilities[rows, LABELS[rows]])
    np.testing.assert_allclose(sums["loss"], (loss.sum(), 16), rtol=1e-5)
    right = (logits.argmax(1) == LABELS[rows]).sum()
    np.testing.assert_array_equal(sums["accuracy"], (right, 16))


def test_an_epoch_takes_every_example_at_most_once_and_orders_them_anew():
    orders = [training.epoch_order(jax.random.key(3), epoch, 50) for epoch in range(2)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(50))
    assert (orders[0] != orders[1]).mean() > 0.8
    np.testing.assert_array_equal(orders[1], training.epoch_order(jax.random.key(3), 1, 50))


def test_one_batch_can_be_learnt_by_heart():
    setup = Setup(Net(64), optax.adam(1e-2), only_normalize)
    small = Examples(SPLIT.inputs[:16], SPLIT.labels[:16])
    ends = []
    training.fit(
        setup.state(), setup.step, small, batch_size=16, total_steps=60, on_epoch=ends.append
    )
    assert ends[0].metrics["loss"] > 1.5
    assert ends[-1].metrics["loss"] < 0.05
    assert ends[-1].metrics["accuracy"] == 1.0


@pytest.mark.parametrize("batch_size", [1, 7, 69, 70, 500])
def test_evaluation_counts_every_example_once_whatever_the_batch_size(setup, batch_size):
    state = setup.fit(setup.state(), total_steps=4)
    step = training.make_eval_step(setup.module.apply, prepare=normalize)
    means, logits = training.evaluate(step, state.variables, SPLIT, batch_size)
    expected = setup.module.apply(state.variables, normalize(IMAGES))
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    log_softmax = expected - jax.nn.logsumexp(expected, axis=1, keepdims=True)
    loss = -np.asarray(log_softmax, np.float64)[np.arange(70), LABELS].mean()
    assert means["loss"] == pytest.approx(loss, rel=1e-5)
    assert means["accuracy"] == pytest.approx(float(np.mean(np.argmax(expected, 1) == LABELS)))


@pytest.mark.parametrize("per_call", [1, 4])
def test_a_loss_that_is_nan_stops_training_at_its_step_before_anything_is_saved(per_call):
    # The rate is fine for six steps and then throws the parameters out of float32.
    rate = optax.piecewise_constant_schedule(1e-3, {6: 1e38})
    setup = Setup(SimpleNet(), optax.sgd(rate), only_normalize)
    epochs = []
    with pytest.raises(NonFiniteError, match="--lr") as caught:
        setup.fit(
            setup.state(), on_epoch=lambda end: epochs.append(end.epoch), steps_per_call=per_call
        )
    assert caught.value.step in (8, 9)
    assert f"step {caught.value.step}" in str(caught.value)
    assert epochs == [1]


def test_parameters_that_turned_nan_in_an_epochs_last_step_are_not_handed_out():
    def rate(step):
        return jnp.where(step == 3, jnp.inf, 1e-3)

    setup = Setup(SimpleNet(), optax.sgd(rate), only_normalize)
    epochs = []
    with pytest.raises(NonFiniteError, match=r"parameters .* at step 4"):
        setup.fit(setup.state(), on_epoch=epochs.append)
    assert epochs == []


@pytest.mark.parametrize("batch_size", [0, -1, 71])
def test_a_batch_size_outside_the_data_is_refused(setup, batch_size):
    with pytest.raises(UserError, match=rf"batch size is {batch_size}.*70 training examples"):
        setup.fit(setup.state(), batch_size=batch_size)


def test_epochs_are_reported_with_the_means_over_their_own_steps(setup):
    sums, ends = [], []
    setup.fit(
        setup.state(),
        total_steps=6,
        on_steps=lambda step, s: sums.append((step, float(s["loss"][0]))),
        on_epoch=ends.append,
    )
    assert [step for step, _ in sums] == [1, 2, 3, 4, 5, 6]
    assert [end.epoch for end in ends] == [1, 2]  # the second one is only half an epoch
    losses = [loss for _, loss in sums]
    assert ends[0].metrics["loss"] == pytest.approx(sum(losses[:4]) / 64, rel=1e-6)
    assert ends[1].metrics["loss"] == pytest.approx(sum(losses[4:]) / 32, rel=1e-6)
