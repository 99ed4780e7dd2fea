from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons.losses import cross_entropy
from jaxlessons.models.batchnorm import BatchNormByHand
from jaxlessons.models.bn_layer import BnLayer
from jaxlessons.models.convnet import ConvBnNet, ConvBnNet2, ConvNet, ConvNet2, SimpleNet
from jaxlessons.models.resnet import Resnet, Resnet2, SmallResnet

SMALL = {"layers": (4, 6, 8), "num_classes": 5}
NETWORKS = {
    "ConvNet": ConvNet(**SMALL),
    "ConvNet2": ConvNet2(**SMALL),
    "ConvBnNet": ConvBnNet(**SMALL),
    "ConvBnNet before": ConvBnNet(**SMALL, norm="before"),
    "ConvBnNet none": ConvBnNet(**SMALL, norm="none"),
    "ConvBnNet2": ConvBnNet2(**SMALL),
    "Resnet": Resnet(**SMALL),
    "Resnet2": Resnet2(**SMALL, dropout=0.0),
    "Resnet2 pre": Resnet2(**SMALL, dropout=0.0, norm="pre"),
}
FIRST = {"ConvNet": "conv1", "ConvNet2": "conv1"}
LAST = {"ConvBnNet2": "stage2_same", "Resnet": "stage2_res2", "Resnet2": "stage2_res2"}
LAST["Resnet2 pre"] = "last_bn"
LABELS = jnp.array([0, 3, 4, 1])


def trained(network):
    """(variables, images) -> logits in training, new statistics and gradients, evaluated logits."""

    @jax.jit
    def call(variables, x):
        def objective(params):
            logits, updated = network.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return cross_entropy(logits, LABELS).mean(), (logits, updated)

        grads, (logits, updated) = jax.grad(objective, has_aux=True)(variables["params"])
        return logits, updated.get("batch_stats", {}), grads, network.apply(variables, x)

    return call


# Minutes for all of them; the logits of each are compared in test_convnet as well.
@pytest.mark.parametrize(
    "name",
    ["ConvBnNet", *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS if n != "ConvBnNet")],
)
def test_networks_equal_torchs_in_training_evaluation_and_gradient(
    name, stored, by_formula, formula_images
):
    network, expected = NETWORKS[name], stored("networks")[name]
    variables = by_formula(network, formula_images)
    logits, stats, grads, evaluated = trained(network)(variables, formula_images)

    def close(found, key):
        found = np.asarray(found)
        np.testing.assert_allclose(
            found, np.reshape(expected[key], found.shape), rtol=1e-3, atol=1e-4, err_msg=key
        )

    close(logits, "train")
    close(evaluated, "eval")
    close(grads["out"]["kernel"], "out_kernel_gradient")
    first = grads[FIRST.get(name, "stem")]
    kernel = np.ravel(first.get("conv", first)["kernel"])
    close(np.append(kernel[:8], np.linalg.norm(kernel)), "first_kernel_gradient")
    assert bool(stats) == ("last_mean" in expected)
    if stats:
        last = stats[LAST.get(name, "stage2_down")]
        last = last.get("bn", last)
        close(last["mean"], "last_mean")
        close(last["var"], "last_var")


def test_each_residual_layer_adds_a_bn_layer_to_what_came_before(by_formula, formula_images):
    network = NETWORKS["Resnet"]
    variables = by_formula(network, formula_images)

    @jax.jit
    def forward(variables, x):
        features = network.apply(variables, x, return_features=True)[1]
        names = ["stage1_down", "stage1_res1", "stage1_res2"]
        sums = []
        for before, name in pairwise(names):
            own = {collection: tree[name] for collection, tree in variables.items()}
            sums.append(features[before] + BnLayer(6).apply(own, features[before]))
        return features, sums

    features, sums = forward(variables, formula_images)
    np.testing.assert_allclose(features["stage1_res1"], sums[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features["stage1_res2"], sums[1], rtol=1e-5, atol=1e-5)


def test_without_its_residual_connections_each_layer_passes_on_its_output(
    by_formula, formula_images
):
    network = SmallResnet(**SMALL, residual=False)
    variables = by_formula(network, formula_images)

    @jax.jit
    def forward(variables, x):
        features = network.apply(variables, x, return_features=True)[1]
        own = {collection: tree["stage1_res1"] for collection, tree in variables.items()}
        return features, BnLayer(6).apply(own, features["stage1_down"])

    features, expected = forward(variables, formula_images)
    np.testing.assert_allclose(features["stage1_res1"], expected, rtol=1e-5, atol=1e-5)


def test_a_stem_has_its_size_and_with_pre_activation_neither_norm_nor_relu():
    def shapes(**fields):
        network = SmallResnet(**fields)
        return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]

    assert shapes(stem_size=7)["stem"]["conv"]["kernel"].shape == (7, 7, 3, 16)
    pre = shapes(norm="pre", stem_size=5)
    assert set(pre["stem"]) == {"kernel", "bias"}
    assert pre["stage1_down"]["bn"]["scale"].shape == (16,)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes())) == 292_954


def test_the_batch_norm_by_hand_changes_no_figure_of_a_network(by_formula, formula_images):
    network = ConvBnNet((4, 6), num_classes=5)
    variables = by_formula(network, formula_images)
    rename = {"scale": "m", "bias": "a"}

    def renamed(tree):
        if not isinstance(tree, dict):
            return tree
        inside_bn = "scale" in tree
        return {rename[k] if inside_bn else k: renamed(v) for k, v in tree.items()}

    by_hand = {**variables, "params": renamed(variables["params"])}
    expected = trained(network)(variables, formula_images)
    found = trained(network.clone(batch_norm=BatchNormByHand))(by_hand, formula_images)
    expected = (expected[0], expected[1], renamed(expected[2]), expected[3])
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_dropout_zeroes_a_fifth_of_the_pooled_features_in_training_only(by_formula, formula_images):
    # With the identity as its last layer the network's logits are what dropout leaves.
    network = Resnet2((4, 8), num_classes=8, residual_layers=1)
    assert network.dropout == 0.2
    variables = by_formula(network, formula_images)
    variables["params"]["out"] = {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}

    @jax.jit
    def call(keys):
        def train(key):
            (logits, features), _ = network.apply(
                variables,
                formula_images,
                train=True,
                return_features=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            return logits, features["pool"]

        evaluated = network.apply(variables, formula_images, return_features=True)
        return *jax.vmap(train)(keys), evaluated[0], evaluated[1]["pool"]

    keys = jax.random.split(jax.random.key(0), 100)
    logits, pool, evaluated, evaluated_pool = map(np.asarray, call(keys.at[99].set(keys[0])))
    np.testing.assert_allclose(evaluated, evaluated_pool, rtol=1e-5)
    dropped = logits == 0
    assert 0.17 < dropped.mean() < 0.23
    np.testing.assert_allclose(logits[~dropped], pool[~dropped] / 0.8, rtol=1e-4)
    np.testing.assert_array_equal(logits[99], logits[0])
    assert (dropped[1] != dropped[0]).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "rate"),
    [
        (SimpleNet((32,)), 0.05),
        pytest.param(ConvNet2((16, 32)), 0.05, marks=pytest.mark.slow),
        pytest.param(ConvBnNet((8, 16, 32)), 0.05, marks=pytest.mark.slow),
        (Resnet((8, 16), residual_layers=1), 0.05),
    ],
)
def test_a_network_learns_one_batch_of_noise_by_heart(network, rate):
    x = jax.random.normal(jax.random.key(1, impl="rbg"), (16, 8, 8, 3))
    labels = jnp.arange(16) % 10
    variables = jax.jit(network.init)(jax.random.key(0, impl="rbg"), x)
    optimizer = optax.sgd(rate, momentum=0.9)

    @jax.jit
    def step(variables, opt_state):
        def objective(params):
            logits, updated = network.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return cross_entropy(logits, labels).mean(), updated

        (loss, updated), grads = jax.value_and_grad(objective, has_aux=True)(variables["params"])
        updates, opt_state = optimizer.update(grads, opt_state)
        params = optax.apply_updates(variables["params"], updates)
        return {**variables, **updated, "params": params}, opt_state, loss

    opt_state, losses = jax.jit(optimizer.init)(variables["params"]), []
    for _ in range(60):
        variables, opt_state, loss = step(variables, opt_state)
        losses.append(float(loss))
    assert losses[0] > 1.5
    assert losses[-1] < 0.05
