"""Recolouring against torch's numbers, Pillow's luminance, and what each promises to keep."""

import math

import numpy as np
import pytest
from PIL import Image

from jaxlessons.data import color

RANDOM = np.random.RandomState(0)


def formula(name, *shape):
    """Pictures as in stored/make_style.py."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return (1 + np.sin(index * index + index + sum(map(ord, name))).reshape(shape)) / 2


def chroma(picture):
    """In-phase and quadrature, by FCC NTSC's axes: 33 degrees from blue and red's differences."""
    luminance = picture @ [0.299, 0.587, 0.114]
    u, v = 0.492111 * (picture[..., 2] - luminance), 0.877283 * (picture[..., 0] - luminance)
    angle = np.deg2rad(33)
    return np.stack(
        [v * np.cos(angle) - u * np.sin(angle), v * np.sin(angle) + u * np.cos(angle)], -1
    )


def moments(picture):
    pixels = picture.reshape(-1, 3).astype(np.float64)
    return pixels.mean(0), np.cov(pixels, rowvar=False, bias=True)


def assert_moments(found, wanted, atol=1e-6):
    for ours, theirs in zip(moments(found), moments(wanted), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


STYLE, CONTENT = formula("style", 3, 4, 3), formula("content", 2, 5, 3)


def test_recolourings_are_torchs(stored):
    expected = stored("style")["colors"]
    grey = color.to_grey(STYLE)
    np.testing.assert_allclose(grey.reshape(-1, 3)[:, 1], expected["luminance"], rtol=1e-6)
    found = color.match_luminance(STYLE, CONTENT).reshape(-1, 3)[:, 2]
    np.testing.assert_allclose(found, expected["match_luminance"], rtol=1e-6)
    found = color.match_colors(STYLE, CONTENT).reshape(-1, 3)
    np.testing.assert_allclose(found, expected["match_colors"], rtol=1e-6, atol=1e-6)


def test_grey_is_pillows_luminance_in_all_three_channels():
    picture = RANDOM.randint(0, 256, (20, 30, 3)).astype(np.uint8)
    pillow = np.asarray(Image.fromarray(picture).convert("L"))
    grey = color.to_grey(picture.astype(np.float32))
    np.testing.assert_allclose(grey, pillow[..., None].repeat(3, -1), atol=0.51)
    np.testing.assert_allclose(color.to_grey(np.full((1, 2, 3), 0.3)), 0.3, rtol=1e-12)


def test_yiq_has_the_axes_of_ntsc_and_no_colour_for_grey():
    np.testing.assert_allclose(color.YIQ.sum(1), [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(STYLE @ color.YIQ[1:].T, chroma(STYLE), atol=1e-3)


def test_colours_go_to_yiq_and_back():
    np.testing.assert_allclose(color.with_chroma_of(STYLE, STYLE), STYLE, atol=1e-12)


def test_luminance_is_the_ones_and_chroma_the_others():
    other = formula("other", 3, 4, 3)
    both = color.with_chroma_of(STYLE, other)
    np.testing.assert_allclose(color.to_grey(both), color.to_grey(STYLE), atol=1e-12)
    np.testing.assert_allclose(
        (both @ color.YIQ.T)[..., 1:], (other @ color.YIQ.T)[..., 1:], atol=1e-12
    )
    # Whatever the picture's own colours are: in grey it gives the same.
    np.testing.assert_allclose(color.with_chroma_of(color.to_grey(STYLE), other), both, atol=1e-12)
    # One colour more or less in all channels is luminance alone.
    np.testing.assert_allclose(both - other, (both - other)[..., :1].repeat(3, -1), atol=1e-4)


def test_matched_luminance_has_the_contents_mean_and_deviation_and_the_styles_order():
    found, wanted = color.match_luminance(STYLE, CONTENT), color.to_grey(CONTENT)
    assert found.mean() == pytest.approx(wanted.mean(), abs=1e-12)
    assert found.std() == pytest.approx(wanted.std(), abs=1e-12)
    grey = color.to_grey(STYLE)
    assert np.corrcoef(found.ravel(), grey.ravel())[0, 1] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_matched_colours_have_the_contents_mean_and_covariance(seed):
    random = np.random.RandomState(seed)
    style = random.uniform(size=(20, 24, 3)) ** 2
    content = (0.5 + 0.1 * random.normal(size=(16, 30, 3)) @ random.normal(size=(3, 3))).astype(
        np.float32
    )
    assert_moments(color.match_colors(style, content), content)
    # The other way round, and once more, it changes nothing.
    assert_moments(color.match_colors(content, style), style)
    matched = color.match_colors(style, content)
    np.testing.assert_allclose(color.match_colors(matched, content), matched, atol=1e-6)
    np.testing.assert_allclose(color.match_colors(content, content), content, atol=1e-6)


def test_the_matching_is_symmetric_where_the_colours_axes_agree():
    """For uncorrelated channels it stretches each on its own, and exchanges none."""
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T[None]
    style, content = 0.5 + corners * [0.1, 0.2, 0.3], 0.4 + corners * [0.3, 0.1, 0.2]
    np.testing.assert_allclose(color.match_colors(style, content), content, atol=1e-9)


GREY = formula("grey", 6, 5, 1).repeat(3, -1)
FLAT = np.full((6, 5, 3), 0.25)


@pytest.mark.parametrize("style", [GREY, FLAT, STYLE], ids=["grey", "flat", "coloured"])
@pytest.mark.parametrize("content", [GREY, FLAT, CONTENT], ids=["grey", "flat", "coloured"])
def test_pictures_without_colour_or_contrast_are_matched_as_far_as_they_go(style, content):
    found = color.match_colors(style, content)
    assert found.shape == style.shape
    np.testing.assert_allclose(moments(found)[0], moments(content)[0], atol=1e-6)
    if style is STYLE:  # it has contrast in every direction to be made into the content's
        assert_moments(found, content, 1e-4)
    if content is not CONTENT:  # no colour comes from nowhere, but for the hundred-thousandths
        np.testing.assert_allclose(found, found[..., :1].repeat(3, -1), atol=1e-4)
    if style is FLAT:
        np.testing.assert_allclose(found, found[:1, :1].repeat(6, 0).repeat(5, 1), atol=1e-9)
    light = color.match_luminance(style, content)
    assert light.mean() == pytest.approx(color.to_grey(content).mean(), abs=1e-9)
    expected = 0 if style is FLAT else color.to_grey(content).std()
    assert light.std() == pytest.approx(expected, abs=1e-6)


def test_grey_bytes_stay_grey_and_get_the_contrast():
    """As pictures are read: what float32 rounds must not be blown up into colours."""
    grey = np.rint(255 * GREY).astype(np.uint8).astype(np.float32) / np.float32(255)
    other = 0.5 + 0.2 * (GREY.astype(np.float32) - 0.5)
    for found in (color.match_colors(grey, other), color.match_colors(other, grey)):
        np.testing.assert_allclose(found, found[..., :1].repeat(3, -1), atol=1e-6)
    assert color.match_colors(grey, other).std() == pytest.approx(other.std(), rel=1e-4)
