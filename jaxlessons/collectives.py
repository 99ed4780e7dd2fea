"""What a compiled program sends between its devices, read from its HLO."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any, NamedTuple

import jax.numpy as jnp

# A result, or several in brackets, and the operation; an asynchronous one counts at its start.
_OPERATION = re.compile(
    r"= (?P<result>\(.*?\)|\S+) "
    r"(?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)
_ARRAY = re.compile(r"(?P<dtype>[a-z]+\d*)\[(?P<shape>[\d,]*)\]")
# HLO's names of types whose names in NumPy are others.
_DTYPES = {"pred": "bool", "bf16": "bfloat16"} | {
    f"{letter}{bits}": f"{name}{bits}"
    for letter, name in (("f", "float"), ("s", "int"), ("u", "uint"), ("c", "complex"))
    for bits in (8, 16, 32, 64, 128)
}


class Traffic(NamedTuple):
    """Of one kind of collective: how many there are, and the bytes of their results."""

    operations: int
    bytes: int


def traffic(compiled: Any) -> dict[str, Traffic]:
    """By kind, such as "all-reduce", what one run of the program exchanges.

    compiled: as `jax.jit(f).lower(...).compile()` gives it. Bytes are those of the results on one
    device. What stands within a loop counts once, so compile a step and not a scan of steps.
    """
    operations: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for found in _OPERATION.finditer(compiled.as_text()):
        operations[found["kind"]] += 1
        sizes[found["kind"]] += sum(
            math.prod(map(int, filter(None, array["shape"].split(","))))
            * jnp.dtype(_DTYPES[array["dtype"]]).itemsize
            for array in _ARRAY.finditer(found["result"])
        )
    return {kind: Traffic(operations[kind], sizes[kind]) for kind in sorted(operations)}


def ring_seconds(size: float, devices: int, bandwidth: float, latency: float = 0.0) -> float:
    """An all-reduce of `size` bytes around a ring: 2 (n - 1) messages of size/n each.

    Patarasuk and Yuan (2009): to first order the time does not depend on n. bandwidth: bytes a
    second out of each device; latency: seconds a message.
    """
    return 2 * (devices - 1) * (size / devices / bandwidth + latency)
