"""Python batches of CIFAR-10, read without running anything that a pickle names.

The unpickler in C takes memory for every length and index that a pickle states, whether or not so
much is there; the one in Python, with one exception, for what it reads.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np


def load_bytes(blob: bytes) -> Any:
    """What is pickled in `blob`: dicts, lists, tuples, numbers, bytes, `PickledArray`s of bytes.

    A broken pickle may raise anything.
    """
    return _Unpickler(blob).load()


class PickledArray:
    """What stands for a numpy array of bytes; array: None until its contents were read."""

    array: np.ndarray | None = None

    def fill(self, buffer: bytes, dtype: object, shape: tuple[int, ...], order: str) -> None:
        """Takes what the pickle has of the array."""
        if dtype is not BYTES:
            raise pickle.UnpicklingError("it holds an array that is not of bytes")
        if order not in ("C", "F"):
            raise pickle.UnpicklingError("it holds an array in no known order")
        flat = np.frombuffer(buffer, np.uint8)
        self.array = flat.reshape(shape, order="F" if order == "F" else "C")


BYTES = object()  # stands for numpy's dtype


def _dtype(spec: object, *_: object) -> object:
    """For numpy.dtype: the one that a batch needs."""
    if spec not in ("u1", b"u1"):
        shown = repr(spec) if isinstance(spec, str | bytes) else type(spec).__name__
        raise pickle.UnpicklingError(f"it holds an array of {shown[:20]}")
    return BYTES


def _reconstruct(*_: object) -> PickledArray:
    """For numpy's own, which makes an empty array to fill."""
    return PickledArray()


def _from_buffer(
    buffer: bytes, dtype: object, shape: tuple[int, ...], order: str, *_: object
) -> PickledArray:
    """For numpy's own of protocol 5."""
    made = PickledArray()
    made.fill(buffer, dtype, shape, order)
    return made


ALLOWED: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _dtype,
}


class _Unpickler(pickle._Unpickler):
    """Builds arrays of bytes and Python's plain values, and nothing else."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    # Hashing a tuple that is nested deeply enough would end the process: no sets, and plain keys.
    for code in (pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET):
        del dispatch[code[0]]
    for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):
        del dispatch[code[0]]

    def __init__(self, blob: bytes) -> None:
        super().__init__(io.BytesIO(blob), encoding="bytes")
        self.left = len(blob)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._latin1
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]

    def _latin1(self, text: str, encoding: object) -> bytes:
        """For codecs.encode, as Python 3 writes bytes into a protocol 2 pickle.

        The same text may be asked for again and again, each time for a few bytes.
        """
        self.left -= len(text)
        if encoding != "latin1" or self.left < 0:
            raise pickle.UnpicklingError("it asks for another codec than latin1, or too often")
        return text.encode("latin1")

    def load_bytearray8(self) -> None:
        """Where pickle would take the memory ahead of reading."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_build(self) -> None:
        """Where pickle would set attributes of whatever is there."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, PickledArray):
            _, shape, dtype, fortran, buffer = state
            target.fill(buffer, dtype, shape, "F" if fortran else "C")
        elif target is not BYTES:
            raise pickle.UnpicklingError("it sets what is no array's")

    dispatch[pickle.BUILD[0]] = load_build

    def load_dict(self) -> None:
        """A dict with its entries, as protocol 0 has them."""
        items = self.pop_mark()
        self.stack.append({})
        self._set(self.stack[-1], items)

    dispatch[pickle.DICT[0]] = load_dict

    def load_setitem(self) -> None:
        """One entry of a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        """Several."""
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    dispatch[pickle.SETITEMS[0]] = load_setitems

    @staticmethod
    def _set(target: object, items: list[Any]) -> None:
        keys = items[::2]
        if type(target) is not dict or not all(type(key) in (bytes, str, int) for key in keys):
            raise pickle.UnpicklingError("it holds a dict whose keys are no names")
        target.update(zip(keys, items[1::2], strict=True))
