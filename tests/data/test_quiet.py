"""Silence that several threads share, and what Pillow would warn of."""

import struct
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxlessons.data import images
from jaxlessons.errors import UserError, reason
from jaxlessons.quiet import QUIET


def test_warnings_come_back_when_the_last_thread_has_left():
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with QUIET:
            inside.set()
            leave.wait(10)

    before = list(warnings.filters)
    other = threading.Thread(target=stay)
    with QUIET:
        other.start()
        inside.wait(10)
    with QUIET:
        warnings.warn("unheard", stacklevel=1)
    leave.set()
    other.join()
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_broken_exif_data_are_passed_over_without_a_warning(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "camera maker", 6
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    blob = (tmp_path / "a.jpg").read_bytes()
    start = blob.index(b"Exif\0\0") + 6
    order = ">" if blob[start : start + 2] == b"MM" else "<"
    count = struct.pack(f"{order}HHI", 0x010F, 2, 13)
    assert count in blob
    broken = blob.replace(count, struct.pack(f"{order}HHI", 0x010F, 2, 10**6))
    (tmp_path / "a.jpg").write_bytes(broken)
    assert sorted(images.read(tmp_path / "a.jpg").shape[:2]) == [4, 6]


def test_settings_nested_without_end_are_refused(tmp_path):
    chunks = images.PngImagePlugin.PngInfo()
    chunks.add_text(images.TEXT_KEY, "[" * 100_000)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(UserError, match=r"a\.png holds settings that can't be read: something"):
        images.read_settings(tmp_path / "a.png")


def test_a_text_that_unpacks_to_gigabytes_is_refused(tmp_path):
    chunks = images.PngImagePlugin.PngInfo()
    chunks.add_text(images.TEXT_KEY, "[" * 20_000_000, zip=True)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(UserError, match=r"a\.png can't be read as a picture \(Decompressed data"):
        images.read_settings(tmp_path / "a.png")


def test_a_picture_of_too_many_bytes_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(UserError, match=r"a\.png has more than 1,000,000,000 bytes; scale it"):
        images.read(tmp_path / "a.png")


def test_an_errors_reason_is_one_printable_line():
    assert reason(ValueError("first.\nsecond")) == "first"
    assert reason(ValueError("a\x1b[31m\0b")) == "a?[31m?b"
    assert reason(ValueError("\n")) == "ValueError"
    assert reason(KeyError()) == "KeyError"
    assert reason(ValueError("x" * 500)) == "x" * 200
