"""The sky of `painting.flow_painting`: a wind, vortices, stars, a crescent moon and mist."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from jaxlessons.data.brush import Canvas, PointFunction, normalized, palette, ramp

# From dark to light; and what stars and moon glow in, from the middle outwards.
BLUES = palette("121a40 1f2f70 334e98 5476b0 829fc4 aec2ca dcdec0")
YELLOW_STAR = palette("e2961e eec83c eee470 e6e6aa b0cec4 6e9cc8")
WHITE_STAR = palette("e8b432 f6eeb4 f2f4de d8e6ce b0cece 6e9aca")
MOONLIGHT = palette("f0d250 e8de64 dee086 c4d6a4 8cb6bc 5484ba")
CRESCENT = palette("d68214 ecb020 f6ce3c")
MIST = palette("6892b8 a0bec4 d6dcb8 eeecc8")
OCHRE, MIDNIGHT = palette("968c74 181e3a")
GREENISH = np.array([-7, 7, -9])

# Where they are, as shares of the canvas's sides, and their radii in its unit.
STARS = (
    (0.10, 0.065, 0.062, YELLOW_STAR),
    (0.235, 0.17, 0.052, YELLOW_STAR),
    (0.345, 0.05, 0.048, YELLOW_STAR),
    (0.425, 0.08, 0.034, YELLOW_STAR),
    (0.605, 0.09, 0.060, YELLOW_STAR),
    (0.715, 0.24, 0.058, WHITE_STAR),
    (0.325, 0.335, 0.040, WHITE_STAR),
    (0.045, 0.45, 0.034, WHITE_STAR),
    (0.13, 0.475, 0.048, YELLOW_STAR),
    (0.355, 0.535, 0.085, WHITE_STAR),
)
MOON = (0.895, 0.17, 0.155, MOONLIGHT)
VORTICES = ((0.51, 0.33, 0.175, 0.45), (0.70, 0.475, 0.095, 0.4))

# Spacing, width and length of the passes' strokes, how much lighter they are, and their bristles.
PASSES = (
    (0.0140, 0.0200, 0.080, -0.12, 2),
    (0.0098, 0.0110, 0.050, -0.03, 3),
    (0.0092, 0.0078, 0.036, 0.03, 4),
)


class Glow(NamedTuple):
    """A star, or the moon: its place, its radius and its colours from the middle outwards."""

    middle: np.ndarray
    radius: float
    colors: np.ndarray


class Vortex(NamedTuple):
    """Its place, its radius, and how fast the flow nears its middle while it goes round."""

    middle: np.ndarray
    radius: float
    inward: float


class Table:
    """A function of points, looked up at the nearest of a grid's."""

    CELLS = 160  # in a unit
    MARGIN = 0.1  # beyond the canvas, where strokes may start or end

    def __init__(self, canvas: Canvas) -> None:
        sides = (canvas.width, canvas.height)
        axes = [np.arange(-self.MARGIN, side + self.MARGIN, 1 / self.CELLS) for side in sides]
        self.points = np.stack(np.meshgrid(*axes), axis=-1)
        self._last = np.array([len(axis) - 1 for axis in axes])
        self.values = np.zeros(self.points.shape[:2])

    def __call__(self, points: np.ndarray) -> np.ndarray:
        cell = np.clip((points + self.MARGIN) * self.CELLS + 0.5, 0, self._last).astype(int)
        return self.values[cell[..., 1], cell[..., 0]]


class Sky:
    """Where everything in the sky is, and with that its flow and its colours."""

    def __init__(self, canvas: Canvas, horizon: PointFunction) -> None:
        random = canvas.random
        self.canvas, self.horizon = canvas, horizon
        self.phases = random.uniform(-0.3, 0.3, 3)

        def near(x: float, y: float) -> np.ndarray:
            place = np.array([x * canvas.width, y * canvas.height])
            return place + random.uniform(-0.02, 0.02, 2)

        def glow(x: float, y: float, radius: float, colors: np.ndarray) -> Glow:
            return Glow(near(x, y), radius * random.uniform(0.88, 1.12), colors)

        self.vortices = [Vortex(near(x, y), *rest) for x, y, *rest in VORTICES]
        self.moon = glow(*MOON)
        self.glows = [*(glow(*star) for star in STARS), self.moon]
        self.flow = Table(canvas)
        self.flow.values = self._flow(self.flow.points)
        self.streaks = self._streaks()

    def paint(self) -> None:
        """Three passes over all of the sky, one more over what glows, and the moon's crescent."""
        canvas = self.canvas
        for spacing, width, length, lighter, bristles in PASSES:
            canvas.fill(
                lambda p: p[:, 1] < self.horizon(p[:, 0]) + 0.03,
                self.flow,
                partial(self._colors, lighter=lighter),
                spacing=spacing,
                width=width,
                length=length,
                bristles=bristles,
            )
        canvas.fill(
            self._glowing,
            self.flow,
            partial(self._colors, lighter=0.04),
            spacing=0.0095,
            width=0.0078,
            length=0.026,
        )
        canvas.fill(
            self._in_crescent,
            self.flow,
            lambda p: ramp(CRESCENT, canvas.random.uniform(size=len(p))),
            spacing=0.006,
            width=0.008,
            length=0.03,
        )

    def _glowing(self, points: np.ndarray) -> np.ndarray:
        near = [_distance(points, glow.middle) < 1.05 * glow.radius for glow in self.glows]
        return np.any(near, axis=0)

    def _in_crescent(self, points: np.ndarray) -> np.ndarray:
        middle, radius, _ = self.moon
        bite = middle + radius * np.array([-0.16, -0.05])
        disc = _distance(points, middle) < 0.45 * radius
        return disc & (_distance(points, bite) > 0.40 * radius)

    def _band(self, x: np.ndarray) -> np.ndarray:
        """The height of the band of wind that crosses the sky."""
        t = x / self.canvas.width
        wave = 0.10 * np.cos(6.6 * t + self.phases[0] / 2) * np.exp(-t)
        return self.canvas.height * (0.29 + wave + 0.03 * np.sin(9 * t + self.phases[1]))

    def _flow(self, points: np.ndarray) -> np.ndarray:
        """Unit vectors: the wind, in which vortices and then stars take over around themselves."""
        x, y = points[..., 0], points[..., 1]
        high = np.exp(-(((y - self._band(x)) / (0.25 * self.canvas.height)) ** 2))
        low = 1 / (1 + np.exp((self.horizon(x) - 0.14 - y) / 0.03))
        slope = (1 - low) * 1.2 * high * _slope(self._band, x) + low * 1.3 * _slope(self.horizon, x)
        slope += 0.10 * np.sin(11 * x + 5 * y + self.phases[2])
        flow = np.stack([np.ones_like(x), slope], axis=-1)
        for middle, radius, inward in self.vortices:
            outwards, around = _polar(points, middle)
            share = np.exp(-((_distance(points, middle) / radius) ** 4))[..., None]
            flow = (1 - share) * flow + share * (around - inward * outwards)
        for middle, radius, _ in self.glows:
            around = _polar(points, middle)[1]
            # A stroke has no sign: round a star it follows the wind on either side.
            around = around * np.where((around * flow).sum(-1, keepdims=True) < 0, -1, 1)
            share = np.exp(-((_distance(points, middle) / (1.3 * radius)) ** 5))[..., None]
            flow = (1 - share) * flow + share * around
        return normalized(flow)

    def _streaks(self) -> Table:
        """Noise of variance about 1, smeared along the flow (Cabral and Leedom 1993)."""
        random = self.canvas.random
        noise, streaks = Table(self.canvas), Table(self.canvas)
        angles, lengths = random.uniform(0, 2 * np.pi, 24), random.uniform(8, 40, 24)
        waves = lengths * np.stack([np.cos(angles), np.sin(angles)])
        phases = random.uniform(0, 2 * np.pi, 24)
        noise.values = np.sin(noise.points @ waves + phases).sum(-1) / np.sqrt(12)
        streaks.values = noise.values / 4
        for sign in (-1, 1):
            points = noise.points
            for _ in range(5):
                points = points + sign * 0.018 * self.flow(points)
                streaks.values = streaks.values + noise(points) / 4
        return streaks

    def _tone(self, points: np.ndarray) -> np.ndarray:
        """How light the blue is, from 0 to 1: lighter in the band, in arms round each vortex."""
        below = (points[:, 1] - self._band(points[:, 0])) / self.canvas.height
        tone = 0.30 + 0.14 * points[:, 1] / self.canvas.height
        tone += 0.30 * np.exp(-((below / 0.075) ** 2))
        tone -= 0.12 * np.exp(-(((below - 0.15) / 0.04) ** 2))
        for middle, radius, inward in self.vortices:
            x, y = ((points - middle) / radius).T
            r = np.hypot(x, y)
            arms = 0.50 + 0.20 * np.cos(2 * np.arctan2(y, x) - 2 / inward * np.log(r + 0.05))
            share = np.exp(-(r**4))
            tone = (1 - share) * tone + share * arms
            tone += 0.22 * np.exp(-(((r - 1) / 0.16) ** 2)) * np.clip(0.2 - y, 0, 1)
        return tone

    def _colors(self, points: np.ndarray, lighter: float) -> np.ndarray:
        """A colour for each stroke: its place's, with chance in the tone, the hue and the kind."""
        random, count = self.canvas.random, len(points)

        def chance(share: np.ndarray | float) -> np.ndarray:
            return (random.uniform(size=count) < share)[:, None]

        streak = self.streaks(points)
        tone = self._tone(points) + lighter + 0.10 * streak + random.normal(0, 0.11, count)
        colors = ramp(BLUES, tone)
        colors += np.clip(random.normal(size=(count, 1)), -1.5, 1.5) * GREENISH
        light = 0.55 + 2 * lighter + 0.10 * streak + random.normal(0, 0.25, count)
        colors = np.where(chance(0.85 * self._mist(points)), ramp(MIST, light), colors)
        colors = np.where(chance(0.02), OCHRE, colors)
        colors = np.where(chance(0.03 * (tone < 0.6)), MIDNIGHT, colors)
        for middle, radius, glowing in self.glows:
            r = _distance(points, middle) / radius
            rings = r**0.9 / 1.05 + 0.07 * np.sin(20 * r) - lighter
            shine = ramp(glowing, rings + random.normal(0, 0.10, count))
            shine = np.where(chance(0.18 * np.clip(r, 0, 1)), colors, shine)
            colors = np.where((r + random.normal(0, 0.10, count) < 1.05)[:, None], shine, colors)
        return colors * random.normal(1, 0.07, (count, 1))

    def _mist(self, points: np.ndarray) -> np.ndarray:
        """From 0 to 1: how much mist lies there, over the hills and more of it to the right."""
        x = points[:, 0]
        depth = 0.05 + 0.07 * x / self.canvas.width + 0.03 * np.sin(9 * x)
        top = self.horizon(x) - depth - 0.02 * np.sin(23 * x + 3)
        return 1 / (1 + np.exp((top - points[:, 1]) / 0.014))


def _distance(points: np.ndarray, middle: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - middle, axis=-1)


def _polar(points: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors away from the middle, and around it with the clock."""
    outwards = normalized(points - middle)
    return outwards, np.stack([-outwards[..., 1], outwards[..., 0]], axis=-1)


def _slope(height: PointFunction, x: np.ndarray) -> np.ndarray:
    return (height(x + 0.01) - height(x - 0.01)) / 0.02
