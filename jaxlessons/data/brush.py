"""Brush strokes: paths along a flow, painted as strips of thick paint that catch the light."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

# Points [n, 2] (x, y) -> directions [n, 2] of any length, colours [n, 3] in 0..255, or truths [n].
PointFunction = Callable[[np.ndarray], np.ndarray]

POINTS = 7  # of a stroke's path
# The half width along a stroke: round where the brush is set down, thin where it leaves.
TAPER = np.array([0.55, 0.9, 1.0, 1.0, 0.95, 0.8, 0.35])
OVERSAMPLING = 2  # pixels painted a pixel of the picture, each way: it smooths the edges
GROUND = (24, 30, 58, 40)  # the canvas before it is painted on; the last is the height


class Canvas:
    """A picture that is being painted.

    Its coordinates (x to the right, y down) have a unit of their own, in which its area is 1.25 as
    that of a canvas of 1 x 1.25: strokes given in it are as large on any picture.

    Attributes:
      random: where all chance comes from.
      width, height: the sides in that unit.
    """

    def __init__(self, random: np.random.RandomState, height: int, width: int) -> None:
        self.random = random
        self._size = (width, height)
        self._scale = OVERSAMPLING * np.sqrt(height * width / 1.25)
        self.width, self.height = (OVERSAMPLING * side / self._scale for side in self._size)
        sides = (OVERSAMPLING * width, OVERSAMPLING * height)
        # The alpha channel is no opacity but the height of the paint.
        self._image = Image.new("RGBA", sides, GROUND)
        self._draw = ImageDraw.Draw(self._image)

    def fill(
        self,
        inside: PointFunction,
        flow: PointFunction,
        color: PointFunction,
        *,
        spacing: float,
        width: float | np.ndarray,
        length: float,
        bristles: int = 4,
    ) -> None:
        """Strokes all over the region where `inside` is true, one in a square of side `spacing`."""
        middles = self._scatter(spacing)
        middles = middles[inside(middles)]
        self.stroke(middles, flow, color(middles), width=width, length=length, bristles=bristles)

    def stroke(
        self,
        middles: np.ndarray,
        flow: PointFunction,
        colors: np.ndarray,
        *,
        width: float | np.ndarray,
        length: float | np.ndarray,
        bristles: int = 4,
    ) -> None:
        """Strokes along `flow` through `middles` `[n, 2]`, the later over the earlier ones.

        Widths and lengths vary by 30 and 40 %. Each stroke is a rim and on it strips, as many as
        `bristles`, that differ a little in their brightness and height.
        """
        count = len(middles)
        lengths = length * self.random.uniform(0.6, 1.4, count)
        widths = width * self.random.uniform(0.7, 1.3, count)
        outlines = _outlines(_trace(flow, middles, lengths), widths, bristles) * self._scale
        inks = self._inks(colors, bristles)
        corners = outlines.reshape(-1, 4 * POINTS).tolist()
        for corner, ink in zip(corners, inks.reshape(-1, 4).tolist(), strict=True):
            self._draw.polygon(corner, fill=tuple(ink))

    def lit(self, relief: float = 0.2) -> np.ndarray:
        """The picture, `[height, width, 3]` uint8, in light from above on the left.

        A slope of the paint from its lowest to its highest within a pixel changes the brightness
        by the share `relief`.
        """
        values = np.asarray(self._image).astype(np.float32)
        height = np.pad(values[..., 3] / 255, 1, mode="edge")
        low = height[:-2, :-2] + height[1:-1, :-2] + height[:-2, 1:-1]
        high = height[2:, 2:] + height[1:-1, 2:] + height[2:, 1:-1]
        light = 1 + relief * np.clip(high - low, -1.5, 1.5)
        painted = np.clip(values[..., :3] * light[..., None], 0, 255).astype(np.uint8)
        return np.asarray(Image.fromarray(painted).resize(self._size, Image.Resampling.BOX))

    def _scatter(self, spacing: float) -> np.ndarray:
        """Points `[n, 2]` all over the canvas, one a cell of a jittered grid, in random order."""
        columns, rows = (int(np.ceil(s / spacing)) + 1 for s in (self.width, self.height))
        cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2)
        jitter = self.random.uniform(-0.5, 0.5, cells.shape)
        return (self.random.permutation(cells) + jitter) * spacing

    def _inks(self, colors: np.ndarray, bristles: int) -> np.ndarray:
        """Colour and height of each rim and strip, `[n, 1 + bristles, 4]` int."""
        shape = (len(colors), 1 + bristles, 1)
        brightness = self.random.normal(1, 0.08, shape)
        height = self.random.uniform(100, 255, shape)
        brightness[:, 0], height[:, 0] = 0.78, 60
        inks = np.concatenate([colors[:, None, :] * brightness, height], axis=-1)
        return np.clip(inks, 0, 255).astype(int)


def palette(codes: str) -> np.ndarray:
    """Colours `[k, 3]` from their hexadecimal codes with spaces between."""
    return np.array([list(bytes.fromhex(code)) for code in codes.split()], float)


def ramp(colors: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Colours `[n, 3]` between evenly spaced ones `[k, 3]`; `at` `[n]` from 0, the first, to 1."""
    place = np.clip(at, 0, 1) * (len(colors) - 1)
    index = np.minimum(place.astype(int), len(colors) - 2)
    share = (place - index)[:, None]
    return colors[index] * (1 - share) + colors[index + 1] * share


def normalized(directions: np.ndarray) -> np.ndarray:
    """The same directions `[..., 2]` of length 1; 0 stays 0."""
    return directions / np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-9)


def _trace(flow: PointFunction, middles: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Paths `[n, POINTS, 2]` along the flow, both ways from `middles`, by the midpoint rule."""
    step = lengths[:, None] / (POINTS - 1)

    def way(sign: int) -> list[np.ndarray]:
        points = [middles]
        for _ in range(POINTS // 2):
            halfway = points[-1] + sign * step / 2 * normalized(flow(points[-1]))
            points.append(points[-1] + sign * step * normalized(flow(halfway)))
        return points[1:]

    return np.stack([*reversed(way(-1)), middles, *way(1)], axis=1)


def _outlines(paths: np.ndarray, widths: np.ndarray, bristles: int) -> np.ndarray:
    """The corners of each stroke's rim and strips, `[n, 1 + bristles, 2 POINTS, 2]`.

    The rim is the whole stroke. The strips lie side by side on four fifths of its width.
    """
    along = normalized(np.gradient(paths, axis=1))
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    reach = (across * (TAPER[:, None] * widths[:, None, None] / 2))[:, None]
    edges = np.linspace(-0.8, 0.8, bristles + 1)
    low, high = np.append(-1, edges[:-1]), np.append(1, edges[1:])
    one_side = paths[:, None] + low[:, None, None] * reach
    other_side = paths[:, None] + high[:, None, None] * reach
    return np.concatenate([one_side, other_side[:, :, ::-1]], axis=2)
