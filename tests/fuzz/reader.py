"""What is fuzzed: a reader, valid files that it takes, and what its results must be."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mutations


@dataclass(frozen=True)
class Seed:
    """A valid file: its name, and its bytes or what `wrap` makes the bytes of.

    What is inside of a checksum is damaged before it is wrapped. json: whether it is JSON text.
    """

    name: str
    blob: bytes
    wrap: Callable[[bytes], bytes] = bytes
    json: bool = False


@dataclass(frozen=True)
class Reader:
    """read: reads the path and asserts that what comes out is well-formed.

    named: what must be in a message instead of the file's name, for what is no file.
    """

    name: str
    seeds: tuple[Seed, ...]
    read: Callable[[Path], object]
    named: str = ""

    def case(self, number: int) -> tuple[str, bytes, str]:
        """The file's name, its damaged bytes and what was done to them; the same at each call."""
        rng = random.Random(f"{self.name} {number}")
        seed = rng.choice(self.seeds)
        if seed.json and rng.random() < 0.6:
            blob, done = mutations.odd_json(seed.blob, rng)
        else:
            others = [other.blob for other in self.seeds]
            blob, done = mutations.damaged(seed.blob, others, rng)
        return seed.name, seed.wrap(blob), f"{seed.name}: {done}"
