"""TFDS copies: what is prepared is what is read, and broken copies are refused by name."""

import errno
import json
import shutil
import struct

import numpy as np
import pytest
from array_record.python import array_record_module

from jaxlessons.data import cifar10_builder, tfds_copy
from jaxlessons.data.cifar10_builder import prepare, read_prepared
from jaxlessons.data.cifar10_tfrecord import masked_crc32c, read_tfrecord
from jaxlessons.data.image_set import Arrays
from jaxlessons.errors import UserError

CLASSES = tuple("abcdefghij")
SPLITS = {"train": 60, "test": 20}  # images, for speed


@pytest.fixture(autouse=True)
def small_splits(monkeypatch):
    monkeypatch.setattr(cifar10_builder, "SPLITS", SPLITS)


@pytest.fixture(scope="module")
def arrays():
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    labels = random.randint(0, 10, 80).astype(np.int32)
    return Arrays(images[:60], labels[:60], images[60:], labels[60:])


@pytest.fixture(scope="module")
def prepared(arrays, tmp_path_factory):
    return prepare(arrays, tmp_path_factory.mktemp("tfds"), CLASSES)


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "3.0.2")


def slow_masked_crc32c(data):
    """The textbook's: bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def tfrecord(records):
    parts = []
    for record in records:
        head = struct.pack("<Q", len(record))
        parts += [head, struct.pack("<I", slow_masked_crc32c(head))]
        parts += [record, struct.pack("<I", slow_masked_crc32c(record))]
    return b"".join(parts)


def edit_info(folder, change):
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def to_tfrecord(folder, shards):
    """Rewrites `folder` as the official builder writes: tfrecord files, their examples shuffled."""
    for split in SPLITS:
        source = folder / f"cifar10-{split}.array_record-00000-of-00001"
        reader = array_record_module.ArrayRecordReader(str(source))
        records = reader.read_all()
        reader.close()
        order = np.random.RandomState(1).permutation(len(records))
        for shard, where in enumerate(np.array_split(order, shards)):
            name = f"cifar10-{split}.tfrecord-{shard:05d}-of-{shards:05d}"
            (folder / name).write_bytes(tfrecord([records[i] for i in where]))
        source.unlink()

    def change(info):
        info["fileFormat"] = "tfrecord"
        for split in info["splits"]:
            parts = np.array_split(np.arange(SPLITS[split["name"]]), shards)
            split["shardLengths"] = [str(len(part)) for part in parts]

    edit_info(folder, change)
    return folder


def assert_same(found, expected):
    for name in Arrays._fields:
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


def test_what_is_prepared_is_what_is_read(prepared, arrays):
    assert prepared.parts[-2:] == ("cifar10", "3.0.2")
    assert_same(read_prepared(prepared), arrays)


@pytest.mark.parametrize("shards", [1, 3])
def test_shuffled_tfrecord_files_come_in_the_published_order(copy, arrays, shards):
    assert_same(read_prepared(to_tfrecord(copy, shards)), arrays)


def test_checksum_is_the_published_one():
    # RFC 3720, B.4: the CRC-32C of "123456789" is E3069283.
    crc = 0xE3069283
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    text = np.frombuffer(b"xx123456789y", np.uint8)
    found = masked_crc32c(text, [2, 0, 11], [9, 0, 1])
    assert found.tolist() == [masked, slow_masked_crc32c(b""), slow_masked_crc32c(b"y")]


@pytest.mark.parametrize("lost", [1, 5, 1000, 1545, 1551, 3000])
def test_a_truncated_tfrecord_is_refused_by_name(tmp_path, lost):
    path = tmp_path / "cifar10-test.tfrecord-00000-of-00001"
    blob = tfrecord([bytes(1500), bytes(range(256)) * 6])
    path.write_bytes(blob[:-lost])
    with pytest.raises(UserError, match=f"{path} is truncated"):
        read_tfrecord(path)


@pytest.mark.parametrize("place", [0, 7, 9, 20, 113, 130, 181])
def test_an_altered_tfrecord_is_refused_by_name(tmp_path, place):
    path = tmp_path / "cifar10-test.tfrecord-00000-of-00001"
    blob = bytearray(tfrecord([bytes(100), b"a" * 50]))
    blob[place] ^= 1
    path.write_bytes(blob)
    with pytest.raises(UserError, match=f"{path} is .*altered"):
        read_tfrecord(path)


def test_a_truncated_tfrecord_copy_is_refused_by_name(copy):
    path = to_tfrecord(copy, 2) / "cifar10-train.tfrecord-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{path} is truncated"):
        read_prepared(copy)


def test_a_lost_record_is_refused_by_name(copy):
    path = to_tfrecord(copy, 1) / "cifar10-train.tfrecord-00000-of-00001"
    path.write_bytes(tfrecord(read_tfrecord(path)[:-1]))
    with pytest.raises(UserError, match=f"{path} holds 59 images where 60 train images"):
        read_prepared(copy)


def test_a_surplus_record_is_refused_by_name(copy):
    path = to_tfrecord(copy, 1) / "cifar10-train.tfrecord-00000-of-00001"
    records = read_tfrecord(path)
    path.write_bytes(tfrecord([*records, records[0]]))
    with pytest.raises(UserError, match=f"{path} .*"):
        read_prepared(copy)


def truncate(blob):
    return blob[: len(blob) // 2]


def alter(blob):
    middle = len(blob) // 3
    return blob[:middle] + bytes([blob[middle] ^ 1]) + blob[middle + 1 :]


@pytest.mark.parametrize("change", [truncate, alter, lambda blob: b""])
def test_a_broken_array_record_is_refused_by_name(copy, change):
    path = copy / "cifar10-train.array_record-00000-of-00001"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path} can't be read .*truncated or altered"):
        read_prepared(copy)


@pytest.mark.parametrize(
    "name",
    ["features.json", "dataset_info.json", "cifar10-test.array_record-00000-of-00001"],
)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{copy / name} is missing"):
        read_prepared(copy)


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
def test_altered_json_is_refused_by_name(copy, name):
    (copy / name).write_text((copy / name).read_text()[:50])
    with pytest.raises(UserError, match=f"{name}.* in {copy} can't be read"):
        read_prepared(copy)


def test_a_smaller_copy_is_refused(copy, monkeypatch):
    monkeypatch.setattr(cifar10_builder, "SPLITS", {"train": 50_000, "test": 10_000})
    words = "60 train images and 20 test images where 50,000 train images and 10,000 test images"
    with pytest.raises(UserError, match=f"{copy} holds cifar10 with {words} of cifar10"):
        read_prepared(copy)


def test_another_dataset_is_refused(copy):
    edit_info(copy, lambda info: info.update(name="cifar100"))
    with pytest.raises(UserError, match=f"{copy} holds cifar100 with"):
        read_prepared(copy)


def test_an_interrupted_preparation_leaves_no_copy(arrays, tmp_path):
    broken = arrays._replace(train_labels=arrays.train_labels[:-1])
    with pytest.raises(ValueError, match="shorter"):
        prepare(broken, tmp_path, CLASSES)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert_same(read_prepared(prepare(arrays, tmp_path, CLASSES)), arrays)


def test_array_records_full_disk_is_an_os_error(arrays, tmp_path, monkeypatch):
    class FullDisk:
        def download_and_prepare(self, **_):
            raise RuntimeError("write() failed: No space left on device; at byte 90607616")

    monkeypatch.setattr(tfds_copy, "_make_builder", lambda *_: FullDisk())
    with pytest.raises(OSError, match="No space left") as caught:
        prepare(arrays, tmp_path, CLASSES)
    assert caught.value.errno == errno.ENOSPC
