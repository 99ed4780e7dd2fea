import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxlessons.models.batchnorm import BatchNormByHand
from jaxlessons.models.bn_layer import BnLayer
from jaxlessons.models.convnet import (
    ConvBnNet,
    ConvBnNet2,
    ConvNet,
    ConvNet2,
    SimpleNet,
    global_max_pool,
)
from jaxlessons.models.resnet import FastResnet, Resnet, Resnet2

NETWORKS = (SimpleNet, ConvNet, ConvNet2, ConvBnNet, ConvBnNet2, Resnet, Resnet2)
SMALL = (4, 6, 8)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (SimpleNet(), 123_330),
        (SimpleNet((40, 20)), 123_330 - 410 + 820 + 210),
        (ConvNet(), 37_490),
        (ConvNet2(), 37_490),
        (ConvBnNet(), 155_970),
        (ConvBnNet2(), 462_570),
        (Resnet(), 769_170),
        (Resnet2(), 1_966_234),
        (Resnet(batch_norm=BatchNormByHand), 769_170),
        (FastResnet(), 1_166_506),
        (ConvBnNet(norm="before"), 155_970),
        # One bias a channel instead of scale and bias, behind the stem.
        (ConvBnNet(norm="none"), 155_970 - 300),
    ],
)
def test_the_networks_have_the_lessons_parameter_counts(network, count):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


def stages(*names, count=4):
    return [
        "stem",
        *(f"stage{i}_{name}" for i in range(1, count + 1) for name in names),
        "pool",
        "out",
    ]


@pytest.mark.parametrize(
    ("kind", "names", "sides"),
    [
        (SimpleNet, ["hidden1", "out"], []),
        (ConvNet, ["conv1", "conv2", "conv3", "pool", "out"], [15, 7, 3]),
        (ConvNet2, ["conv1", "conv2", "conv3", "pool", "out"], [16, 8, 4]),
        (ConvBnNet, stages("down"), [32, 16, 8, 4, 2]),
        (ConvBnNet2, stages("down", "same"), [32, *np.repeat([16, 8, 4, 2], 2)]),
        (Resnet, stages("down", "res1", "res2"), [32, *np.repeat([16, 8, 4, 2], 3)]),
        (Resnet2, stages("down", "res1", "res2"), [32, *np.repeat([16, 8, 4, 2], 3)]),
        (FastResnet, stages("down", "res1", count=3), [16, *np.repeat([8, 4, 2], 2)]),
    ],
)
def test_features_have_their_names_in_order_and_the_lessons_sizes(kind, names, sides):
    network, found = kind(), {}

    def forward(key, x):
        # The names are kept here, since a jitted function's dictionary comes out sorted.
        logits, features = network.init_with_output(key, x, return_features=True)[0]
        found.update({name: feature.shape for name, feature in features.items()})
        return logits

    logits = jax.eval_shape(forward, jax.random.key(0), jnp.zeros((2, 32, 32, 3)))
    assert logits.shape == (2, 10)
    assert list(found) == names
    images = [shape for shape in found.values() if len(shape) == 4]
    assert [shape[1] for shape in images] == sides
    assert [shape[2] for shape in images] == sides


LAST = {
    SimpleNet: "hidden3",
    ConvNet: "conv3",
    ConvNet2: "conv3",
    ConvBnNet: "stage2_down",
    ConvBnNet2: "stage2_same",
    Resnet: "stage2_res2",
    Resnet2: "stage2_res2",
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_are_torchs_and_linear_in_the_last_features_maximum(
    kind, stored, by_formula, formula_images
):
    network = kind(SMALL, num_classes=5)
    variables = by_formula(network, formula_images)
    forward = jax.jit(network.apply, static_argnames="return_features")
    logits, features = forward(variables, formula_images, return_features=True)
    if kind in (SimpleNet, ConvNet):
        np.testing.assert_allclose(forward(variables, formula_images), logits, rtol=1e-5)
    pool = np.asarray(features[LAST[kind]])
    if kind is not SimpleNet:
        pool = pool.max((1, 2))
        np.testing.assert_array_equal(features["pool"], pool)
    out = variables["params"]["out"]
    expected = pool @ np.asarray(out["kernel"]) + np.asarray(out["bias"])
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    if kind is not SimpleNet:  # which the next test compares
        torchs = stored("networks")[kind.__name__]["eval"]
        np.testing.assert_allclose(logits, torchs, rtol=1e-3, atol=1e-4)


def test_simple_net_is_its_matrix_products(by_formula, formula_images):
    network = SimpleNet((4, 6), num_classes=5)
    variables = by_formula(network, formula_images)
    hidden = np.asarray(formula_images).reshape(4, -1)
    for name in ("hidden1", "hidden2"):
        layer = variables["params"][name]
        hidden = np.maximum(hidden @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]), 0)
    out = variables["params"]["out"]
    expected = hidden @ np.asarray(out["kernel"]) + np.asarray(out["bias"])
    logits = jax.jit(network.apply)(variables, formula_images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_the_pool_takes_each_channels_maximum():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(global_max_pool(jnp.asarray(x)), x.reshape(2, 15, 4).max(1))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("norm", ["after", "before", "pre", "none"])
def test_a_bn_layer_is_conv_relu_and_norm_in_its_order(norm, train, by_formula, formula_images):
    layer = BnLayer(6, stride=2, kernel_size=5, norm=norm)
    variables = by_formula(layer, formula_images)
    params = variables["params"]
    found = jax.jit(lambda x: layer.apply(variables, x, train=train, mutable=["batch_stats"])[0])(
        formula_images
    )

    def conv(x):
        kernel, pad = params["conv"]["kernel"], ((2, 2), (2, 2))
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = jnp.asarray(x, jnp.float32)
        return np.asarray(
            lax.conv_general_dilated(x, kernel, (2, 2), pad, dimension_numbers=dimensions)
        )

    def relu(x):
        return np.maximum(x, 0)

    def bn(x):
        x, stats = np.asarray(x, np.float64), variables["batch_stats"]["bn"]
        mean, var = (
            (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (stats["mean"], stats["var"])
        )
        scale, bias = (np.asarray(params["bn"][name]) for name in ("scale", "bias"))
        return (x - np.asarray(mean)) / np.sqrt(np.asarray(var) + 1e-5) * scale + bias

    x = formula_images
    if norm == "none":
        assert set(variables) == {"params"}
        expected = relu(conv(x) + np.asarray(params["conv"]["bias"]))
    else:
        expected = {
            "after": lambda: bn(relu(conv(x))),
            "before": lambda: relu(bn(conv(x))),
            "pre": lambda: conv(relu(bn(x))),
        }[norm]()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_unknown_place_for_the_norm_is_refused():
    with pytest.raises(
        ValueError, match="norm is 'behind': it must be 'after', 'before', 'pre' or"
    ):
        jax.eval_shape(BnLayer(4, norm="behind").init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


@pytest.mark.parametrize("kind", [SimpleNet, Resnet2])
def test_bfloat16_computes_in_it_and_keeps_parameters_and_logits_in_float32(
    kind, by_formula, formula_images
):
    network = kind((4, 6), num_classes=5, dtype=jnp.bfloat16)
    variables = by_formula(network, formula_images)
    types = jax.eval_shape(network.init, jax.random.key(0), formula_images)
    assert {leaf.dtype for leaf in jax.tree.leaves(types)} == {jnp.dtype(jnp.float32)}

    @jax.jit
    def forward(variables, x):
        exact = network.clone(dtype=jnp.float32).apply(variables, x)
        return exact, *network.apply(variables, x, return_features=True)

    exact, logits, features = forward(variables, formula_images)
    assert logits.dtype == jnp.float32
    np.testing.assert_array_equal(features.pop("out"), logits)
    assert {feature.dtype for feature in features.values()} == {jnp.dtype(jnp.bfloat16)}
    error = np.linalg.norm(logits - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.03
