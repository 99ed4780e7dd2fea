"""Pictures as arrays: read as sRGB, resized, and written with the settings that made them.

A picture is `[height, width, 3]`, uint8 in 0..255 or floating in 0..1.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from jaxlessons.data.srgb import to_srgb, upright
from jaxlessons.errors import UserError, reason
from jaxlessons.files import expanded, replacing
from jaxlessons.quiet import QUIET

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 80_000_000  # below the 89,478,485 from which Pillow warns
MAX_BYTES = 10**9
TEXT_KEY = "jaxlessons"
LAST_FRAME_SECONDS = 2.0


def read(path: str | Path, size: int | None = None) -> np.ndarray:
    """The picture in a JPEG, PNG or WebP file, `[height, width, 3]` uint8, sRGB.

    It is turned as its EXIF data say, converted from its embedded ICC profile, and composited over
    white where it is transparent (see `srgb.to_srgb`). Of an animation it is the first frame.

    Args:
      path: the file.
      size: the longer side in pixels; the picture is scaled down or up to it by a Lanczos filter,
        to whole pixels, with at least one on the shorter side. None keeps the file's size.

    Raises:
      UserError: when the file is missing, no regular file, none of the three formats, truncated or
        damaged; when it, or what `size` makes of it, has more than MAX_PIXELS pixels, which the
        file's header tells before anything is decoded; when it has more than MAX_BYTES bytes;
        when `size` is below 1.
    """
    path = expanded(path)
    if size is not None and size < 1:
        raise UserError(f"The size of {path} is to be {size}: it must be 1 or more pixels.")
    with explained(path, "picture", "name a JPEG, PNG or WebP file"), open_image(path) as image:
        picture = to_srgb(upright(image))
    if size is None:
        return picture
    height, width = fitted(picture, size)
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{path} scaled to {width:,} x {height:,} has more than {MAX_PIXELS:,} pixels; choose "
            "a smaller size."
        )
    return resize(picture, height, width)


@contextmanager
def explained(path: Path, kind: str, advice: str) -> Iterator[None]:
    """Whatever decoding `path` raises becomes a UserError: why it can't be read as a `kind`.

    What Pillow warns of, it has mended.
    """
    try:
        with QUIET:
            yield
    except UserError:
        raise
    # What a broken file raises differs with the format and from byte to byte.
    except Exception as error:
        unknown = isinstance(error, UnidentifiedImageError)
        why = f"no {kind}" if unknown else reason(error)
        raise UserError(
            f"{path} can't be read as a {kind} ({why}): it is truncated, damaged or something "
            f"else; {advice}."
        ) from error


def open_image(path: Path) -> Image.Image:
    """The file with its header read, once it is sure that the rest may be decoded."""
    try:
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "no regular file"
            raise UserError(f"{path} is {what}; name a JPEG, PNG or WebP file.")
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES:,} bytes; scale it down first.")
        # From a file Pillow takes memory for any length that a broken one states.
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path} can't be read ({error.strerror}); check its name and its permissions."
        ) from error
    try:
        image = Image.open(content, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise _too_large(path)
    return image


def _too_large(path: Path) -> UserError:
    return UserError(
        f"{path} has more than {MAX_PIXELS:,} pixels, the most that are decoded; scale it down "
        "first."
    )


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`image` scaled to `[height, width, 3]` by a Lanczos filter, in its own type.

    It is computed in float32 for any floating type. There values may come to lie a little outside
    of those of `image`, next to sharp edges; in uint8 they are clipped.

    Raises UserError when a side is below 1.
    """
    return _resample(image, height, width, None)


def fitted(image: np.ndarray, longer: int) -> tuple[int, int]:
    """(height, width) with `longer` pixels on the longer side, 1 or more on the other."""
    height, width = image.shape[:2]
    scale = longer / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def scale_match(style: np.ndarray, height: int, width: int) -> np.ndarray:
    """`style` scaled until it just covers `[height, width]`, keeping its proportions, and cropped.

    As the lesson has it, the crop keeps the top left corner: what is lost is at the right or at the
    bottom. Only what is kept is computed, so that a long narrow style takes no more memory.

    Raises UserError when a side is below 1.
    """
    rows, columns = style.shape[:2]
    scale = max(height / rows, width / columns)
    box = (0, 0, min(width / scale, columns), min(height / scale, rows))
    return _resample(style, height, width, box)


def _resample(
    image: np.ndarray, height: int, width: int, box: tuple[float, float, float, float] | None
) -> np.ndarray:
    """The part of `image` in `box` (left, top, right, bottom; all of it by default), resized."""
    if min(height, width) < 1:
        raise UserError(
            f"A picture can't be resized to {width} x {height}: a side must be 1 pixel or more."
        )
    image = np.asarray(image)

    def lanczos(plane: np.ndarray) -> np.ndarray:
        pillow = Image.fromarray(plane)
        return np.asarray(pillow.resize((width, height), Image.Resampling.LANCZOS, box))

    if image.dtype == np.uint8:
        return lanczos(image)
    planes = np.ascontiguousarray(np.moveaxis(image.astype(np.float32), -1, 0))
    return np.stack([lanczos(plane) for plane in planes], -1).astype(image.dtype)


def write_png(path: str | Path, picture: np.ndarray, settings: Mapping[str, Any]) -> None:
    """Writes a PNG that says how it was made, in place of an older one only when it is whole.

    Args:
      path: the file; its folder is made when it is not there.
      picture: uint8, or floating, which is clipped to 0..1 and rounded to the nearest of 255.
      settings: anything that JSON can hold. It is stored in the PNG's text chunk (tEXt) with the
        keyword "jaxlessons", as JSON in ASCII, where `read_settings` finds it.

    Raises:
      UserError: when the picture holds NaN or infinity.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8:
        picture = picture.astype(np.float32)
        if not np.isfinite(picture).all():
            raise UserError(f"The picture for {path} holds NaN or infinity; it is not written.")
        picture = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(TEXT_KEY, json.dumps(dict(settings)))
    with replacing(Path(path)) as temporary:
        Image.fromarray(picture).save(temporary, "PNG", pnginfo=chunks)


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings that `write_png` stored in a PNG; UserError when it has none or broken ones."""
    path = expanded(path)
    with explained(path, "picture", "name a PNG file of ours"), open_image(path) as image:
        text = getattr(image, "text", {}).get(TEXT_KEY)
    if text is None:
        raise UserError(
            f"{path} holds no settings: it was not written by jaxlessons, or something has edited "
            "it since."
        )
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        settings = error
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds settings that can't be read: something has edited it since.")
    return settings


def write_gif(path: str | Path, frames: Sequence[np.ndarray], seconds: float) -> None:
    """Writes an animated GIF that loops, in place of an older one only when it is whole.

    Each frame has a palette of its own of 256 colours at most.

    Args:
      path: the file; its folder is made when it is not there.
      frames: uint8 pictures of one size.
      seconds: how long a frame is shown, in steps of 0.01 from 0.02 on, below which browsers slow
        down. The last frame stays for LAST_FRAME_SECONDS when that is longer.

    Raises:
      UserError: when there is no frame, or they differ in size.
    """
    shapes = {frame.shape for frame in frames}
    if len(shapes) != 1:
        what = "frames of several sizes" if shapes else "no frame"
        raise UserError(f"{path} can't be written: there is {what}.")
    first, *rest = (Image.fromarray(frame).quantize() for frame in frames)
    times = [max(2, round(100 * seconds)) * 10] * len(frames)  # milliseconds
    times[-1] = max(times[-1], round(1000 * LAST_FRAME_SECONDS))
    with replacing(Path(path)) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=rest, duration=times, loop=0)


def sample_photo() -> tuple[np.ndarray, str]:
    """A photo to try things on, `[600, 512, 3]` uint8, and a phrase that says where it is from.

    It is one that matplotlib brings along. matplotlib itself is not imported.

    Raises UserError when it is not there.
    """
    package = importlib.util.find_spec("matplotlib")
    folders = (package and package.submodule_search_locations) or []
    paths = [Path(folder, "mpl-data", "sample_data", "grace_hopper.jpg") for folder in folders]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise UserError(
            "matplotlib's sample photo grace_hopper.jpg is not there; name a photo of your own."
        )
    return read(path), "a portrait of Grace Hopper (matplotlib's sample photo)"
