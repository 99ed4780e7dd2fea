"""Test-time augmentation and ensembles against plain numpy."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import metrics, training, tta
from jaxlessons.data import augment
from jaxlessons.errors import UserError

IMAGES = np.random.RandomState(0).randint(0, 256, (23, 6, 6, 3)).astype(np.uint8)
KERNEL = np.random.RandomState(1).randn(6 * 6 * 3, 4).astype(np.float32)
BIAS = np.array([1.0, -1.0, 0.5, 0.0], np.float32)
VARIABLES = {"params": {"kernel": jnp.asarray(KERNEL), "bias": jnp.asarray(BIAS)}}


def apply(variables, images, train):
    assert not train
    params = variables["params"]
    return images.reshape(len(images), -1) @ params["kernel"] + params["bias"][None]


def scale(images):
    return images.astype(jnp.float32) / 255 - 0.5


STEP = training.make_eval_step(apply, prepare=scale)


def by_hand(images):
    """softmax of the same network, in float64."""
    x = (images.astype(np.float64) / 255 - 0.5).reshape(len(images), -1)
    powers = np.exp(x @ KERNEL.astype(np.float64) + BIAS)
    return powers / powers.sum(1, keepdims=True)


def flip(key, images):
    return images[:, :, ::-1]


def flip_and_crop(key, images):
    flip_key, crop_key = jax.random.split(key)
    return augment.random_crop(crop_key, augment.random_flip(flip_key, images), pad=2)


predict = partial(tta.predict, STEP, VARIABLES, jnp.asarray(IMAGES), jax.random.key(5))


def test_the_flip_alone_is_the_mean_of_both_sides():
    expected = (by_hand(IMAGES) + by_hand(IMAGES[:, :, ::-1])) / 2
    found = predict(augment=flip, views=1)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert abs(expected - by_hand(IMAGES)).max() > 0.1


def test_without_views_it_is_the_plain_prediction():
    np.testing.assert_allclose(predict(augment=flip, views=0), by_hand(IMAGES), atol=1e-5)


def test_plain_and_views_count_alike_and_each_view_has_its_own_luck():
    keys = [jax.random.fold_in(jax.random.key(5), view) for view in range(4)]
    views = [np.asarray(flip_and_crop(key, jnp.asarray(IMAGES))) for key in keys]
    assert all((views[0] != view).any() for view in [IMAGES, *views[1:]])
    expected = np.mean([by_hand(view) for view in [IMAGES, *views]], axis=0)
    np.testing.assert_allclose(predict(augment=flip_and_crop), expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 22, 23])
def test_the_batch_size_changes_nothing(batch_size):
    whole = predict(augment=flip_and_crop)
    parts = predict(augment=flip_and_crop, batch_size=batch_size)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_allclose(parts.sum(1), 1, rtol=1e-12)


def test_the_key_is_the_luck():
    one = predict(augment=flip_and_crop)
    np.testing.assert_array_equal(one, predict(augment=flip_and_crop))
    other = tta.predict(
        STEP, VARIABLES, jnp.asarray(IMAGES), jax.random.key(6), augment=flip_and_crop
    )
    assert abs(one - other).max() > 1e-3


def test_large_logits_do_not_overflow():
    large = {"params": {"kernel": 1e4 * VARIABLES["params"]["kernel"], "bias": jnp.zeros(4)}}
    found = tta.predict(STEP, large, jnp.asarray(IMAGES), jax.random.key(0), augment=flip)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-12)


def test_an_ensemble_is_the_mean_of_its_members():
    members = [by_hand(IMAGES), by_hand(IMAGES[::-1]), by_hand(255 - IMAGES)]
    expected = (members[0] + members[1] + members[2]) / 3
    np.testing.assert_allclose(tta.ensemble(members), expected, rtol=1e-12)
    np.testing.assert_array_equal(tta.ensemble(members[:1]), members[0])


def test_averaging_probabilities_never_costs_log_loss_on_the_mean():
    """-log is convex: the mean's log loss is at most the mean of the log losses."""
    labels = np.arange(23) % 4
    members = [by_hand(IMAGES), by_hand(IMAGES[:, ::-1]), by_hand(IMAGES[:, :, ::-1])]
    mean = np.mean([metrics.log_loss(member, labels) for member in members])
    assert metrics.log_loss(tta.ensemble(members), labels) < mean


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: predict(augment=flip, views=-1),
            "views is -1: it must be 0 or more augmented copies.",
        ),
        (
            lambda: predict(augment=lambda key, images: images[1:]),
            "augment made 22 inputs out of 23: it must return one for each.",
        ),
        (
            lambda: tta.predict(STEP, VARIABLES, IMAGES[:0], jax.random.key(0), augment=flip),
            "There is nothing to evaluate in 0 examples",
        ),
        (
            lambda: tta.ensemble([]),
            "The ensemble is empty: give the probabilities of at least one network.",
        ),
        (
            lambda: tta.ensemble([np.ones((3, 4)), np.ones((2, 4))]),
            "The ensemble's probabilities have the shapes (2, 4) and (3, 4): predict the same "
            "examples with all its networks.",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()


def test_six_views_are_weighted_by_the_halves_and_quarters_they_were_given():
    images = np.random.RandomState(2).randint(0, 256, (3, 5, 6, 2)).astype(np.uint8)
    found = tta.mirror_and_shift(lambda x: x.astype(jnp.float32) ** 2, jnp.asarray(images))
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    expected = 0
    for place, weight in ((1, 0.5), (0, 0.25), (2, 0.25)):
        view = padded[:, place : place + 5, place : place + 6]
        expected = expected + weight * (view**2 + view[:, :, ::-1] ** 2) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # The weights sum to 1.
    same = tta.mirror_and_shift(lambda x: jnp.full((3, 4), 2.5), jnp.asarray(images), by=2)
    np.testing.assert_array_equal(same, np.full((3, 4), 2.5))
