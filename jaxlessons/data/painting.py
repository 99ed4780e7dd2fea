"""A painting by formula, in the manner of van Gogh's Starry Night (1889)."""

from __future__ import annotations

import numpy as np

from jaxlessons.data.brush import Canvas
from jaxlessons.data.painting_land import Land
from jaxlessons.data.painting_sky import Sky
from jaxlessons.errors import UserError


def flow_painting(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A night sky over a village, painted stroke by stroke, `[height, width, 3]` uint8.

    Stars, a crescent moon and vortices stand in a wind; below are hills, trees and houses, in front
    a cypress. Strokes follow the flow of what they show, first coarse ones and then finer ones
    over them, each with a colour of its own, and their relief is lit from the upper left. They are
    as many on any size, some 50,000, and the picture is stretched to the size's proportions. The
    seed moves things a little and changes every stroke; the same one gives the same picture (up to
    the rounding of the machine's sines). It takes some seconds.

    Raises UserError when a side is below 1.
    """
    if min(height, width) < 1:
        raise UserError(f"A painting can't be {width} x {height}: a side must be 1 pixel or more.")
    canvas = Canvas(np.random.RandomState(seed), height, width)
    land = Land(canvas)
    Sky(canvas, land.horizon).paint()
    land.paint()
    return canvas.lit()
