import json
import math
import os
import tracemalloc
from importlib.metadata import version
from pathlib import Path

import pytest

os.environ["MPLBACKEND"] = "Agg"
if version("jaxlib").startswith("0.10."):  # other releases may not know the flag
    # Three quarters of the time goes into compiling, to which the newer generator of XLA's code
    # adds half. The slow tests are run with it: `XLA_FLAGS= pytest -m slow`.
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import numpy as np

from experiments import memory

# As every experiment begins; here ahead of all tests, since it has to be ahead of jax's threads.
memory.one_heap()
jax.config.update("jax_numpy_rank_promotion", "raise")
# For the tests of many devices; the others use the first alone. From now on there are eight.
jax.config.update("jax_num_cpu_devices", 8)
jax.devices()


def pytest_addoption(parser):
    """The long forms of tests/crash and of test_steady."""
    parser.addoption("--kills", type=int, default=10, help="kills in tests/crash, of SIGKILL")
    parser.addoption("--epochs", type=int, default=200, help="of training in test_steady")
    parser.addoption("--minutes", type=float, help="of training in test_steady, instead of epochs")


@pytest.fixture(scope="session", autouse=True)
def _compile_once(tmp_path_factory):
    """What two tests compile alike, the second one reads from a folder: it halves the time."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one folder for all processes
        folder = folder.parent
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory, monkeypatch):
    """No test sees the user's downloads or data, nor another test's."""
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("JAXLESSONS_DATA", raising=False)


@pytest.fixture(scope="session")
def stored():
    """Name -> the numbers in tests/stored/<name>.json; make_<name>.py there made them."""
    folder = Path(__file__).parent / "stored"
    return lambda name: json.loads((folder / f"{name}.json").read_text())


def formula(name, *shape):
    """sin(i^2 + i + the sum of the name's letters), as in stored/make_networks.py."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape).astype(np.float32)


@pytest.fixture(scope="session")
def by_formula():
    """(network, images) -> variables in which nothing is neutral, by a formula of their names."""
    spread = {"bias": (0, 0.2), "scale": (1, 0.3), "mean": (0, 0.3), "var": (1, 0.5)}

    def leaf(path, value):
        name = "/".join(key.key for key in path[1:])
        fan_in = math.prod(value.shape[:-1])
        centre, width = spread.get(path[-1].key, (0, 2 / math.sqrt(fan_in)))
        return np.float32(centre) + np.float32(width) * formula(name, *value.shape)

    def variables(network, images):
        shapes = jax.eval_shape(network.init, jax.random.key(0), images)
        return jax.tree_util.tree_map_with_path(leaf, shapes)

    return variables


@pytest.fixture(scope="session")
def formula_images():
    """Four images of 16x16, those of stored/make_networks.py."""
    return formula("images", 4, 16, 16, 3)


@pytest.fixture
def little_memory():
    """Fails a test that takes more than 20 MB at any time."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
