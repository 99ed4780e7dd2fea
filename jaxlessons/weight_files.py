"""VGG16's convolutions out of a file: Keras h5 of any age, Keras' network as ONNX, or a PyTorch
state dict without pickle.

Nothing here runs what a file holds: h5py, onnx, safetensors and numpy's npz (allow_pickle=False)
read plain arrays, and every shape is checked.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
import onnx
import safetensors

from jaxlessons.errors import UserError, reason
from jaxlessons.models import vgg
from jaxlessons.npz import LARGEST_ITEM, StoredArray, open_npz

Layout = Literal["Keras", "PyTorch"]

# An open file's arrays by their full names: the dense layers, which nobody asks for, are most of
# some files.
Stored = Mapping[str, StoredArray]

LONGEST_NAME = 200  # of an array that is looked at
MAX_BYTES = 2**31  # what an ONNX file can have; all of VGG16 has 553 MB


class Convolutions(NamedTuple):
    """arrays: layer -> (kernel as stored, bias); layout: whose axes and channels they have."""

    arrays: dict[str, tuple[np.ndarray, np.ndarray]]
    layout: Layout


def read_convolutions(path: Path) -> Convolutions:
    """The 13 kernels and biases in `path` as float32, by VGG16's layer names.

    Raises:
      UserError: when the file is missing, broken, of an unknown format, lacks a layer, or has one
        of another shape; it names the file and the layer.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file: name one that holds VGG16's weights.")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(
            f"{path} has more than {MAX_BYTES:,} bytes, far more than VGG16 has: name another file."
        )
    with _broken_named(path), _open(path) as stored:
        names, layout = _names(path, stored)
        arrays = {}
        for layer, shape in vgg.kernel_shapes().items():
            if layout == "PyTorch":
                shape = (shape[3], shape[2], *shape[:2])
            kernel, bias = names[layer]
            arrays[layer] = (
                _check(path, stored[kernel], shape, f"{layer}'s kernel ({kernel})"),
                _check(path, stored[bias], (vgg.LAYERS[layer],), f"{layer}'s bias ({bias})"),
            )
    return Convolutions(arrays, layout)


@contextlib.contextmanager
def _broken_named(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # what a broken file raises differs from byte to byte
        raise UserError(
            f"{path} can't be read as weights ({reason(error)}): it is truncated, altered or of "
            "another format; get it again."
        ) from error


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Stored]:
    suffix = path.suffix.lower()
    if suffix in ((".h5", ".hdf5")):
        with h5py.File(path, "r") as file:
            yield _h5_arrays(file)
    elif suffix == ".onnx":
        yield _onnx_arrays(onnx.load(path, load_external_data=False))
    elif suffix == ".safetensors":
        with safetensors.safe_open(path, "numpy") as file:
            yield {name: _safetensor(file, name) for name in file.keys()}  # noqa: SIM118
    elif suffix == ".npz":
        with open_npz(path) as arrays:
            yield arrays
    else:
        raise UserError(
            f"{path} is of no format that is read here: give VGG16's weights as Keras' .h5 or "
            ".onnx, or a PyTorch state dict as .safetensors or .npz (a .pth is a pickle, which "
            "could run code)."
        )


def _safetensor(file: Any, name: str) -> StoredArray:
    return StoredArray(
        lambda: tuple(file.get_slice(name).get_shape()), partial(file.get_tensor, name)
    )


def _h5_arrays(file: h5py.File) -> Stored:
    found: dict[str, StoredArray] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = StoredArray(lambda: item.shape or (), partial(_read_h5, item))

    file.visititems(visit)
    return found


def _read_h5(dataset: h5py.Dataset) -> np.ndarray:
    """What Keras writes. A filter may unpack to any size, and a link leads to other files."""
    created = dataset.id.get_create_plist()
    if dataset.dtype.hasobject or dataset.dtype.itemsize > LARGEST_ITEM:
        raise ValueError(f"{dataset.name} holds {dataset.dtype} where numbers were expected")
    if dataset.is_virtual or created.get_external_count():
        raise ValueError(f"{dataset.name} lies in another file")
    if created.get_nfilters() or math.prod(dataset.chunks or ()) > dataset.size:
        raise ValueError(f"{dataset.name} is compressed, which Keras' weights are not")
    return dataset[()]


def _onnx_arrays(model: onnx.ModelProto) -> Stored:
    """The kernels and biases of the convolutions that keep Keras' names, as Keras has them."""
    if not model.graph.node:  # an empty file is a valid message
        raise ValueError("it holds no network")
    arrays = {array.name: array for array in model.graph.initializer}

    def shape(name: str) -> tuple[int, ...]:
        dims = tuple(arrays[name].dims)
        return (*dims[2:], dims[1], dims[0]) if len(dims) == 4 else dims

    def read(name: str) -> np.ndarray:
        if arrays[name].data_location != onnx.TensorProto.DEFAULT:
            raise ValueError(f"{name} lies in another file")
        array = onnx.numpy_helper.to_array(arrays[name])
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array

    found: dict[str, StoredArray] = {}
    for node in model.graph.node:
        if node.op_type == "Conv" and (match := re.search(r"block\d_conv\d", node.input[1])):
            for kind, name in zip(("kernel", "bias"), node.input[1:], strict=False):
                found[f"{match[0]}/{kind}"] = StoredArray(partial(shape, name), partial(read, name))
    return found


def _check(path: Path, stored: StoredArray, shape: tuple[int, ...], what: str) -> np.ndarray:
    """The array, which is read only if its header tells of the right shape."""
    if (found := stored.shape()) != shape:
        raise UserError(
            f"{path}: {what} has the shape {list(found)} where VGG16's has {list(shape)}: "
            "these are another network's weights."
        )
    array = stored.read()
    if fault := _fault(array):
        raise UserError(f"{path}: {what} holds {fault}: get the file again.")
    return np.ascontiguousarray(array, np.float32)


def _fault(array: np.ndarray) -> str | None:
    if array.dtype.kind != "f":
        return f"{array.dtype} where floating-point numbers were expected"
    return None if np.isfinite(array).all() else "values that are NaN or infinite"


# torchvision's VGG16 is one sequence of convolutions, ReLUs and poolings: where each is in it.
def _torch_indices() -> dict[str, int]:
    indices, place = {}, 0
    for name in vgg.LAYERS:
        if "conv" in name:
            indices[name] = place
        place += 2 if "conv" in name else 1
    return indices


TORCH_INDICES = _torch_indices()
# Keras 1 to 3: block1_conv1/block1_conv1_W_1:0, .../block1_conv1/kernel:0, .../vars/0
KERAS_NAMED = re.compile(
    r"(?:^|/)(?P<layer>block\d_conv\d)/(?:.*/)?(?:(?P=layer)_)?"
    r"(?:(?P<kernel>W(?:_\d)?|kernel|vars/0)|b(?:_\d)?|bias|vars/1)(?::0)?$"
)
# Keras 3 where layers go by class: by block, or all thirteen in one list.
KERAS_COUNTED = re.compile(
    r"(?:^|^block(?P<block>\d)/)layers/conv2d(?:_(?P<place>\d+))?/vars/(?P<kind>[01])$"
)
TORCH = re.compile(r"(?:^|\.)(?:features\.)?(?P<place>\d+)\.(?P<kind>weight|bias)$")


def _names(path: Path, stored: Stored) -> tuple[dict[str, tuple[str, str]], Layout]:
    """layer -> the names that its kernel and its bias have in the file, and the file's layout."""
    found: dict[tuple[str, bool], str] = {}
    readable = [name for name in stored if name.isprintable() and len(name) <= LONGEST_NAME]
    layout: Layout = "PyTorch" if any(map(TORCH.search, readable)) else "Keras"
    for name in readable:
        if key := _torch_key(name) if layout == "PyTorch" else _keras_key(name):
            found.setdefault(key, name)
    if not found:
        some = ", ".join(sorted(readable)[:3]) or "nothing"
        raise UserError(
            f"{path} holds {some} where VGG16's weights were expected: block1_conv1/... (Keras) or "
            "features.0.weight ... (PyTorch)."
        )
    names = {}
    for layer in vgg.kernel_shapes():
        for kind, is_kernel in (("kernel", True), ("bias", False)):
            if (layer, is_kernel) not in found:
                where = f", features.{TORCH_INDICES[layer]}" if layout == "PyTorch" else ""
                raise UserError(
                    f"{path} lacks the {kind} of {layer}{where}: it must hold all 13 convolutions "
                    "of VGG16 without batch norm."
                )
        names[layer] = (found[layer, True], found[layer, False])
    return names, layout


def _torch_key(name: str) -> tuple[str, bool] | None:
    """(layer, whether it is the kernel) of an array in a PyTorch state dict."""
    if (match := TORCH.search(name)) and "classifier" not in name:
        for layer, place in TORCH_INDICES.items():
            if place == int(match["place"]):
                return layer, match["kind"] == "weight"
    return None


def _keras_key(name: str) -> tuple[str, bool] | None:
    """(layer, whether it is the kernel) of an array in a Keras file."""
    if match := KERAS_NAMED.search(name):
        return match["layer"], match["kernel"] is not None
    if match := KERAS_COUNTED.search(name):
        place = int(match["place"] or 0)
        inside = [n for n in vgg.kernel_shapes() if n.startswith(f"block{match['block'] or ''}")]
        if place < len(inside):
            return inside[place], match["kind"] == "0"
    return None
