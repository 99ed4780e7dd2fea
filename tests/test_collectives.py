"""Bytes between devices, counted from programs whose traffic is known."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import collectives, devices
from jaxlessons.collectives import Traffic


def test_a_data_parallel_gradient_is_reduced_once_whole():
    layout = devices.layout(8)

    @jax.jit
    def gradient(kernel, batch):
        return jax.grad(lambda k: jnp.mean((layout.share_batch(batch) @ k) ** 2))(kernel)

    kernel = layout.replicate(np.ones((24, 6), np.float32))
    batch = layout.replicate(np.ones((64, 24), np.float32))
    found = collectives.traffic(gradient.lower(kernel, batch).compile())
    assert found == {"all-reduce": Traffic(1, 24 * 6 * 4)}


def test_a_program_of_one_device_exchanges_nothing():
    compiled = jax.jit(lambda x: x @ x.T).lower(jnp.ones((4, 4))).compile()
    assert collectives.traffic(compiled) == {}


def test_every_kind_and_type_is_counted_and_ends_of_asynchronous_ones_are_not():
    text = """
  %all-reduce.3 = (f32[3,4]{1,0}, bf16[5]{0}) all-reduce(%a, %b), replica_groups={{0,1}}
  %all-gather-start = u8[8,2]{1,0} all-gather-start(%c), dimensions={0}
  %all-gather-done = u8[8,2]{1,0} all-gather-done(%all-gather-start)
  ROOT %x = pred[] all-reduce(%d), metadata={op_name="jit(f)/all-reduce(f32[9])"}
  %fusion = f32[7]{0} fusion(%all-reduce.3), calls=%all-reduce-like
"""
    found = collectives.traffic(SimpleNamespace(as_text=lambda: text))
    assert found == {"all-gather": Traffic(1, 16), "all-reduce": Traffic(2, 48 + 10 + 1)}


def test_a_ring_takes_the_textbook_time():
    assert collectives.ring_seconds(8e6, 4, 1e9) == pytest.approx(2 * 3 / 4 * 8e-3)
    assert collectives.ring_seconds(8e6, 4, 1e9, 1e-5) == pytest.approx(12e-3 + 6e-5)
    assert collectives.ring_seconds(8e6, 1, 1e9, 1e-5) == 0
