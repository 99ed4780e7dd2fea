"""The records of a .tfrecord file, with both of its checksums checked.

A record is its length (uint64), that length's masked CRC-32C, the payload, and the payload's.
https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxlessons.errors import UserError

HEAD = struct.Struct("<QI")
CHECKSUM = struct.Struct("<I")
LONGEST = 1 << 16  # bytes of a payload, which is an image of 32 x 32 and its label
POLYNOMIAL = np.uint32(0x82F63B78)  # Castagnoli's, reflected


def read_tfrecord(path: Path) -> list[bytes]:
    """The payloads in `path`; UserError, naming it, when it is truncated or altered."""
    blob = path.read_bytes()
    payloads = _find_payloads(blob)
    if payloads is None or not _checksums_match(blob, payloads):
        raise UserError(f"{path} is truncated or altered; get it again.")
    return [blob[start:end] for start, end in payloads]


def _find_payloads(blob: bytes) -> list[tuple[int, int]] | None:
    """Where each payload starts and ends; None if one is too long or the last is not whole."""
    payloads = []
    position = 0
    while position < len(blob):
        start = position + HEAD.size
        if start > len(blob):
            return None
        length = HEAD.unpack_from(blob, position)[0]
        end = start + length
        position = end + CHECKSUM.size
        if length > LONGEST or position > len(blob):
            return None
        payloads.append((start, end))
    return payloads


def _checksums_match(blob: bytes, payloads: Sequence[tuple[int, int]]) -> bool:
    starts, lengths, expected = [], [], []
    for start, end in payloads:
        head = start - HEAD.size
        starts += [head, start]
        lengths += [8, end - start]
        expected += [HEAD.unpack_from(blob, head)[1], CHECKSUM.unpack_from(blob, end)[0]]
    found = masked_crc32c(np.frombuffer(blob, np.uint8), starts, lengths)
    return found.tolist() == expected


def masked_crc32c(blob: np.ndarray, starts: Sequence[int], lengths: Sequence[int]) -> np.ndarray:
    """The checksums `[n]` uint32 of n stretches of `blob` (uint8).

    All of them go byte by byte at once: no package that is needed anyway has CRC-32C, and a loop
    over one after the other would take minutes.
    """
    order = np.argsort(lengths)[::-1]
    places, ends = np.array(starts, np.int64)[order], np.array(lengths, np.int64)[order]
    crc = np.full(len(order), 0xFFFFFFFF, np.uint32)
    alive = len(order)
    for offset in range(max(lengths, default=0)):
        # Sorted from the longest, those that still have a byte here come first.
        while ends[alive - 1] <= offset:
            alive -= 1
        byte = blob[places[:alive] + offset]
        crc[:alive] = TABLE[(crc[:alive] ^ byte) & 0xFF] ^ (crc[:alive] >> 8)
    result = np.empty_like(crc)
    result[order] = ~crc
    return ((result >> 15) | (result << 17)) + np.uint32(0xA282EAD8)


def _table() -> np.ndarray:
    """The CRC of every byte."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> 1) ^ POLYNOMIAL, crc >> 1)
    return crc


TABLE = _table()
