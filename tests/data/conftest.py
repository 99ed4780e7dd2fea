import numpy as np
import pytest

from jaxlessons.data.cifar10_files import Arrays

COUNT = 20  # records in a batch, for speed; the tests set cifar10_files.RECORDS to it


@pytest.fixture
def arrays():
    random = np.random.RandomState(0)
    images = random.randint(0, 256, (6 * COUNT, 32, 32, 3)).astype(np.uint8)
    labels = random.randint(0, 10, 6 * COUNT).astype(np.int32)
    return Arrays(images[:-COUNT], labels[:-COUNT], images[-COUNT:], labels[-COUNT:])
