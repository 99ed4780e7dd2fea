"""Compiled programs are kept from run to run, in the user's cache folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
import jax.monitoring

from jaxlessons.data.download import cache_dir


def keep() -> None:
    """Has jax keep what takes a second or more to compile, so that the next run starts at once.

    In `cache_dir()`/compiled, unless jax has been told of another folder
    (JAX_COMPILATION_CACHE_DIR) or to keep nothing (JAX_ENABLE_COMPILATION_CACHE=false). Where the
    folder can't be written to, all is compiled each time. It can be removed whenever no run
    is on.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    folder = cache_dir() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))


@contextlib.contextmanager
def counting_hits() -> Iterator[list[str]]:
    """A list that grows by one for each program within this block that was kept, not compiled."""
    hits: list[str] = []

    def note(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(note)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(note)
