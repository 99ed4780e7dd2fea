import struct
import zlib

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from jaxlessons.data import images
from jaxlessons.errors import UserError

NOT_AN_IMAGE = "it is truncated, damaged or something else; name a JPEG, PNG or WebP file."


def smooth(height, width):
    row, column = np.mgrid[0:height, 0:width]
    waves = [np.sin(row / 9), np.cos(column / 7), np.sin((row + column) / 11)]
    return np.rint(127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def noise(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)


def lanczos(image, height, width):
    """Each axis by its own sum: sinc(x) sinc(x / 3), three pixels of the coarser grid wide.

    What is uint8 is clipped and rounded after either axis, as Pillow does.
    """
    whole = image.dtype == np.uint8

    def weights(old, new):
        stretch = max(1, old / new)
        centre = (np.arange(new)[:, None] + 0.5) * old / new
        x = (np.arange(old)[None] + 0.5 - centre) / stretch
        kernel = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
        return kernel / kernel.sum(1, keepdims=True)

    rows, columns = weights(image.shape[0], height), weights(image.shape[1], width)
    half = np.einsum("cd,bdk->bck", columns, image.astype(float))
    half = np.rint(half.clip(0, 255)) if whole else half
    full = np.einsum("ab,bck->ack", rows, half)
    return np.rint(full.clip(0, 255)) if whole else full


def told(path, **settings):
    with pytest.raises(UserError) as error:
        images.read(path, **settings)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("name", "tolerance"), [("a.png", 0), ("a.webp", 0), ("a.jpg", 8)])
def test_the_three_formats(tmp_path, name, tolerance):
    picture = smooth(40, 50)
    Image.fromarray(picture).save(tmp_path / name, quality=95, lossless=True)
    found = images.read(str(tmp_path / name))
    assert found.shape == (40, 50, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - picture).max() <= tolerance


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((40, 60), 30, (20, 30)),
        ((60, 40), 30, (30, 20)),
        ((40, 60), 90, (60, 90)),
        ((30, 50), 33, (20, 33)),
        ((2, 500), 50, (1, 50)),
        ((1, 1), 7, (7, 7)),
        ((40, 60), None, (40, 60)),
        ((40, 60), 60, (40, 60)),
    ],
)
def test_the_size_is_the_longer_side(tmp_path, shape, size, expected):
    picture = noise(*shape)
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = images.read(tmp_path / "a.png", size)
    assert found.shape == (*expected, 3)
    assert np.abs(found - lanczos(picture, *expected)).max() <= 1
    if expected == shape:
        np.testing.assert_array_equal(found, picture)


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_below_one_is_told(tmp_path, size):
    message = told(tmp_path / "a.png", size=size)
    assert message.endswith(f"a.png is to be {size}: it must be 1 or more pixels.")


def test_a_size_that_would_fill_the_memory_is_told(tmp_path):
    Image.fromarray(noise(4, 4)).save(tmp_path / "a.png")
    message = told(tmp_path / "a.png", size=10**6)
    assert message == (
        f"{tmp_path}/a.png scaled to 1,000,000 x 1,000,000 has more than 80,000,000 pixels; choose "
        "a smaller size."
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_000, 10_000, 40_000])
def test_a_picture_too_large_is_refused_by_its_header(tmp_path, side):
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    # There is nothing after the header that could be decoded.
    data = struct.pack(">I", 9) + b"IDATgibberish" + bytes(4)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body + data)
    assert told(tmp_path / "a.png") == (
        f"{tmp_path}/a.png has more than 80,000,000 pixels, the most that are decoded; scale it "
        "down first."
    )


def encoded(tmp_path, name):
    Image.fromarray(noise(24, 20)).save(tmp_path / name, quality=50)
    return (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_truncated_file_is_told_wherever_it_ends(tmp_path, name):
    content = encoded(tmp_path, name)
    # Of a PNG's last chunk, IEND, and a JPEG's end marker no pixel depends.
    for end in range(0, len(content) - 16, 10):
        (tmp_path / name).write_bytes(content[:end])
        message = told(tmp_path / name)
        assert message.startswith(f"{tmp_path}/{name} can't be read as a picture (")
        assert message.endswith("): " + NOT_AN_IMAGE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_damaged_file_is_read_or_told_and_raises_nothing_else(tmp_path, name):
    content = encoded(tmp_path, name)
    random = np.random.RandomState(0)
    refused = 0
    for place in random.permutation(min(len(content), 400))[:80]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.randint(8)
        (tmp_path / name).write_bytes(damaged)
        try:
            assert images.read(tmp_path / name).dtype == np.uint8
        except UserError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("content", [b"", b"<html>", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_told(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    expected = f"{tmp_path}/a.jpg can't be read as a picture (no picture): {NOT_AN_IMAGE}"
    if content.startswith(b"\x89"):
        assert told(tmp_path / "a.jpg").endswith(NOT_AN_IMAGE)
    else:
        assert told(tmp_path / "a.jpg") == expected


def test_folders_devices_and_missing_files_are_told(tmp_path):
    advice = "name a JPEG, PNG or WebP file."
    assert told(tmp_path) == f"{tmp_path} is a folder; {advice}"
    assert told("/dev/null") == f"/dev/null is no regular file; {advice}"
    path = tmp_path / "none.jpg"
    reason = "No such file or directory"
    assert told(path) == f"{path} can't be read ({reason}); check its name and its permissions."


def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(noise(2, 3)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read("~/a.png"), noise(2, 3))


@pytest.mark.parametrize(("height", "width"), [(9, 14), (50, 31), (20, 25), (1, 1)])
def test_resizing_is_by_a_lanczos_filter(height, width):
    picture = noise(20, 25)
    found = images.resize(picture, height, width)
    assert found.dtype == np.uint8
    assert np.abs(found - lanczos(picture, height, width)).max() <= 1
    expected = lanczos(picture.astype(float), height, width)
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-5), (np.float16, 2e-3)):
        found = images.resize((picture / 255).astype(dtype), height, width)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected / 255, atol=tolerance)


def test_resizing_takes_what_jax_computes_in():
    picture = (noise(20, 25) / 255).astype(ml_dtypes.bfloat16)
    found = images.resize(picture, 9, 14)
    assert found.dtype == ml_dtypes.bfloat16
    expected = lanczos(picture.astype(np.float32), 9, 14)
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=5e-3)


@pytest.mark.parametrize(
    ("style", "size"),
    [
        ((20, 30), (40, 60)),  # the same proportions: all of it
        ((20, 30), (10, 30)),  # as wide: the bottom is lost
        ((20, 30), (40, 20)),  # twice as large: the right is lost
        ((30, 20), (15, 90)),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_style_is_scaled_to_cover_and_cropped_at_the_right_and_the_bottom(style, size, dtype):
    picture = smooth(*style).astype(dtype)
    scale = max(size[0] / style[0], size[1] / style[1])
    whole = lanczos(picture, round(style[0] * scale), round(style[1] * scale))
    found = images.scale_match(picture, *size)
    assert found.shape == (*size, 3)
    assert found.dtype == dtype
    expected = whole[: size[0], : size[1]]
    np.testing.assert_allclose(found, expected, atol=2 if dtype == np.uint8 else 1e-3)
    assert dtype != np.uint8 or (found != expected).mean() < 0.03


def test_a_style_of_the_same_size_stays_as_it_is():
    np.testing.assert_array_equal(images.scale_match(noise(17, 23), 17, 23), noise(17, 23))


@pytest.mark.parametrize("style", [(1, 3000), (3000, 1), (7, 3), (1, 1)])
@pytest.mark.parametrize("size", [(211, 97), (1, 300), (33, 33)])
def test_styles_of_odd_proportions_cover_the_size(style, size):
    found = images.scale_match(np.full((*style, 3), 77, np.uint8), *size)
    assert found.shape == (*size, 3)
    assert (found == 77).all()


@pytest.mark.parametrize("function", [images.resize, images.scale_match])
def test_a_side_below_one_pixel_is_told(function):
    with pytest.raises(UserError, match="resized to 5 x 0: a side must be 1 pixel or more"):
        function(noise(2, 2), 0, 5)
