import io

import numpy as np
import pytest
from PIL import Image

from jaxlessons.data import images, photos
from jaxlessons.errors import UserError


def picture(height, width, seed=0):
    """Smooth, so that JPEG and resizing change little, and different everywhere."""
    row, column = np.mgrid[0:height, 0:width] / max(height, width)
    channels = [row, column, (row + column + seed / 10) / 2]
    return (np.stack(channels, -1) % 1 * 255).astype(np.uint8)


def save(path, array, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **settings)


@pytest.fixture
def folder(tmp_path):
    """Two classes; of every suffix one."""
    for split in ("train", "valid"):
        for label, name in enumerate(("cats", "dogs")):
            for i, suffix in enumerate((".png", ".jpg", ".JPEG", ".webp")):
                save(tmp_path / split / name / f"{i}{suffix}", picture(40, 32, seed=label))
    return tmp_path


def test_folders_are_classes_and_every_photo_is_there_once(folder):
    found = photos.load(folder, size=32)
    assert found.classes == ("cats", "dogs")
    for split in (found.train, found.valid):
        assert split.images.shape == (8, 32, 32, 3)
        assert split.images.dtype == np.uint8
        assert split.labels.tolist() == [0] * 4 + [1] * 4
        assert split.labels.dtype == np.int32
        names = [path.relative_to(folder).as_posix()[6:] for path in split.paths]
        suffixes = (".png", ".jpg", ".JPEG", ".webp")
        assert names == [f"{c}/{i}{x}" for c in found.classes for i, x in enumerate(suffixes)]
        for image, label in zip(split.images, split.labels, strict=True):
            expected = picture(40, 32, seed=label)[4:36].astype(int)
            assert abs(image - expected).mean() < 3
        np.testing.assert_array_equal(split.images[0], picture(40, 32)[4:36])


def test_hidden_files_and_other_suffixes_are_skipped(folder):
    (folder / "train" / "cats" / "._0.jpg").write_bytes(b"\0\5\x16\7")
    (folder / "train" / "cats" / "notes.txt").write_text("x")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "README.md").write_text("x")
    assert len(photos.load(folder, size=16).train.labels) == 8


@pytest.mark.parametrize(("height", "width"), [(96, 64), (64, 97), (64, 64)])
def test_a_photo_is_resized_on_its_shorter_side_and_cropped_to_the_middle(tmp_path, height, width):
    save(tmp_path / "a.png", picture(height, width))
    found = photos.read_photo(tmp_path / "a.png", 32).astype(float)
    # Halved by averaging, then the middle: what a bicubic filter gives on a smooth picture.
    even = picture(height, width)[:, : width // 2 * 2].astype(float)
    half = even.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    top, left = (half.shape[0] - 32) // 2, (half.shape[1] - 32) // 2
    expected = half[top : top + 32, left : left + 32]
    assert np.abs(found - expected).mean() < 2


def test_a_small_photo_is_enlarged(tmp_path):
    save(tmp_path / "a.png", picture(10, 12))
    found = photos.read_photo(tmp_path / "a.png", 20)
    assert found.shape == (20, 20, 3)
    assert abs(int(found[10, 10, 1]) - int(picture(10, 12)[5, 6, 1])) < 15


def test_a_large_jpeg_is_the_same_decoded_small(tmp_path):
    array = picture(640, 640)
    save(tmp_path / "a.jpg", array, quality=95)
    save(tmp_path / "a.png", array)
    jpeg, png = (photos.read_photo(tmp_path / f"a.{x}", 32).astype(int) for x in ("jpg", "png"))
    assert abs(jpeg - png).mean() < 3


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (6, lambda x: np.rot90(x, -1)),
        (8, np.rot90),
    ],
)
def test_a_photo_is_turned_as_its_camera_says(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "a.png", picture(32, 32), exif=exif)
    found = photos.read_photo(tmp_path / "a.png", 32)
    np.testing.assert_array_equal(found, turn(picture(32, 32)))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "1"])
def test_every_kind_of_colour_becomes_rgb(tmp_path, mode):
    grey = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[:, None], 32, axis=1)
    image = Image.fromarray(np.stack([grey] * 3, -1)).convert(mode)
    image.save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    found = photos.read_photo(next(tmp_path.iterdir()), 32).astype(int)
    assert abs(found[0, 0] - 0).max() < 8
    assert abs(found[-1, -1] - 255).max() < 8
    assert (found[..., :1] == found).mean() > 0.9


def test_a_grey_photo_of_16_bits_keeps_its_range(tmp_path):
    deep = np.repeat(np.linspace(0, 65535, 32).astype(np.uint16)[:, None], 32, axis=1)
    Image.fromarray(deep).save(tmp_path / "a.png")
    found = photos.read_photo(tmp_path / "a.png", 32)
    wanted = np.repeat(np.round(deep / 257)[..., None], 3, axis=2)
    np.testing.assert_array_equal(found, wanted)


def test_what_is_transparent_is_white(tmp_path):
    red = np.zeros((32, 32, 4), np.uint8)
    red[..., 0], red[16:, :, 3] = 255, 255
    Image.fromarray(red).save(tmp_path / "a.png")
    found = photos.read_photo(tmp_path / "a.png", 32)
    assert (found[:16] == 255).all()
    assert (found[16:] == [255, 0, 0]).all()


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    image = Image.fromarray(picture(32, 32)).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert photos.read_photo(tmp_path / "a.png", 32).shape == (32, 32, 3)


def broken(kind):
    blob = io.BytesIO()
    Image.fromarray(picture(64, 64)).save(blob, "JPEG")
    whole = blob.getvalue()
    return {"cut": whole[:-50], "text": b"<html>", "nothing": b""}[kind]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("cut", "image file is truncated"), ("text", "no photo"), ("nothing", "no photo")],
)
def test_a_broken_photo_is_told_by_name(folder, kind, reason):
    path = folder / "valid" / "dogs" / "bad.jpg"
    path.write_bytes(broken(kind))
    with pytest.raises(UserError) as told:
        photos.load(folder)
    assert str(told.value).startswith(f"{path} can't be read as a photo ({reason}")
    assert str(told.value).endswith("damaged or something else; replace or delete it.")


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "a.png", picture(64, 64))
    monkeypatch.setattr(images, "MAX_PIXELS", 4095)
    with pytest.raises(UserError, match=r"a\.png has more than 4,095 pixels, the most that are"):
        photos.read_photo(tmp_path / "a.png", 32)


def test_a_photo_too_long_and_narrow_to_be_resized_is_refused(tmp_path):
    save(tmp_path / "a.png", np.zeros((1, 60_000, 3), np.uint8))
    words = r"a\.png resized to 7,680,000 x 128 has more than 80,000,000 pixels: it is too long"
    with pytest.raises(UserError, match=words):
        photos.read_photo(tmp_path / "a.png", 128)


def test_only_the_three_formats_are_opened(tmp_path):
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg can't be read as a photo \(no photo\)"):
        photos.read_photo(tmp_path / "a.jpg", 32)


def remove(path):
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "valid").rename(f / "test"),
            "valid is not a folder: photos are expected in {folder}/{{train,valid}}/CLASS/*.jpg.",
        ),
        (
            lambda f: (f / "train" / "mice").mkdir(),
            "{folder}: the class mice is in train alone; train and valid must hold the same",
        ),
        (
            lambda f: remove(f / "train" / "cats"),
            "{folder}: the class cats is in valid alone",
        ),
        (
            lambda f: [remove(f / x / "cats") for x in ("train", "valid")],
            "train holds 1 classes (dogs): there must be a folder for each of two or more.",
        ),
        (
            lambda f: [file.unlink() for file in (f / "valid" / "cats").iterdir()],
            "valid/cats holds no photo (.jpg, .jpeg, .png, .webp).",
        ),
    ],
)
def test_wrong_folders_are_told(folder, change, message):
    change(folder)
    with pytest.raises(UserError) as told:
        photos.load(folder)
    assert message.format(folder=folder) in str(told.value)


def test_a_folder_that_is_not_there_and_a_size_that_makes_no_sense(tmp_path, folder):
    with pytest.raises(UserError, match="none/train is not a folder"):
        photos.load(tmp_path / "none")
    with pytest.raises(UserError, match="size is 0: it must be 1 or more"):
        photos.load(folder, size=0)
