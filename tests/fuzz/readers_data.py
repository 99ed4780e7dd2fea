"""Prepared data and text."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from npz_files import npy, npz
from reader import Reader, Seed

from jaxlessons.data import (
    cifar10,
    cifar10_builder,
    cifar10_files,
    mnist,
    name_files,
    text,
    text_files,
)
from jaxlessons.data.cifar10_tfrecord import masked_crc32c, read_tfrecord
from jaxlessons.data.image_cache import read_arrays
from jaxlessons.data.image_set import Arrays
from jaxlessons.data.vocabulary import Vocabulary

COUNT = 2  # records in a batch
MADE_FROM = "0" * 64
NAMES = cifar10_files.PYTHON_BATCHES
IMAGES = np.random.RandomState(0).randint(0, 256, (6 * COUNT, 32, 32, 3)).astype(np.uint8)
LABELS = (np.arange(6 * COUNT) % 10).astype(np.int32)
WHOLE = Arrays(IMAGES[:-COUNT], LABELS[:-COUNT], IMAGES[-COUNT:], LABELS[-COUNT:])
BATCHES = dict(zip(NAMES, zip(np.split(IMAGES, 6), np.split(LABELS, 6), strict=True), strict=True))


def make() -> list[Reader]:
    cifar10_files.RECORDS = COUNT
    cifar10_builder.SPLITS = {"train": 5 * COUNT, "test": COUNT}
    mnist.SPLITS = {"train": 5 * COUNT, "test": COUNT}
    return [
        Reader("arrays", arrays_seeds(), read_npz),
        Reader("batches", batch_seeds(), read_batches),
        Reader("archive", archive_seeds(), lambda path: check(cifar10_files.read_archive(path))),
        Reader("idx", idx_seeds(), read_idx_files),
        Reader("tfrecord", tfrecord_seeds(), read_records),
        Reader("text", text_seeds(), read_text),
        Reader("names", names_seeds(), read_names),
        Reader("vocabulary", vocabulary_seeds(), read_vocabulary, "This is no vocabulary"),
    ]


def check(found: Arrays, *, whole: Arrays = WHOLE, unchanged: bool = False) -> None:
    """What the readers promise of any file that they take."""
    for images, labels, splits in ((*found[:2], whole[:2]), (*found[2:], whole[2:])):
        assert images.shape == splits[0].shape
        assert images.dtype == np.uint8
        assert labels.shape == splits[1].shape
        assert labels.dtype == np.int32
        assert ((labels >= 0) & (labels < 10)).all()
    if unchanged:
        for mine, theirs in zip(found, whole, strict=True):
            np.testing.assert_array_equal(mine, theirs)


# --- the cache


CACHED = {"made_from": np.array(MADE_FROM), **WHOLE._asdict()}


def arrays_seeds() -> tuple[Seed, ...]:
    inner = {name: npy(array) for name, array in CACHED.items()}
    return (
        Seed("arrays.npz", npz(CACHED)),
        *(Seed("arrays.npz", inner[name], wrapped(partial(npz, CACHED), name)) for name in inner),
    )


def wrapped(wrap: Callable[[str, bytes], bytes], name: str) -> Callable[[bytes], bytes]:
    return lambda blob: wrap(name, blob)


def read_npz(path: Path) -> None:
    if (found := read_arrays(path, MADE_FROM)) is not None:
        check(found)


# --- the published files


def binary_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    planes = images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    return np.concatenate([labels[:, None].astype(np.uint8), planes], 1).tobytes()


def python_batch(images: np.ndarray, labels: np.ndarray, protocol: int = 2) -> bytes:
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(-1, 3072))
    names = [b"a.png"] * len(labels)
    batch = {b"data": planes, b"labels": labels.tolist(), b"filenames": names}
    return pickle.dumps(batch | {b"batch_label": b"training batch"}, protocol)


def batch_seeds() -> tuple[Seed, ...]:
    images, labels = BATCHES["test_batch"]
    return (
        Seed("test_batch.bin", binary_batch(images, labels)),
        *(Seed("test_batch", python_batch(images, labels, protocol)) for protocol in range(6)),
        *(Seed("test_batch", without_pixels(protocol), with_pixels) for protocol in (2, 4)),
    )


# The 6,144 bytes of pixels draw nearly all damage: these seeds have them cut out of the middle.
PIXELS = b"PIXELS"


def without_pixels(protocol: int) -> bytes:
    images, labels = BATCHES["test_batch"]
    return python_batch(images, labels, protocol).replace(_encoded(protocol), PIXELS)


def with_pixels(blob: bytes) -> bytes:
    protocol = 4 if blob[1:2] == b"\4" else 2
    return blob.replace(PIXELS, _encoded(protocol))


def _encoded(protocol: int) -> bytes:
    raw = BATCHES["test_batch"][0].transpose(0, 3, 1, 2).tobytes()
    return raw if protocol > 2 else raw.decode("latin1").encode()


def read_batches(path: Path) -> None:
    """Five good batches of either kind beside the damaged one."""
    write = binary_batch if path.suffix == ".bin" else python_batch
    for name in NAMES[:-1]:
        (path.parent / f"{name}{path.suffix}").write_bytes(write(*BATCHES[name]))
    check(cifar10_files.read_folder(path.parent))


def tar(write: Callable[..., bytes], suffix: str, kind: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, batch in BATCHES.items():
            info = tarfile.TarInfo(f"cifar-10-batches/{name}{suffix}")
            blob = write(*batch)
            info.size = len(blob)
            info.pax_headers = {"comment": "ä" * 200} if kind == tarfile.PAX_FORMAT else {}
            archive.addfile(info, io.BytesIO(blob))
    return file.getvalue()


def zipped(blob: bytes) -> bytes:
    return gzip.compress(blob, 1, mtime=0)


def archive_seeds() -> tuple[Seed, ...]:
    binary = tar(binary_batch, ".bin", tarfile.GNU_FORMAT)
    python = tar(python_batch, "", tarfile.PAX_FORMAT)
    return (
        Seed("cifar.tar.gz", zipped(binary)),
        Seed("cifar.tar.gz", zipped(python)),
        Seed("cifar.tar.gz", binary, zipped),
        Seed("cifar.tar.gz", python, zipped),
    )


# --- MNIST


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


GREY = WHOLE._replace(
    train_images=WHOLE.train_images[:, :28, :28, :1], test_images=WHOLE.test_images[:, :28, :28, :1]
)
IDX = {
    "train-images-idx3-ubyte": idx(GREY.train_images[..., 0]),
    "train-labels-idx1-ubyte": idx(GREY.train_labels),
    "t10k-images-idx3-ubyte": idx(GREY.test_images[..., 0]),
    "t10k-labels-idx1-ubyte": idx(GREY.test_labels),
}
# 8 MB in 8 kB: a file much larger than the array would not be unpacked.
BOMB = gzip.compress(bytes(1 << 20), 9, mtime=0) * 8


def idx_seeds() -> tuple[Seed, ...]:
    seeds = []
    for name, blob in IDX.items():
        seeds += [Seed(name, blob), Seed(f"{name}.gz", zipped(blob))]
        # The damage is within what the checksum is of; the second unpacks to far more as well.
        seeds += [Seed(f"{name}.gz", blob, zipped), Seed(f"{name}.gz", blob, with_bomb(blob))]
    return tuple(seeds)


def with_bomb(whole: bytes) -> Callable[[bytes], bytes]:
    """The undamaged file alone is as it should be."""
    return lambda blob: zipped(blob) + (b"" if blob == whole else BOMB)


def read_idx_files(path: Path) -> None:
    """Three good files beside the damaged one."""
    for name, blob in IDX.items():
        if name != path.name.removesuffix(".gz"):
            (path.parent / name).write_bytes(blob)
    found = mnist.load("mnist", path.parent)
    check(
        Arrays(found.train_images, found.train_labels, found.test_images, found.test_labels),
        whole=GREY,
    )


# --- copies by TensorFlow Datasets


def tfrecord(payloads: list[bytes]) -> bytes:
    def masked(blob: bytes) -> int:
        return int(masked_crc32c(np.frombuffer(blob, np.uint8), [0], [len(blob)])[0])

    parts = []
    for payload in payloads:
        size = struct.pack("<Q", len(payload))
        parts += [size, struct.pack("<I", masked(size)), payload]
        parts.append(struct.pack("<I", masked(payload)))
    return b"".join(parts)


PAYLOADS = [b"one", b"", bytes(range(256)) * 4]


def tfrecord_seeds() -> tuple[Seed, ...]:
    return (Seed("a.tfrecord", tfrecord(PAYLOADS)), Seed("a.tfrecord", tfrecord(PAYLOADS[:1])))


def read_records(path: Path) -> None:
    for payload in read_tfrecord(path):
        assert payload in PAYLOADS  # both checksums tell


def tfds(folder: Path) -> list[Reader]:
    data = folder / "tfds"
    copy = cifar10_builder.prepared_folder(data)
    if not copy.exists():
        cifar10_builder.prepare(WHOLE, data, cifar10.CLASSES)
    # Names alone are known: what TFDS writes differs with its version.
    whole = {path.name: path.read_bytes() for path in sorted(copy.iterdir())}

    def read(path: Path) -> None:
        for name, blob in whole.items():
            target = copy / name
            target.write_bytes(path.read_bytes() if name == path.name else blob)
        check(cifar10_builder.read_prepared(copy))

    info = {name: blob for name, blob in whole.items() if name in cifar10_builder.INFO_FILES}
    records = {name: blob for name, blob in whole.items() if "array_record" in name}
    return [
        Reader(
            "tfds_info",
            tuple(Seed(name, blob, json=True) for name, blob in info.items()),
            read,
            str(copy),
        ),
        Reader(
            "tfds_records",
            tuple(Seed(name, blob) for name, blob in records.items()),
            read,
            str(copy),
        ),
    ]


# --- text


def text_seeds() -> tuple[Seed, ...]:
    prose = "Ünter grünen Linden, 語 \U0001f600.\r\nA second line;\ta third\r" * 5
    return (
        Seed("a.txt", prose.encode()),
        Seed("a.txt", b"\xef\xbb\xbf" + prose.encode()),
        Seed("b.md", b"plain ASCII\n" * 9),
    )


def read_text(path: Path) -> None:
    content = text_files.read_file(path)
    assert content
    assert "\r" not in content
    content.encode()
    folder, count = text_files.read_folder(path.parent)
    assert count >= 1
    assert content in folder
    found = text.load(path, clean=len(content) % 2 == 1, validation=0.1)
    assert min(len(found.train), len(found.validation)) >= text.SHORTEST
    known = Vocabulary.build(content)
    assert known.decode(known.encode(content)) == content


def names_seeds() -> tuple[Seed, ...]:
    rows = 'name,label\r\n"O\'Neill","Irish"\r\nNu\u00f1ez,Spanish\r\n"Day, ""Jr.""\u8a9e",x\n' * 3
    return (
        Seed("a.csv", rows.encode()),
        Seed("a.csv", gzip.compress(rows.encode(), 1, mtime=0)),
        # The damage is within what the checksum is of.
        Seed("a.csv.gz", rows.encode(), lambda blob: gzip.compress(blob, 1, mtime=0)),
    )


def read_names(path: Path) -> None:
    rows = name_files.read(path)
    assert len(rows.names) == len(rows.labels) == len(rows.lines) > 0
    assert rows.lines == sorted(set(rows.lines))
    for name, label in zip(rows.names, rows.labels, strict=True):
        assert name_files.fault(name, "name") is None
        assert name_files.fault(label, "label") is None
        assert (name_files.clean(name), name_files.clean(label)) == (name, label)
    known = Vocabulary.build("".join(rows.names))
    assert known.decode(known.encode(rows.names[0])) == rows.names[0]


def vocabulary_seeds() -> tuple[Seed, ...]:
    known = (Vocabulary.build("abc ä語\U0001f600"), Vocabulary.build("aab", 2, lower=True))
    return tuple(
        Seed("vocabulary.json", json.dumps(each.to_json()).encode(), json=True) for each in known
    )


def read_vocabulary(path: Path) -> None:
    """A value, as a checkpoint that was read holds it."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    known = Vocabulary.from_json(value)
    tokens = known.encode("".join(known.symbols[known.unknown :]).lower() if known.lower else "")
    assert tokens.dtype == np.int32
    assert Vocabulary.from_json(known.to_json()) == known
