"""Where compiled programs are kept, and when they are not."""

import os
import subprocess
import sys

import jax
import pytest

from experiments import compiled

PROGRAM = """
import jax, jax.numpy as jnp
from experiments import compiled
compiled.keep()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
x = jnp.ones((3, 3))
with compiled.counting_hits() as hits:
    print(float(jax.jit(lambda x: jnp.sin(x) @ x.T)(x)[0, 0]))
print(len(hits) > 0)
counted = len(hits)
jax.jit(lambda x: jnp.sin(x) @ x.T)(x)
print(len(hits) == counted)
"""


@pytest.fixture
def untold():
    """jax without a cache folder; afterwards it has that of the tests again."""
    told = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", told)


def test_the_second_run_finds_what_the_first_compiled(tmp_path):
    environment = {**os.environ, "JAXLESSONS_CACHE": str(tmp_path / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def run():
        words = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    first, second = run(), run()
    assert first == ["2.5244128704071045", "False", "True"]
    assert second == ["2.5244128704071045", "True", "True"]
    assert list((tmp_path / "cache" / "compiled").iterdir())


def test_a_folder_that_jax_was_told_of_stays(monkeypatch, tmp_path):
    told = jax.config.jax_compilation_cache_dir
    assert told is not None
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "cache"))
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir == told
    assert not (tmp_path / "cache").exists()


def test_nothing_is_kept_where_nothing_can_be_written(monkeypatch, tmp_path, untold):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JAXLESSONS_CACHE", str(tmp_path / "file"))
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir is None
