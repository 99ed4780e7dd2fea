"""The published batches: what each must hold, and the refusal by name of anything else."""

import gzip
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from jaxlessons.data import cifar10_files
from jaxlessons.data.cifar10_files import read_archive, read_folder
from jaxlessons.data.image_set import Arrays
from jaxlessons.errors import UserError

COUNT = 20  # records in a batch, for speed
NAMES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
NAMES.append("test_batch")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(cifar10_files, "RECORDS", COUNT)


def batches(arrays):
    images = np.concatenate([arrays.train_images, arrays.test_images])
    labels = np.concatenate([arrays.train_labels, arrays.test_labels])
    return zip(NAMES, np.split(images, 6), np.split(labels, 6), strict=True)


def planes(image):
    """Red, then green, then blue, each row by row."""
    return b"".join(image[:, :, channel].tobytes() for channel in range(3))


@pytest.fixture
def binary(arrays, tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, images, labels in batches(arrays):
        records = [
            bytes([label]) + planes(image) for image, label in zip(images, labels, strict=True)
        ]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    return folder


def data_of(images):
    return np.frombuffer(b"".join(map(planes, images)), np.uint8).reshape(-1, 3072)


def write_python(arrays, folder, dump):
    folder.mkdir()
    for name, images, labels in batches(arrays):
        (folder / name).write_bytes(dump(data_of(images), labels.tolist()))
    return folder


def python2_pickle(data, labels):
    """Opcode by opcode as Python 2 wrote the published files: byte strings, an old dtype."""

    def string(text):
        return b"U" + bytes([len(text)]) + text

    ints = b"".join(b"K" + bytes([label]) for label in labels)
    state = b"K\x01" + b"M" + struct.pack("<H", len(data)) + b"M\x00\x0c" + b"\x86"
    dtype = b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = b"T" + struct.pack("<i", data.nbytes) + data.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85"
    array += string(b"b") + b"\x87R(" + state + dtype + b"\x89" + raw + b"tb"
    head = b"\x80\x02}(" + string(b"batch_label") + string(b"training batch 1 of 5")
    return head + string(b"labels") + b"](" + ints + b"e" + string(b"data") + array + b"u."


def python3_pickle(protocol):
    return lambda data, labels: pickle.dumps({b"data": data, b"labels": labels}, protocol)


def pack(folder, path, prefix=""):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(folder, prefix + folder.name)
    return path


def assert_same(found, expected):
    for name in Arrays._fields:
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


def test_binary_batches_hold_what_was_written(binary, arrays):
    assert_same(read_folder(binary), arrays)


@pytest.mark.parametrize("dump", [python2_pickle, *map(python3_pickle, (2, 3, 4, 5))])
def test_python_batches_equal_binary_ones(binary, arrays, tmp_path, dump):
    folder = write_python(arrays, tmp_path / "cifar-10-batches-py", dump)
    assert_same(read_folder(folder), read_folder(binary))


@pytest.mark.parametrize("prefix", ["", "./", "some/where/"])
def test_an_archive_equals_its_folder(binary, arrays, tmp_path, prefix):
    assert_same(read_archive(pack(binary, tmp_path / "a.tar.gz", prefix)), arrays)


def test_an_archive_of_python_batches_equals_the_binary_one(arrays, tmp_path):
    folder = write_python(arrays, tmp_path / "cifar-10-batches-py", python2_pickle)
    assert_same(read_archive(pack(folder, tmp_path / "a.tar.gz")), arrays)


def test_reading_an_archive_unpacks_nothing(binary, tmp_path):
    path = pack(binary, tmp_path / "a.tar.gz", "../")
    before = sorted(tmp_path.parent.rglob("*"))
    read_archive(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda blob: blob[:-1], "61,459 bytes where a batch of CIFAR-10 has 61,460"),
        (lambda blob: blob + b"\0", "61,461 bytes .* truncated or altered"),
        (lambda blob: b"", "has 0 bytes"),
        (lambda blob: blob[:3073] + b"\x0a" + blob[3074:], "the label 10 at record 1 "),
    ],
)
def test_a_wrong_binary_batch_is_refused_by_name(binary, change, words):
    path = binary / "data_batch_3.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path} .*{words}"):
        read_folder(binary)


def test_missing_batches_are_named(binary):
    for name in ("data_batch_2.bin", "test_batch.bin"):
        (binary / name).unlink()
    with pytest.raises(UserError, match=f"{binary}/data_batch_2.bin, test_batch.bin is missing"):
        read_folder(binary)


def test_a_batch_missing_from_an_archive_is_named(binary, tmp_path):
    (binary / "data_batch_5.bin").unlink()
    path = pack(binary, tmp_path / "a.tar.gz")
    with pytest.raises(UserError, match=f"data_batch_5.bin in {path} is missing"):
        read_archive(path)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_malicious_pickle_is_refused_without_running_it(arrays, tmp_path):
    folder = write_python(arrays, tmp_path / "cifar-10-batches-py", python2_pickle)
    marker = tmp_path / "it ran"
    path = folder / "data_batch_4"
    path.write_bytes(pickle.dumps({b"data": Malicious(marker), b"labels": []}, 2))
    with pytest.raises(UserError, match=rf"{path} is not .* safely \(it asks for \w+.system\)"):
        read_folder(folder)
    assert not marker.exists()


GOOD = np.zeros((COUNT, 3072), np.uint8)


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (python2_pickle(GOOD, [0] * COUNT)[:-1000], "safely"),
        (b"", "safely"),
        (b"not a pickle", "safely"),
        (python2_pickle(GOOD, [0] * (COUNT - 1) + [10]), f"the label 10 at record {COUNT - 1} "),
        (python2_pickle(GOOD, [0] * (COUNT - 1)), "no b'labels' of 20 integers"),
        (python2_pickle(GOOD[:-1], [0] * COUNT), "no b'data' of 20 x 3,072 bytes"),
        (pickle.dumps({b"data": GOOD.astype(np.int16), b"labels": [0] * COUNT}, 2), "'i2'"),
        (pickle.dumps({b"data": GOOD, b"labels": [0.5] * COUNT}, 2), "no b'labels'"),
        (pickle.dumps([1, 2], 2), "no b'data'"),
    ],
    ids=range(9),
)
def test_a_wrong_python_batch_is_refused_by_name(arrays, tmp_path, blob, words):
    folder = write_python(arrays, tmp_path / "cifar-10-batches-py", python2_pickle)
    (folder / "test_batch").write_bytes(blob)
    with pytest.raises(UserError, match=f"{folder}/test_batch .*{words}"):
        read_folder(folder)


@pytest.mark.parametrize("left", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_refused_by_name(binary, tmp_path, left):
    path = pack(binary, tmp_path / "a.tar.gz")
    blob = path.read_bytes()
    path.write_bytes(blob[: int(left * len(blob))])
    with pytest.raises(UserError, match=f"{path} .*"):
        read_archive(path)


def test_an_archive_without_its_checksum_is_refused_by_name(binary, tmp_path):
    path = pack(binary, tmp_path / "a.tar.gz")
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=f"{path} is not a whole .*truncated"):
        read_archive(path)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_an_altered_byte_in_an_archive_is_refused_by_name(binary, tmp_path, place):
    path = pack(binary, tmp_path / "a.tar.gz")
    blob = bytearray(path.read_bytes())
    blob[int(place * len(blob))] ^= 0x10
    path.write_bytes(blob)
    with pytest.raises(UserError, match=f"{path} is not a whole .*altered"):
        read_archive(path)


def test_other_files_are_no_archive(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not an archive")
    with pytest.raises(UserError, match=f"{path} is not a whole .tar.gz"):
        read_archive(path)
    path.write_bytes(gzip.compress(b"gzip, but no tar" * 100))
    with pytest.raises(UserError, match=f"{path} is not a whole .tar.gz"):
        read_archive(path)
