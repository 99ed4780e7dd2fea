"""CIFAR-10 as TensorFlow Datasets keeps it, prepared and read without TensorFlow.

TFDS's own builder of CIFAR-10 needs TensorFlow; this one writes the same name, version and
features as array_record, and the reader takes the official builder's tfrecord files as well.
tensorflow_datasets takes most of a second to import, so only the functions that need it do.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jaxlessons.data.cifar10_files import Arrays, check_labels
from jaxlessons.data.cifar10_tfrecord import read_tfrecord
from jaxlessons.errors import UserError, reason

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

NAME, VERSION = "cifar10", "3.0.2"
SPLITS = {"train": 50_000, "test": 10_000}
INFO_FILES = ("dataset_info.json", "features.json")
BLOCK = 1000  # records read at a time
LARGEST_INFO, LARGEST_RECORDS = 10**7, 10**9  # bytes of a file
# Where a feature's class is named in JSON, of which TFDS imports the module.
CLASS_KEYS = {"pythonClassName", "python_class_name", "type"}
FEATURES = "tensorflow_datasets.core.features."

Example = tuple[int | str, dict[str, Any]]


def prepared_folder(data_dir: Path) -> Path:
    """Where a TFDS data directory keeps CIFAR-10."""
    return data_dir / NAME / VERSION


def prepare(arrays: Arrays, data_dir: Path, classes: Sequence[str]) -> Path:
    """Writes `arrays` as a TFDS copy into `data_dir`, with progress bars; returns its folder.

    TFDS writes into a folder of another name and renames it, so that an interrupted preparation
    leaves nothing that could be taken for a copy. OSError when the disk is full or read-only.
    """
    builder = _make_builder(arrays, data_dir, classes)
    folder = prepared_folder(data_dir)
    try:
        builder.download_and_prepare(download_dir=str(data_dir / "downloads"))
    except OSError:
        if not folder.exists():  # otherwise another process was faster
            raise
    except RuntimeError as error:  # so array_record's writer tells what the disk refuses
        full = os.strerror(errno.ENOSPC) in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
    return folder


def _make_builder(
    arrays: Arrays, data_dir: Path, classes: Sequence[str]
) -> tfds.core.DatasetBuilder:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    # Registered, it would stand in the way of TFDS's own.
    with registered.skip_registration():

        class Cifar10(tfds.core.GeneratorBasedBuilder):
            """CIFAR-10 from arrays."""

            VERSION = tfds.core.Version(VERSION)

            def _info(self) -> tfds.core.DatasetInfo:
                features = tfds.features.FeaturesDict(
                    {
                        "id": tfds.features.Text(),
                        "image": tfds.features.Image(shape=(32, 32, 3)),
                        "label": tfds.features.ClassLabel(names=classes),
                    }
                )
                return tfds.core.DatasetInfo(
                    builder=self,
                    description="The CIFAR-10 dataset: 60,000 32x32 colour images of 10 classes.",
                    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
                    features=features,
                    supervised_keys=("image", "label"),
                    disable_shuffling=True,
                )

            def _split_generators(self, dl_manager: object) -> dict[str, Iterator[Example]]:
                return {
                    "train": self._generate_examples("train", *arrays[:2]),
                    "test": self._generate_examples("test", *arrays[2:]),
                }

            def _generate_examples(
                self, split: str, images: np.ndarray, labels: np.ndarray
            ) -> Iterator[Example]:
                for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                    identity = f"{split}_{index:05d}"
                    # TFDS would encode an array by TensorFlow, and a PIL image by PIL.
                    picture = Image.fromarray(image)
                    yield index, {"id": identity, "image": picture, "label": int(label)}

    return Cifar10(data_dir=str(data_dir), file_format="array_record")


def read_prepared(folder: Path) -> Arrays:
    """The TFDS copy in `folder`, in the order of the published files (TFDS shuffles its own).

    Raises UserError, naming the file or folder, when it is not CIFAR-10, has other than 50,000
    and 10,000 images, or is truncated or altered.
    """
    builder, paths = _open(folder)
    return Arrays(*_read_split(builder, "train", paths), *_read_split(builder, "test", paths))


def _counts(splits: Mapping[str, int]) -> str:
    return " and ".join(f"{count:,} {name} images" for name, count in splits.items())[:200]


def _open(folder: Path) -> tuple[tfds.core.DatasetBuilder, dict[str, list[Path]]]:
    """TFDS's builder of the copy, and the files of each split."""
    import tensorflow_datasets as tfds

    for name in INFO_FILES:
        if not (folder / name).is_file():
            raise _missing(folder / name)
    try:
        for name in INFO_FILES:
            _check_size(folder / name, LARGEST_INFO)
        _check_features(folder / "features.json")
        builder = tfds.builder_from_directory(folder)
        name, splits = str(builder.info.name), dict(builder.info.splits)
        found = {split: int(info.num_examples) for split, info in splits.items()}
        paths = {split: _files(folder, splits[split].filepaths) for split in SPLITS}
    except Exception as error:  # altered JSON may break TFDS anywhere
        raise UserError(
            f"{' or '.join(INFO_FILES)} in {folder} can't be read ({reason(error)}): truncated or "
            "altered; delete the folder or get it again."
        ) from error
    if name != NAME or found != SPLITS:
        shown = name if name.isidentifier() else repr(name[:40])
        raise UserError(
            f"{folder} holds {shown} with {_counts(found)} where {_counts(SPLITS)} of "
            f"{NAME} are needed; name another folder."
        )
    return builder, paths


def _files(folder: Path, paths: Iterable[Any]) -> list[Path]:
    """The paths, all of which must lie in `folder`; the template of their names is in JSON."""
    files = [Path(path) for path in paths]
    for file in files:
        if file.parent != folder or not file.name.isprintable():
            raise ValueError(f"it names {str(file)!r}")
    return files


def _check_features(path: Path) -> None:
    """Raises ValueError where TFDS would import a module that is none of its own."""
    waiting = [json.loads(path.read_text(encoding="utf-8"))]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key in CLASS_KEYS & value.keys():
                if not str(value[key]).startswith(FEATURES):
                    raise ValueError(f"{path.name} names the class {value[key]!r}")
        waiting += value.values() if isinstance(value, dict) else ()
        waiting += value if isinstance(value, list) else ()


def _check_size(path: Path, most: int) -> None:
    if path.stat().st_size > most:
        raise ValueError(f"{path.name} has more than {most:,} bytes")


def _missing(path: Path) -> UserError:
    return UserError(
        f"{path} is missing: the prepared copy is not complete; delete its folder, or get it again."
    )


def _read_split(
    builder: tfds.core.DatasetBuilder, split: str, files: Mapping[str, list[Path]]
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, in the order of the ids, which end in the published index."""
    paths = files[split]
    names = ", ".join(str(path) for path in paths)
    if missing := [path for path in paths if not path.is_file()]:
        raise _missing(missing[0])
    images = np.empty((SPLITS[split], 32, 32, 3), np.uint8)
    labels = np.empty(SPLITS[split], np.int64)
    ids = []
    try:
        for path in paths:
            _check_size(path, LARGEST_RECORDS)
        for index, record in enumerate(_records(builder, split, paths)):
            identity, images[index], labels[index] = _decode(record)
            ids.append(identity)
    except (UserError, PermissionError):
        raise
    except Exception as error:  # what altered bytes raise depends on where they are
        raise UserError(
            f"{names} can't be read ({reason(error)}): truncated or altered; delete the prepared "
            "copy, or get it again."
        ) from error
    if len(ids) != SPLITS[split]:
        raise UserError(f"{names} holds {len(ids):,} images where {_counts(SPLITS)} are needed.")
    order = np.argsort(ids)
    return images[order], check_labels(labels[order], names)


def _records(
    builder: tfds.core.DatasetBuilder, split: str, paths: Sequence[Path]
) -> Iterator[bytes]:
    """The serialized examples; TFDS needs TensorFlow for tfrecord files, so these are read here."""
    import tensorflow_datasets as tfds

    if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
        for path in paths:
            yield from read_tfrecord(path)
        return
    source = builder.as_data_source(
        split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    for start in range(0, len(source), BLOCK):
        yield from source.__getitems__(range(start, min(start + BLOCK, len(source))))


def _decode(record: bytes) -> tuple[bytes, np.ndarray, int]:
    """The id, the image `[32, 32, 3]` and the label in a serialized tf.train.Example."""
    from tensorflow_datasets.proto import tf_example_generated_pb2

    feature = tf_example_generated_pb2.Example.FromString(record).features.feature
    with Image.open(io.BytesIO(feature["image"].bytes_list.value[0]), formats=("PNG",)) as image:
        if image.size != (32, 32) or image.mode != "RGB":
            raise ValueError(f"it holds an image of {image.size} in {image.mode}")
        pixels = np.asarray(image)
    return feature["id"].bytes_list.value[0], pixels, feature["label"].int64_list.value[0]
