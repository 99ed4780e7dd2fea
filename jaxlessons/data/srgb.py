"""What a picture's file holds (palette, grey, CMYK, 16 bits, alpha, a profile) as 8-bit sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112  # the EXIF tag


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say; as it is where they say nothing or are broken."""
    image.load()  # so that a broken file is not taken for broken EXIF data
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    # What broken EXIF data raise depends on the byte, and a picture is not worth less for them.
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def to_srgb(image: Image.Image) -> np.ndarray:
    """`[height, width, 3]` uint8, sRGB.

    An embedded ICC profile is obeyed, unless it is broken or does not fit the image's mode.
    Without one RGB and grey are taken for sRGB, and CMYK is (1 - C)(1 - K). Grey of 16 bits is
    divided by 257. What is transparent is composited over white: (a c + (255 - a) 255) / 255.
    """
    profile = image.info.get("icc_profile")
    image, alpha = _opaque(image)
    rgb = _by_profile(image, profile) if profile else None
    if rgb is None:
        rgb = np.asarray(image.convert("RGB"))
    if alpha is None:
        return rgb
    weight = alpha[..., None].astype(np.uint16)
    return ((weight * rgb + (255 - weight) * 255 + 127) // 255).astype(np.uint8)


def _opaque(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """The image in mode RGB, L or CMYK, and its alpha `[height, width]` uint8 where it has one."""
    if image.mode.startswith("I"):  # I;16 and its byte orders; I in older versions of Pillow
        deep = np.clip(np.asarray(image), 0, 65535).astype(np.int32)
        clear = image.info.get("transparency")
        alpha = None if clear is None else np.where(deep == clear, 0, 255).astype(np.uint8)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8)), alpha
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA") else "RGBA")
        return image.convert(image.mode[:-1]), np.asarray(image.getchannel("A"))
    if image.mode in ("RGB", "L", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _by_profile(image: Image.Image, profile: bytes) -> np.ndarray | None:
    """`[height, width, 3]` uint8 sRGB by an ICC profile; None when the profile can't be used.

    An RGB profile that moves no colour by more than two levels is sRGB by another's rounding, and
    leaves the image as it is.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        # Tabulated as LittleCMS would do it, grey comes out wrong in the shadows.
        flags = ImageCms.Flags.NOOPTIMIZE if image.mode == "L" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, target, image.mode, "RGB", flags=flags)
        if image.mode == "L":
            return _apply(transform, np.arange(256, dtype=np.uint8)[None])[0][np.asarray(image)]
        if image.mode == "RGB" and _moves(transform) <= 2:
            return np.asarray(image)
        return np.asarray(ImageCms.applyTransform(image, transform))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _apply(transform: ImageCms.ImageCmsTransform, pixels: np.ndarray) -> np.ndarray:
    return np.asarray(ImageCms.applyTransform(Image.fromarray(pixels), transform))


def _moves(transform: ImageCms.ImageCmsTransform) -> int:
    """By how many levels a transform of RGB moves a channel at most, on a grid of 9 x 9 x 9."""
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    return int(np.abs(_apply(transform, grid).astype(int) - grid).max())
