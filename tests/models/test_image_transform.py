"""The network that repaints a photo, against numpy and against what instance norm promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import summary
from jaxlessons.models.image_transform import ConvNorm, ImageTransform, enlarge

NETWORK = ImageTransform((3, 4, 5), residual_blocks=2)


@pytest.fixture(scope="module")
def photos():
    """Two of 12x16, 0..1, float32."""
    return np.random.RandomState(0).uniform(0, 1, (2, 12, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables(by_formula, photos):
    return by_formula(NETWORK, photos)


@pytest.fixture(scope="module")
def painted(variables, photos):
    return np.asarray(apply(variables, photos))


apply = jax.jit(NETWORK.apply)


def conv(x, kernel, stride=1):
    """`[h, w, i]` over its mirrored border, float64."""
    pad = len(kernel) // 2
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (0, 1))
    return np.einsum("hwikl,klio->hwo", windows[::stride, ::stride], kernel)


def conv_norm(params, x, stride=1):
    x = conv(x, params["conv"]["kernel"], stride)
    x = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    return x * params["norm"]["scale"] + params["norm"]["bias"]


def reference(params, photo):
    """One photo `[h, w, 3]` whose sides are divisible by 4, in float64."""
    params = jax.tree.map(lambda value: np.asarray(value, np.float64), params)

    def relu(x):
        return np.maximum(x, 0)

    x = relu(conv_norm(params["stem"], photo.astype(np.float64)))
    x = relu(conv_norm(params["down1"], x, 2))
    x = relu(conv_norm(params["down2"], x, 2))
    for i in (1, 2):
        block = params[f"residual{i}"]
        x = x + conv_norm(block["conv2"], relu(conv_norm(block["conv1"], x)))
    for name in ("up1", "up2"):
        x = relu(conv_norm(params[name], np.kron(x, np.ones((2, 2, 1)))))
    x = conv(x, params["out"]["kernel"]) + params["out"]["bias"]
    return 1 / (1 + np.exp(-x))


def test_the_network_is_the_papers_layers_in_numpy(variables, photos, painted):
    # Each photo for itself: nothing of one is in another's picture.
    for photo, picture in zip(photos, painted, strict=True):
        expected = reference(variables["params"], photo)
        assert expected.std() > 0.05
        np.testing.assert_allclose(picture, expected, rtol=0, atol=2e-5)


def test_the_papers_network_has_its_number_of_parameters():
    # Its 16 convolutions with the paper's sizes; scale and bias for each channel of 15 norms.
    kernels = 81 * 3 * 32 + 9 * (32 * 64 + 64 * 128 + 10 * 128 * 128 + 128 * 64 + 64 * 32)
    norms = 2 * (32 + 64 + 128 + 10 * 128 + 64 + 32)
    table = summary.layer_table(ImageTransform(), jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32))
    assert sum(layer.parameters for layer in table) == kernels + norms + 81 * 32 * 3 + 3


def test_instance_norm_in_closed_form(by_formula, photos):
    layer = ConvNorm(4)
    variables = by_formula(layer, photos)
    found = np.asarray(layer.apply(variables, photos), np.float64)
    norm = variables["params"]["norm"]
    # Every image's every channel has mean `bias` and deviation `scale`, up to the epsilon.
    np.testing.assert_allclose(found.mean((1, 2)), np.tile(norm["bias"], (2, 1)), atol=1e-5)
    plain = np.stack([conv(photo, variables["params"]["conv"]["kernel"]) for photo in photos])
    variance = plain.var((1, 2))
    expected = np.abs(norm["scale"]) * np.sqrt(variance / (variance + 1e-5))
    np.testing.assert_allclose(found.std((1, 2)), expected, rtol=1e-4)


def test_contrast_and_tint_of_the_photo_change_nothing(variables, photos, painted):
    # Ulyanov et al.'s reason for instance norm; with zeros around the photo it would not hold.
    tinted = 0.3 * photos + np.float32([0.1, 0.5, 0.2])
    np.testing.assert_allclose(apply(variables, tinted), painted, atol=2e-3)
    assert np.abs(painted[0] - painted[1]).mean() > 0.02


@pytest.mark.slow
@pytest.mark.parametrize("size", [(9, 14), (11, 13)])
def test_any_size_is_restored_exactly_from_the_mirrored_photo(variables, photos, painted, size):
    height, width = size
    photo = photos[:, :height, :width]
    found = np.asarray(apply(variables, photo))
    assert found.shape == (2, height, width, 3)
    below, right = 12 - height, 16 - width
    mirrored = np.pad(photo, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")
    whole = np.asarray(apply(variables, mirrored))
    np.testing.assert_allclose(found, whole[:, :height, :width], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_photos_smaller_than_the_border_are_painted_too(variables, photos, size):
    found = np.asarray(apply(variables, photos[:, : size[0], : size[1]]))
    assert found.shape == (2, *size, 3)
    assert ((found > 0) & (found < 1)).all()


def test_enlarging_repeats_pixels():
    x = np.arange(12.0).reshape(1, 2, 3, 2)
    np.testing.assert_array_equal(enlarge(jnp.asarray(x)), x.repeat(2, axis=1).repeat(2, axis=2))


def test_bfloat16_paints_about_the_same_in_float32(variables, photos, painted):
    network = ImageTransform((3, 4, 5), residual_blocks=2, dtype=jnp.bfloat16)
    found = jax.jit(network.apply)(variables, photos)
    assert found.dtype == jnp.float32
    difference = np.abs(np.asarray(found) - painted)
    assert 0 < difference.max() < 0.1
