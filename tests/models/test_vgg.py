"""VGG16 against the numbers that torch computed with the same formula's weights."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import summary
from jaxlessons.models import vgg

CONVOLUTIONS = list(vgg.kernel_shapes())


@pytest.fixture(scope="module")
def photos():
    """Two images of 32x32, RGB 0..255, those of stored/make_vgg.py."""
    index = np.arange(2 * 32 * 32 * 3, dtype=np.float64)
    waves = np.sin(index * index + index + sum(map(ord, "photos")))
    return jnp.asarray(127.5 * (1 + waves.reshape(2, 32, 32, 3)), jnp.float32)


@pytest.fixture(scope="module")
def variables(by_formula):
    return by_formula(vgg.VGG16(), jnp.zeros((1, 32, 32, 3)))


@pytest.fixture(scope="module")
def narrow(by_formula):
    """The same layers with three channels each, for what doesn't depend on them, and a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg, "LAYERS", dict.fromkeys(vgg.LAYERS, 3))
        images = jnp.asarray(np.random.RandomState(0).normal(size=(2, 32, 32, 3)), jnp.float32)
        network = vgg.VGG16()
        variables = by_formula(network, images)
        run = jax.jit(lambda v, x: network.apply(v, x, return_features=True))
        out, features = run(variables, images)
        yield SimpleNamespace(images=images, variables=variables, out=out, features=features)


def test_the_layers_are_those_of_keras_with_its_number_of_parameters():
    assert list(vgg.LAYERS)[:4] == ["block1_conv1", "block1_conv2", "block1_pool", "block2_conv1"]
    assert list(vgg.LAYERS)[-1] == "block5_pool"
    table = summary.layer_table(vgg.VGG16(), jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    assert [layer.name for layer in table] == CONVOLUTIONS
    assert sum(layer.parameters for layer in table) == 14_714_688
    assert table[-1].shape == (14, 14, 512)
    # 15.3 billion multiplications and additions, as the paper's networks are counted.
    assert sum(layer.flops for layer in table) == 2 * 15_346_630_656


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_features_and_image_gradient_are_torchs(pool, stored, variables, photos):
    expected = stored("vgg")[pool]
    network = vgg.VGG16(pool=pool)

    @jax.jit
    def run(variables, images):
        def loss(images):
            out, features = network.apply(variables, vgg.preprocess(images), return_features=True)
            return jnp.sum(out**2), (out, features)

        return jax.grad(loss, has_aux=True)(images)

    gradient, (out, features) = run(variables, photos)
    assert list(features) == list(vgg.LAYERS)
    np.testing.assert_array_equal(out, features["block5_pool"])
    for name, numbers in expected.items():
        if name != "gradient":
            found = [*features[name].ravel()[:6], features[name].mean()]
            np.testing.assert_allclose(found, numbers, rtol=2e-4, atol=2e-4 * max(numbers))
    found = [*gradient.ravel()[:6], jnp.linalg.norm(gradient)]
    np.testing.assert_allclose(found, expected["gradient"], rtol=2e-3)


def test_preprocess_swaps_red_and_blue_and_subtracts_the_means():
    pixel = np.array([[[[10, 20, 30]]]], np.uint8)
    expected = [30 - 103.939, 20 - 116.779, 10 - 123.68]
    np.testing.assert_allclose(vgg.preprocess(pixel)[0, 0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(vgg.preprocess(pixel, (1, 2, 3))[0, 0, 0], [29, 18, 7])
    assert vgg.preprocess(pixel).dtype == jnp.float32


def test_only_the_layers_asked_for_are_built_and_parts_make_the_whole(narrow):
    low, high = vgg.VGG16(last="block3_conv2"), vgg.VGG16(first="block3_conv3")
    shapes = jax.eval_shape(low.init, jax.random.key(1), narrow.images)
    assert list(shapes["params"]) == CONVOLUTIONS[:6]
    params = narrow.variables["params"]
    below = {"params": {k: v for k, v in params.items() if k in shapes["params"]}}
    above = {"params": {k: v for k, v in params.items() if k not in shapes["params"]}}
    middle = jax.jit(low.apply)(below, narrow.images)
    np.testing.assert_allclose(middle, narrow.features["block3_conv2"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(high.apply)(above, middle), narrow.out, rtol=1e-5, atol=1e-6)


def test_layers_are_not_negative_and_pools_are_of_the_layer_before(narrow):
    for name in CONVOLUTIONS:
        assert narrow.features[name].min() == 0
        assert narrow.features[name].max() > 0
    before = narrow.features["block2_conv2"].reshape(2, 8, 2, 8, 2, 3)
    np.testing.assert_array_equal(narrow.features["block2_pool"], before.max((2, 4)))


def test_half_precision_is_near(narrow):
    half = jax.jit(vgg.VGG16(dtype=jnp.bfloat16).apply)(narrow.variables, narrow.images)
    assert half.dtype == jnp.bfloat16
    atol = 0.1 * float(narrow.out.max())
    np.testing.assert_allclose(half.astype(jnp.float32), narrow.out, atol=atol)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"last": "conv9"}, "last is 'conv9': it must be one of block1_conv1, "),
        ({"first": "conv9"}, "first is 'conv9': it must be one of block1_conv1, "),
        ({"pool": "min"}, "pool is 'min': it must be 'max' or 'avg'."),
        (
            {"first": "block2_pool", "last": "block2_conv1"},
            "first is 'block2_pool', which comes after last, 'block2_conv1'.",
        ),
    ],
)
def test_names_that_are_none_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(vgg.VGG16(**settings).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def test_the_head_is_a_convolution_whose_means_are_the_logits(by_formula):
    features = np.random.RandomState(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    head = vgg.ClassMaps(num_classes=2)
    variables = by_formula(head, features)
    kernel = np.asarray(variables["params"]["class_maps"]["kernel"])
    bias = np.asarray(variables["params"]["class_maps"]["bias"])
    logits, found = jax.jit(lambda v, x: head.apply(v, x, return_features=True))(
        variables, features
    )
    padded = np.pad(np.asarray(features), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    expected = np.einsum("bhwcij,ijck->bhwk", windows, kernel) + bias
    np.testing.assert_allclose(found["class_maps"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, expected.mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_the_classifier_is_trunk_and_head_and_drops_features_in_training(narrow, by_formula):
    network = vgg.VGG16Classifier(3, last="block2_conv2", first="block2_conv1", dropout=0.5)

    @jax.jit
    def run(variables, images):
        key = jax.random.key(1, impl="rbg")  # compiles faster
        dropped = network.apply(variables, images, train=True, rngs={"dropout": key})
        params = variables["params"]
        trunk = vgg.VGG16("block2_conv2", "block2_conv1").apply({"params": params["trunk"]}, images)
        head = vgg.ClassMaps(3).apply({"params": params["head"]}, trunk)
        return network.apply(variables, images, return_features=True), dropped, trunk, head

    (logits, found), dropped, trunk, head = run(by_formula(network, narrow.images), narrow.images)
    np.testing.assert_allclose(found["block2_conv2"], trunk, rtol=1e-6)
    np.testing.assert_allclose(logits, head, rtol=1e-5, atol=1e-6)
    assert found["class_maps"].shape == (2, 32, 32, 3)
    assert not np.allclose(dropped, logits, rtol=1e-3)
