"""Inception modules and the networks made of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import summary
from jaxlessons.models.branches import (
    GOOGLENET,
    TUTORIAL,
    Branch,
    googlenet_branches,
    residual_branches,
)
from jaxlessons.models.inception import (
    GoogLeNet,
    Inception,
    InceptionResidual,
    InceptionResnet,
    TutorialInceptionNet,
    branch,
    factorized,
)
from jaxlessons.models.pooling import avg_pool3, max_pool3
from jaxlessons.models.residual import TutorialResidualNet

RANDOM = np.random.RandomState(0)


def shapes(network, *shape):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))


def count(network, *shape):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(network, *shape)["params"]))


def conv(x, layer, bias=True):
    """A stride-1 convolution with zeros around, by windows in numpy; layer: {"conv": ...}."""
    kernel = np.asarray(layer["conv"]["kernel"])
    pads = [(side // 2, side // 2) for side in kernel.shape[:2]]
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    out = np.einsum("bhwcij,ijco->bhwo", windows, kernel)
    return out + np.asarray(layer["conv"]["bias"]) if bias else out


def windows3(x, fill):
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))


def test_the_average_pool_counts_the_zeros_beyond_the_border():
    x = RANDOM.normal(size=(2, 4, 5, 3)).astype(np.float32)
    found = np.asarray(avg_pool3(x))
    np.testing.assert_allclose(found, windows3(x, 0).sum((-1, -2)) / 9, rtol=1e-5, atol=1e-6)
    ones = np.asarray(avg_pool3(np.ones((1, 3, 3, 1), np.float32)))[0, :, :, 0]
    np.testing.assert_allclose(ones, np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]) / 9, rtol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
def test_the_max_pool_is_of_what_lies_within_the_image(size, stride):
    x = RANDOM.normal(size=(2, *size, 3)).astype(np.float32) - 5  # zeros would be the largest
    expected = windows3(x, -np.inf).max((-1, -2))[:, ::stride, ::stride]
    np.testing.assert_array_equal(max_pool3(x, stride), expected)


@pytest.mark.parametrize("channels", [10, 20])
def test_the_tutorials_module_has_88_channels_and_its_parameters(channels):
    made = jax.eval_shape(
        Inception().init_with_output, jax.random.key(0), jnp.zeros((2, 12, 12, channels))
    )
    assert made[0].shape == (2, 12, 12, 88)
    from_input = 3 * (channels * 16 + 16) + channels * 24 + 24
    behind = 16 * 24 * 25 + 24 + 16 * 24 * 9 + 24 + 24 * 24 * 9 + 24
    assert count(Inception(), 12, 12, channels) == from_input + behind


def test_the_tutorials_module_is_its_branches_one_after_the_other(by_formula):
    x = RANDOM.normal(size=(2, 6, 5, 3)).astype(np.float32)
    variables = by_formula(Inception(), x)
    layers = variables["params"]
    pooled = windows3(x, 0).mean((-1, -2))
    expected = [
        conv(x, layers["branch1x1_1"]),
        conv(conv(x, layers["branch5x5_1"]), layers["branch5x5_2"]),
        conv(conv(conv(x, layers["branch3x3_1"]), layers["branch3x3_2"]), layers["branch3x3_3"]),
        conv(pooled, layers["branch_pool1"]),
    ]
    found = jax.jit(Inception().apply)(variables, x)
    np.testing.assert_allclose(found, np.concatenate(expected, -1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("network", "features", "parameters"),
    [
        # 10 k5 of 1, 20 k5 of 88, two modules, the Dense.
        (
            TutorialInceptionNet(),
            1408,
            260 + 88 * 20 * 25 + 20 + (18_384 + 72 * 10) + (18_384 + 72 * 20) + 14_090,
        ),
        # 16 k5 of 1, 32 k5 of 16, two blocks of two 3x3, the Dense.
        (TutorialResidualNet(), 512, 416 + 12_832 + 2 * 2_320 + 2 * 9_248 + 5_130),
    ],
)
def test_the_tutorials_networks_on_28x28_grey_images(network, features, parameters):
    made = jax.eval_shape(
        lambda key, x: network.init_with_output(key, x, return_features=True)[0],
        jax.random.key(0),
        jnp.zeros((2, 28, 28, 1)),
    )
    assert made[0].shape == (2, 10)
    assert made[1]["flat"].shape == (2, features)
    assert count(network, 28, 28, 1) == parameters


def test_a_factorized_convolution_is_that_of_the_outer_product(by_formula):
    (plain,), (made,) = [branch("b", (4, 7))], factorized([branch("b", (4, 7))])
    assert made == Branch("b", ((4, (1, 7)), (4, (7, 1))))
    x = RANDOM.normal(size=(2, 9, 8, 3)).astype(np.float32)
    variables = by_formula(Inception((made,)), x)
    row, column = (variables["params"][name]["conv"] for name in ("b1", "b2"))
    # A bias between the two would not be there beyond the border.
    row["bias"] = np.zeros_like(row["bias"])
    kernel = np.einsum("jcm,imo->ijco", row["kernel"][0], column["kernel"][:, 0])
    outer = {"params": {"b1": {"conv": {"kernel": kernel, "bias": column["bias"]}}}}
    found = jax.jit(Inception((made,)).apply)(variables, x)
    expected = jax.jit(Inception((plain,)).apply)(outer, x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_factorizing_leaves_1x1_and_pools_and_saves_what_the_paper_says():
    assert factorized([branch("a", (8, 1), pool="avg")]) == (branch("a", (8, 1), pool="avg"),)
    assert factorized(factorized(TUTORIAL)) == factorized(TUTORIAL)
    seven = branch("b", (16, 7))
    plain, made = (
        sum(layer.flops for layer in summary.layer_table(Inception((each,)), image))
        for image in [jax.ShapeDtypeStruct((1, 17, 17, 16), jnp.float32)]
        for each in (seven, factorized([seven])[0])
    )
    assert made / plain == 2 / 7


def test_googlenets_modules_have_the_papers_sizes():
    channels, total = 192, 0
    outputs = []
    for stage in GOOGLENET:
        for row in stage.values():
            one, reduce3, three, reduce5, five, pool = row
            weights = channels * (one + reduce3 + reduce5 + pool)
            weights += 9 * reduce3 * three + 25 * reduce5 * five
            if not outputs:
                assert weights / 1024 == 159.5  # which the paper gives as 159K
            total += weights + 2 * sum(row)
            channels = one + three + five + pool
            outputs.append(channels)
    assert outputs == [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    stem = 3 * 64 * 9 + 64 * 64 + 64 * 192 * 9 + 2 * (64 + 64 + 192)
    assert count(GoogLeNet(), 32, 32, 3) == stem + total + 1024 * 10 + 10


def test_a_googlenet_module_is_joined_in_the_order_1x1_3x3_5x5_pool(by_formula):
    x = RANDOM.normal(size=(2, 4, 4, 6)).astype(np.float32)
    module = Inception(googlenet_branches(2, 3, 4, 1, 2, 3), norm="none", relu=True)
    variables = by_formula(module, x)
    layers = variables["params"]

    def relu(x):
        return np.maximum(x, 0)

    expected = [
        relu(conv(x, layers["branch1x1_1"])),
        relu(conv(relu(conv(x, layers["branch3x3_1"])), layers["branch3x3_2"])),
        relu(conv(relu(conv(x, layers["branch5x5_1"])), layers["branch5x5_2"])),
        relu(conv(windows3(x, -np.inf).max((-1, -2)), layers["branch_pool1"])),
    ]
    found = jax.jit(module.apply)(variables, x)
    assert found.shape[-1] == 2 + 4 + 2 + 3
    np.testing.assert_allclose(found, np.concatenate(expected, -1), rtol=1e-3, atol=1e-4)


def test_an_inception_residual_adds_its_branches_scaled(by_formula):
    x = RANDOM.normal(size=(2, 5, 5, 8)).astype(np.float32)
    branches = residual_branches(2, 8)
    block = InceptionResidual(branches, scale=0.3)
    variables = by_formula(block, x)
    own = {kind: tree["branches"] for kind, tree in variables.items()}

    @jax.jit
    def run(x):
        joined = Inception(branches, "before", True).apply(own, x)
        changes = [
            InceptionResidual(branches, scale, norm="before").apply(variables, x)
            for scale in (0.3, 0.0)
        ]
        return joined, *changes

    joined, found, unchanged = map(np.asarray, run(x))
    up = variables["params"]["up"]
    change = joined @ np.asarray(up["kernel"])[0, 0] + np.asarray(up["bias"])
    np.testing.assert_allclose(found, np.maximum(x + 0.3 * change, 0), rtol=1e-3, atol=1e-4)
    # With scale 0 it is the identity on what a ReLU has gone over, as the outputs of blocks are.
    np.testing.assert_array_equal(unchanged, np.maximum(x, 0))
    assert not np.allclose(found, unchanged, atol=1e-2)


def test_pre_activation_passes_the_sum_on_as_it_is(by_formula):
    x = -np.ones((1, 4, 4, 8), np.float32)
    block = InceptionResidual(residual_branches(3, 8), scale=0.0, norm="pre")
    np.testing.assert_array_equal(jax.jit(block.apply)(by_formula(block, x), x), x)


@pytest.mark.parametrize("norm", ["none", "before", "pre"])
def test_between_the_branches_and_the_convolution_behind_them_there_is_a_relu(norm, by_formula):
    """Otherwise the last kernels of all branches with the other sign turn the change's around."""
    x = RANDOM.normal(size=(1, 4, 4, 8)).astype(np.float32)
    block = InceptionResidual(residual_branches(1, 8), scale=1.0, norm=norm)
    variables = by_formula(block, x)
    params = variables["params"]
    params["up"]["bias"] = np.zeros_like(params["up"]["bias"])
    last = {name[:-1]: name for name in sorted(params["branches"])}.values()
    assert len(last) == 3

    @jax.jit
    def change(params):
        own = {kind: tree["branches"] for kind, tree in variables.items()}
        own["params"] = params["branches"]
        joined = nn.relu(Inception(block.branches, norm, True).apply(own, x))
        expected = jnp.einsum("bhwc,co->bhwo", joined, params["up"]["kernel"][0, 0])
        return block.apply({**variables, "params": params}, x), expected

    def flipped(name, layer):
        conv = jax.tree.map(np.negative, layer["conv"]) if name in last else layer["conv"]
        return {**layer, "conv": conv}

    branches = {name: flipped(name, layer) for name, layer in params["branches"].items()}
    changes = []
    for made in (params, {**params, "branches": branches}):
        found, expected = map(np.asarray, change(made))
        whole = x + expected
        whole = whole if norm == "pre" else np.maximum(whole, 0)
        np.testing.assert_allclose(found, whole, rtol=1e-3, atol=1e-4)
        changes.append(found - x)
    assert not np.allclose(changes[1], -changes[0], atol=1e-2)


@pytest.mark.parametrize(
    "module",
    [Inception(), InceptionResidual(residual_branches(1, 16))],
    ids=["tutorial", "inception_resnet"],
)
def test_every_branch_gets_a_gradient(module, by_formula):
    x = RANDOM.normal(size=(2, 6, 6, 16)).astype(np.float32)
    variables = by_formula(module, x)

    @jax.jit
    def gradients(params):
        def objective(params):
            return jnp.sum(jnp.square(module.apply({**variables, "params": params}, x)))

        return jax.grad(objective)(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients(variables["params"])):
        assert np.abs(leaf).max() > 1e-3, jax.tree_util.keystr(path)


def test_the_stages_of_inception_resnet_have_factorized_7x7_and_3x3():
    assert [name for name, _, _ in residual_branches(1, 64)] == [
        "branch1x1_",
        "branch3x3_",
        "branch3x3x3_",
    ]
    assert residual_branches(2, 64)[1].convs == ((16, (1, 1)), (16, (1, 7)), (16, (7, 1)))
    assert residual_branches(3, 64)[1].convs == ((16, (1, 1)), (16, (1, 3)), (16, (3, 1)))
    features = {}

    def run(key, x):
        network = InceptionResnet(width=0.25, blocks=(1, 1, 1))
        logits, found = network.init_with_output(key, x, return_features=True)[0]
        features.update({name: leaf.shape for name, leaf in found.items()})
        return logits

    jax.eval_shape(run, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert features == {
        "stem": (1, 32, 32, 8),
        "stage1_down": (1, 16, 16, 16),
        "stage1_block1": (1, 16, 16, 16),
        "stage2_down": (1, 8, 8, 32),
        "stage2_block1": (1, 8, 8, 32),
        "stage3_down": (1, 4, 4, 64),
        "stage3_block1": (1, 4, 4, 64),
        "pool": (1, 64),
        "out": (1, 10),
    }


def test_bfloat16_computes_in_it_and_keeps_parameters_and_logits_in_float32(by_formula):
    x = RANDOM.normal(size=(2, 16, 16, 1)).astype(np.float32)
    network = TutorialInceptionNet((3, 4), dtype=jnp.bfloat16)
    variables = by_formula(network, x)

    @jax.jit
    def run(variables, x):
        exact = network.clone(dtype=jnp.float32).apply(variables, x)
        return exact, *network.apply(variables, x, return_features=True)

    exact, logits, features = run(variables, x)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for name, leaf in features.items() if name != "out"} == {
        jnp.dtype(jnp.bfloat16)
    }
    error = np.linalg.norm(logits - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.05
