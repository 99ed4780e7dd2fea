"""What the tests of CIFAR-10's sources share beside the fixtures."""

import numpy as np

from jaxlessons.data.image_set import Arrays

NAMES = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]


def assert_holds(image_set, arrays):
    assert image_set.name == "CIFAR-10"
    assert image_set.mean == (0.4914, 0.48216, 0.44653)
    assert image_set.std == (0.24703, 0.24349, 0.26159)
    assert image_set.classes[3] == "cat"
    assert len(image_set.classes) == 10
    for name in Arrays._fields:
        mine, theirs = getattr(image_set, name), getattr(arrays, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


def forbid(monkeypatch, module, name):
    def forbidden(*_, **__):
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(module, name, forbidden)


def flip(path, place):
    blob = bytearray(path.read_bytes())
    blob[int(place * len(blob))] ^= 1
    path.write_bytes(blob)
