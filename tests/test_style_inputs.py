"""What stylize works on: pictures of the right size and colours, and the noise it begins with."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.data import color, images
from jaxlessons.errors import UserError
from jaxlessons.models import vgg
from jaxlessons.style_inputs import as_float, at_scale, prepare, scaled, start
from jaxlessons.style_settings import Settings

SHALLOW = Settings(content_layer="block2_conv1", style_layers=("block1_conv1", "block2_conv1"))


def mild(height, width, seed=0):
    """Colours far enough from black and white for a change of them to clip nothing."""
    random = np.random.RandomState(seed)
    mixed = random.normal(0, 0.05, (height, width, 3)) @ random.normal(size=(3, 3))
    return (0.5 + 0.3 * mixed).astype(np.float32)


CONTENT, STYLE = mild(12, 16), mild(20, 18, 1)


def made(content=CONTENT, styles=(STYLE,), weights=None, masks=None, style_size=None, **changes):
    settings = dataclasses.replace(SHALLOW, **changes)
    return prepare(settings, content, styles, weights, masks, style_size)


def test_bytes_become_shares_and_floats_stay_what_they_are():
    all_bytes = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, -1)
    found = as_float(all_bytes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0, 0], np.arange(256) / 255, rtol=1e-6)
    np.testing.assert_array_equal(as_float(STYLE.astype(np.float64)), STYLE)


def test_the_content_is_left_alone_and_the_style_covers_it():
    inputs = made(content=np.rint(255 * CONTENT).astype(np.uint8))
    np.testing.assert_allclose(inputs.content, np.rint(255 * CONTENT) / 255, rtol=1e-6)
    np.testing.assert_array_equal(inputs.colors, inputs.content)
    np.testing.assert_array_equal(inputs.styles[0], images.scale_match(STYLE, 12, 16))
    assert (inputs.weights, inputs.masks) == ((1.0,), None)
    assert {x.dtype for x in (inputs.content, *inputs.styles)} == {np.dtype("float32")}


@pytest.mark.parametrize(("size", "shape"), [(10, (10, 9)), (40, (40, 36)), (20, (20, 18))])
def test_a_style_has_a_size_of_its_own_where_one_is_given(size, shape):
    found = made(style_size=size).styles[0]
    np.testing.assert_array_equal(found, np.clip(images.resize(STYLE, *shape), 0, 1))


def test_for_luminance_all_is_grey_and_the_style_as_light_as_the_content():
    inputs = made(color="luminance")
    np.testing.assert_array_equal(inputs.colors, CONTENT)
    luminance = CONTENT.astype(np.float64) @ [0.299, 0.587, 0.114]
    for picture in (inputs.content, *inputs.styles):
        np.testing.assert_array_equal(picture, picture[..., :1].repeat(3, -1))
    np.testing.assert_allclose(inputs.content[..., 0], luminance, rtol=1e-6)
    style = inputs.styles[0][..., 0].astype(np.float64)
    assert style.mean() == pytest.approx(luminance.mean(), rel=1e-5)
    assert style.std() == pytest.approx(luminance.std(), rel=1e-5)


def test_for_the_contents_histogram_only_the_style_is_recoloured():
    inputs = made(color="histogram")
    np.testing.assert_array_equal(inputs.content, CONTENT)
    style, content = (x.reshape(-1, 3).astype(np.float64) for x in (inputs.styles[0], CONTENT))
    np.testing.assert_allclose(style.mean(0), content.mean(0), atol=1e-6)
    np.testing.assert_allclose(np.cov(style.T, bias=True), np.cov(content.T, bias=True), atol=1e-6)


def test_what_recolouring_throws_out_of_range_is_clipped():
    harsh = np.random.RandomState(2).uniform(size=(12, 16, 3)).astype(np.float32).round()
    styles = (STYLE, np.rint(STYLE))
    unclipped = [color.match_colors(images.scale_match(style, 12, 16), harsh) for style in styles]
    assert any(x.min() < 0 or x.max() > 1 for x in unclipped)
    for found, wanted in zip(made(harsh, styles, color="histogram").styles, unclipped, strict=True):
        np.testing.assert_allclose(found, wanted.clip(0, 1), atol=1e-6)


def test_halved_inputs_are_the_resized_ones():
    left = np.zeros((12, 16), bool)
    left[:, :8] = True
    inputs = made(styles=(STYLE, CONTENT), masks=(left, ~left), weights=(1, 3), color="luminance")
    assert at_scale(inputs, 0) is inputs
    half = at_scale(inputs, 1)
    np.testing.assert_array_equal(half.content, images.resize(inputs.content, 6, 8))
    np.testing.assert_array_equal(half.colors, images.resize(CONTENT, 6, 8))
    for found, whole in zip(half.styles, inputs.styles, strict=True):
        np.testing.assert_array_equal(found, images.resize(whole, 6, 8))
    assert half.weights == (1.0, 3.0)
    # Two masks that share the picture go on sharing it, with a soft edge.
    np.testing.assert_allclose(half.masks[0] + half.masks[1], 1, atol=1e-6)
    np.testing.assert_allclose(
        half.masks[0][:, [0, 1, 2, 5, 6, 7]], [[1, 1, 1, 0, 0, 0]] * 6, atol=1e-6
    )


def test_sides_are_halved_to_the_nearest_pixel_but_never_to_none():
    assert scaled((768, 511), 0) == (768, 511)
    assert scaled((768, 511), 1) == (384, 256)
    assert scaled((768, 511), 3) == (96, 64)
    assert scaled((3, 100), 4) == (1, 6)


def test_the_noise_is_the_lessons():
    """Its 8x8 median, halved about the network's mean: in the network's units simply halved."""
    inputs = made(content=mild(24, 30))
    noise = np.random.default_rng(7).uniform(0, 1, (24, 30, 3)).astype(np.float32)
    found = start(dataclasses.replace(SHALLOW, seed=7), inputs)
    assert found.dtype == np.float32
    before, after = (np.asarray(vgg.preprocess(255 * jnp.asarray(x))) for x in (noise, found))
    for row, column in ((4, 4), (10, 17), (19, 25)):
        window = before[row - 4 : row + 4, column - 4 : column + 4].reshape(64, 3)
        # Of the 64 in order the first of the upper half; blue, green and red each on their own.
        expected = np.sort(window, axis=0)[32] / 2
        np.testing.assert_allclose(after[row, column], expected, atol=1e-3)
    grey = np.array(vgg.MEAN[::-1]) / 255
    assert np.abs(found - grey).max() < 0.3
    assert found.std() < 0.1 < noise.std()


def test_each_seed_has_noise_of_its_own_and_always_the_same():
    inputs = made()
    first, again, other = (
        start(dataclasses.replace(SHALLOW, seed=seed), inputs) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_a_start_may_be_the_content_or_the_two_mixed():
    inputs = made()
    noise = start(SHALLOW, inputs)
    content = start(dataclasses.replace(SHALLOW, init="content"), inputs)
    np.testing.assert_array_equal(content, CONTENT)
    for blend in (0.0, 0.25, 1.0):
        found = start(dataclasses.replace(SHALLOW, init="blend", blend=blend), inputs)
        np.testing.assert_allclose(found, blend * noise + (1 - blend) * CONTENT, atol=1e-6)


def test_where_only_luminance_is_painted_the_noise_has_no_colour():
    settings = dataclasses.replace(SHALLOW, color="luminance")
    found = start(settings, made(color="luminance"))
    # But for the network's mean, about which it is halved.
    noise = 2 * found - np.array(vgg.MEAN[::-1], np.float32) / 255
    np.testing.assert_allclose(noise, noise[..., :1].repeat(3, -1), atol=1e-6)
    assert noise.std() > 0.01


ONES = np.ones((12, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"content": np.zeros((4, 5))},
            "The content has the shape (4, 5): it must be [height, width, 3], RGB.",
        ),
        (
            {"styles": [STYLE, np.zeros((8, 8, 4))]},
            "The style 2 has the shape (8, 8, 4): it must be [height, width, 3], RGB.",
        ),
        (
            {"content": np.zeros((0, 5, 3))},
            "The content has the shape (0, 5, 3): it must be [height, width, 3], RGB.",
        ),
        (
            {"content": np.full((8, 8, 3), 200)},
            "The content holds int64 from 200 to 200: it must be uint8, or float from 0 to 1.",
        ),
        (
            {"styles": [2 * STYLE.round() - 1]},
            "The style 1 holds float32 from -1 to 1: it must be uint8, or float from 0 to 1.",
        ),
        (
            {"content": np.full((8, 8, 3), np.nan)},
            "The content holds float64 from nan to nan: it must be uint8, or float from 0 to 1.",
        ),
        ({"styles": ()}, "There is no style: give one or more, or set style_weight to 0."),
        ({"weights": (1, 2)}, "There are 2 weights for 1 styles: give one for each."),
        ({"weights": (-1,)}, "The styles' weights are [-1]: none may be below 0, nor all 0."),
        ({"weights": (0,)}, "The styles' weights are [0]: none may be below 0, nor all 0."),
        ({"weights": (np.nan,)}, "The styles' weights are [nan]: none may be below 0, nor all 0."),
        ({"masks": (0 * ONES,)}, "Mask 1 holds 0 to 0: it must hold 0 to 1, and not 0 alone."),
        ({"masks": (2 * ONES,)}, "Mask 1 holds 2 to 2: it must hold 0 to 1, and not 0 alone."),
        (
            {"masks": (np.nan * ONES,)},
            "Mask 1 holds nan to nan: it must hold 0 to 1, and not 0 alone.",
        ),
        ({"masks": (ONES, ONES)}, "There are 2 masks for 1 styles: give one for each."),
        ({"masks": (ONES.T,)}, "Mask 1 is (16, 12), the content (12, 16): they must agree."),
        (
            {"content": CONTENT[:1]},
            "The content is 16 x 1 pixels: with these layers and 1 scales each side must have 2 "
            "or more; take a larger size or fewer scales.",
        ),
        (
            {"scales": 4},
            "The content is 16 x 12 pixels: with these layers and 4 scales each side must have 16 "
            "or more; take a larger size or fewer scales.",
        ),
        (
            {"style_size": 3, "scales": 2},
            "The style is 3 x 3 pixels: with these layers and 2 scales each side must have 4 or "
            "more; take a larger size or fewer scales.",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(UserError) as caught:
        made(**settings)
    assert str(caught.value) == message


def test_a_single_row_is_refused_even_where_no_layer_halves_it():
    with pytest.raises(UserError, match="each side must have 2 or more"):
        made(CONTENT[:, :1], content_layer="block1_conv1", style_layers=("block1_conv1",))
