"""MNIST and Fashion-MNIST: where they are taken from, and every broken file refused by name."""

import gzip
import hashlib
import re
import struct

import numpy as np
import pytest

from jaxlessons.data import cifar10, mnist, tfds_copy, tfds_reader
from jaxlessons.data.download import NoNetworkError, Source
from jaxlessons.data.idx import read_idx
from jaxlessons.data.image_set import Arrays
from jaxlessons.data.mnist_published import PUBLISHED
from jaxlessons.errors import UserError

FILES = tuple(PUBLISHED["mnist"].sources)
COUNTS = {"train": 12, "test": 4}


def idx(array):
    """The array as the published files have it."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Twelve and four images, and no network."""
    monkeypatch.setattr(mnist, "SPLITS", COUNTS)
    monkeypatch.setattr(cifar10, "SHAPES", {"train": (300, 0), "test": (100, 1)})
    for name, about in PUBLISHED.items():
        nowhere = {
            file: Source((tmp_path / "nowhere" / f"{file}.gz").as_uri(), 1, "0" * 64)
            for file in FILES
        }
        monkeypatch.setitem(PUBLISHED, name, about._replace(sources=nowhere))


@pytest.fixture
def arrays():
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (16, 28, 28, 1)).astype(np.uint8)
    labels = (np.arange(16) % 10).astype(np.int32)
    return Arrays(images[:12], labels[:12], images[12:], labels[12:])


def contents(arrays):
    """name -> content of the four files."""
    parts = [
        part
        for images, labels in (arrays[:2], arrays[2:])
        for part in (images[..., 0], labels.astype(np.uint8))
    ]
    return {name: idx(part) for name, part in zip(FILES, parts, strict=True)}


def write(folder, arrays, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, blob in contents(arrays).items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(blob, mtime=0))
        else:
            (folder / name).write_bytes(blob)
    return folder


def publish(monkeypatch, name, folder):
    """As if the files in the folder were those on the network."""
    sources = {}
    for file in FILES:
        path = folder / f"{file}.gz"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        sources[file] = Source(path.as_uri(), path.stat().st_size, digest)
    monkeypatch.setitem(PUBLISHED, name, PUBLISHED[name]._replace(sources=sources))


def assert_holds(found, arrays, title="MNIST"):
    assert found.name == title
    for name in Arrays._fields:
        mine, theirs = getattr(found, name), getattr(arrays, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


# Where they are taken from.


@pytest.mark.parametrize("place", [".", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_of_idx_files(tmp_path, arrays, place, packed):
    folder = write(tmp_path / "data" / place, arrays, packed)
    found = mnist.load("mnist", tmp_path / "data")
    assert_holds(found, arrays)
    assert found.source == f"the idx files in {folder}"
    assert (found.mean, found.std, found.classes) == ((0.1307,), (0.3081,), tuple("0123456789"))


def test_fashion_mnist_is_told_from_mnist_by_folder_and_by_hash(tmp_path, arrays, monkeypatch):
    other = arrays._replace(train_images=255 - arrays.train_images)
    write(tmp_path / "FashionMNIST" / "raw", other)
    write(tmp_path / "MNIST" / "raw", arrays)
    assert_holds(mnist.load("mnist", tmp_path), arrays)
    found = mnist.load("fashion_mnist", tmp_path)
    assert_holds(found, other, "Fashion-MNIST")
    assert (found.mean, found.std, found.classes[9]) == ((0.2860,), (0.3530,), "Ankle boot")
    publish(monkeypatch, "fashion_mnist", tmp_path / "FashionMNIST" / "raw")
    sentence = "train-images-idx3-ubyte.gz is Fashion-MNIST's, not MNIST's: name another folder."
    with pytest.raises(UserError, match=re.escape(sentence)):
        mnist.load("mnist", tmp_path / "FashionMNIST" / "raw")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("place", [".", "{}", "{}/3.0.1"])
def test_a_tfds_copy_is_read_without_tensorflow(tmp_path, arrays, name, place):
    kind = mnist.kind(name)
    made = tfds_copy.prepare(kind, arrays, tmp_path / "tfds", PUBLISHED[name].classes)
    assert made == tmp_path / "tfds" / name / "3.0.1"
    found = mnist.load(name, tmp_path / "tfds" / place.format(name))
    assert_holds(found, arrays, PUBLISHED[name].title)
    assert found.source == f"the TFDS copy in {made}"


def test_a_tfds_copy_of_the_other_is_refused(tmp_path, arrays):
    made = tfds_copy.prepare(mnist.kind("mnist"), arrays, tmp_path, PUBLISHED["mnist"].classes)
    sentence = "holds mnist with 12 train images and 4 test images where 12 train images and 4 "
    with pytest.raises(UserError, match=f"{made} {sentence}test images of fashion_mnist are"):
        mnist.load("fashion_mnist", made)


def test_tfdss_own_builders_have_our_names_versions_and_features(tmp_path, arrays, monkeypatch):
    """Theirs are not run, which takes TensorFlow, but asked what they would write."""
    from tensorflow_datasets.image_classification import mnist as theirs

    for name, official in (("mnist", theirs.MNIST), ("fashion_mnist", theirs.FashionMNIST)):
        assert official.name == name
        assert str(official.VERSION) == mnist.VERSION
        builder = tfds_copy._make_builder(
            mnist.kind(name), arrays, tmp_path, PUBLISHED[name].classes
        )
        own = builder.info.features
        assert own["image"].shape == theirs.MNIST_IMAGE_SHAPE == mnist.SHAPE
        assert list(own) == ["image", "label"]
        assert own["label"].num_classes == theirs.MNIST_NUM_CLASSES


def test_the_download_is_prepared_once_and_kept(tmp_path, arrays, monkeypatch):
    network = write(tmp_path / "network", arrays)
    publish(monkeypatch, "mnist", network)
    found = mnist.load("mnist")
    assert_holds(found, arrays)
    folder = mnist.kind("mnist").folder(cifar10.cache_dir())
    assert found.source == f"{network.as_uri()}/, prepared in {folder}"
    assert_holds_copy = tfds_reader.read_prepared(mnist.kind("mnist"), folder)
    for mine, theirs in zip(assert_holds_copy, arrays, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for file in FILES:
        (network / f"{file}.gz").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(tfds_reader, "read_prepared", None)  # the kept arrays are enough
        assert_holds(mnist.load("mnist"), arrays)


def test_a_download_with_another_hash_is_refused(tmp_path, arrays, monkeypatch):
    network = write(tmp_path / "network", arrays)
    publish(monkeypatch, "mnist", network)
    path = network / f"{FILES[2]}.gz"
    blob = bytearray(path.read_bytes())
    blob[-9] ^= 1
    path.write_bytes(blob)
    with pytest.raises(UserError, match=f"{FILES[2]}.gz does not have the published checksum"):
        mnist.load("mnist")
    assert not mnist.kind("mnist").folder(cifar10.cache_dir()).exists()


def test_without_data_and_network_grey_shapes_stand_in_and_say_so():
    found = mnist.load("mnist")
    assert found.name == "grey shapes"
    assert found.source.startswith("made by a formula, since no data folder was given and file:")
    assert found.train_images.shape == (300, 28, 28, 1)
    assert found.train_images.dtype == np.uint8
    assert len(found.classes) == 10
    assert found.mean[0] == pytest.approx(found.train_images.mean() / 255)
    assert found.std[0] == pytest.approx(found.train_images.std() / 255)
    again = cifar10.shapes(grey=True)
    np.testing.assert_array_equal(again.test_images, found.test_images)
    assert cifar10.shapes().train_images.shape == (300, 32, 32, 3)
    with pytest.raises(NoNetworkError):
        mnist.load("mnist", offline_default=False)


# What is refused.


def test_a_name_that_is_none_is_refused_with_the_two(tmp_path):
    sentence = "There is no data set 'kmnist' here: name mnist or fashion_mnist."
    for folder in (None, tmp_path):
        with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
            mnist.load("kmnist", folder)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("name", "other"), [("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")]
)
def test_the_others_files_are_told_by_the_training_images_mean(
    tmp_path, arrays, name, other, packed
):
    """Whatever their hash: unpacked, or packed by another program."""
    images = np.zeros_like(arrays.train_images)
    images.flat[: round(PUBLISHED[other].mean * images.size)] = 255
    own = arrays._replace(train_images=images)
    folder = write(tmp_path, own, packed)
    assert_holds(mnist.load(other, folder), own, PUBLISHED[other].title)
    mean = f"by their mean of {own.train_images.mean() / 255:.4f}"
    titles = f"{PUBLISHED[other].title}'s {mean}, not {PUBLISHED[name].title}'s"
    sentence = f"The training images in {folder} are {titles}: name another folder."
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        mnist.load(name, folder)
    # Images of any other mean are the user's own affair.
    lighter = own._replace(train_images=np.maximum(images, 5))
    assert_holds(mnist.load(name, write(tmp_path, lighter, packed)), lighter, PUBLISHED[name].title)


def test_the_environments_folder_is_used_or_refused(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("JAXLESSONS_DATA", str(write(tmp_path / "a", arrays)))
    assert_holds(mnist.load("mnist"), arrays)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "holiday.jpg").write_bytes(b"x")
    monkeypatch.setenv("JAXLESSONS_DATA", str(tmp_path / "b"))
    sentence = "given as JAXLESSONS_DATA, holds holiday.jpg where MNIST was expected; name a folder"
    with pytest.raises(UserError, match=sentence):
        mnist.load("mnist")
    with pytest.raises(UserError, match=r"none, given as data_dir, is no folder: name one with"):
        mnist.load("mnist", tmp_path / "none")


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(tmp_path, arrays, file):
    folder = write(tmp_path, arrays)
    (folder / f"{file}.gz").unlink()
    sentence = f"MNIST is not complete: {folder / file} is missing, and so is its .gz;"
    with pytest.raises(UserError, match=re.escape(sentence)):
        mnist.load("mnist", folder)


def test_a_label_of_no_class_is_refused(tmp_path, arrays):
    arrays.test_labels[2] = 10
    folder = write(tmp_path, arrays)
    with pytest.raises(UserError, match=r"t10k-labels-.* has the label 10 at record 2 where MNIST"):
        mnist.load("mnist", folder)


IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
WHOLE = idx(IMAGE)


@pytest.mark.parametrize("packed", [False, True])
def test_a_whole_file_is_read(tmp_path, packed):
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(WHOLE) if packed else WHOLE)
    np.testing.assert_array_equal(read_idx(path, (2, 3, 4)), IMAGE)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"", "is no idx file of bytes in 3 dimensions"),
        (b"<html>", "is no idx file of bytes in 3 dimensions"),
        (b"\0\0\x0d\x03" + WHOLE[4:], "is no idx file of bytes in 3 dimensions"),  # floats
        (idx(IMAGE[0]), "is no idx file of bytes in 3 dimensions"),
        (idx(IMAGE[:1]), "holds 1 x 3 x 4 bytes where 2 x 3 x 4 were expected: it is altered"),
        (WHOLE[:6], "has 6 bytes where an idx file of 2 x 3 x 4 has 40: it is truncated"),
        (WHOLE[:-1], "has 39 bytes where an idx file of 2 x 3 x 4 has 40: it is truncated"),
        (WHOLE + b"x", "has more than 40 bytes where an idx file of 2 x 3 x 4 has 40"),
    ],
    ids=["empty", "web page", "floats", "flat", "another count", "head", "short", "long"],
)
def test_a_broken_file_is_refused_by_name(tmp_path, blob, words, packed):
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(blob) if packed else blob)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))} {words}"):
        read_idx(path, (2, 3, 4))


@pytest.mark.parametrize("lost", [1, 8, 20])
def test_a_truncated_archive_is_refused_by_name(tmp_path, lost):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(WHOLE)[:-lost])
    with pytest.raises(UserError, match=f"^{path} is not a whole gzip file .*truncated or altered"):
        read_idx(path, (2, 3, 4))


def test_an_altered_archive_is_told_by_its_crc(tmp_path):
    path = tmp_path / "a.gz"
    blob = bytearray(gzip.compress(WHOLE, compresslevel=0))
    blob[-20] ^= 1  # a pixel
    path.write_bytes(blob)
    with pytest.raises(UserError, match=r"is not a whole gzip file \(CRC check failed"):
        read_idx(path, (2, 3, 4))


def test_an_archive_that_unpacks_to_gigabytes_is_read_no_further(tmp_path, little_memory):
    path, shape = tmp_path / "a.gz", (50, 200, 200)  # of which such an archive isn't too large
    chunk = gzip.compress(bytes(1 << 20), 9)
    path.write_bytes(gzip.compress(idx(np.zeros(shape, np.uint8))) + chunk * 2000)
    with pytest.raises(UserError, match="has more than 2,000,016 bytes"):
        read_idx(path, shape)


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_file_far_larger_than_the_array_is_not_read_at_all(tmp_path, name, monkeypatch):
    """Zeros behind an archive are padding: gzip takes a minute for some hundred megabytes."""
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(gzip.compress(WHOLE) if path.suffix else WHOLE)
        file.truncate(10_080)
    if path.suffix:
        np.testing.assert_array_equal(read_idx(path, (2, 3, 4)), IMAGE)
    with path.open("ab") as file:
        file.truncate(8 << 30)
    sentence = f"{path} has 8,589,934,592 bytes, far more than an idx file of 2 x 3 x 4: it is"
    with pytest.raises(UserError, match=f"^{re.escape(sentence)} altered"):
        read_idx(path, (2, 3, 4))


def test_a_files_hash_is_not_asked_of_one_that_is_too_large(tmp_path, arrays, little_memory):
    folder = write(tmp_path, arrays)
    with (folder / f"{FILES[0]}.gz").open("ab") as file:
        file.truncate(8 << 30)
    with pytest.raises(UserError, match=rf"{FILES[0]}.gz has 8,589,934,592 bytes, far more than"):
        mnist.load("mnist", folder)
