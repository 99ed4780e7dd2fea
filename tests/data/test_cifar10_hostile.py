"""CIFAR-10 in files made to do harm: nothing is written, run, imported or unpacked without end."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from jaxlessons.data import cifar10_builder, cifar10_files
from jaxlessons.data.cifar10_files import PYTHON_BATCHES, parse_python, read_archive, read_folder
from jaxlessons.data.cifar10_tfrecord import masked_crc32c, read_tfrecord
from jaxlessons.data.image_cache import read_arrays, write_arrays
from jaxlessons.errors import UserError


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(cifar10_files, "RECORDS", 2)


def pack(path, *members):
    """A .tar.gz of (TarInfo, content)."""
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def entry(name, kind=tarfile.REGTYPE, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "member",
    [
        entry("../../data_batch_1.bin", size=3),
        entry("/tmp/jaxlessons-was-here/data_batch_1.bin", size=3),
        entry("data_batch_1.bin", tarfile.SYMTYPE, "/etc/passwd"),
        entry("data_batch_1.bin", tarfile.LNKTYPE, "../../secret"),
        entry("data_batch_1.bin", tarfile.CHRTYPE),
        entry("data_batch_1.bin", tarfile.FIFOTYPE),
        entry("data_batch_1.bin", tarfile.DIRTYPE),
    ],
    ids=["parent", "absolute", "symbolic link", "hard link", "device", "pipe", "folder"],
)
def test_an_archive_writes_nothing_and_reads_no_other_file(tmp_path, monkeypatch, member):
    (tmp_path / "secret").write_bytes(bytes(2 * 3073))
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    path = pack(folder / "cifar.tar.gz", (member, b"abc"), (entry("data_batch_2.bin"), b""))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    with pytest.raises(
        UserError, match=r"cifar\.tar\.gz (is missing; put it there|has 3 bytes)"
    ) as told:
        read_archive(path)
    # A plain file is a batch wherever it claims to lie; all else is as if it were not there.
    assert ("complete: data_batch_1.bin, " in str(told.value)) != member.isreg()
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


def test_an_archive_with_gigabytes_of_zeros_behind_it_is_refused_unread(tmp_path, monkeypatch):
    path = pack(tmp_path / "cifar.tar.gz", (entry("data_batch_1.bin"), b""))
    with path.open("ab") as file:
        file.truncate(10 << 30)
    monkeypatch.setattr(gzip, "open", None)
    with pytest.raises(UserError, match=r"cifar\.tar\.gz has 10,737,418,240 bytes, far more than"):
        read_archive(path)


def test_an_archive_that_unpacks_to_gigabytes_is_refused_early(tmp_path, little_memory):
    chunk = gzip.compress(bytes(1 << 20), 9)
    path = tmp_path / "cifar.tar.gz"
    for name in ("data_batch_1.bin", "notes.txt"):
        head = entry(name, size=1 << 33).tobuf(tarfile.GNU_FORMAT)
        path.write_bytes(gzip.compress(head) + chunk * 100)
        with pytest.raises(
            UserError, match=r"cifar\.tar\.gz unpacks to far more than CIFAR-10 has"
        ):
            read_archive(path)


def test_a_batch_far_too_large_is_not_read(tmp_path, little_memory):
    for name in PYTHON_BATCHES:
        (tmp_path / name).write_bytes(b"")
    with (tmp_path / "data_batch_1").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match=r"data_batch_1 has 1,099,511,627,776 bytes, far more than"):
        read_folder(tmp_path)


def length(number):
    return struct.pack("<Q", number)


@pytest.mark.parametrize(
    "blob",
    [
        b"N" + pickle.LONG_BINPUT + struct.pack("<I", 2**31 - 1) + b".",
        b"\x80\x04" + pickle.BINBYTES8 + length(2**33) + b".",
        b"\x80\x05" + pickle.BYTEARRAY8 + length(2**33) + b".",
        b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.",
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
        b"\x80\x02(" + b")" + b"\x85" * 100_000 + b"K\x01d.",
        b"\x80\x04(" + b")" + b"\x85" * 100_000 + b"\x91.",
        b"\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x02cbuiltins\neval\n.",
    ],
    ids=[
        *("memo", "bytes", "bytearray", "array", "key", "dict", "set", "attribute"),
        *("system", "eval"),
    ],
)
def test_a_pickle_takes_no_memory_that_it_only_names_and_sets_nothing(blob, little_memory):
    with pytest.raises(UserError, match=r"^test_batch (is not a batch that|has no b'data')"):
        parse_python(blob, "test_batch")


def test_the_same_bytes_are_not_encoded_again_and_again(little_memory):
    text = b"X" + struct.pack("<I", 1_000_000) + b"a" * 1_000_000
    again = b"h\x00h\x01R" * 1000
    blob = b"\x80\x02(c_codecs\nencode\nq\x00" + text + b"X\x06\x00\x00\x00latin1\x86q\x01" + again
    with pytest.raises(UserError, match=r"another codec than latin1, or too often"):
        parse_python(blob + b"l.", "test_batch")


def test_an_endless_label_is_no_label():
    planes = np.zeros((2, 3072), np.uint8)
    blob = pickle.dumps({b"data": planes, b"labels": [1, 10**5000]}, 2)
    with pytest.raises(UserError, match=r"test_batch has no b'labels' of 2 integers"):
        parse_python(blob, "test_batch")


def test_a_record_that_would_take_hours_to_check_is_refused(tmp_path):
    size = length(70_000)
    head = size + struct.pack("<I", masked_crc32c(np.frombuffer(size, np.uint8), [0], [8])[0])
    (tmp_path / "a.tfrecord").write_bytes(head + bytes(70_004))
    with pytest.raises(UserError, match=r"a\.tfrecord is truncated or altered"):
        read_tfrecord(tmp_path / "a.tfrecord")


def test_no_module_is_imported_that_a_copy_names(copy, tmp_path, monkeypatch):
    (tmp_path / "harmful.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    path = cifar10_builder.prepared_folder(copy) / "features.json"
    features = json.loads(path.read_text())
    features["featuresDict"]["features"]["id"]["pythonClassName"] = "harmful.Text"
    path.write_text(json.dumps(features))
    words = r"features\.json names the class 'harmful\.Text'"
    with pytest.raises(UserError, match=words):
        cifar10_builder.read_prepared(path.parent)


def test_a_copy_names_no_file_elsewhere(copy):
    path = cifar10_builder.prepared_folder(copy) / "dataset_info.json"
    info = json.loads(path.read_text())
    info["splits"][0]["filepathTemplate"] = "../../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"in .* can't be read \(it names '.*"):
        cifar10_builder.read_prepared(path.parent)


def npz_with(path, arrays, change):
    """The cache's file with other bytes as its training images."""
    write_arrays(path, arrays, "x")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["train_images.npy"] = change(members["train_images.npy"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, blob in members.items():
            archive.writestr(name, blob)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda blob: blob.replace(b"100, 32", b"10000000, 32"), "not as large as its shape"),
        (lambda blob: blob.replace(b"'|u1',", b"'|O', "), "Object arrays are pickles"),
        (lambda blob: b"not an array", "magic string"),
        (lambda blob: blob.replace(b"'|u1'", b"'\\|u'"), "descr is not a valid dtype"),
        (lambda blob: blob[:10] + b"(" * 50 + blob[60:], ""),
    ],
    ids=["shape", "objects", "text", "escape", "parentheses"],
)
def test_altered_arrays_whose_checksum_is_right_are_refused(
    arrays, tmp_path, change, words, little_memory
):
    npz_with(tmp_path / "a.npz", arrays, change)
    with pytest.raises(UserError, match=rf"a\.npz is truncated or altered \(.*{words}"):
        read_arrays(tmp_path / "a.npz", "x")


def test_labels_of_no_class_and_an_array_file_of_another_kind_are_refused(arrays, tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, arrays._replace(test_labels=arrays.test_labels + 9), "x")
    with pytest.raises(UserError, match=r"altered \(it holds labels of no class\); delete it"):
        read_arrays(path, "x")
    np.savez_compressed(path, made_from=np.array("x"), **arrays._asdict())
    with pytest.raises(
        UserError, match=r"altered \(made_from.npy in it is compressed or too large"
    ):
        read_arrays(path, "x")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"truncated or altered \(File is not a zip file\)"):
        read_arrays(path, "x")
