"""The embedded default: "shapes", ten classes of 32x32 colour images made by a formula.

It stands in where there is neither data nor network, and is never called CIFAR-10. The figure's
place, size, turn, colour and contrast, the background and the noise are all random, so that no
linear function of the pixels tells the classes apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CLASSES = (
    "disc",
    "square",
    "triangle",
    "cross",
    "ring",
    "star",
    "half disc",
    "bar",
    "frame",
    "two dots",
)
SIZE = 32
Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _polygon(sides: int) -> Inside:
    """A regular polygon with inner radius 0.75."""
    angles = 2 * np.pi * np.arange(sides) / sides

    def inside(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.max([u * np.cos(a) + v * np.sin(a) for a in angles], axis=0) < 0.75

    return inside


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five points: the radius allowed swings with the angle."""
    return np.hypot(u, v) < 0.72 + 0.32 * np.cos(5 * np.arctan2(v, u))


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    low, high = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    return (low < 0.28) & (high < 1.0)


# In coordinates (u, v) that have the figure's centre at 0 and its radius at about 1.
FIGURES: tuple[Inside, ...] = (
    lambda u, v: np.hypot(u, v) < 0.85,
    _polygon(4),
    lambda u, v: np.max([-v, 0.87 * u + 0.5 * v, -0.87 * u + 0.5 * v], axis=0) < 0.5,
    _cross,
    lambda u, v: abs(np.hypot(u, v) - 0.75) < 0.22,
    _star,
    lambda u, v: (np.hypot(u, v) < 1.0) & (v > 0),
    lambda u, v: (abs(u) < 1.1) & (abs(v) < 0.3),
    lambda u, v: abs(np.maximum(abs(u), abs(v)) - 0.65) < 0.2,
    lambda u, v: np.hypot(abs(u) - 0.62, v) < 0.4,
)


def make_shapes(
    count: int, seed: int, size: int = SIZE, channels: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """`count` images `[count, size, size, channels]` uint8 and labels `[count]` int32.

    Every class is as frequent; by default the images are 32 pixels wide and in colour.

    The same for a seed on every machine up to rounding: RandomState's stream is frozen.
    """
    random = np.random.RandomState(seed)
    labels = random.permutation(np.arange(count, dtype=np.int32) % len(CLASSES))
    images = np.empty((count, size, size, channels), np.uint8)
    for kind, inside in enumerate(FIGURES):
        for where in np.array_split(np.flatnonzero(labels == kind), 1 + count // 5000):
            images[where] = _draw(random, inside, len(where), size, channels)
    return images, labels


def _draw(
    random: np.random.RandomState, inside: Inside, count: int, size: int, channels: int
) -> np.ndarray:
    """`count` images of one figure, `[count, size, size, channels]` uint8."""

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return random.uniform(low, high, (count, *shape)).astype(np.float32)

    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    y, x = axis[None, :, None], axis[None, None, :]
    radius, turn = uniform(0.3, 0.6, 1, 1), uniform(0, 2 * np.pi, 1, 1)
    dx, dy = x - uniform(-0.4, 0.4, 1, 1), y - uniform(-0.4, 0.4, 1, 1)
    u = (np.cos(turn) * dx + np.sin(turn) * dy) / radius
    v = (np.cos(turn) * dy - np.sin(turn) * dx) / radius
    mask = inside(u, v)[..., None]

    # A background that shades from one colour to another, and a figure that differs from its
    # middle by at least 60 of 255 in some channel, darker or brighter alike.
    shade = uniform(-40, 40, 1, 1, channels) * x[..., None]
    shade = shade + uniform(-40, 40, 1, 1, channels) * y[..., None]
    ground = uniform(40, 215, 1, 1, channels)
    contrast = uniform(60, 130, 1, 1, channels) * random.choice(
        np.array([-1, 1], np.float32), (count, 1, 1, channels)
    )
    contrast = np.where((ground + contrast < 0) | (ground + contrast > 255), -contrast, contrast)
    # The two halves of a random byte make triangular noise, ten times as fast as a Gaussian.
    luck = np.frombuffer(random.bytes(count * size * size * channels), np.uint8)
    noise = ((luck & 15) + (luck >> 4)).reshape(count, size, size, channels) * np.float32(2) - 30
    picture = ground + shade + contrast * mask + noise
    return np.clip(picture, 0, 255).astype(np.uint8)
