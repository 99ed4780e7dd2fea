"""Class activation maps against what follows by hand from their definitions."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxlessons import cam
from jaxlessons.errors import UserError
from jaxlessons.models import vgg

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.normal(size=(3, 8, 6, 3)).astype(np.float32)
CLASSES = np.array([2, 0, 2])


class PooledNet(nn.Module):
    """Convolution, ReLU, global average pooling, dense: what Zhou et al. start from."""

    @nn.compact
    def __call__(self, x, train=False):
        x = Features(name="features")(x)
        return nn.Dense(4, name="out")(jnp.mean(x, axis=(1, 2)))


class Features(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(5, (3, 3), name="conv")(x))


class DeepNet(nn.Module):
    """A layer of squares behind the one looked at, so that nothing is linear any more."""

    @nn.compact
    def __call__(self, x, train=False, scale=1.0):
        x = nn.Conv(4, (3, 3), strides=2, name="conv")(x)
        x = jnp.tanh(x) ** 2 * scale
        return nn.Dense(4, name="out")(x.reshape(len(x), -1)), {"more": x}


@pytest.fixture(scope="module")
def pooled(by_formula):
    return PooledNet(), by_formula(PooledNet(), IMAGES)


@pytest.fixture(scope="module")
def deep(by_formula):
    return DeepNet(), by_formula(DeepNet(), IMAGES)


def features_of(module, variables, images):
    _, state = module.apply(variables, images, capture_intermediates=True)
    return state["intermediates"]["features"]["__call__"][0]


def test_of_a_convolutional_head_the_map_is_the_classs_channel():
    maps = RANDOM.normal(size=(3, 2, 5, 4)).astype(np.float32)
    found = cam.class_activation_map(maps, CLASSES)
    for i, label in enumerate(CLASSES):
        np.testing.assert_array_equal(found[i], maps[i, :, :, label])
    np.testing.assert_array_equal(cam.class_activation_map(maps, 1), maps[..., 1])


def test_of_dense_weights_the_map_is_their_sum_over_channels_and_its_mean_the_logit(pooled):
    module, variables = pooled
    features = np.asarray(features_of(module, variables, IMAGES))
    out = variables["params"]["out"]
    found = cam.class_activation_map(features, CLASSES, out["kernel"])
    for i, label in enumerate(CLASSES):
        expected = sum(features[i, :, :, c] * out["kernel"][c, label] for c in range(5))
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)
    logits = module.apply(variables, IMAGES)
    mean = found.mean((1, 2)) + out["bias"][CLASSES]
    np.testing.assert_allclose(mean, logits[np.arange(3), CLASSES], rtol=1e-4, atol=1e-5)


def test_of_the_lessons_head_the_mean_of_the_map_is_the_logit():
    features = RANDOM.normal(size=(3, 4, 4, 6)).astype(np.float32)
    head = vgg.ClassMaps(3)
    run = jax.jit(lambda key: head.init_with_output(key, features, return_features=True))
    (logits, found), _ = run(jax.random.key(0, impl="rbg"))
    maps = cam.class_activation_map(found["class_maps"], CLASSES)
    np.testing.assert_allclose(maps.mean((1, 2)), logits[np.arange(3), CLASSES], atol=1e-6)


def test_grad_cam_of_pooling_and_dense_is_the_positive_part_of_the_map(pooled):
    module, variables = pooled
    found = cam.grad_cam(module, variables, IMAGES, "features", CLASSES)
    features = features_of(module, variables, IMAGES)
    maps = cam.class_activation_map(features, CLASSES, variables["params"]["out"]["kernel"])
    # The gradient of a mean over the image is one over its number of places.
    np.testing.assert_allclose(found, np.maximum(maps, 0) / (8 * 6), rtol=1e-3, atol=1e-6)
    assert (found > 0).any()
    assert (found == 0).any()


def test_grad_cam_weighs_the_channels_by_the_mean_gradient_as_finite_differences_find_it(deep):
    module, variables = deep
    conv = variables["params"]["conv"]
    output = nn.Conv(4, (3, 3), strides=2).apply({"params": conv}, IMAGES)

    def logit(output):
        x = (np.tanh(output) ** 2).reshape(3, -1)
        logits = x @ np.float64(variables["params"]["out"]["kernel"])
        return logits[np.arange(3), CLASSES]

    output = np.asarray(output, np.float64)
    mean_gradient = np.empty((3, 4))
    for channel in range(4):
        step = np.zeros_like(output)
        step[..., channel] = 1e-5
        # A step of the whole channel sums the gradient over the 12 places.
        mean_gradient[:, channel] = (logit(output + step) - logit(output - step)) / 2e-5 / 12
    expected = np.maximum(np.einsum("bhwc,bc->bhw", output, mean_gradient), 0)
    found = cam.grad_cam(module, variables, IMAGES, "conv", CLASSES)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_grad_cam_is_jittable_image_by_image_and_hands_its_settings_on(deep):
    module, variables = deep
    run = jax.jit(lambda v, x, c: cam.grad_cam(module, v, x, "conv", c, train=False, scale=2.0))
    found = run(variables, IMAGES, CLASSES)
    expected = 2 * cam.grad_cam(module, variables, IMAGES, "conv", CLASSES)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    one = cam.grad_cam(module, variables, IMAGES[1:2], "conv", 0, scale=2.0)
    np.testing.assert_allclose(one, found[1:2], rtol=1e-4, atol=1e-6)


def test_grad_cam_takes_a_submodule_by_its_path(pooled):
    module, variables = pooled
    conv = cam.grad_cam(module, variables, IMAGES, "features/conv", CLASSES)
    features = cam.grad_cam(module, variables, IMAGES, "features", CLASSES)
    assert conv.shape == features.shape == (3, 8, 6)
    assert not np.allclose(conv, features)


class Doubled(nn.Conv):
    """Calls its parent's __call__, which is the same submodule once more."""

    def __call__(self, x):
        return 2 * super().__call__(x)


class Twice(nn.Module):
    parent_of: type = nn.Conv

    @nn.compact
    def __call__(self, x):
        conv = self.parent_of(3, (1, 1), name="conv")
        x = conv(x) if self.parent_of is Doubled else conv(conv(x))
        return jnp.mean(x, axis=(1, 2))


def test_a_class_that_extends_anothers_call_is_one_layer(by_formula):
    module = Twice(Doubled)
    variables = by_formula(module, IMAGES)
    found = cam.grad_cam(module, variables, IMAGES, "conv", CLASSES)
    output = 2 * nn.Conv(3, (1, 1)).apply({"params": variables["params"]["conv"]}, IMAGES)
    expected = np.maximum(cam.class_activation_map(output, CLASSES), 0) / 48
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "layer", "message"),
    [
        (PooledNet(), "conv", "There is no layer 'conv': those called are features, "),
        (PooledNet(), "out", "The layer 'out' does not return [batch, height, width, channel]"),
        (Twice(), "conv", "The layer 'conv' is called 2 times: Grad-CAM needs one with one image"),
    ],
)
def test_layers_that_have_no_map_are_told(module, layer, message, by_formula):
    variables = by_formula(module, IMAGES)
    with pytest.raises(UserError, match=re.escape(message)):
        cam.grad_cam(module, variables, IMAGES, layer, 0)


def test_shapes_that_do_not_fit_are_told():
    with pytest.raises(UserError, match=r"shape \[3, 5\]: they must be \[batch, height, width"):
        cam.class_activation_map(np.zeros((3, 5)), 0)
    with pytest.raises(UserError, match=r"5 channels it must be \[5, num_classes\]"):
        cam.class_activation_map(np.zeros((3, 2, 2, 5)), 0, np.zeros((4, 2)))


def test_upsampling_is_bilinear_between_the_middles():
    maps = np.array([[[0.0, 4.0], [8.0, 12.0]]], np.float32)
    row = np.array([0, 1, 3, 4])
    expected = row[None, :] + 2 * row[:, None]
    np.testing.assert_allclose(cam.upsample(maps, (4, 4))[0], expected, atol=1e-6)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 1.0])
def test_the_hottest_box_is_the_best_of_all_windows(share):
    maps = RANDOM.normal(size=(4, 9, 12)).astype(np.float32)
    height, width = round(9 * share), round(12 * share)
    boxes = np.asarray(jax.jit(lambda m: cam.hottest_box(m, share))(maps))
    windows = np.lib.stride_tricks.sliding_window_view(maps, (height, width), axis=(1, 2))
    best = windows.mean((3, 4)).reshape(4, -1).max(1)
    for i, (top, left, bottom, right) in enumerate(boxes):
        assert (bottom - top, right - left) == (height, width)
        assert 0 <= top <= bottom <= 9
        assert 0 <= left <= right <= 12
        assert maps[i, top:bottom, left:right].mean() == pytest.approx(best[i], abs=1e-5)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_makes_no_sense_is_told(share):
    with pytest.raises(UserError, match=r"must be above 0 and at most 1\."):
        cam.hottest_box(np.zeros((1, 4, 4)), share)


zoom = jax.jit(cam.zoom)


def test_zoom_shows_the_box_at_the_whole_size():
    images = ndimage.gaussian_filter(RANDOM.uniform(0, 255, (2, 16, 16, 3)), (0, 2, 2, 0))
    boxes = np.array([[0, 0, 16, 16], [4, 8, 12, 16]])
    found = np.asarray(zoom(images.astype(np.uint8), boxes))
    np.testing.assert_allclose(found[0], images[0].astype(np.uint8), atol=1e-3)
    # Twice as large: each pixel lies a quarter from one of the box and three from the next.
    box = images[1].astype(np.uint8)[4:12, 8:16].astype(float)
    expected = ndimage.zoom(box, (2, 2, 1), order=1, grid_mode=True, mode="nearest")
    np.testing.assert_allclose(found[1, 1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-2)


def test_the_zoom_of_the_hottest_box_holds_what_was_hot():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[0, 20:26, 4:10] = 200
    maps = images[..., 0].astype(np.float32)
    found = np.asarray(zoom(images, cam.hottest_box(maps, 0.5)))
    assert found.sum() == pytest.approx(4.0 * images.sum(), rel=0.05)
