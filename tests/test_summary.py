"""The layer table, against counts made by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxlessons.models import char
from jaxlessons.models.batchnorm import BatchNormByHand
from jaxlessons.models.convnet import ConvBnNet, ConvNet
from jaxlessons.summary import Layer, format_table, layer_table

IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


def test_convnets_table_is_the_one_worked_out_by_hand():
    table = layer_table(ConvNet(), IMAGE)
    assert table == [
        Layer("conv1", (15, 15, 20), 3 * 9 * 20 + 20, 2 * 15 * 15 * 3 * 9 * 20),
        Layer("conv2", (7, 7, 40), 20 * 9 * 40 + 40, 2 * 7 * 7 * 20 * 9 * 40),
        Layer("conv3", (3, 3, 80), 40 * 9 * 80 + 80, 2 * 3 * 3 * 40 * 9 * 80),
        Layer("out", (10,), 80 * 10 + 10, 2 * 80 * 10),
    ]


def test_the_table_holds_every_parameter_and_does_not_depend_on_the_batch():
    for network in (ConvBnNet(), ConvBnNet(batch_norm=BatchNormByHand), ConvBnNet(norm="none")):
        table = layer_table(network, IMAGE)
        variables = jax.eval_shape(network.init, jax.random.key(0), IMAGE)
        total = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        assert sum(layer.parameters for layer in table) == total
        assert layer_table(network, jax.ShapeDtypeStruct((7, 32, 32, 3), jnp.float32)) == table


@pytest.mark.parametrize("network", [char.ThreeCharModel, char.CharLoopModel, char.StatefulCharRNN])
def test_layers_applied_again_count_once_and_those_with_a_carry_too(network):
    module, tokens = network(85), jax.ShapeDtypeStruct((2, 3), jnp.int32)
    table = layer_table(module, tokens)
    variables = jax.eval_shape(module.init, jax.random.key(0), tokens)
    total = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert sum(layer.parameters for layer in table) == total
    assert len({layer.name for layer in table}) == len(table)


def test_a_layer_applied_twice_works_twice():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            own = nn.Dense(4, name="own")
            return own(own(x))

    table = layer_table(Twice(), jax.ShapeDtypeStruct((1, 4), jnp.float32))
    assert table == [Layer("own", (4,), 4 * 4 + 4, 2 * 2 * 4 * 4)]


def test_the_text_ends_in_the_sums():
    lines = format_table(layer_table(ConvNet(), IMAGE)).splitlines()
    assert len({len(line) for line in lines}) == 1
    flops = 2 * (15 * 15 * 540 + 7 * 7 * 7200 + 3 * 3 * 28_800 + 800)
    assert lines[-1].split() == ["total", "37,490", f"{flops:,}"]
