"""Labelled images as TensorFlow Datasets keeps them, prepared without TensorFlow.

TFDS's own builders need TensorFlow; this one writes the same name, version and features as
array_record. tensorflow_datasets takes most of a second to import: only what needs it does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from jaxlessons.data.image_set import Arrays

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

Example = tuple[int | str, dict[str, Any]]


class Kind(NamedTuple):
    """A data set of TFDS's. name, version: TFDS's; title, homepage: for people.

    shape: of an image, (height, width, channels); splits: how many images "train" and "test" have.
    has_ids: whether an example has an "id", which ends in its published index; without, a copy by
    TFDS's own builder is in the order that TFDS shuffled it to.
    """

    name: str
    version: str
    title: str
    homepage: str
    shape: tuple[int, int, int]
    splits: Mapping[str, int]
    has_ids: bool

    def folder(self, data_dir: Path) -> Path:
        """Where a TFDS data directory keeps it."""
        return data_dir / self.name / self.version


def prepare(kind: Kind, arrays: Arrays, data_dir: Path, classes: Sequence[str]) -> Path:
    """Writes `arrays` as a TFDS copy into `data_dir`, with progress bars; returns its folder.

    TFDS writes into a folder of another name and renames it, so that an interrupted preparation
    leaves nothing that could be taken for a copy. OSError when the disk is full or read-only.
    """
    builder = _make_builder(kind, arrays, data_dir, classes)
    folder = kind.folder(data_dir)
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
    kind: Kind, arrays: Arrays, data_dir: Path, classes: Sequence[str]
) -> tfds.core.DatasetBuilder:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    # Registered, it would stand in the way of TFDS's own.
    with registered.skip_registration():

        class FromArrays(tfds.core.GeneratorBasedBuilder):
            """The data set from arrays."""

            name = kind.name
            VERSION = tfds.core.Version(kind.version)

            def _info(self) -> tfds.core.DatasetInfo:
                features = {
                    "image": tfds.features.Image(shape=kind.shape),
                    "label": tfds.features.ClassLabel(names=classes),
                }
                if kind.has_ids:
                    features["id"] = tfds.features.Text()
                return tfds.core.DatasetInfo(
                    builder=self,
                    description=f"{kind.title}: images of {len(classes)} classes.",
                    homepage=kind.homepage,
                    features=tfds.features.FeaturesDict(features),
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
                    # TFDS would encode an array by TensorFlow, and a PIL image by PIL.
                    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
                    identity = {"id": f"{split}_{index:05d}"} if kind.has_ids else {}
                    yield index, {"image": picture, "label": int(label), **identity}

    return FromArrays(data_dir=str(data_dir), file_format="array_record")
