"""Eight devices, played by the CPU, come to what one comes to; states move between them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import averaging, checkpoint, devices, lr_find, optim, sequence_training, training
from jaxlessons.data import augment, windows
from jaxlessons.errors import UserError
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.models.convnet import ConvBnNet2
from jaxlessons.schedules import Phase
from jaxlessons.training import Examples

LAYOUTS = {
    "1": devices.SINGLE,
    "2": devices.layout(2),
    "8": devices.layout(8),
    "8 sharded": devices.layout(8, shard_optimizer=True),
}
STEPS = 20


def prepare(batch):
    return augment.normalize(batch, (0.5,) * 3, (0.25,) * 3)


def change(key, batch, place):
    flip, crop = jax.random.split(key)
    inputs = augment.random_crop(crop, augment.random_flip(flip, batch.inputs), pad=2)
    return batch._replace(inputs=prepare(inputs))


def splits(layout):
    """(83 images to train on, 37 to test on)."""
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (120, 8, 8, 3)).astype(np.uint8)
    labels = random.randint(0, 10, 120).astype(np.int32)
    train = Examples(pixels[:83], labels[:83])
    if layout.mesh is None:
        train = Examples(*layout.replicate(tuple(train)))
    return train, Examples(*layout.replicate((pixels[83:], labels[83:])))


MODULE = ConvBnNet2((4, 8), dropout=0.2)
OPTIMIZER = optim.phased_optimizer([Phase(4, (0.01, 0.001), "cosine", optimizer="adam")], 5)
AVERAGER = averaging.ema(0.9)


def train_images(layout, steps=STEPS, folder=None):
    """(state, loss of each step) with batch norm, dropout, augmentation, an average and Adam."""
    step = training.make_train_step(
        MODULE.apply, OPTIMIZER, augment=change, averager=AVERAGER, layout=layout
    )
    images = prepare(jnp.zeros((2, 8, 8, 3)))
    state = training.create_state(MODULE, OPTIMIZER, jax.random.key(0), images, AVERAGER)
    state = layout.place(state)
    if folder is not None and checkpoint.latest_step(folder) is not None:
        state = checkpoint.restore(folder, state)
    losses = []
    state = training.fit(
        state,
        step,
        splits(layout)[0],
        batch_size=16,
        total_steps=steps,
        on_steps=lambda step, sums: losses.append(float(sums["loss"][0])),
        layout=layout,
    )
    return state, losses


@pytest.fixture(scope="module")
def trained():
    return {name: train_images(layout) for name, layout in LAYOUTS.items()}


def assert_close(a, b, atol=1e-5):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2", "8", "8 sharded"])
def test_many_devices_come_to_the_parameters_of_one(trained, name):
    (one, losses), (many, own) = trained["1"], trained[name]
    assert int(many.step) == STEPS
    np.testing.assert_allclose(own, losses, atol=1e-5)
    # Moments and batch statistics too: the latter over the whole batch, and not over a share.
    assert_close(one.replace(key=0), many.replace(key=0))
    moved = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), one.params, train_images(LAYOUTS["1"], 1)[0].params
    )
    assert max(jax.tree.leaves(moved)) > 1e-2


@pytest.mark.slow
def test_evaluation_is_the_same_figure_whatever_the_batch(trained):
    found = []
    for name, batch_size in (("1", 37), ("2", 9), ("8", 10), ("8", 37), ("8 sharded", 16)):
        layout = LAYOUTS[name]
        step = training.make_eval_step(MODULE.apply, prepare=prepare, layout=layout)
        found.append(
            training.evaluate(step, trained[name][0].variables, splits(layout)[1], batch_size)
        )
    for means, logits in found[1:]:
        assert means["accuracy"] == found[0][0]["accuracy"]
        assert means["loss"] == pytest.approx(found[0][0]["loss"], abs=1e-5)
        np.testing.assert_allclose(logits, found[0][1], atol=1e-4)


@pytest.mark.slow
def test_each_device_has_its_share_and_no_more(trained):
    def held(tree):
        first = jax.devices()[0]
        shards = [s for leaf in jax.tree.leaves(tree) for s in leaf.addressable_shards]
        return sum(shard.data.nbytes for shard in shards if shard.device == first)

    whole, sharded = (trained[name][0] for name in ("8", "8 sharded"))
    assert (
        held(whole.params)
        == held(sharded.params)
        == sum(x.nbytes for x in jax.tree.leaves(whole.params))
    )
    moments = jax.tree.leaves(whole.opt_state)
    assert held(whole.opt_state) == sum(x.nbytes for x in moments)
    # What eight doesn't divide, such as the classes' biases and the steps' counts, stays whole.
    share = [8 if any(n and n % 8 == 0 for n in x.shape) else 1 for x in moments]
    assert held(sharded.opt_state) == sum(
        x.nbytes // n for x, n in zip(moments, share, strict=True)
    )
    assert held(sharded.opt_state) < held(whole.opt_state) / 2
    rows = np.arange(48).reshape(3, 16)
    assert held(LAYOUTS["8"].take_steps(np.zeros((83, 8, 8, 3), np.uint8), rows)) == 6 * 8 * 8 * 3


@pytest.mark.slow
def test_a_state_moves_between_numbers_of_devices(trained, tmp_path):
    for steps, name in ((4, "8 sharded"), (8, "1"), (13, "2"), (STEPS, "8")):
        state, _ = train_images(LAYOUTS[name], steps, tmp_path)
        checkpoint.save(tmp_path, state)
        placed = jax.tree.leaves(checkpoint.restore(tmp_path, state).params)
        assert all(len(x.sharding.device_set) == LAYOUTS[name].count for x in placed)
    assert_close(state.replace(key=0), trained["1"][0].replace(key=0))


def train_text(layout):
    """(state, means) with a carried state, dropout, windows of random length, calls of 4 steps."""
    tokens = layout.replicate(np.random.RandomState(1).randint(0, 20, 1201).astype(np.int32))
    model = StatefulCharRNN(20, features=12, embedding_size=6, layers=2, dropout=0.3)
    optimizer = optim.phased_optimizer([Phase(8, 0.01, optimizer="adam")], 10)
    lengths = partial(windows.jittered, 1201, 8, 9)
    per_epoch = len(lengths(jax.random.key(0)).starts)
    gather = partial(windows.gather, width=windows.jittered_width(9))
    step = sequence_training.make_train_step(
        model.apply, optimizer, gather, ragged=True, layout=layout
    )
    state = sequence_training.create_state(model, optimizer, jax.random.key(0), 8)
    state = sequence_training.fit(
        layout.place(state),
        step,
        tokens,
        lengths,
        steps_per_epoch=per_epoch,
        total_steps=STEPS,
        steps_per_call=4,
        layout=layout,
    )
    gather = partial(windows.gather, width=16)
    evaluate = sequence_training.make_evaluate(model.apply, gather, layout)
    return state, evaluate(state.variables, tokens, windows.whole(1201, 7, 16))


@pytest.mark.slow
def test_many_devices_come_to_the_recurrent_parameters_of_one():
    (one, means), (many, own) = (train_text(LAYOUTS[name]) for name in ("1", "8"))
    assert_close(one.replace(key=0), many.replace(key=0))
    assert own["loss"] == pytest.approx(means["loss"], abs=1e-5)
    carry = jax.tree.leaves(many.carry)[0]
    assert carry.shape == (8, 12)
    assert carry.addressable_shards[0].data.shape == (1, 12)


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_a_sweep_on_many_devices_has_the_losses_of_one(scan):
    found = []
    for layout in (LAYOUTS["1"], LAYOUTS["8"]):
        images = prepare(jnp.zeros((2, 8, 8, 3)))
        state = training.create_state(MODULE, OPTIMIZER, jax.random.key(0), images)
        found.append(
            lr_find.lr_find(
                layout.place(state),
                splits(layout)[0],
                MODULE.apply,
                start=1e-3,
                end=0.1,
                steps=12,
                batch_size=16,
                augment=change,
                scan=scan,
                layout=layout,
            )
        )
    assert len(found[0].losses) == 12
    np.testing.assert_allclose(found[1].losses, found[0].losses, atol=1e-5)


def test_batches_that_devices_do_not_divide_and_too_many_devices_are_refused():
    with pytest.raises(UserError, match="A batch of 12 can't be shared out evenly among 8 devices"):
        LAYOUTS["8"].check_batch(12)
    with pytest.raises(UserError, match=r"There are 8 devices \(cpu\): 9 can't be used"):
        devices.layout(9)
    with pytest.raises(UserError, match="A batch of 12"):
        LAYOUTS["8"].share_steps({"rows": np.zeros((3, 12), np.int32)})
