"""Whose colours a picture has: luminance apart from chroma, and colours matched as a whole.

Gatys et al., Preserving color in neural artistic style transfer (2016). Pictures are float RGB
`[height, width, 3]` from 0 to 1, in sRGB's own gamma, as in the paper; results are not clipped.
"""

from __future__ import annotations

import numpy as np

# RGB -> YIQ (NTSC): luminance, and two differences of colour.
YIQ = np.array([[0.299, 0.587, 0.114], [0.59590, -0.27455, -0.32135], [0.21153, -0.52273, 0.31120]])


def to_grey(picture: np.ndarray) -> np.ndarray:
    """The luminance Y = 0.299 R + 0.587 G + 0.114 B in all three channels."""
    luminance = picture.astype(np.float64) @ YIQ[0]
    return np.repeat(luminance[..., None], 3, axis=-1)


def with_chroma_of(picture: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The luminance of `picture`, the colours of `content`; both of one size."""
    combined = content.astype(np.float64) @ YIQ.T
    combined[..., 0] = picture.astype(np.float64) @ YIQ[0]
    return combined @ np.linalg.inv(YIQ).T


def match_luminance(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """`style` in grey, with the mean and deviation that `content` has in grey."""
    grey, other = to_grey(style), to_grey(content)
    return (grey - grey.mean()) * (other.std() / max(grey.std(), 1e-6)) + other.mean()


def match_colors(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """`style` with each pixel x -> A x + b, so that colours' mean and covariance are `content`'s.

    A = S_c^(1/2) S_s^(-1/2), with S the covariances: the paper's linear matching of histograms,
    the form of Hertzmann's Image analogies, which keeps A symmetric where the two agree.
    """
    pixels, others = (p.reshape(-1, 3).astype(np.float64) for p in (style, content))
    spread, wanted = (_root(np.cov(p, rowvar=False, bias=True)) for p in (pixels, others))
    matrix = wanted @ np.linalg.inv(spread)
    matched = (pixels - pixels.mean(axis=0)) @ matrix.T + others.mean(axis=0)
    return matched.reshape(style.shape)


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root; colours that don't vary count as varying a little (1e-5)."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 1e-10))) @ vectors.T)
