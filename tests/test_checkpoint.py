"""Checkpoints: what is kept, what comes back, and what is refused."""

import errno
import functools
import re
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons import checkpoint, training
from jaxlessons.errors import UserError
from jaxlessons.models.convnet import ConvBnNet, SimpleNet


@functools.cache
def make_state(module=ConvBnNet((4, 6)), seed=0, step=0):  # noqa: B008
    optimizer = optax.adam(1e-3)
    images = jnp.zeros((1, 8, 8, 3))
    state = training.create_state(module, optimizer, jax.random.key(seed), images)
    return state.replace(step=jnp.int32(step))


def at_step(step):
    return make_state().replace(step=jnp.int32(step))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    np.testing.assert_array_equal(jax.random.key_data(a.key), jax.random.key_data(b.key))
    for x, y in zip(
        jax.tree.leaves(a.replace(key=0)), jax.tree.leaves(b.replace(key=0)), strict=True
    ):
        np.testing.assert_array_equal(x, y)


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    state = make_state(seed=1, step=7)
    checkpoint.save(tmp_path, state)
    assert_same(checkpoint.restore(tmp_path, make_state(seed=2)), state)


def test_a_relative_directory_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.save("here", at_step(3))
    assert checkpoint.latest_step("here") == 3
    assert (tmp_path / "here" / "3").is_dir()


def test_the_latest_and_the_best_are_kept(tmp_path):
    for step, accuracy in enumerate([0.5, 0.9, 0.6, 0.7, 0.8]):
        checkpoint.save(
            tmp_path, at_step(step), metrics={"accuracy": accuracy}, keep=2, best="accuracy"
        )
    assert checkpoint.all_steps(tmp_path) == [1, 3, 4]
    assert checkpoint.latest_step(tmp_path) == 4
    assert checkpoint.best_step(tmp_path, "accuracy") == 1
    assert int(checkpoint.restore(tmp_path, make_state(), step=1).step) == 1


def test_the_best_may_be_the_lowest_and_one_without_metrics_is_never_it(tmp_path):
    for step, loss in enumerate([2.0, 1.0, 3.0, None, 4.0]):
        metrics = None if loss is None else {"loss": loss}
        checkpoint.save(tmp_path, at_step(step), metrics=metrics, keep=1, best="loss", mode="min")
    assert checkpoint.all_steps(tmp_path) == [1, 4]
    assert checkpoint.best_step(tmp_path, "loss", mode="min") == 1


def test_a_step_that_is_there_already_is_left_as_it_is(tmp_path):
    first = make_state(seed=1, step=5)
    checkpoint.save(tmp_path, first)
    checkpoint.save(tmp_path, make_state(seed=2, step=5))
    assert_same(checkpoint.restore(tmp_path, make_state()), first)


def test_no_directory_has_no_steps_and_none_is_made_by_asking(tmp_path):
    missing = tmp_path / "none"
    assert checkpoint.latest_step(missing) is None
    assert checkpoint.best_step(missing, "accuracy") is None
    with pytest.raises(UserError, match="none holds no checkpoint"):
        checkpoint.restore(missing, make_state())
    assert not missing.exists()


def test_a_step_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    checkpoint.save(tmp_path, at_step(2))
    with pytest.raises(UserError, match=r"no checkpoint of step 1.*\[2\]"):
        checkpoint.restore(tmp_path, make_state(), step=1)


@pytest.mark.parametrize(
    ("module", "difference"),
    [
        (ConvBnNet((4, 7)), r"out\.kernel is float32\[6, 10\] there and float32\[7, 10\] here"),
        (ConvBnNet((4, 6, 8)), "stage2_down.* is missing there"),
        (SimpleNet((5,)), "and missing here"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_the_difference_named(
    tmp_path, module, difference
):
    checkpoint.save(tmp_path, at_step(1))
    with pytest.raises(UserError, match="another model") as caught:
        checkpoint.restore(tmp_path, make_state(module))
    assert re.search(difference, str(caught.value))


@pytest.mark.parametrize("damage", [lambda b: b[:10], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_truncated_or_altered_checkpoint_is_refused_by_name(tmp_path, damage):
    checkpoint.save(tmp_path, at_step(1))
    file = max((tmp_path / "1").rglob("d/*"), key=lambda path: path.stat().st_size)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=rf"1 is damaged \(.*{file.name} is not as it was"):
        checkpoint.restore(tmp_path, make_state())


def test_a_full_disk_is_one_sentence_and_the_earlier_checkpoint_stays(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, at_step(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"disk of .* is full"):
        checkpoint.save(tmp_path, at_step(2))
    assert checkpoint.all_steps(tmp_path) == [1]


def test_a_disk_that_fills_while_writing_is_the_same_sentence(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise ValueError("tensorstore") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(UserError, match="step 2 could not be written"):
        checkpoint.save(tmp_path, at_step(2))
