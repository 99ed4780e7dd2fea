"""The land of `painting.flow_painting`: hills, trees, a village with its church, a cypress."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np

from jaxlessons.data.brush import Canvas, PointFunction, palette, ramp

HILLS = palette("161f48 283a72 48659a 7490b8 a4b8c8")
GREENS = palette("10181e 1c323e 38565a 66806e a0aa84")
CYPRESS = palette("0c0e10 182018 2a3622 48442a 704c2c")
WALLS = palette("5a6c84 74868e 4a5c70 8a8c78")
ROOFS = palette("3c4868 7a5040 5c6668 8a6a48 34424c 6a4a48")
WINDOW = palette("f0be32")[0]
SLATE = palette("283864 6e88aa")
CHURCH_WALL, CHURCH_ROOF = palette("8296b4 465a8c")
OUTLINE = palette("10142a")[0]

# The cypress's flames, back to front: x at the foot, x and y at the tip as shares of the sides,
# and half the width at the foot in the canvas's unit.
FLAMES = (
    (0.225, 0.275, 0.62, 0.060),
    (0.310, 0.300, 0.59, 0.050),
    (0.345, 0.390, 0.72, 0.055),
    (0.390, 0.445, 0.82, 0.045),
    (0.165, 0.150, 0.33, 0.055),
    (0.255, 0.250, 0.42, 0.065),
    (0.205, 0.195, 0.055, 0.095),
)


class Land:
    """Everything below the sky, and what stands before it."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.phases = canvas.random.uniform(-0.3, 0.3, 2)

    def horizon(self, x: np.ndarray) -> np.ndarray:
        """The y of the farthest hills' ridge."""
        t = x / self.canvas.width
        waves = 0.020 * np.sin(11 * t + 1 + self.phases[0]) + 0.008 * np.sin(27 * t)
        return self.canvas.height * (0.745 - 0.17 * t**2 + waves)

    def paint(self) -> None:
        """From the back to the front."""
        random, width, height = self.canvas.random, self.canvas.width, self.canvas.height
        self._hill(self.horizon, self._foothills, HILLS, light=0.56, tilt=0.5)
        self._hill(self._foothills, self._plain, HILLS, light=0.40, tilt=0.8)
        self._hill(self._plain, lambda x: height + 0 * x, GREENS, light=0.36, tilt=0.25)
        x = random.uniform(-0.02, width, 50)
        self._trees(x, self._plain(x) + random.uniform(0, 0.06, 50), (0.014, 0.03))
        self._village()
        x = random.uniform(0.35, 1, 16) * width
        self._trees(x, random.uniform(0.96, 1.02, 16) * height, (0.03, 0.055))
        for flame in FLAMES:
            self._flame(*flame)

    def _foothills(self, x: np.ndarray) -> np.ndarray:
        t = x / self.canvas.width
        waves = 0.03 * np.sin(8 * t + 3 + self.phases[1]) + 0.008 * np.sin(23 * t)
        return self.canvas.height * (0.785 - 0.07 * t + waves)

    def _plain(self, x: np.ndarray) -> np.ndarray:
        t = x / self.canvas.width
        return self.canvas.height * (0.835 - 0.03 * t + 0.008 * np.sin(15 * t))

    def _hill(
        self,
        top: PointFunction,
        bottom: PointFunction,
        colors: np.ndarray,
        light: float,
        tilt: float,
    ) -> None:
        """Two passes between the heights top(x) and bottom(x), and a dark line along the ridge."""
        canvas, random = self.canvas, self.canvas.random

        def inside(points: np.ndarray) -> np.ndarray:
            x, y = points.T
            return (y > top(x)) & (y < bottom(x) + 0.04)

        def flow(points: np.ndarray) -> np.ndarray:
            x, y = points.T
            slope = (top(x + 0.01) - top(x - 0.01)) / 0.02
            return np.stack([np.ones_like(x), slope + tilt * np.sin(13 * x + 25 * y)], axis=-1)

        def shades(points: np.ndarray) -> np.ndarray:
            x, y = points.T
            depth = (y - top(x)) / 0.1
            tone = light + 0.15 * np.sin(6 * depth + 5 * x) - 0.2 * np.exp(-4 * depth)
            return ramp(colors, tone + random.normal(0, 0.14, len(x)))

        canvas.fill(inside, flow, shades, spacing=0.0095, width=0.013, length=0.05, bristles=2)
        canvas.fill(inside, flow, shades, spacing=0.0095, width=0.0075, length=0.032)
        x = np.arange(0, canvas.width, 0.012)
        ridge = np.stack([x, top(x)], axis=-1) + random.normal(0, 0.0012, (len(x), 2))
        canvas.stroke(ridge, flow, np.tile(OUTLINE, (len(x), 1)), width=0.0065, length=0.05)

    def _trees(self, x: np.ndarray, y: np.ndarray, radii: tuple[float, float]) -> None:
        """Round ones, of strokes that go round, each with a dark arc over it."""
        random = self.canvas.random
        radius = random.uniform(*radii, len(x))
        order = np.argsort(y)
        leaves, arc = (0.044e6 * radius**2).astype(int), 7
        tree = np.repeat(order, leaves[order] + arc)
        rank = np.concatenate([np.arange(leaves[i] + arc) for i in order]) - leaves[tree]
        count = len(tree)
        angle = np.where(rank < 0, random.uniform(0, 2 * np.pi, count), 3.4 + 0.43 * rank)
        r = np.where(rank < 0, np.sqrt(random.uniform(size=count)), 1)
        away = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * r[:, None]
        middles = np.stack([x, y], axis=-1)[tree]
        tone = 0.42 - away @ [0.12, 0.30] + 0.10 * np.sin(9 * r) + random.normal(0, 0.1, count)
        colors = ramp(GREENS, tone + random.uniform(-0.1, 0.15, len(x))[tree])
        self.canvas.stroke(
            middles + radius[tree, None] * away,
            lambda points: (points - middles)[:, ::-1] * [-1, 1],
            np.where((rank < 0)[:, None], colors, OUTLINE),
            width=np.where(rank < 0, 0.0068, 0.0042),
            length=np.where(rank < 0, 0.024, 0.7 * radius[tree]),
        )

    def _village(self) -> None:
        random, width, height = self.canvas.random, self.canvas.width, self.canvas.height
        self._church(0.575 * width, 0.86 * height)
        for x, y in sorted(
            zip(np.linspace(0.40, 0.97, 12), random.uniform(0.88, 0.95, 12), strict=True),
            key=lambda place: place[1],
        ):
            corner = np.array([x * width, y * height]) + random.uniform(-0.02, 0.02, 2)
            sides = random.uniform([0.05, 0.028], [0.085, 0.042])
            wall, roof = WALLS[random.randint(len(WALLS))], ROOFS[random.randint(len(ROOFS))]
            self._house(corner, sides, wall, roof)

    def _house(
        self, corner: np.ndarray, sides: np.ndarray, wall: np.ndarray, roof: np.ndarray
    ) -> None:
        """`corner`: the wall's upper left one. The roof is a trapezoid above the wall."""
        random = self.canvas.random

        def at(u: np.ndarray, v: np.ndarray) -> np.ndarray:
            """The wall from (0, 0) to (1, 1), the roof up to v = -0.7."""
            return corner + np.stack([u, v], axis=-1) * sides

        count = int(5e4 * sides.prod())
        u, v = random.uniform(size=(2, count))
        self._straight(at(u, v), (1, 0.05), wall, 0.0075, 0.02)
        self._straight(
            at(1.2 * u - 0.1 - 0.5 * v * (u - 0.5), -0.7 * v), (0.35, -1), roof, 0.007, 0.02
        )
        corners = [(0, 1), (0, 0), (-0.1, 0), (0.15, -0.7), (0.85, -0.7), (1.1, 0), (1, 0), (1, 1)]
        for start, end in pairwise(corner + np.array(corners) * sides):
            length = float(np.linalg.norm(end - start))
            self._straight((start + end)[None] / 2, end - start, OUTLINE, 0.0035, length)
        u = random.uniform(0.2, 0.8, random.randint(0, 3))
        self._straight(at(u, 0.5 + 0 * u), (0, 1), WINDOW, 0.0075, 0.012)

    def _church(self, x: float, y: float) -> None:
        """Its roof's corner is at (x, y); the steeple stands behind."""
        random = self.canvas.random
        up, across = random.uniform(size=150), random.uniform(-1, 1, 150)
        aside = 0.013 * across * (1 - 0.9 * np.clip(1.6 * up - 0.6, 0, 1))
        colors = ramp(SLATE, 0.5 - 0.4 * across + random.normal(0, 0.15, 150))
        middles = np.stack([x + aside, y + 0.03 - 0.23 * up], axis=-1)
        self._straight(middles, (0, -1), colors, 0.006, 0.03)
        corner, sides = np.array([x - 0.035, y + 0.01]), np.array([0.07, 0.045])
        self._house(corner, sides, CHURCH_WALL, CHURCH_ROOF)

    def _straight(
        self,
        middles: np.ndarray,
        direction: np.ndarray | tuple[float, float],
        color: np.ndarray,
        width: float,
        length: float,
    ) -> None:
        colors = color * self.canvas.random.normal(1, 0.14, (len(middles), 1))
        along = np.broadcast_to(np.array(direction, float), middles.shape)
        self.canvas.stroke(middles, lambda _: along, colors, width=width, length=length)

    def _flame(self, foot_x: float, tip_x: float, tip_y: float, foot_half: float) -> None:
        """One flame of the cypress: long strokes that run up and sway."""
        canvas, random = self.canvas, self.canvas.random
        foot_x, tip_x, tip_y = foot_x * canvas.width, tip_x * canvas.width, tip_y * canvas.height
        phase = random.uniform(0, 2 * np.pi)

        def middle(y: np.ndarray) -> np.ndarray:
            t = (y - tip_y) / (canvas.height - tip_y)
            sway = 0.022 * np.sin(10 * (y - tip_y) + phase) * np.clip(4 * t, 0.2, 1) * (1 - 0.4 * t)
            return tip_x + (foot_x - tip_x) * t + sway

        def half(y: np.ndarray) -> np.ndarray:
            t = np.clip((y - tip_y) / (canvas.height - tip_y), 0, 1.2)
            broad = 0.08 * np.clip(12 * t, 0, 1) + 0.92 * t**1.15
            return foot_half * broad * (1 + 0.16 * np.sin(21 * y + phase))

        def across(points: np.ndarray) -> np.ndarray:
            """-1 at the left edge, 1 at the right one."""
            x, y = points.T
            return (x - middle(y)) / (half(y) + 0.004)

        def flow(points: np.ndarray) -> np.ndarray:
            x, y = points.T
            leaning, widening = ((f(y + 0.01) - f(y - 0.01)) / 0.02 for f in (middle, half))
            wave = 0.3 * np.sin(16 * y + 30 * x + phase)
            return np.stack([leaning + across(points) * widening + wave, np.ones_like(x)], axis=-1)

        def colors(points: np.ndarray, light: float) -> np.ndarray:
            u, y = across(points), points[:, 1]
            tone = light + 0.14 * np.sin(9 * u + 12 * y + phase) - 0.15 * (np.abs(u) > 0.75)
            return ramp(CYPRESS, tone + random.normal(0, 0.18, len(u)))

        def inside(points: np.ndarray) -> np.ndarray:
            return (points[:, 1] > tip_y) & (np.abs(across(points)) < 1)

        passes = ((0.15, 0.010, 0.014, 0.09, 2), (0.34, 0.0105, 0.0085, 0.075, 3))
        for light, spacing, width, length, bristles in passes:
            canvas.fill(
                inside,
                flow,
                partial(colors, light=light),
                spacing=spacing,
                width=width,
                length=length,
                bristles=bristles,
            )
