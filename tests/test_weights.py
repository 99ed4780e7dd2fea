"""VGG16's weights from files of every format, and files that are refused by name."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from vgg_files import (
    by_block,
    by_keras_2,
    by_keras_3,
    by_keras_3_classes,
    by_old_keras,
    by_torch,
    formula,
    narrow,
    write_h5,
    write_onnx,
)

from jaxlessons import weights
from jaxlessons.errors import UserError
from jaxlessons.models import vgg
from jaxlessons.weight_files import TORCH_INDICES


@pytest.fixture
def arrays(monkeypatch):
    return narrow(monkeypatch)


@pytest.mark.parametrize(
    "layout", [by_old_keras, by_keras_2, by_keras_3, by_keras_3_classes, by_block]
)
def test_every_layout_of_keras_gives_the_same_parameters(arrays, tmp_path, layout):
    found = weights.vgg16(write_h5(tmp_path / "mine.weights.h5", layout(arrays)))
    assert list(found.params) == list(arrays)
    for layer, (kernel, bias) in arrays.items():
        np.testing.assert_array_equal(found.params[layer]["kernel"], kernel)
        np.testing.assert_array_equal(found.params[layer]["bias"], bias)
    assert found.mean == vgg.MEAN
    assert found.source == "the file mine.weights.h5, laid out as by Keras"


def test_kerass_network_as_onnx_gives_the_same_parameters(arrays, tmp_path):
    found = weights.vgg16(write_onnx(tmp_path / "net.onnx", arrays))
    for layer, (kernel, bias) in arrays.items():
        np.testing.assert_array_equal(found.params[layer]["kernel"], kernel)
        np.testing.assert_array_equal(found.params[layer]["bias"], bias)
    assert found.mean == vgg.MEAN
    lacking = {layer: pair for layer, pair in arrays.items() if layer != "block3_conv1"}
    with pytest.raises(UserError, match=r"few\.onnx lacks the kernel of block3_conv1: it must"):
        weights.vgg16(write_onnx(tmp_path / "few.onnx", lacking))


def test_a_whole_keras_model_is_read_as_well(arrays, tmp_path):
    path = write_h5(tmp_path / "model.hdf5", by_keras_2(arrays, "model_weights/"))
    kernel = weights.vgg16(str(path)).params["block3_conv2"]["kernel"]
    np.testing.assert_array_equal(kernel, arrays["block3_conv2"][0])


def test_the_parameters_are_those_that_vgg16_takes():
    shapes = jax.eval_shape(vgg.VGG16().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    expected = jax.tree.map(lambda x: x.shape, shapes["params"])
    assert {name: layer["kernel"] for name, layer in expected.items()} == vgg.kernel_shapes()


def test_safetensors_and_npz_are_the_same(arrays, tmp_path):
    named = by_torch(arrays)
    save_file(named, tmp_path / "vgg16.safetensors")
    np.savez(tmp_path / "vgg16.npz", **{f"module.{name}": a for name, a in named.items()})
    one, other = (weights.vgg16(tmp_path / f"vgg16.{x}") for x in ("safetensors", "npz"))
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    np.testing.assert_array_equal(one.params["block2_conv1"]["kernel"], arrays["block2_conv1"][0])
    assert one.source == "the file vgg16.safetensors, laid out as by PyTorch"


def test_torchvisions_weights_give_torchs_outputs_on_the_same_photo(tmp_path, stored):
    expected, named = stored("vgg")["torchvision"], {}
    for layer, (_, _, inputs, channels) in vgg.kernel_shapes().items():
        place = f"features.{TORCH_INDICES[layer]}"
        kernel = 2 / math.sqrt(9 * inputs) * formula(f"{place}.weight", channels, inputs, 3, 3)
        named[f"{place}.weight"] = kernel.astype(np.float32)
        named[f"{place}.bias"] = np.float32(0.2) * formula(f"{place}.bias", channels)
    np.savez(tmp_path / "vgg16.npz", **named)
    found = weights.vgg16(tmp_path / "vgg16.npz")
    photos = jnp.asarray(127.5 * (1 + formula("photos", 2, 32, 32, 3)))

    @jax.jit
    def run(params, images):
        network, inputs = vgg.VGG16(), vgg.preprocess(images, found.mean)
        return network.apply({"params": params}, inputs, return_features=True)[1]

    features = run(found.params, photos)
    for name, numbers in expected.items():
        if name != "gradient":
            # The first values are a corner's, where the padding must be torch's zeros too.
            output = [*features[name].ravel()[:6], features[name].mean()]
            np.testing.assert_allclose(output, numbers, rtol=1e-3, atol=1e-4 * max(numbers))


def without(named, word):
    return {name: array for name, array in named.items() if word not in name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: without(n, "block4_conv2"), "lacks the kernel of block4_conv2: it must hold"),
        (lambda n: without(n, "block4_conv2_b"), "lacks the bias of block4_conv2: it must hold"),
        (lambda n: {}, "holds nothing where VGG16's weights were expected: block1_conv1/..."),
        (lambda n: {"a/b": np.zeros(2)}, "holds a/b where VGG16's weights were expected"),
        (
            lambda n: n | {"block2_conv1/block2_conv1_W_1:0": np.zeros((3, 3, 3, 5))},
            "block2_conv1's kernel (block2_conv1/block2_conv1_W_1:0) has the shape [3, 3, 3, 5] "
            "where VGG16's has [3, 3, 3, 3]: these are another network's weights.",
        ),
        (
            lambda n: n | {"block2_conv1/block2_conv1_b_1:0": np.zeros(5)},
            "block2_conv1's bias (block2_conv1/block2_conv1_b_1:0) has the shape [5]",
        ),
        (
            lambda n: n | {"block5_conv3/block5_conv3_b_1:0": np.array([0, np.nan, 0])},
            "block5_conv3_b_1:0) holds values that are NaN or infinite",
        ),
        (
            lambda n: n | {"block5_conv3/block5_conv3_b_1:0": np.zeros(3, np.int64)},
            "block5_conv3_b_1:0) holds int64 where floating-point numbers were expected",
        ),
    ],
)
def test_wrong_contents_are_told_by_file_and_layer(arrays, tmp_path, change, message):
    path = write_h5(tmp_path / "mine.h5", change(by_old_keras(arrays)))
    with pytest.raises(UserError) as told:
        weights.vgg16(path)
    assert str(path) in str(told.value)
    assert message in str(told.value)


def test_a_state_dict_with_batch_norm_is_refused_by_layer(arrays, tmp_path):
    path = tmp_path / "bn.npz"
    np.savez(path, **without(by_torch(arrays), "features.2."))
    with pytest.raises(UserError, match=r"lacks the kernel of block1_conv2, features\.2: .* norm"):
        weights.vgg16(path)


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".onnx", ".safetensors"])
@pytest.mark.parametrize("damage", ["half", "text", "nothing"])
def test_a_damaged_file_is_told_by_name(arrays, tmp_path, suffix, damage):
    path = tmp_path / f"mine{suffix}"
    if suffix == ".h5":
        write_h5(path, by_old_keras(arrays))
    elif suffix == ".npz":
        np.savez_compressed(path, **by_torch(arrays))
    elif suffix == ".onnx":
        write_onnx(path, arrays)
    else:
        save_file(by_torch(arrays), path)
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "text": b"<html>", "nothing": b""}[damage])
    with pytest.raises(UserError, match="can't be read as weights") as told:
        weights.vgg16(path)
    assert str(told.value).startswith(str(path))
    assert str(told.value).endswith("it is truncated, altered or of another format; get it again.")


class Evil:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def test_no_pickle_is_loaded(arrays, tmp_path):
    named = by_torch(arrays) | {"features.0.weight": np.array([Evil()], object)}
    np.savez(tmp_path / "evil.npz", **named, allow_pickle=True)
    with pytest.raises(UserError, match=r"evil\.npz can't be read as weights \(Object arrays"):
        weights.vgg16(tmp_path / "evil.npz")
    (tmp_path / "vgg16.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"vgg16\.pth is of no format .*\(a \.pth is a pickle"):
        weights.vgg16(tmp_path / "vgg16.pth")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match=r"none\.h5 is not a file: name one that holds VGG16's"):
        weights.vgg16(tmp_path / "none.h5")
