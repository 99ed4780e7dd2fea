"""Pictures, the settings in them, and folders of photos."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin
from reader import Reader, Seed

from jaxlessons.data import images, photos

MOST = 200_000  # pixels: what a damaged header may ask for
ROWS, COLUMNS = np.mgrid[0:20, 0:24]
RGB = np.stack([12 * ROWS, 10 * COLUMNS, 5 * (ROWS + COLUMNS)], -1).astype(np.uint8)
PICTURE = Image.fromarray(RGB)
SETTINGS = {"size": 24, "style": ["a.png"], "lr": 0.02, "note": "ä"}


def make() -> list[Reader]:
    images.MAX_PIXELS = MOST
    seeds = picture_seeds()
    return [
        Reader("pictures", seeds, read_picture),
        Reader("photos", seeds, read_photos),
        Reader("settings", settings_seeds(), read_settings),
    ]


def encoded(kind: str, image: Image.Image = PICTURE, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def png_again(blob: bytes) -> bytes:
    """A PNG's chunks with the checksums that their bytes ask for."""
    parts, place = [blob[:8]], 8
    while place + 12 <= len(blob):
        (size,) = struct.unpack_from(">I", blob, place)
        end = place + 8 + size
        if end + 4 > len(blob):
            break
        crc = struct.pack(">I", zlib.crc32(blob[place + 4 : end]))
        parts += [blob[place:end], crc]
        place = end + 4
    return b"".join([*parts, blob[place:]])


def picture_seeds() -> tuple[Seed, ...]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    deep = Image.fromarray((ROWS * 2000 + COLUMNS).astype(np.uint16))
    palette, clear = PICTURE.quantize(16), PICTURE.convert("RGBA")
    clear.putalpha(Image.fromarray((10 * ROWS).astype(np.uint8)))
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b", zip=True)
    text.add_itxt("c", "ä", "de", "c", zip=True)
    pngs = (
        encoded("PNG", pnginfo=text, exif=exif, icc_profile=profile),
        encoded("PNG", deep, transparency=0),
        encoded("PNG", palette, transparency=bytes(range(0, 256, 16))),
        encoded("PNG", clear, optimize=True),
        encoded("PNG", PICTURE.convert("1")),
        encoded("PNG", PICTURE.convert("LA")),
        encoded("PNG", save_all=True, append_images=[PICTURE.rotate(90)], duration=50),
    )
    jpegs = (
        encoded("JPEG", exif=exif, icc_profile=profile, quality=90),
        encoded("JPEG", progressive=True, comment=b"a comment"),
        encoded("JPEG", PICTURE.convert("CMYK")),
        encoded("JPEG", PICTURE.convert("L"), restart_marker_blocks=1),
    )
    webps = (
        encoded("WEBP", exif=exif, icc_profile=profile),
        encoded("WEBP", clear, lossless=True),
        encoded("WEBP", save_all=True, append_images=[PICTURE.rotate(90)], duration=50),
    )
    return (
        *(Seed("a.png", blob) for blob in pngs[:3]),
        *(Seed("a.png", blob, png_again) for blob in pngs),
        *(Seed("a.jpg", blob) for blob in jpegs),
        *(Seed("a.webp", blob) for blob in webps),
    )


def read_picture(path: Path) -> None:
    picture = images.read(path)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert 0 < picture.shape[0] * picture.shape[1] <= MOST
    if max(picture.shape) < 100:
        assert max(images.read(path, 12).shape[:2]) == 12


def read_photos(path: Path) -> None:
    folder = path.parents[1] / "photos"
    for split in photos.SPLITS:
        for name in ("cats", "dogs"):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            if not (folder / split / name / "good.png").exists():
                PICTURE.save(folder / split / name / "good.png")
    target = folder / "train" / "dogs" / path.name
    target.write_bytes(path.read_bytes())
    try:
        found = photos.load(folder, size=16)
    finally:
        target.unlink()
    assert found.train.images.shape == (3, 16, 16, 3)
    assert found.train.images.dtype == np.uint8
    assert found.train.labels.tolist() == sorted([0, 1, 1])


def settings_seeds() -> tuple[Seed, ...]:
    def png(blob: bytes, zip: bool = False) -> bytes:
        text = PngImagePlugin.PngInfo()
        text.add_text(images.TEXT_KEY, blob.decode("latin1"), zip=zip)
        return encoded("PNG", pnginfo=text)

    blob = json.dumps(SETTINGS).encode()
    return (
        Seed("a.png", png(blob)),
        Seed("a.png", png(blob), png_again),
        Seed("a.png", png(blob, zip=True), png_again),
        Seed("a.png", blob, png, json=True),
    )


def read_settings(path: Path) -> None:
    assert isinstance(images.read_settings(path), dict)
