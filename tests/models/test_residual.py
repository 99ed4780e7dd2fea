"""Residual blocks of two and three convolutions, and the networks made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models.bn_layer import BnLayer
from jaxlessons.models.residual import (
    BlockResnet,
    BottleneckResnet,
    PreactBottleneckResnet,
    PreactResnet,
    ResidualBlock,
    ResNet18,
    ResNet34,
    ResNet50,
)
from jaxlessons.models.resnet import Resnet

RANDOM = np.random.RandomState(0)
X = RANDOM.normal(size=(2, 6, 6, 8)).astype(np.float32)


def own(variables, name):
    """The variables of one submodule."""
    return {kind: tree[name] for kind, tree in variables.items() if name in tree}


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def bn(features, stages):
    """Scales and shifts of stages with so many normed channels each."""
    return 2 * sum(a * b for a, b in zip(features, stages, strict=True))


@pytest.mark.parametrize(
    ("network", "count"),
    [
        # torchvision's.
        (ResNet18(), 11_689_512),
        (ResNet34(), 21_797_672),
        (ResNet50(), 25_557_032),
        # Stem; 6, 1 + 5 and 1 + 5 convolutions and norms; two 1x1 shortcuts and norms; Dense.
        (
            BlockResnet(),
            (27 * 16 + 32)
            + 6 * (9 * 16 * 16 + 32)
            + (9 * 16 * 32 + 64 + 5 * (9 * 32 * 32 + 64))
            + (9 * 32 * 64 + 128 + 5 * (9 * 64 * 64 + 128))
            + (16 * 32 + 64 + 32 * 64 + 128)
            + 650,
        ),
        # Norms ahead: of each block's two, of the shortcuts, and at the end; a bias in the stem.
        (
            PreactResnet(),
            (27 * 16 + 16)
            + 9 * (6 * 16 * 16 + 5 * 32 * 32 + 5 * 64 * 64 + 16 * 32 + 32 * 64)
            + (16 * 32 + 32 * 64)
            + 2 * (6 * 16 + 16 + 5 * 32 + 32 + 5 * 64 + 16 + 32 + 64)
            + 650,
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else "",
)
def test_parameters(network, count):
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


@pytest.mark.parametrize("norm", ["none", "before", "after"])
def test_a_basic_block_adds_two_layers_and_then_has_its_relu(norm, by_formula):
    block = ResidualBlock(8, norm=norm)
    variables = by_formula(block, X)
    assert set(variables["params"]) == {"layer1", "layer2"}

    @jax.jit
    def run(x):
        y = BnLayer(8, norm=norm).apply(own(variables, "layer1"), x)
        y = BnLayer(8, norm=norm, relu=False).apply(own(variables, "layer2"), y)
        return block.apply(variables, x), y

    found, change = map(np.asarray, run(X))
    close(found, np.maximum(X + change, 0))
    assert (change < 0).any()  # no ReLU was ahead of the sum


def test_the_tutorials_block_is_two_convolutions_with_bias(by_formula):
    block = ResidualBlock(8, norm="none")
    variables = by_formula(block, X)
    assert set(variables) == {"params"}

    def conv(x, layer):
        kernel, bias = (np.asarray(layer["conv"][name]) for name in ("kernel", "bias"))
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return np.einsum("bhwcij,ijco->bhwo", windows, kernel) + bias

    layers = variables["params"]
    change = conv(np.maximum(conv(X, layers["layer1"]), 0), layers["layer2"])
    close(jax.jit(block.apply)(variables, X), np.maximum(X + change, 0))


@pytest.mark.parametrize("stride", [1, 2])
def test_pre_activation_is_two_layers_of_resnets_and_nothing_behind_the_sum(stride, by_formula):
    block = ResidualBlock(8 * stride, stride, norm="pre")
    variables = by_formula(block, X)

    @jax.jit
    def run(x):
        y = BnLayer(8 * stride, stride, norm="pre").apply(own(variables, "layer1"), x)
        y = BnLayer(8 * stride, norm="pre").apply(own(variables, "layer2"), y)
        if stride == 2:
            x = BnLayer(16, 2, 1, norm="pre").apply(own(variables, "shortcut"), x)
        return block.apply(variables, X), x + y

    found, expected = map(np.asarray, run(X))
    close(found, expected)
    assert (found < 0).any()
    assert ("shortcut" in variables["params"]) == (stride == 2)


def test_a_bottleneck_squeezes_to_a_quarter_around_its_3x3(by_formula):
    block = ResidualBlock(16, stride=2, bottleneck=True)
    variables = by_formula(block, X)
    kernels = {k: v["conv"]["kernel"].shape for k, v in variables["params"].items()}
    assert kernels == {
        "layer1": (1, 1, 8, 4),
        "layer2": (3, 3, 4, 4),
        "layer3": (1, 1, 4, 16),
        "shortcut": (1, 1, 8, 16),
    }

    @jax.jit
    def run(x):
        y = BnLayer(4, 1, 1, "before").apply(own(variables, "layer1"), x)
        y = BnLayer(4, 2, 3, "before").apply(own(variables, "layer2"), y)
        y = BnLayer(16, 1, 1, "before", relu=False).apply(own(variables, "layer3"), y)
        x = BnLayer(16, 2, 1, "before", relu=False).apply(own(variables, "shortcut"), x)
        return block.apply(variables, X), x + y

    found, summed = map(np.asarray, run(X))
    assert found.shape == (2, 3, 3, 16)
    close(found, np.maximum(summed, 0))


@pytest.mark.parametrize(
    ("features", "stride", "there"), [(8, 1, False), (8, 2, True), (16, 1, True), (16, 2, True)]
)
def test_the_shortcut_has_a_convolution_whatever_the_images_size(features, stride, there):
    """One pixel, behind a stride of 2, is one pixel: its parameters are those of larger images."""
    block = ResidualBlock(features, stride)
    for side in (1, 2, 6):
        image = jnp.zeros((2, side, side, 8))
        params = jax.eval_shape(block.init, jax.random.key(0), image)["params"]
        assert ("shortcut" in params) == there


@pytest.mark.parametrize(
    "network",
    [
        ResidualBlock(6, bottleneck=True),
        BottleneckResnet((6, 12), blocks=(1, 1)),
        BottleneckResnet((2, 6), blocks=(1, 1)),
    ],
)
def test_a_bottlenecks_features_are_a_multiple_of_four(network):
    sentence = r"^features is [62]: a bottleneck's are a multiple of 4\.(\n|$)"
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize("norm", ["before", "pre"])
def test_a_block_whose_last_layer_is_zero_passes_its_input_on(norm, by_formula):
    block = ResidualBlock(8, norm=norm)
    variables = by_formula(block, X)
    last = variables["params"]["layer2"]
    # What the last layer ends with: the norm, or with pre-activation the convolution.
    leaf = last["bn"] if norm == "before" else last["conv"]
    for name in leaf:
        leaf[name] = np.zeros_like(leaf[name])
    expected = np.maximum(X, 0) if norm == "before" else X
    np.testing.assert_array_equal(jax.jit(block.apply)(variables, X), expected)


@pytest.mark.slow
@pytest.mark.parametrize("network", [BlockResnet, PreactBottleneckResnet])
def test_every_layer_gets_a_gradient_in_training(network, by_formula):
    network = network((8, 16), blocks=(1, 1), num_classes=5)
    images = RANDOM.normal(size=(4, 8, 8, 3)).astype(np.float32)
    variables = by_formula(network, images)

    @jax.jit
    def gradients(params):
        def objective(params):
            logits, _ = network.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return -jnp.sum(jax.nn.log_softmax(logits)[:, 1])

        return jax.grad(objective)(params)

    grads = gradients(variables["params"])
    if network.norm == "pre":  # the norms behind the stem take its bias away
        np.testing.assert_allclose(grads["stem"].pop("bias"), np.zeros(2), atol=1e-4)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.abs(leaf).max() > 1e-4, jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("network", "side", "sides"),
    [
        (BlockResnet(), 32, {"stem": 32, "stage1_block3": 32, "stage2_block1": 16}),
        (BottleneckResnet(), 32, {"stem": 32, "stage1_block1": 32, "stage3_block3": 8}),
        (ResNet18(), 224, {"stem": 112, "stem_pool": 56, "stage2_block2": 28, "stage4_block1": 7}),
    ],
    ids=["basic", "bottleneck", "larger images"],
)
def test_the_images_sides_through_the_network(network, side, sides):
    found = {}

    def run(key, x):
        features = network.init_with_output(key, x, return_features=True)[0][1]
        found.update({name: leaf.shape for name, leaf in features.items()})
        return features["out"]

    jax.eval_shape(run, jax.random.key(0), jnp.zeros((1, side, side, 3)))
    assert {name: found[name][1] for name in sides} == sides
    assert list(found)[-2:] == ["pool", "out"]
    blocks = [name for name in found if "block" in name]
    assert len(blocks) == sum(network.blocks)
    assert found["pool"] == (1, network.layers[-1])


def test_the_logits_are_linear_in_the_last_blocks_mean(by_formula):
    network = BlockResnet((4, 8), blocks=(1, 1), num_classes=5)
    images = RANDOM.normal(size=(2, 6, 6, 3)).astype(np.float32)
    variables = by_formula(network, images)
    run = jax.jit(lambda v, x: network.apply(v, x, return_features=True))
    logits, features = run(variables, images)
    out = variables["params"]["out"]
    mean = np.asarray(features["stage2_block1"]).mean((1, 2))
    close(logits, mean @ np.asarray(out["kernel"]) + np.asarray(out["bias"]))


def test_pre_activation_with_one_convolution_is_the_lessons_residual_layer(
    by_formula, formula_images
):
    """A ResidualBlock of one layer, made by hand of its parts, and Resnet(norm="pre")'s."""

    class OneLayer(ResidualBlock):
        def sizes(self):
            return [(self.features, 3, self.stride)]

    network = Resnet((4, 8), norm="pre", residual_layers=1, num_classes=5)
    variables = by_formula(network, formula_images)
    layer = {
        kind: {"layer1": tree["stage1_res1"]}
        for kind, tree in variables.items()
        if "stage1_res1" in tree
    }

    @jax.jit
    def run(x):
        features = network.apply(variables, x, return_features=True)[1]
        made = OneLayer(8, norm="pre").apply(layer, features["stage1_down"])
        return features["stage1_res1"], made

    expected, found = run(formula_images)
    close(found, expected)
