"""What is kept of CIFAR-10: of a TFDS copy, and of the download."""

import errno
import os

import numpy as np
import pytest
from cifar10_setup import assert_holds, flip, forbid

from jaxlessons.data import cifar10, cifar10_builder, image_cache
from jaxlessons.errors import UserError

pytestmark = pytest.mark.usefixtures("cache")


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
    image_cache.write_arrays(path, arrays, "folder")
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(UserError, match=f"{path} is truncated or altered .*delete it"):
        image_cache.read_arrays(path, "folder")


def test_an_array_file_of_another_make_is_refused_by_name(arrays, tmp_path):
    path = tmp_path / "a.npz"
    image_cache.write_arrays(path, arrays._replace(test_labels=arrays.test_labels[:3]), "folder")
    with pytest.raises(UserError, match=rf"{path} is .*\(20, 32, 32, 3\)"):
        image_cache.read_arrays(path, "folder")


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
