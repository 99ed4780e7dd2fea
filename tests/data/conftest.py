import hashlib
import tarfile

import numpy as np
import pytest
from cifar10_setup import NAMES

from jaxlessons.data import cifar10, cifar10_builder, cifar10_files
from jaxlessons.data.download import Source
from jaxlessons.data.image_set import Arrays

COUNT = 20  # records in a batch, for speed; the tests set cifar10_files.RECORDS to it


@pytest.fixture
def arrays():
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (6 * COUNT, 32, 32, 3)).astype(np.uint8)
    labels = random.randint(0, 10, 6 * COUNT).astype(np.int32)
    return Arrays(images[:-COUNT], labels[:-COUNT], images[-COUNT:], labels[-COUNT:])


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """Small CIFAR-10, an empty cache and no network."""
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
def published(data, cache, tmp_path, monkeypatch):
    """The archive, as if it were on the network."""
    path = tmp_path / "network" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        archive.add(data / "cifar-10-batches-bin", "cifar-10-batches-bin")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(cifar10, "ARCHIVE", Source(path.as_uri(), path.stat().st_size, digest))
    return path


@pytest.fixture
def copy(arrays, cache, tmp_path):
    """A TFDS data directory."""
    cifar10_builder.prepare(arrays, tmp_path / "tfds", cifar10.CLASSES)
    return tmp_path / "tfds"
