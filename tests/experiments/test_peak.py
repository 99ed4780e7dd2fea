"""The measured peak is operations by seconds, of the best round."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from experiments import peak


def test_the_best_round_counts(monkeypatch):
    times = iter([0.0, 3.0, 10.0, 10.5, 20.0, 22.0])
    clock = SimpleNamespace(perf_counter=lambda: next(times))
    monkeypatch.setattr(peak, "time", clock)
    found = peak.matmul_peak(jnp.float32, size=16, repeats=7, rounds=3)
    assert found == 2 * 16**3 * 7 / 0.5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_device_has_some_speed(dtype):
    assert 1e5 < peak.matmul_peak(dtype, size=64, repeats=4, rounds=2) < 1e16
