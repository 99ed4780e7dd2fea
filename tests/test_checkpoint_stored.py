"""A checkpoint that was written long ago stays readable."""

import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxlessons import checkpoint, devices

STORED = Path(__file__).parent / "stored"


@pytest.fixture
def made(monkeypatch):
    """The script that wrote it."""
    monkeypatch.setattr(sys, "path", [str(STORED), *sys.path])
    import make_checkpoint

    return make_checkpoint


@pytest.mark.parametrize("count", [1, 8])
def test_a_stored_checkpoint_comes_back_on_any_number_of_devices(made, tmp_path, count):
    folder = shutil.copytree(made.FOLDER, tmp_path / "checkpoints")
    expected = made.state()
    target = jax.tree.map(lambda leaf: leaf * 0, expected.replace(key=None))
    layout = devices.layout(count)
    # Two streams of carry can't be shared out among eight devices: that part stays whole.
    carry, key = layout.replicate(target.carry), layout.replicate(jax.random.key(0))
    target = layout.place(target.replace(carry=None)).replace(carry=carry, key=key)
    restored = checkpoint.restore(folder, target)
    np.testing.assert_array_equal(
        jax.random.key_data(restored.key), jax.random.key_data(expected.key)
    )
    wanted = jax.tree.leaves(expected.replace(key=None))
    found = jax.tree.leaves(restored.replace(key=None))
    assert len(found) > 30
    for value, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(value, other)
        assert len(value.sharding.device_set) == count
    assert checkpoint.read_about(folder) == made.ABOUT
    assert checkpoint.best_step(folder, "accuracy") == 40
