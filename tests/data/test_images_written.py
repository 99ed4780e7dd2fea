import importlib.util
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from jaxlessons.data import images
from jaxlessons.errors import UserError

SETTINGS = {"seed": 3, "style": "Étoiles/ночь.jpg", "weights": [1e6, 0.25], "mask": None, "n": {}}


def noise(height, width, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)


def test_a_written_picture_and_its_settings_come_back(tmp_path):
    path = tmp_path / "new" / "a.png"
    images.write_png(path, noise(5, 7), SETTINGS)
    np.testing.assert_array_equal(images.read(path), noise(5, 7))
    assert images.read_settings(path) == SETTINGS
    with Image.open(path) as image:
        assert json.loads(image.text["jaxlessons"]) == SETTINGS


def test_a_floating_picture_is_clipped_and_rounded(tmp_path):
    levels = np.array([-3, -0.001, 0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 0.999, 1, 1.001, 7])
    for dtype in (np.float32, np.float64):
        picture = np.stack([levels] * 3, -1)[None].astype(dtype)
        images.write_png(tmp_path / "a.png", picture, {})
        found = images.read(tmp_path / "a.png")[0, :, 0]
        assert found.tolist() == [0, 0, 0, 0, 1, 127, 255, 255, 255, 255]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_picture_that_is_not_finite_is_not_written(tmp_path, value):
    picture = np.full((2, 2, 3), 0.5)
    picture[1, 0, 2] = value
    with pytest.raises(UserError, match=r"a\.png holds NaN or infinity; it is not written"):
        images.write_png(tmp_path / "a.png", picture, {})
    assert not list(tmp_path.iterdir())


def breaking(monkeypatch):
    """A disk that fills up while a picture is being written."""

    def save(self, path, *rest, **settings):
        path.write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Image.Image, "save", save)


def test_a_picture_that_fails_to_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    images.write_png(tmp_path / "a.png", noise(2, 2), {"old": True})
    images.write_gif(tmp_path / "a.gif", [noise(2, 2)], 0.1)
    old = (tmp_path / "a.gif").read_bytes()
    breaking(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        images.write_png(tmp_path / "a.png", noise(3, 3), {})
    with pytest.raises(OSError, match="No space left"):
        images.write_gif(tmp_path / "a.gif", [noise(3, 3)], 0.1)
    assert images.read_settings(tmp_path / "a.png") == {"old": True}
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), noise(2, 2))
    assert (tmp_path / "a.gif").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.png"]


@pytest.mark.parametrize("text", ["{", "[1]", "7", ""])
def test_broken_settings_are_told(tmp_path, text):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("jaxlessons", text)
    Image.fromarray(noise(2, 2)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(UserError, match=r"a\.png holds settings that can't be read: something"):
        images.read_settings(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_picture_without_settings_is_told(tmp_path, name):
    Image.fromarray(noise(2, 2)).save(tmp_path / name)
    with pytest.raises(UserError, match="holds no settings: it was not written by jaxlessons"):
        images.read_settings(tmp_path / name)
    with pytest.raises(UserError, match="No such file"):
        images.read_settings(tmp_path / "none.png")


def blocks(seed):
    """In 16 colours, which a palette holds without loss."""
    return noise(4, 4, seed).repeat(6, 0).repeat(5, 1)


def test_an_animation_shows_its_frames_loops_and_ends_on_the_last(tmp_path):
    frames = [blocks(seed) for seed in range(3)]
    images.write_gif(tmp_path / "a.gif", frames, 0.12)
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.format, film.n_frames, film.info["loop"]) == ("GIF", 3, 0)
        durations = []
        for index, frame in enumerate(frames):
            film.seek(index)
            np.testing.assert_array_equal(np.asarray(film.convert("RGB")), frame)
            durations.append(film.info["duration"])
    assert durations == [120, 120, 2000]


def test_each_frame_has_a_palette_of_its_own(tmp_path):
    """Two frames of 256 colours each, none of them in both."""
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    first = np.stack([grey, grey, 0 * grey], -1)
    second = np.stack([grey, 0 * grey, 255 + 0 * grey], -1)
    images.write_gif(tmp_path / "a.gif", [first, second], 5)
    with Image.open(tmp_path / "a.gif") as film:
        for index, frame in enumerate((first, second)):
            film.seek(index)
            assert film.info["duration"] == 5000
            found = np.asarray(film.convert("RGB")).astype(int)
            assert np.abs(found - frame).max() <= 2


def test_no_frame_and_frames_of_several_sizes_are_told(tmp_path):
    for frames, what in (([], "no frame"), ([noise(2, 2), noise(2, 3)], "frames of several sizes")):
        with pytest.raises(UserError, match=f"a.gif can't be written: there is {what}."):
            images.write_gif(tmp_path / "a.gif", frames, 0.1)
    assert not list(tmp_path.iterdir())


def test_the_sample_photo_is_there_without_importing_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    photo, source = images.sample_photo()
    assert "matplotlib" not in sys.modules
    assert photo.shape == (600, 512, 3)
    assert 50 < photo.mean() < 200
    assert source == "a portrait of Grace Hopper (matplotlib's sample photo)"


@pytest.mark.parametrize("there", [True, False])
def test_a_sample_photo_that_is_not_there_is_told(monkeypatch, tmp_path, there):
    package = importlib.util.find_spec("pytest")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: package if there else None)
    with pytest.raises(UserError, match=r"grace_hopper\.jpg is not there; name a photo of your"):
        images.sample_photo()
