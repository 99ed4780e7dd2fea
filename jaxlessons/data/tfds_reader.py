"""A TensorFlow Datasets copy of labelled images, read without TensorFlow and checked throughout.

It may be one that `tfds_copy` prepared, or one of the official builders', in tfrecord files.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jaxlessons.data.cifar10_tfrecord import read_tfrecord
from jaxlessons.data.image_set import Arrays, check_labels
from jaxlessons.data.tfds_copy import Kind
from jaxlessons.errors import UserError, reason

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

INFO_FILES = ("dataset_info.json", "features.json")
BLOCK = 1000  # records read at a time
LARGEST_INFO, LARGEST_RECORDS = 10**7, 10**9  # bytes of a file
# Where a feature's class is named in JSON, of which TFDS imports the module.
CLASS_KEYS = {"pythonClassName", "python_class_name", "type"}
FEATURES = "tensorflow_datasets.core.features."


def read_prepared(kind: Kind, folder: Path) -> Arrays:
    """The TFDS copy in `folder`; with ids in the order of the published files.

    Raises UserError, naming the file or folder, when it is another data set, has another number of
    images, or is truncated or altered.
    """
    builder, paths = _open(kind, folder)
    train, test = (_read_split(kind, builder, split, paths[split]) for split in ("train", "test"))
    return Arrays(*train, *test)


def _counts(splits: Mapping[str, int]) -> str:
    return " and ".join(f"{count:,} {name} images" for name, count in splits.items())[:200]


def _open(kind: Kind, folder: Path) -> tuple[tfds.core.DatasetBuilder, dict[str, list[Path]]]:
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
        paths = {split: _files(folder, splits[split].filepaths) for split in kind.splits}
    except Exception as error:  # altered JSON may break TFDS anywhere
        raise UserError(
            f"{' or '.join(INFO_FILES)} in {folder} can't be read ({reason(error)}): truncated or "
            "altered; delete the folder or get it again."
        ) from error
    if name != kind.name or found != kind.splits:
        shown = name if name.isidentifier() else repr(name[:40])
        raise UserError(
            f"{folder} holds {shown} with {_counts(found)} where {_counts(kind.splits)} of "
            f"{kind.name} are needed; name another folder."
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
    kind: Kind, builder: tfds.core.DatasetBuilder, split: str, paths: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, in the order of the ids, which end in the published index."""
    names = ", ".join(str(path) for path in paths)
    if missing := [path for path in paths if not path.is_file()]:
        raise _missing(missing[0])
    count = kind.splits[split]
    images = np.empty((count, *kind.shape), np.uint8)
    labels = np.empty(count, np.int64)
    ids = []
    try:
        for path in paths:
            _check_size(path, LARGEST_RECORDS)
        for index, record in enumerate(_records(builder, split, paths)):
            identity, images[index], labels[index] = _decode(kind, record)
            ids.append(identity)
    except (UserError, PermissionError):
        raise
    except Exception as error:  # what altered bytes raise depends on where they are
        raise UserError(
            f"{names} can't be read ({reason(error)}): truncated or altered; delete the prepared "
            "copy, or get it again."
        ) from error
    if len(ids) != count:
        raise UserError(
            f"{names} holds {len(ids):,} images where {_counts(kind.splits)} are needed."
        )
    order = np.argsort(ids, kind="stable")
    return images[order], check_labels(labels[order], names, kind.title)


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


def _decode(kind: Kind, record: bytes) -> tuple[bytes, np.ndarray, int]:
    """The id, the image and the label in a serialized tf.train.Example."""
    from tensorflow_datasets.proto import tf_example_generated_pb2

    feature = tf_example_generated_pb2.Example.FromString(record).features.feature
    with Image.open(io.BytesIO(feature["image"].bytes_list.value[0]), formats=("PNG",)) as image:
        height, width, channels = kind.shape
        if image.size != (width, height) or image.mode != {1: "L", 3: "RGB"}[channels]:
            raise ValueError(f"it holds an image of {image.size} in {image.mode}")
        pixels = np.asarray(image).reshape(kind.shape)
    identity = feature["id"].bytes_list.value[0] if kind.has_ids else b""
    return identity, pixels, feature["label"].int64_list.value[0]
