"""Where CIFAR-10 is taken from, what is kept of it, and what stands in for it."""

import errno
import hashlib
import inspect
import os
import tarfile

import numpy as np
import pytest

from jaxlessons.data import cifar10, cifar10_builder, cifar10_cache, cifar10_files
from jaxlessons.data.cifar10_files import Arrays
from jaxlessons.data.download import NoNetworkError, Source
from jaxlessons.data.shapes import make_shapes
from jaxlessons.errors import UserError

COUNT = 20  # records in a batch, for speed
NAMES = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Small data, an empty cache and no network."""
    monkeypatch.setattr(cifar10_files, "RECORDS", COUNT)
    monkeypatch.setattr(cifar10_builder, "SPLITS", {"train": 5 * COUNT, "test": COUNT})
    monkeypatch.setattr(cifar10, "SHAPES", {"train": (300, 0), "test": (100, 1)})
    nowhere = Source((tmp_path / "nowhere" / "a.tar.gz").as_uri(), 1, "0" * 64)
    monkeypatch.setattr(cifar10, "ARCHIVE", nowhere)
    monkeypatch.delenv("JAXLESSONS_DATA", raising=False)
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(arrays, tmp_path):
    """A folder that holds cifar-10-batches-bin/."""
    folder = tmp_path / "data" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    images = np.concatenate([arrays.train_images, arrays.test_images])
    labels = np.concatenate([arrays.train_labels, arrays.test_labels])
    planes = images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    records = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
    for name, batch in zip(NAMES, np.split(records, 6), strict=True):
        (folder / name).write_bytes(batch.tobytes())
    return folder.parent


@pytest.fixture
def published(data, tmp_path, monkeypatch):
    """The archive, as if it were on the network."""
    path = tmp_path / "network" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        archive.add(data / "cifar-10-batches-bin", "cifar-10-batches-bin")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ARCHIVE", Source(path.as_uri(), path.stat().st_size, digest))
    return path


@pytest.fixture
def copy(arrays, tmp_path):
    """A TFDS data directory."""
    cifar10_builder.prepare(arrays, tmp_path / "tfds", cifar10.CLASSES)
    return tmp_path / "tfds"


def assert_holds(image_set, arrays):
    assert image_set.name == "CIFAR-10"
    assert image_set.mean == (0.4914, 0.48216, 0.44653)
    assert image_set.std == (0.24703, 0.24349, 0.26159)
    assert image_set.classes[3] == "cat"
    assert len(image_set.classes) == 10
    for name in Arrays._fields:
        mine, theirs = getattr(image_set, name), getattr(arrays, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


def forbid(monkeypatch, module, name):
    def forbidden(*_, **__):
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(module, name, forbidden)


def flip(path, place):
    blob = bytearray(path.read_bytes())
    blob[int(place * len(blob))] ^= 1
    path.write_bytes(blob)


# What a data folder may be.


@pytest.mark.parametrize("place", [".", "cifar-10-batches-bin"])
def test_a_folder_of_batches(data, arrays, place):
    image_set = cifar10.load(data / place)
    assert_holds(image_set, arrays)
    assert image_set.source == f"the batches in {data / 'cifar-10-batches-bin'}"


def test_an_archive_or_a_folder_that_holds_it(published, arrays):
    for path in (published, published.parent):
        image_set = cifar10.load(str(path))
        assert_holds(image_set, arrays)
        assert image_set.source == f"the archive {published}"


@pytest.mark.parametrize("place", [".", "cifar10", "cifar10/3.0.2"])
def test_a_tfds_copy(copy, arrays, place):
    image_set = cifar10.load(copy / place)
    assert_holds(image_set, arrays)
    assert image_set.source == f"the TFDS copy in {copy / 'cifar10/3.0.2'}"


def test_the_environment_names_the_folder_and_the_argument_wins(data, arrays, monkeypatch):
    monkeypatch.setenv("JAXLESSONS_DATA", str(data))
    assert_holds(cifar10.load(), arrays)
    with pytest.raises(UserError, match="/nonexistent, given as data_dir, does not exist"):
        cifar10.load("/nonexistent")
    monkeypatch.setenv("JAXLESSONS_DATA", "/nonexistent")
    with pytest.raises(UserError, match="/nonexistent, given as JAXLESSONS_DATA, does not exist"):
        cifar10.load()
    assert_holds(cifar10.load(data), arrays)


# What is refused, with nothing else in its place.


@pytest.fixture
def no_fallback(published, monkeypatch):
    """The network is there and so are the shapes, and neither may be used."""
    forbid(monkeypatch, cifar10, "fetch")
    forbid(monkeypatch, cifar10, "shapes")


@pytest.mark.usefixtures("no_fallback")
def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    words = r"does not exist; name a folder that holds cifar-10-batches-bin/, cifar-10-batches-py/"
    with pytest.raises(UserError, match=f"{tmp_path}/none, given as data_dir, {words}"):
        cifar10.load(tmp_path / "none")


@pytest.mark.usefixtures("no_fallback")
def test_a_folder_with_something_else_is_refused(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(UserError, match=f"{folder}, given as data_dir, holds nothing where"):
        cifar10.load(folder)
    (folder / "cat.jpg").write_bytes(b"")
    words = r"holds cat.jpg where CIFAR-10 .*-bin/, .*-py/, .*binary.tar.gz.*\(cifar10/3.0.2/\)"
    with pytest.raises(UserError, match=f"{folder}, given as data_dir, {words}"):
        cifar10.load(folder)


@pytest.mark.usefixtures("no_fallback")
def test_an_incomplete_folder_is_refused(data):
    path = data / "cifar-10-batches-bin" / "test_batch.bin"
    path.unlink()
    with pytest.raises(UserError, match=f"{path} is missing"):
        cifar10.load(data)
    path.write_bytes(bytes(100))
    with pytest.raises(UserError, match=f"{path} has 100 bytes"):
        cifar10.load(data)


@pytest.mark.usefixtures("no_fallback")
def test_a_broken_archive_is_refused(published):
    published.write_bytes(published.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{published} is not a whole"):
        cifar10.load(published.parent)


@pytest.mark.usefixtures("no_fallback")
def test_what_cannot_be_read_is_refused(data, monkeypatch):
    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(cifar10_files, "read_folder", refuse)
    with pytest.raises(UserError, match=f"{data}, given as data_dir, can't be read .*Permission"):
        cifar10.load(data)


# What is kept of a TFDS copy.


def test_a_tfds_copy_is_decoded_once(copy, arrays, monkeypatch):
    cifar10.load(copy)
    forbid(monkeypatch, cifar10_builder, "read_prepared")
    assert_holds(cifar10.load(copy), arrays)


def test_a_changed_tfds_copy_is_not_served_stale(copy, arrays, cache):
    cifar10.load(copy)
    path = copy / "cifar10/3.0.2/cifar10-test.array_record-00000-of-00001"
    flip(path, 0.3)
    with pytest.raises(UserError, match=f"{path} can't be read"):
        cifar10.load(copy)
    changed = arrays._replace(test_labels=9 - arrays.test_labels)
    for file in (copy / "cifar10/3.0.2").iterdir():
        file.unlink()
    (copy / "cifar10/3.0.2").rmdir()
    cifar10_builder.prepare(changed, copy, cifar10.CLASSES)
    assert_holds(cifar10.load(copy), changed)
    assert len(list((cache / "arrays").iterdir())) == 1


def test_a_tfds_copy_loads_where_the_cache_cannot_be_written(copy, arrays, cache):
    cache.write_text("a file stands where the folder would be")
    assert_holds(cifar10.load(copy), arrays)


@pytest.mark.parametrize("place", [0.01, 0.2, 0.5, 0.8, 0.99])
def test_an_altered_array_file_is_refused_by_name(copy, cache, place):
    cifar10.load(copy)
    (path,) = (cache / "arrays").iterdir()
    flip(path, place)
    with pytest.raises(UserError, match=f"{path} is truncated or altered .*delete it"):
        cifar10.load(copy)


@pytest.mark.parametrize("left", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_array_file_is_refused_by_name(arrays, tmp_path, left):
    path = tmp_path / "a.npz"
    cifar10_cache.write_arrays(path, arrays, "folder")
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(UserError, match=f"{path} is truncated or altered .*delete it"):
        cifar10_cache.read_arrays(path, "folder")


def test_an_array_file_of_another_make_is_refused_by_name(arrays, tmp_path):
    path = tmp_path / "a.npz"
    cifar10_cache.write_arrays(path, arrays._replace(test_labels=arrays.test_labels[:3]), "folder")
    with pytest.raises(UserError, match=rf"{path} is .*\(20, 32, 32, 3\)"):
        cifar10_cache.read_arrays(path, "folder")


# The download.


def test_the_download_is_prepared_once(published, arrays, cache, monkeypatch):
    url = cifar10.ARCHIVE.url
    image_set = cifar10.load()
    assert_holds(image_set, arrays)
    assert image_set.source == f"{url}, prepared in {cache / 'cifar10/3.0.2'}"
    published.unlink()
    for module, name in [(cifar10, "fetch"), (cifar10_builder, "read_prepared")]:
        forbid(monkeypatch, module, name)
    again = cifar10.load()
    assert_holds(again, arrays)
    assert again.source == image_set.source


def test_the_prepared_copy_outlives_its_arrays(published, arrays, cache):
    cifar10.load()
    published.unlink()
    (path,) = (cache / "arrays").iterdir()
    flip(path, 0.5)
    with pytest.raises(UserError, match=f"{path} is truncated or altered"):
        cifar10.load()
    path.unlink()
    assert_holds(cifar10.load(), arrays)


def test_a_download_that_is_not_the_published_file_is_refused(published, cache):
    flip(published, 0.5)
    with pytest.raises(UserError, match=r"cifar-10-binary.tar.gz .*altered"):
        cifar10.load()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_full_disk_is_told_and_leaves_nothing(published, arrays, cache, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(cifar10, "fetch", full)
        with pytest.raises(UserError, match=f"disk of {cache} is full; .* JAXLESSONS_CACHE"):
            cifar10.load()
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(UserError, match=f"disk of {cache} is full; .* JAXLESSONS_CACHE"):
            cifar10.load()
    assert list((cache / "arrays").iterdir()) == []
    published.unlink()
    assert_holds(cifar10.load(), arrays)


@pytest.mark.usefixtures("published")
def test_a_cache_that_cannot_be_written_is_told(cache):
    cache.write_text("a file stands where the folder would be")
    with pytest.raises(UserError, match=f"{cache} can't be used as the cache .*JAXLESSONS_CACHE"):
        cifar10.load()


# The embedded default.


def assert_are_shapes(image_set):
    assert image_set.name == "shapes"
    assert image_set.classes[:3] == ("disc", "square", "triangle")
    train, test = make_shapes(300, 0), make_shapes(100, 1)
    np.testing.assert_array_equal(image_set.train_images, train[0])
    np.testing.assert_array_equal(image_set.train_labels, train[1])
    np.testing.assert_array_equal(image_set.test_images, test[0])
    np.testing.assert_array_equal(image_set.test_labels, test[1])
    pixels = train[0] / 255
    np.testing.assert_allclose(image_set.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(image_set.std, pixels.std(axis=(0, 1, 2)), rtol=1e-12)


def test_without_data_and_network_come_shapes_that_say_why(capfd):
    image_set = cifar10.load()
    assert_are_shapes(image_set)
    start = f"made by a formula, since no data folder was given and {cifar10.ARCHIVE.url} could not"
    assert image_set.source.startswith(start)
    assert "\n" not in image_set.source
    assert capfd.readouterr() == ("", "")


def test_the_default_can_be_declined():
    with pytest.raises(NoNetworkError, match=r"a.tar.gz could not be reached"):
        cifar10.load(offline_default=False)


def test_shapes_are_made_once_and_anew_when_their_formula_changes(cache, monkeypatch):
    assert_are_shapes(cifar10.shapes())
    assert cifar10.shapes().source == "made by a formula, since they were asked for"
    with monkeypatch.context() as patch:
        forbid(patch, cifar10.formula, "make_shapes")
        assert_are_shapes(cifar10.shapes())
        patch.setattr(inspect, "getsource", lambda _: "another formula")
        with pytest.raises(AssertionError, match="make_shapes was called"):
            cifar10.shapes()
    flip(cache / "arrays" / "shapes.npz", 0.5)
    with pytest.raises(UserError, match=r"shapes.npz is truncated or altered"):
        cifar10.shapes()


# The real size.


@pytest.mark.usefixtures("cache")
def test_the_published_sizes(monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10_files, "RECORDS", 10_000)
    block = np.random.RandomState(0).randint(0, 256, (10_000, 3073), np.uint8)
    block[:, 0] %= 10
    for shift, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(np.roll(block, shift, axis=0).tobytes())
    image_set = cifar10.load(tmp_path)
    assert image_set.train_images.shape == (50_000, 32, 32, 3)
    assert image_set.test_labels.shape == (10_000,)
    record = block[7]
    for images, labels, index in [
        (image_set.train_images, image_set.train_labels, 7),
        (image_set.train_images, image_set.train_labels, 40_011),
        (image_set.test_images, image_set.test_labels, 12),
    ]:
        assert labels[index] == record[0]
        for channel in range(3):
            plane = record[1 + 1024 * channel :][:1024].reshape(32, 32)
            np.testing.assert_array_equal(images[index, :, :, channel], plane)
