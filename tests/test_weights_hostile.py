"""Weights in files made to do harm: what their headers ask for is looked at before it is read."""

import io
import zipfile

import h5py
import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file
from vgg_files import by_old_keras, by_torch, narrow, write_h5, write_onnx

from jaxlessons import weight_files, weights
from jaxlessons.errors import UserError

KERNEL = "block1_conv1/block1_conv1_W_1:0"


@pytest.fixture
def arrays(monkeypatch):
    return narrow(monkeypatch)


def refused(path):
    with pytest.raises(UserError) as told:
        weights.vgg16(path)
    message = str(told.value)
    assert path.name in message
    assert "\n" not in message
    return message


def large_npz(path, named):
    """An array of zeros, 40 MB, in a file of 40 kB."""
    np.savez_compressed(path, **named | {"features.0.weight": np.zeros(10)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (10**7,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, blob in members.items():
            if name != "features.0.weight.npy":
                archive.writestr(name, blob)
        with archive.open("features.0.weight.npy", "w") as file:
            file.write(head.getvalue())
            for _ in range(40):
                file.write(bytes(10**6))


def test_a_compressed_array_is_not_unpacked_when_its_shape_is_wrong(
    arrays, tmp_path, little_memory
):
    large_npz(tmp_path / "a.npz", by_torch(arrays))
    assert "has the shape [10000000] where VGG16's has [3, 3, 3, 3]" in refused(tmp_path / "a.npz")


def test_a_large_array_of_the_wrong_shape_is_not_read(arrays, tmp_path, little_memory):
    path = write_h5(tmp_path / "a.h5", by_old_keras(arrays))
    with h5py.File(path, "a") as file:
        del file[KERNEL]
        file.create_dataset(KERNEL, (10**10,), "f4", chunks=(10**4,))
    assert "has the shape [10000000000] where VGG16's has" in refused(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"compression": "gzip"}, "is compressed, which Keras' weights are not"),
        ({"chunks": (9, 9, 9, 9), "maxshape": (None,) * 4}, "is compressed"),
        ({"external": "other.bin"}, "lies in another file"),
        ({"dtype": "V1000"}, "holds |V1000 where numbers were expected"),
        ({"dtype": h5py.string_dtype()}, "holds object where numbers were expected"),
    ],
    ids=["filter", "chunk", "external", "opaque", "objects"],
)
def test_an_array_is_read_from_an_h5_file_only_as_keras_writes_it(
    arrays, tmp_path, monkeypatch, settings, words
):
    monkeypatch.chdir(tmp_path)
    path = write_h5(tmp_path / "a.h5", by_old_keras(arrays))
    with h5py.File(path, "a") as file:
        del file[KERNEL]
        if settings == {"external": "other.bin"}:
            (tmp_path / "other.bin").write_bytes(bytes(324))
            settings = {"external": [(str(tmp_path / "other.bin"), 0, 324)]}
        file.create_dataset(KERNEL, (3, 3, 3, 3), **{"dtype": "f4"} | settings)
    message = refused(path)
    assert words in message
    assert "can't be read as weights" in message


def test_a_virtual_array_of_another_file_is_refused(arrays, tmp_path):
    write_h5(tmp_path / "other.h5", {"x": np.zeros((3, 3, 3, 3), np.float32)})
    path = write_h5(tmp_path / "a.h5", by_old_keras(arrays))
    layout = h5py.VirtualLayout((3, 3, 3, 3), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3, 3, 3, 3))
    with h5py.File(path, "a") as file:
        del file[KERNEL]
        file.create_virtual_dataset(KERNEL, layout)
    assert "block1_conv1_W_1:0 lies in another file" in refused(path)


def test_an_onnx_array_in_another_file_is_refused(arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_onnx(tmp_path / "a.onnx", arrays)
    (tmp_path / "other.bin").write_bytes(bytes(324))
    model = onnx.load(path)
    first = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(first, "other.bin", 0, 324)
    first.ClearField("raw_data")
    first.data_location = onnx.TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    assert "Op:0 lies in another file" in refused(path)


def test_a_file_far_too_large_is_not_opened(tmp_path):
    for suffix in (".onnx", ".h5", ".npz", ".safetensors"):
        with (tmp_path / f"a{suffix}").open("wb") as file:
            file.truncate(weight_files.MAX_BYTES + 1)
        assert "has more than 2,147,483,648 bytes" in refused(tmp_path / f"a{suffix}")


def test_a_wrong_shape_is_told_for_onnx_and_safetensors_as_keras_and_torch_have_it(
    arrays, tmp_path
):
    arrays["block1_conv2"] = (np.zeros((1, 2, 3, 4), np.float32), arrays["block1_conv2"][1])
    save_file(by_torch(arrays), tmp_path / "a.safetensors")
    shape = "has the shape [4, 3, 1, 2] where VGG16's has [3, 3, 3, 3]"
    assert shape in refused(tmp_path / "a.safetensors")
    write_onnx(tmp_path / "a.onnx", arrays)
    assert "has the shape [1, 2, 3, 4] where VGG16's" in refused(tmp_path / "a.onnx")


def test_names_that_can_not_be_printed_are_passed_over(arrays, tmp_path):
    np.savez(tmp_path / "a.npz", **{"a\nb": np.zeros(2), "c": np.zeros(2), "d" * 500: np.zeros(2)})
    assert "a.npz holds c where VGG16's weights were expected" in refused(tmp_path / "a.npz")


def test_what_a_file_says_is_told_without_what_can_not_be_printed(arrays, tmp_path):
    save_file(by_torch(arrays), tmp_path / "a.safetensors")
    blob = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(blob.replace(b'"F32"', b'"\\nX"', 1))
    assert refused(tmp_path / "a.safetensors").isprintable()
