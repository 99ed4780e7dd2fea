"""Where CIFAR-10 is taken from, and what stands in for it."""

import errno
import inspect

import numpy as np
import pytest
from cifar10_setup import NAMES, assert_holds, flip, forbid

from jaxlessons.data import cifar10, cifar10_files
from jaxlessons.data.download import NoNetworkError
from jaxlessons.data.shapes import make_shapes
from jaxlessons.errors import UserError

pytestmark = pytest.mark.usefixtures("cache")


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
