"""What a figure needs beside it: the command, the versions, the device and the commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


def command() -> str:
    """The command line that this process was started by."""
    experiment = Path(sys.argv[0]).stem
    return shlex.join(["python", "-m", f"experiments.{experiment}", *sys.argv[1:]])


def provenance() -> dict[str, Any]:
    """What a figure needs beside it: the command, the versions, the device and the commit."""
    device = jax.devices()[0]
    kind = f"{os.cpu_count()} cores" if device.platform == "cpu" else device.device_kind
    return {
        "command": command(),
        "device": f"{device.platform}, {kind}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The checkout's commit, with a + when files differ from it; None outside a checkout."""

    def git(*words: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
