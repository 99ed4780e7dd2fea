"""Recalibrated batch statistics against those of the whole data, worked out by themselves."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.averaging import recalibrate_batch_stats
from jaxlessons.errors import UserError
from jaxlessons.models.batchnorm import BatchNormByHand
from jaxlessons.models.convnet import SimpleNet
from jaxlessons.models.resnet import Resnet

RANDOM = np.random.RandomState(0)


class OfItsOwn(nn.BatchNorm):
    """Calls its parent, as a subclass does."""

    def __call__(self, x):
        return super().__call__(x)


NORMS = {
    "0.9": partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5),
    "0.99": partial(OfItsOwn, momentum=0.99, epsilon=1e-5),
    "by hand": BatchNormByHand,
}


class OneNorm(nn.Module):
    norm: nn.Module = NORMS["0.9"]
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = self.norm(use_running_average=not train, name="bn")(x)
        return nn.Dense(2)(x.reshape(x.shape[0], -1))


def recalibrated(module, inputs, variables=None, **settings):
    if variables is None:
        variables = module.init(jax.random.key(0), inputs[:1])
    return recalibrate_batch_stats(module.apply, variables, inputs, **settings)


def drifting(count=103):
    """Images whose level rises through the data, so that each batch has another mean."""
    noise = RANDOM.standard_normal((count, 2, 3, 2)) * [1, 2] + [0, 5]
    return (noise + np.linspace(-3, 3, count).reshape(-1, 1, 1, 1)).astype(np.float32)


def batches(inputs, size):
    return [inputs[i : i + size].astype(np.float64) for i in range(0, len(inputs), size)]


@pytest.mark.parametrize(
    ("norm", "batch_size"),
    [("0.9", 1), ("0.9", 20), ("0.9", 103), ("0.99", 20), ("by hand", 20), ("by hand", 500)],
)
def test_mean_and_variance_are_those_of_all_the_data_whatever_the_batches(norm, batch_size):
    inputs = drifting()
    stats = recalibrated(OneNorm(NORMS[norm]), inputs, batch_size=batch_size)
    wide = inputs.astype(np.float64)
    np.testing.assert_allclose(stats["bn"]["mean"], wide.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["bn"]["var"], wide.var((0, 1, 2)), rtol=1e-5)
    if batch_size == 20:
        # What this would not let through: the mean of the batches' variances ...
        of_batches = np.mean([b.var((0, 1, 2)) for b in batches(inputs, 20)], axis=0)
        assert (of_batches < 0.8 * wide.var((0, 1, 2))).all()
        # ... and, the last batch having 3 examples, batches that count alike.
        alike = np.mean([b.mean((0, 1, 2)) for b in batches(inputs, 20)], axis=0)
        assert (np.abs(alike - wide.mean((0, 1, 2))) > 0.1).all()


def test_a_small_variance_around_a_large_mean_keeps_its_digits():
    # flax's own E[x^2] - E[x]^2 inside a batch would lose them before they are pooled.
    exact = partial(nn.BatchNorm, momentum=0.9, use_fast_variance=False)
    inputs = (drifting(110) + 3000).astype(np.float32)
    expected = inputs.astype(np.float64).var((0, 1, 2))
    for norm in (exact, BatchNormByHand):
        stats = recalibrated(OneNorm(norm), inputs, batch_size=20)
        np.testing.assert_allclose(stats["bn"]["var"], expected, rtol=1e-3)
    moments = [(len(b) / 110, b.mean((0, 1, 2)), b.var((0, 1, 2))) for b in batches(inputs, 20)]
    mean = np.float32(sum(share * m for share, m, _ in moments))
    square = np.float32(sum(share * (v + m**2) for share, m, v in moments))
    assert (np.abs(square - mean**2 - expected) > 0.01 * expected).any()


IMAGES = RANDOM.randint(0, 256, (22, 8, 8, 3)).astype(np.uint8)


def prepare(images):
    return images.astype(jnp.float32) / 64 - 2


def small_resnet(norm):
    return Resnet(layers=(3, 4), residual_layers=1, batch_norm=norm)


@pytest.fixture(scope="module")
def variables():
    """The same for all norms but by their names, with statistics that are none of the data's."""

    def draw(path, value):
        return jnp.asarray(np.random.RandomState(value.size).uniform(0.5, 1.5, value.shape), "f4")

    def make(module):
        shapes = jax.eval_shape(module.init, jax.random.key(0), prepare(IMAGES[:1]))
        drawn = jax.tree_util.tree_map_with_path(draw, shapes)
        centred = jax.tree.map(lambda x: x - 1 if x.ndim > 1 else x, drawn["params"])
        return {"params": centred, "batch_stats": drawn["batch_stats"]}

    return make


def statistics_of_each_batch(norm, variables, size):
    """What running statistics with momentum 0 are: the last batch's own."""
    apply = jax.jit(partial(small_resnet(norm).apply, train=True, mutable=["batch_stats"]))
    parts = [IMAGES[i : i + size] for i in range(0, len(IMAGES), size)]
    return [(len(p), apply(variables, prepare(p))[1]["batch_stats"]) for p in parts]


WITHOUT_MEMORY = {name: partial(norm, momentum=0.0) for name, norm in NORMS.items()}


@pytest.mark.parametrize(
    ("norm", "batch_size"),
    [
        ("0.9", 22),
        pytest.param("by hand", 8, marks=pytest.mark.slow),
        pytest.param("0.99", 8, marks=pytest.mark.slow),
    ],
)
def test_every_layer_of_a_resnet_gets_the_pooled_statistics_of_its_batches(
    norm, batch_size, variables
):
    module = small_resnet(NORMS[norm])
    given = variables(module)
    before = jax.tree.map(np.array, given)
    stats = recalibrated(module, IMAGES, given, batch_size=batch_size, prepare=prepare)
    assert jax.tree.structure(stats) == jax.tree.structure(given["batch_stats"])
    each = statistics_of_each_batch(WITHOUT_MEMORY[norm], given, batch_size)
    assert len(each) == (1 if batch_size == 22 else 3)
    for stage in ("stage1_down", "stage1_res1"):
        moments = [
            (n / 22, *(np.asarray(s[stage]["bn"][k], np.float64) for k in ("mean", "var")))
            for n, s in each
        ]
        mean = sum(share * m for share, m, _ in moments)
        var = sum(share * (v + m**2) for share, m, v in moments) - mean**2
        np.testing.assert_allclose(stats[stage]["bn"]["mean"], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(stats[stage]["bn"]["var"], var, rtol=1e-4, atol=1e-6)
    for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(a, b)
    if batch_size == 22:
        # With the statistics of all images, evaluation is what training saw of them.
        apply = jax.jit(module.apply, static_argnames=("train", "mutable"))
        seen, _ = apply(given, prepare(IMAGES), train=True, mutable="batch_stats")
        renewed = apply({**given, "batch_stats": stats}, prepare(IMAGES))
        np.testing.assert_allclose(renewed, seen, rtol=1e-3, atol=1e-3)


def test_dropout_draws_from_the_key():
    inputs, module = drifting(30), OneNorm(dropout=0.5)
    given = jax.jit(module.init)(jax.random.key(0), inputs)
    stats = recalibrated(module, inputs, given, key=jax.random.key(3))
    without_memory = OneNorm(WITHOUT_MEMORY["0.9"], dropout=0.5)
    apply = jax.jit(partial(without_memory.apply, train=True, mutable="batch_stats"))
    _, updated = apply(given, inputs, rngs={"dropout": jax.random.key(3)})
    expected = updated["batch_stats"]["bn"]
    np.testing.assert_allclose(stats["bn"]["mean"], expected["mean"], rtol=1e-5, atol=1e-6)
    by_default = [recalibrated(module, inputs, given)["bn"]["mean"] for _ in range(2)]
    np.testing.assert_array_equal(*by_default)
    assert (np.abs(by_default[0] - expected["mean"]) > 1e-3).all()


def test_a_network_without_batch_norm_has_none():
    params = SimpleNet((4,)).init(jax.random.key(0), prepare(IMAGES[:1]))["params"]
    for variables in ({"params": params}, {"params": params, "batch_stats": {}}):
        assert recalibrated(SimpleNet((4,)), IMAGES, variables) == {}


class Count(nn.Module):
    name_of_it: str

    @nn.compact
    def __call__(self):
        self.variable("batch_stats", self.name_of_it, jnp.zeros, ())


class Beside(nn.Module):
    """Batch norm, and statistics of another kind beside it."""

    of: str = "value"

    @nn.compact
    def __call__(self, x, train=False):
        Count(self.of, name="count")()
        return OneNorm(name="one")(x, train)


class WithoutMomentum(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        for name in ("mean", "var"):
            self.variable("batch_stats", name, jnp.zeros, ())
        return x


class Layers(nn.Module):
    """One batch norm, used in a way that leaves its batch's statistics unknown."""

    times: int = 1
    frozen: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        bn = nn.BatchNorm(use_running_average=self.frozen or not train, name="bn")
        for _ in range(self.times):
            x = bn(x)
        return x


BELOW_1 = "to be recalibrated a module needs one below 1, as flax's BatchNorm has."
MIXTURE = "what its statistics then are a mixture of can't be told, so it can't be recalibrated."
ONLY = "only modules with a mean and a var can be recalibrated."


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Beside(), f"count has the batch statistics value: {ONLY}"),
        (Beside("mean"), f"count has the batch statistics mean: {ONLY}"),
        (OneNorm(partial(nn.BatchNorm, momentum=1.0)), f"bn has momentum 1.0: {BELOW_1}"),
        (WithoutMomentum(), f"The network has momentum None: {BELOW_1}"),
        (Layers(times=2), f"bn is called more than once in a step: {MIXTURE}"),
        (
            Layers(frozen=True),
            "bn keeps its batch statistics in training: it can't be recalibrated.",
        ),
    ],
)
def test_statistics_that_are_none_of_batch_norms_are_refused(module, message):
    with pytest.raises(UserError) as caught:
        recalibrated(module, drifting(5))
    assert str(caught.value) == message


@pytest.mark.parametrize(("count", "batch_size"), [(0, 500), (8, 0), (8, -1)])
def test_no_inputs_have_no_statistics(count, batch_size):
    module, inputs = OneNorm(), drifting(8)
    variables = module.init(jax.random.key(0), inputs)
    with pytest.raises(UserError) as caught:
        recalibrated(module, inputs[:count], variables, batch_size=batch_size)
    expected = f"There are no batch statistics in {count} inputs by {batch_size}."
    assert str(caught.value) == expected
