import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from jaxlessons.data.images import read
from jaxlessons.data.srgb import to_srgb

RANDOM = np.random.RandomState(0)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows, bits, kind, *chunks):
    """A PNG by its specification: rows of bytes, bits a sample, colour type, chunks before IDAT."""
    width = len(rows[0]) * 8 // (bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind])
    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*c) for c in ((b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b""))
    )


@pytest.fixture
def read_bytes(tmp_path):
    def read_bytes(content, name="a.png"):
        (tmp_path / name).write_bytes(content)
        return read(tmp_path / name)

    return read_bytes


@pytest.fixture
def read_image(tmp_path):
    def read_image(image, name="a.png", **settings):
        image.save(tmp_path / name, **settings)
        return read(tmp_path / name)

    return read_image


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, ["abc", "def"]),
        (2, ["cba", "fed"]),
        (3, ["fed", "cba"]),
        (4, ["def", "abc"]),
        (5, ["ad", "be", "cf"]),
        (6, ["da", "eb", "fc"]),
        (7, ["fc", "eb", "da"]),
        (8, ["cf", "be", "ad"]),
        (9, ["abc", "def"]),
    ],
)
def test_a_picture_of_two_by_three_is_turned_pixel_by_pixel(read_image, orientation, expected):
    colors = dict(zip("abcdef", RANDOM.randint(0, 256, (6, 3)), strict=True))

    def picture(rows):
        return np.array([[colors[letter] for letter in row] for row in rows], np.uint8)

    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_image(Image.fromarray(picture(["abc", "def"])), exif=exif)
    np.testing.assert_array_equal(found, picture(expected))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\0\0\0\x08", b"Exif\0\0what is this", b"Exif\0\0II*"]
)
def test_broken_exif_data_are_passed_over(read_image, exif):
    picture = RANDOM.randint(0, 256, (2, 3, 3), np.uint8)
    np.testing.assert_array_equal(read_image(Image.fromarray(picture), exif=exif), picture)


def test_grey_of_16_bits_is_scaled_not_clipped(read_image):
    ramp = np.arange(0, 65536, 257 / 4).astype(np.uint16)[None]
    found = read_image(Image.fromarray(ramp))
    np.testing.assert_array_equal(found[0, :, 0], np.rint(ramp[0] / 257))
    np.testing.assert_array_equal(found, found[..., :1].repeat(3, -1))
    assert (found[0, 0, 0], found[0, -1, 0]) == (0, 255)


def test_grey_of_16_bits_in_32_is_scaled_the_same():
    image = Image.fromarray(np.array([[0, 128, 129, 32896, 65535, 70000]], np.int32))
    assert image.mode == "I"
    assert to_srgb(image)[0, :, 1].tolist() == [0, 0, 1, 128, 255, 255]


def test_a_grey_of_16_bits_that_stands_for_transparent_is_white(read_bytes):
    rows = [struct.pack(">3H", 0, 25700, 51400)]
    found = read_bytes(png(rows, 16, 0, (b"tRNS", struct.pack(">H", 25700))))
    assert found[0].tolist() == [[0] * 3, [255] * 3, [200] * 3]


def test_colours_of_16_bits_are_scaled_to_within_a_level(read_bytes):
    values = RANDOM.randint(0, 65536, (2, 5, 3))
    found = read_bytes(png([row.astype(">u2").tobytes() for row in values], 16, 2))
    np.testing.assert_allclose(found, values / 257, atol=1)


def over_white(color, alpha):
    share = alpha / 255.0
    return np.rint(share * color + (1 - share) * 255)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_what_is_transparent_is_seen_over_white(read_image, name):
    picture = RANDOM.randint(0, 256, (40, 50, 4), np.uint8)
    found = read_image(Image.fromarray(picture), name, lossless=True, exact=True)
    np.testing.assert_array_equal(found, over_white(picture[..., :3], picture[..., 3:]))


def test_grey_with_alpha_is_seen_over_white(read_image):
    picture = RANDOM.randint(0, 256, (40, 50, 2), np.uint8)
    found = read_image(Image.fromarray(picture))
    expected = over_white(picture[..., :1], picture[..., 1:]).repeat(3, -1)
    np.testing.assert_array_equal(found, expected)


def test_a_palette_and_its_transparency(read_bytes):
    colors = RANDOM.randint(0, 256, (4, 3))
    palette, alpha = colors.astype(np.uint8).tobytes(), bytes([0, 100, 255])
    found = read_bytes(png([[0, 1], [2, 3]], 8, 3, (b"PLTE", palette), (b"tRNS", alpha)))
    expected = over_white(colors, np.array([[0], [100], [255], [255]]))
    np.testing.assert_array_equal(found.reshape(4, 3), expected)
    found = read_bytes(png([[0, 1], [2, 3]], 8, 3, (b"PLTE", palette)))
    np.testing.assert_array_equal(found.reshape(4, 3), colors)


def test_the_one_colour_that_stands_for_transparent(read_bytes):
    rows = [[10, 20, 30, 40, 50, 60]]
    found = read_bytes(png(rows, 8, 2, (b"tRNS", struct.pack(">3H", 10, 20, 30))))
    assert found[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    found = read_bytes(png([[7, 8]], 8, 0, (b"tRNS", struct.pack(">H", 7))))
    assert found[0].tolist() == [[255] * 3, [8] * 3]


def test_one_bit_is_black_and_white(read_bytes):
    assert read_bytes(png([[0b10110000]], 1, 0))[0, :, 0].tolist() == [255, 0, 255, 255, 0, 0, 0, 0]


@pytest.mark.parametrize(("clear", "seen"), [(0, [255] * 4), (1, [255, 0, 255, 255])])
def test_one_bit_of_which_one_stands_for_transparent(read_bytes, clear, seen):
    rows = [[0b10110000]]
    found = read_bytes(png(rows, 1, 0, (b"tRNS", struct.pack(">H", clear))))
    assert found[0, :4, 0].tolist() == seen


def test_cmyk_is_what_its_inks_leave_of_white(read_image):
    inks = np.array(
        [
            (255, 0, 0, 0),
            (0, 255, 0, 0),
            (0, 0, 255, 0),
            (0, 0, 0, 255),
            (0, 0, 0, 0),
            (51, 0, 102, 51),
        ]
    )
    # In squares of 16, so that the lossy format has nothing to blur.
    picture = inks.astype(np.uint8).repeat(16, 0)[None].repeat(16, 0)
    image = Image.frombytes("CMYK", (96, 16), picture.tobytes())
    found = read_image(image, "a.jpg", quality=100, subsampling=0)[8, 8::16].astype(int)
    expected = 255 * (1 - inks[:, :3] / 255) * (1 - inks[:, 3:] / 255)
    assert np.abs(found - expected).max() <= 2
    assert found[0].tolist() == [0, 255, 255]


def profile_with_red_and_green_swapped():
    """sRGB's own profile with two entries of its table of tags renamed."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = content.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ")
    return content.replace(b"....", b"gXYZ")


def linear_grey_profile():
    """An ICC profile, version 2.1, of grey whose values are light itself."""
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50, in 1/65536
    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\7linear\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"kTRC": b"curv" + bytes(8),
    }
    offset, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = struct.pack(">I", offset + len(body))
    header = size + bytes(4) + b"\2\x10\0\0mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28) + white
    return header.ljust(128, b"\0") + table + body


def test_a_profile_of_other_primaries_is_converted_from(read_image):
    picture = RANDOM.randint(0, 256, (30, 40, 3), np.uint8)
    found = read_image(Image.fromarray(picture), icc_profile=profile_with_red_and_green_swapped())
    assert np.abs(found.astype(int) - picture[..., [1, 0, 2]]).max() <= 1


def test_a_profile_of_a_transparent_picture_is_about_its_colours_alone(read_image):
    picture = RANDOM.randint(0, 256, (30, 40, 4), np.uint8)
    found = read_image(Image.fromarray(picture), icc_profile=profile_with_red_and_green_swapped())
    expected = over_white(picture[..., [1, 0, 2]], picture[..., 3:])
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("deep", [False, True])
def test_grey_by_a_profile_that_is_linear_in_light(read_image, deep):
    grey = np.arange(256, dtype=np.uint8)[None]
    image = Image.fromarray(grey.astype(np.uint16) * 257 if deep else grey)
    found = read_image(image, icc_profile=linear_grey_profile())[0].astype(int)
    light = np.arange(256) / 255
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(found - 255 * curve[:, None]).max() <= 1.5


def test_the_profile_of_srgb_changes_nothing(read_image):
    picture = RANDOM.randint(0, 256, (30, 40, 3), np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = read_image(Image.fromarray(picture), icc_profile=profile)
    np.testing.assert_array_equal(found, picture)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_profile_that_is_broken_or_of_another_kind_is_passed_over(read_image, mode):
    picture = RANDOM.randint(0, 256, (30, 40, 3) if mode == "RGB" else (30, 40), np.uint8)
    whole = profile_with_red_and_green_swapped()
    other = linear_grey_profile() if mode == "RGB" else whole
    for profile in (b"no profile", whole[:200], whole[:127], bytes(3000), other):
        found = read_image(Image.fromarray(picture), icc_profile=profile)
        np.testing.assert_array_equal(
            found, picture if mode == "RGB" else picture[..., None] + [0] * 3
        )


def test_a_jpeg_with_two_pictures_is_its_first(tmp_path):
    pictures = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (50, 200)]
    blob = io.BytesIO()
    pictures[0].save(blob, "MPO", save_all=True, append_images=pictures[1:])
    (tmp_path / "a.jpg").write_bytes(blob.getvalue())
    assert (read(tmp_path / "a.jpg") == 50).all()
