"""VGG16's weights in files, laid out as each program does, with three channels a layer."""

import math

import h5py
import numpy as np
import onnx

from jaxlessons.models import vgg
from jaxlessons.weight_files import TORCH_INDICES


def formula(name, *shape):
    """As in stored/make_networks.py."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape).astype(np.float32)


def narrow(monkeypatch):
    """Layer -> (kernel, bias), each its own numbers; so narrow that the files are small."""
    monkeypatch.setattr(vgg, "LAYERS", dict.fromkeys(vgg.LAYERS, 3))
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
