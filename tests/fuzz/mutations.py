"""What is done to a valid file: damage to its bytes, or odd values in its JSON."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

INTEGERS = (0, 1, 2, -1, -2, 0x7F, 0x80, 0xFF, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31)
INTEGERS += (2**32 - 1, 2**30, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
ODD = (None, True, False, -1, 0, 1, 2.5, 1e308, -0.0, float("nan"), float("inf"), 10**30, 10**400)
ODD += ("", "x", "a\0b", "\ud800", "a\nb", "\x1b[31m", "ä" * 300, [], {}, [[]], [1, "x"], {"a": {}})


def truncated(blob: bytes, rng: random.Random) -> bytes:
    return blob[: rng.randrange(len(blob) + 1)]


def flipped(blob: bytes, rng: random.Random) -> bytes:
    """One to eight bits."""
    changed = bytearray(blob)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if changed:
            changed[_place(blob, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwritten(blob: bytes, rng: random.Random) -> bytes:
    """One to four bytes anew."""
    start = _place(blob, rng)
    return _replaced(blob, start, rng.randbytes(rng.choice((1, 1, 2, 4))))


def zeroed(blob: bytes, rng: random.Random) -> bytes:
    start = _place(blob, rng)
    return _replaced(blob, start, bytes(_length(rng)))


def removed(blob: bytes, rng: random.Random) -> bytes:
    start = _place(blob, rng)
    return blob[:start] + blob[start + _length(rng) :]


def duplicated(blob: bytes, rng: random.Random) -> bytes:
    start = _place(blob, rng)
    end = start + _length(rng)
    return blob[:end] + blob[start:end] * rng.choice((1, 1, 2, 50)) + blob[end:]


def inserted(blob: bytes, rng: random.Random) -> bytes:
    start = _place(blob, rng)
    return blob[:start] + rng.randbytes(_length(rng)) + blob[start:]


def integer(blob: bytes, rng: random.Random) -> bytes:
    """An interesting one over two, four or eight bytes, in either order of bytes."""
    kind = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    value = rng.choice(INTEGERS) % 256 ** struct.calcsize(kind)
    return _replaced(blob, _place(blob, rng), struct.pack(kind, value))


def _place(blob: bytes, rng: random.Random) -> int:
    """Anywhere, or among the first or last bytes, where formats keep what they are."""
    near = min(len(blob), rng.choice((16, 64, 512, 4096)))
    ends = (len(blob), near, near)
    place = rng.randrange(max(1, rng.choice(ends)))
    return place if rng.random() < 0.8 else max(0, len(blob) - 1 - place)


def _length(rng: random.Random) -> int:
    return rng.randint(1, rng.choice((2, 8, 64, 512)))


def _replaced(blob: bytes, start: int, part: bytes) -> bytes:
    """With `part` over what was at `start`, no longer than before."""
    return (blob[:start] + part + blob[start + len(part) :])[: max(len(blob), 1)]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(truncated, flipped, flipped, overwritten, overwritten, zeroed, removed, duplicated),
    *(inserted, integer, integer, integer),
)


def damaged(blob: bytes, others: Sequence[bytes], rng: random.Random) -> tuple[bytes, str]:
    """`blob` with one to three damages, or its beginning with another's end; and which they are."""
    if rng.random() < 0.08:
        other = rng.choice(others)
        cut, start = rng.randrange(len(blob) + 1), rng.randrange(len(other) + 1)
        return blob[:cut] + other[start:], f"{cut} bytes, then another from byte {start}"
    chosen = [rng.choice(DAMAGES) for _ in range(rng.choice((1, 1, 2, 3)))]
    for damage in chosen:
        blob = damage(blob, rng)
    return blob, " and ".join(damage.__name__ for damage in chosen)


def odd_json(blob: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A JSON text in which one value is odd, one key is gone or another, or all of it nested."""
    value = json.loads(blob)
    if rng.random() < 0.02:
        return b"[" * 100_000, "nested 100,000 deep"
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        odd = rng.choice(ODD)
        return json.dumps(odd).encode(), f"all of it {odd!r:.40}"
    holder, key = rng.choice(places)
    deed = rng.random()
    if isinstance(holder, dict) and deed < 0.1:
        del holder[key]
        said = f"{key} gone"
    elif isinstance(holder, dict) and deed < 0.2:
        holder[f"{key}x"] = holder.pop(key)
        said = f"{key} renamed"
    else:
        odd = rng.choice(ODD)
        holder[key] = [holder[key]] if deed > 0.95 else odd
        said = f"{key} is {holder[key]!r:.40}"
    return json.dumps(value).encode(), said


def _places(value: Any) -> Any:
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield value, key
        yield from _places(value[key])
