"""Weights: every format, small, and PyTorch's recurrent layers as arrays."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import safetensors.numpy
import vgg_files
from npz_files import Arrays, npy, npz
from reader import Reader, Seed

from jaxlessons import weights
from jaxlessons.models import vgg
from jaxlessons.recurrent_weights import recurrent_from_torch, recurrent_settings


def make(folder: Path) -> list[Reader]:
    vgg.LAYERS = dict.fromkeys(vgg.LAYERS, 2)
    arrays = {
        layer: (
            vgg_files.formula(f"{layer}/kernel", *shape),
            vgg_files.formula(f"{layer}/bias", shape[-1]),
        )
        for layer, shape in vgg.kernel_shapes().items()
    }
    onnx = vgg_files.write_onnx(folder / "seed.onnx", arrays).read_bytes()
    torch = vgg_files.by_torch(arrays)
    tensors = safetensors.numpy.save(torch)
    size = int.from_bytes(tensors[:8], "little")
    return [
        Reader("h5", h5_seeds(folder, arrays), read_vgg),
        Reader("onnx", (Seed("a.onnx", onnx),), read_vgg),
        Reader(
            "safetensors",
            (
                Seed("a.safetensors", tensors),
                Seed(
                    "a.safetensors",
                    tensors[8 : 8 + size],
                    header_of(tensors[8 + size :]),
                    json=True,
                ),
            ),
            read_vgg,
        ),
        Reader("npz", npz_seeds(torch), read_vgg),
        Reader("recurrent", recurrent_seeds(), read_recurrent, "state dict"),
    ]


def h5_seeds(folder: Path, arrays: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[Seed, ...]:
    layouts = (vgg_files.by_old_keras, vgg_files.by_keras_3, vgg_files.by_block)
    blobs = [vgg_files.write_h5(folder / "seed.h5", by(arrays)).read_bytes() for by in layouts]
    for settings in ({"libver": "latest"}, {"libver": "earliest", "userblock_size": 512}):
        with h5py.File(folder / "seed.h5", "w", **settings) as file:
            for name, array in vgg_files.by_keras_2(arrays).items():
                file.create_dataset(name, data=array, chunks=True if array.ndim > 1 else None)
                file[name].attrs["about"] = ["ä", "b"]
        blobs.append((folder / "seed.h5").read_bytes())
    return tuple(Seed("a.h5", blob) for blob in blobs)


def header_of(data: bytes) -> Callable[[bytes], bytes]:
    return lambda header: len(header).to_bytes(8, "little") + header + data


def npz_seeds(torch: Arrays) -> tuple[Seed, ...]:
    def member(name: str) -> Seed:
        return Seed("a.npz", npy(torch[name]), lambda blob: npz(torch, name, blob))

    whole = [npz(torch), npz(torch, method=zipfile.ZIP_DEFLATED)]
    named = ("features.0.weight", "features.5.bias")
    return (*(Seed("a.npz", blob) for blob in whole), *map(member, named))


def read_vgg(path: Path) -> None:
    found = weights.vgg16(path)
    assert {name: layer["kernel"].shape for name, layer in found.params.items()} == (
        vgg.kernel_shapes()
    )
    for layer in found.params.values():
        for array in layer.values():
            assert array.dtype == np.float32
            assert np.isfinite(array).all()


def recurrent_seeds() -> tuple[Seed, ...]:
    """State dicts as JSON: lists are arrays too."""
    seeds = []
    for rows in (2, 6, 8):  # of one, three and four gates
        made = {}
        for suffix, inputs in (("l0", 3), ("l0_reverse", 3), ("l1", 4), ("l1_reverse", 4)):
            shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, 2)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            for kind, shape in shapes.items():
                made[f"{kind}_{suffix}"] = vgg_files.formula(kind + suffix, *shape).tolist()
        seeds.append(Seed("state.json", json.dumps(made).encode(), json=True))
    return tuple(seeds)


def read_recurrent(path: Path) -> None:
    """Values that are no file's."""
    try:
        state_dict = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if not isinstance(state_dict, dict):
        return
    params = recurrent_from_torch(state_dict)
    assert json.dumps(recurrent_settings(params))
    for array in params.values():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
