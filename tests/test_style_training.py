"""Losses and steps of a network that paints, with a narrow VGG16 of made-up weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons import style_objective, style_training, train_state
from jaxlessons.models import vgg
from jaxlessons.models.image_transform import ImageTransform
from jaxlessons.style_losses import gram_matrix
from jaxlessons.style_settings import Settings
from jaxlessons.style_training import Data

NETWORK = ImageTransform((8, 8, 8), residual_blocks=0)
SETTINGS = Settings(
    content_layer="block2_conv1",
    style_layers=("block1_conv2", "block2_conv1"),
    content_weight=0.5,
    style_weight=2.0,
    tv_weight=3.0,
)


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """VGG16 of a few layers with six channels."""
    kept = ("block1_conv1", "block1_conv2", "block1_pool", "block2_conv1", "block2_conv2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, "LAYERS", dict.fromkeys(kept, 6))
        yield


@pytest.fixture(scope="module")
def params(narrow):
    """The first layer lets the colours and their negatives through; the others are random."""
    random = np.random.RandomState(0)
    found = {
        name: {"kernel": random.normal(0, 0.3, shape), "bias": np.full(6, 0.1)}
        for name, shape in vgg.kernel_shapes().items()
    }
    found["block1_conv1"]["kernel"] = np.zeros((3, 3, 3, 6))
    found["block1_conv1"]["kernel"][1, 1] = np.concatenate([np.eye(3), -np.eye(3)], axis=1)
    return found


@pytest.fixture(scope="module")
def pictures():
    """Five of 16x20, smooth, 0..1."""
    coarse = np.random.RandomState(1).uniform(0, 1, (5, 4, 5, 3)).astype(np.float32)
    return jax.image.resize(jnp.asarray(coarse), (5, 16, 20, 3), "linear")


@pytest.fixture(scope="module")
def seen(params, pictures):
    """(VGG16's parameters, the last picture's Gram matrices)."""
    own = style_training.needed(SETTINGS, params)
    return own, style_training.make_regions(SETTINGS, vgg.MEAN, own, pictures[4])


def test_only_the_layers_that_losses_read_are_kept(seen):
    assert set(seen[0]) == {"block1_conv1", "block1_conv2", "block2_conv1"}


def test_the_style_is_the_gram_matrices_of_its_features(seen, pictures):
    own, regions = seen
    x = vgg.preprocess(255 * pictures[4:])
    features = vgg.VGG16("block2_conv1").apply({"params": own}, x, return_features=True)[1]
    assert set(regions[0].grams) == set(SETTINGS.style_layers)
    for layer, gram in regions[0].grams.items():
        np.testing.assert_allclose(gram, gram_matrix(features[layer][0]), rtol=1e-4)
    copying = Settings(style_weight=0.0, content_layer="block2_conv1")
    assert style_training.make_regions(copying, vgg.MEAN, own, pictures[4]) == ()


def test_each_picture_is_judged_against_its_own_photo_and_the_style(seen, pictures):
    losses = jax.jit(style_training.make_losses(SETTINGS, vgg.MEAN))
    found, parts = losses(pictures[:2], pictures[2:4], *seen)
    objective = style_objective.make_objective(SETTINGS, vgg.MEAN)
    features = style_objective.make_features(SETTINGS, vgg.MEAN)
    for i in (0, 1):
        content, style = features(seen[0], pictures[2 + i]), features(seen[0], pictures[4])
        targets = style_objective.make_targets(SETTINGS, content, [style], [1.0], None)
        expected, expected_parts = objective(pictures[i], (seen[0], targets))
        assert float(found[i]) == pytest.approx(float(expected), rel=1e-4)
        for name, value in expected_parts.items():
            assert float(parts[name][i]) == pytest.approx(float(value), rel=1e-4)
            assert float(value) > 0
    copied, parts = losses(pictures[4:], pictures[4:], *seen)
    assert float(parts["content"][0]) == 0
    assert float(parts["style"][0]) < 1e-6 * float(jnp.max(found))
    np.testing.assert_allclose(copied, parts["variation"], rtol=1e-3)


def as_float(photos):
    return photos.astype(jnp.float32) / 255


def fresh(optimizer):
    return train_state.create_state(NETWORK, optimizer, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


@pytest.mark.slow
def test_without_a_style_the_network_learns_to_copy_a_photo(params, pictures):
    settings = Settings(style_weight=0.0, content_layer="block1_conv1")
    losses = style_training.make_losses(settings, vgg.MEAN)
    photos = jnp.round(255 * pictures[:1]).astype(jnp.uint8)
    data = Data(photos, style_training.needed(settings, params), ())
    optimizer = optax.adam(0.01)
    step = style_training.make_train_step(
        NETWORK.apply, optimizer, losses, lambda key, photos: as_float(photos)
    )
    seen = []

    def on_steps(step, sums):
        seen.append(float(sums["loss"][0]))

    state = style_training.fit(
        fresh(optimizer), step, data, batch_size=1, total_steps=60, on_steps=on_steps
    )
    assert len(seen) == 60
    assert min(seen[-5:]) < seen[0] / 50
    evaluate = style_training.make_eval_step(NETWORK.apply, losses, as_float)
    means, copies = style_training.evaluate(evaluate, state.variables, data, 1)
    assert means["loss"] == pytest.approx(means["content"])
    assert means["loss"] < seen[0] / 50
    assert np.abs(copies - pictures[:1]).mean() < 0.2 * np.abs(0.5 - pictures[:1]).mean()


@pytest.mark.slow
def test_evaluation_counts_every_photo_once_for_every_batch_size(seen, pictures):
    losses = style_training.make_losses(SETTINGS, vgg.MEAN)
    photos = jnp.round(255 * pictures).astype(jnp.uint8)
    evaluate = style_training.make_eval_step(NETWORK.apply, losses, as_float)
    variables = fresh(optax.sgd(0.1)).variables
    whole, painted = style_training.evaluate(evaluate, variables, Data(photos, *seen), 5)
    parts, again = style_training.evaluate(evaluate, variables, Data(photos, *seen), 2)
    assert set(whole) == {"loss", "content", "style", "variation"}
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(again, painted, atol=1e-6)
    each, _ = jax.jit(losses)(painted, as_float(photos), *seen)
    assert whole["loss"] == pytest.approx(float(jnp.mean(each)), rel=1e-5)
