"""The learning rate finder on a network: its state, its key, a scan, and one value alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons import lr_find, training
from jaxlessons.training import Examples

IMAGES = np.random.RandomState(0).randn(50, 8, 8, 3).astype(np.float32)
LABELS = np.random.RandomState(1).randint(0, 10, 50).astype(np.int32)
PICTURES = Examples(jnp.asarray(IMAGES), jnp.asarray(LABELS))


class Net(nn.Module):
    """Small and quick to compile, with batch statistics."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(12)(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.relu(x))
        return nn.Dense(10)(x)


NET = Net()


@pytest.fixture(scope="module")
def network_state():
    return training.create_state(NET, optax.adam(1e-3), jax.random.key(2), IMAGES[:2])


def add_noise(key, batch, place):
    noise = jax.random.uniform(key, (len(batch.inputs), 1, 1, 1))
    return batch._replace(inputs=batch.inputs + noise + place.epoch)


def network_sweep(state, **settings):
    settings = {"start": 1e-4, "steps": 24, "batch_size": 16, "augment": add_noise, **settings}
    return lr_find.lr_find(state, PICTURES, NET.apply, **settings)


def raw(tree):
    leaves = jax.tree.leaves(tree)
    return [
        np.array(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in leaves
    ]


@pytest.fixture(scope="module")
def sweeps(network_state):
    """scan -> (the state before a sweep, the sweep, the state after it)."""

    def swept(scan):
        return raw(network_state), network_sweep(network_state, scan=scan), raw(network_state)

    return {scan: swept(scan) for scan in (False, True)}


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_the_state_is_bit_for_bit_what_it_was_and_still_of_use(network_state, sweeps, scan):
    before, first, after = sweeps[scan]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    again = network_sweep(network_state, scan=scan)
    np.testing.assert_array_equal(first.losses, again.losses)


def test_the_key_decides_the_batches_and_the_luck(network_state):
    other = network_state.replace(key=jax.random.key(77))
    a, b = (network_sweep(state, augment=None).losses for state in (network_state, other))
    assert np.abs(a[:5] - b[:5]).min() > 1e-3


def test_one_scan_and_one_call_a_step_agree(sweeps):
    loop, scan = (sweeps[scan][1] for scan in (False, True))
    assert len(loop.losses) == len(scan.losses)
    assert loop.diverged_at == scan.diverged_at
    # Once the rate is large, a rounding grows from step to step.
    np.testing.assert_allclose(loop.losses[:15], scan.losses[:15], rtol=1e-3)
    np.testing.assert_allclose(loop.smoothed[:15], scan.smoothed[:15], rtol=1e-3)


def test_a_sweep_of_one_value_is_a_training_with_it(network_state):
    found = lr_find.sweep(
        network_state,
        PICTURES,
        NET.apply,
        lambda lr: optax.adam(lr),
        [1e-3] * 7,
        batch_size=16,
        augment=add_noise,
    )
    step = training.make_train_step(NET.apply, optax.adam(1e-3), augment=add_noise)
    seen = []
    training.fit(
        jax.tree.map(jnp.copy, network_state),
        step,
        PICTURES,
        batch_size=16,
        total_steps=7,
        on_steps=lambda at, sums: seen.append(float(sums["loss"][0] / sums["loss"][1])),
    )
    np.testing.assert_allclose(found.losses, seen, rtol=1e-4)
