"""The whole loss of a picture against torch's, and what each setting of it changes."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.models import vgg
from jaxlessons.style_losses import content_loss, gram_matrix, style_loss, total_variation
from jaxlessons.style_objective import (
    layers_needed,
    make_features,
    make_objective,
    make_targets,
    smallest_side,
)
from jaxlessons.style_settings import BLOCK_ENDS, Settings

SIZE = 16
LAYERS = ("block1_conv1", "block2_conv1")
SHALLOW = Settings(
    content_layer=LAYERS[1],
    style_layers=LAYERS,
    content_weight=0.02,
    style_weight=0.02,
    tv_weight=30,
)
# The settings of stored/make_style.py's cases.
CASES = {
    "lesson": ({}, (1.0,), False),
    "gatys": ({"normalization": "gatys", "pool": "avg"}, (1.0, 3.0), False),
    "masked": ({}, (1.0, 3.0), True),
}


def formula(name, *shape):
    """As in stored/make_networks.py."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape)


def picture(name):
    return jnp.asarray((1 + formula(name, SIZE, SIZE, 3)) / 2, jnp.float32)


def mask(name):
    return (1 + formula(name, SIZE, SIZE)).astype(np.float32) / 2


@pytest.fixture(scope="module")
def params(by_formula):
    return by_formula(vgg.VGG16(LAYERS[1]), jnp.zeros((1, SIZE, SIZE, 3)))["params"]


@functools.cache
def features_of(settings):
    return make_features(settings, vgg.MEAN)


@functools.cache
def compiled(settings):
    return jax.jit(jax.value_and_grad(make_objective(settings, vgg.MEAN), has_aux=True))


@pytest.fixture(scope="module")
def aim(params):
    """(settings, weights of the styles, their masks) -> Targets."""

    def targets(settings, weights=(1.0,), masks=None):
        features = functools.partial(features_of(settings), params)
        styles = [features(picture(f"style{n}")) for n, _ in enumerate(weights, 1)]
        return make_targets(settings, features(picture("content")), styles, weights, masks)

    return targets


@pytest.fixture(scope="module")
def look(params, aim):
    """(settings, Targets, picture) -> (value, parts, gradient)."""

    def run(settings, targets=None, at=None):
        targets = aim(settings) if targets is None else targets
        at = picture("picture") if at is None else at
        (value, parts), gradient = compiled(settings)(at, (params, targets))
        assert {x.dtype for x in (value, gradient, *parts.values())} == {jnp.dtype("float32")}
        return float(value), jax.tree.map(float, parts), np.asarray(gradient)

    return run


@pytest.fixture(scope="module")
def plain(look):
    return look(SHALLOW)


def assert_near(found, expected, share):
    """Arrays, off by at most this share of the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.abs(expected).max())


@pytest.mark.parametrize("name", CASES)
def test_the_loss_its_parts_and_its_gradient_are_torchs(name, stored, aim, look):
    expected = stored("style")["objective"][name]
    changes, weights, masked = CASES[name]
    content, style, variation = expected["loss_weights"]
    settings = dataclasses.replace(
        SHALLOW, content_weight=content, style_weight=style, tv_weight=variation, **changes
    )
    masks = [mask(f"mask{n}") for n, _ in enumerate(weights, 1)] if masked else None
    value, parts, gradient = look(settings, aim(settings, weights, masks))
    # One mixed Gram matrix has the losses to each but for what they have among themselves.
    mixed = len(weights) > 1 and not masked
    for part, number in zip(("content", "style", "variation"), expected["parts"], strict=True):
        if not (mixed and part == "style"):
            assert parts[part] == pytest.approx(number, rel=1e-5)
    if not mixed:
        assert value == pytest.approx(expected["total"], rel=1e-5)
    *first, length, weighed = expected["gradient"]
    np.testing.assert_allclose(gradient.ravel()[:6], first, rtol=0, atol=1e-5 * length)
    assert np.linalg.norm(gradient) == pytest.approx(length, rel=1e-5)
    found = float((gradient * formula("weights", SIZE, SIZE, 3)).sum())
    assert found == pytest.approx(weighed, rel=1e-5)


def test_the_parts_are_the_weighted_losses_and_add_up(plain, params):
    value, parts, _ = plain
    assert list(parts) == ["content", "style", "variation"]
    assert value == pytest.approx(sum(parts.values()), rel=1e-6)
    names = ("picture", "content", "style1")
    seen, content, style = (features_of(SHALLOW)(params, picture(name)) for name in names)
    assert set(seen) == set(LAYERS)
    losses = [style_loss(seen[x], gram_matrix(style[x])) for x in LAYERS]
    assert parts["style"] == pytest.approx(0.02 * float(sum(losses)), rel=1e-5)
    loss = content_loss(seen[LAYERS[1]], content[LAYERS[1]])
    assert parts["content"] == pytest.approx(0.02 * float(loss), rel=1e-5)
    variation = 30 * float(total_variation(picture("picture")))
    assert parts["variation"] == pytest.approx(variation, rel=1e-5)


def test_recomputed_features_change_nothing(plain, look):
    value, parts, gradient = look(dataclasses.replace(SHALLOW, remat=True))
    assert value == pytest.approx(plain[0], rel=1e-6)
    assert parts == pytest.approx(plain[1], rel=1e-6)
    assert_near(gradient, plain[2], 1e-6)


def test_recomputing_keeps_less_for_the_backward_pass(params, aim):
    """What there is between the passes, less the weights, which both keep."""

    def kept(settings):
        objective, data = make_objective(settings, vgg.MEAN), (params, aim(settings))
        backward = jax.eval_shape(lambda x: jax.vjp(objective, x, data)[1], picture("picture"))
        sizes = [sum(x.size for x in jax.tree.leaves(tree)) for tree in (backward, params)]
        return sizes[0] - sizes[1]

    assert 0 < kept(dataclasses.replace(SHALLOW, remat=True)) < 0.5 * kept(SHALLOW)


def test_half_precision_features_are_near_and_their_losses_float32(plain, look, params, aim):
    half = dataclasses.replace(SHALLOW, compute_dtype="bfloat16")
    features = features_of(half)(params, picture("content"))
    assert {x.dtype for x in features.values()} == {jnp.dtype("bfloat16")}
    value, parts, gradient = look(half, aim(SHALLOW))
    assert value != plain[0]
    assert parts == pytest.approx(plain[1], rel=0.03)
    assert parts["variation"] == plain[1]["variation"]  # of the picture itself
    apart = np.linalg.norm(gradient - plain[2]) / np.linalg.norm(plain[2])
    assert apart < 0.1


def test_mixed_styles_have_the_gradient_of_their_losses_weighed(aim, look):
    """And differ from that sum by what the styles have among themselves, whatever the picture."""
    weights, settings = (1.0, 3.0), dataclasses.replace(SHALLOW, content_weight=0, tv_weight=0)
    alone = [(1.0, 0.0), (0.0, 1.0)]
    apart = []
    for at in (picture("picture"), picture("other")):
        mixed = look(settings, aim(settings, weights), at)
        each = [look(settings, aim(settings, one), at) for one in alone]
        total = [
            0.25 * first + 0.75 * second
            for first, second in zip(each[0][::2], each[1][::2], strict=True)
        ]
        assert_near(mixed[2], total[1], 1e-5)
        apart.append(total[0] - mixed[0])
    assert apart[0] > 0.01 * total[0]
    assert apart[0] == pytest.approx(apart[1], rel=1e-3)


def test_only_the_proportions_of_the_styles_weights_count(aim):
    once, ten = aim(SHALLOW, (1.0, 3.0)), aim(SHALLOW, (10.0, 30.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), once, ten)


def test_a_style_reaches_only_the_part_of_the_picture_within_its_mask(aim, look):
    settings = dataclasses.replace(SHALLOW, content_weight=0, tv_weight=0)
    left = np.zeros((SIZE, SIZE), np.float32)
    left[:, :8] = 1
    gradient = look(settings, aim(settings, (1.0,), [left]))[2]
    # The second block's mask is one pixel (two of the picture's) wider for its being resized, and
    # its features see 6 pixels: themselves, two convolutions, pooling and another.
    assert np.abs(gradient[:, :8]).min() > 0
    np.testing.assert_array_equal(gradient[:, 14:], 0)
    nowhere = look(settings, aim(settings, (1.0,), [0 * left]))
    assert nowhere[0] > 0  # the style is as far away as it can be
    np.testing.assert_array_equal(nowhere[2], 0)


def test_masks_share_the_picture_and_each_style_counts_by_its_weight(aim, look):
    settings = dataclasses.replace(SHALLOW, content_weight=0, tv_weight=0)
    everywhere = np.ones((SIZE, SIZE), np.float32)
    whole = look(settings, aim(settings))
    masked = look(settings, aim(settings, (1.0,), [everywhere]))
    assert_near(masked[2], whole[2], 1e-5)
    # Where two styles have everything, their losses are added: each is its mask's alone.
    both = look(settings, aim(settings, (1.0, 3.0), [everywhere, everywhere]))
    each = [look(settings, aim(settings, one)) for one in ((1.0, 0.0), (0.0, 1.0))]
    assert both[0] == pytest.approx(2 * (0.25 * each[0][0] + 0.75 * each[1][0]), rel=1e-5)


def test_content_alone_and_style_alone_want_nothing_of_the_other(plain, aim, look):
    content = dataclasses.replace(SHALLOW, style_weight=0, tv_weight=0)
    targets = aim(content, ())
    assert targets.regions == ()
    value, parts, _ = look(content, targets)
    assert parts["content"] == value == pytest.approx(plain[1]["content"], rel=1e-5)
    assert parts["style"] == parts["variation"] == 0
    style = dataclasses.replace(SHALLOW, content_weight=0, tv_weight=0)
    assert aim(style).content is None
    value, parts, _ = look(style)
    assert parts["style"] == value == pytest.approx(plain[1]["style"], rel=1e-5)


def test_the_network_is_only_as_deep_as_the_losses_read():
    assert layers_needed(Settings())[-1] == "block5_conv3"
    for changes, last, side in (
        ({"style_weight": 0.0}, "block4_conv2", 8),
        ({"content_weight": 0.0, "style_layers": BLOCK_ENDS[:2]}, "block2_conv2", 2),
        ({"style_layers": ("block1_conv1",), "content_layer": "block3_pool"}, "block3_pool", 8),
        ({"content_layer": "block5_pool"}, "block5_pool", 32),
    ):
        settings = Settings(**changes)
        found = layers_needed(settings)
        assert found == list(vgg.LAYERS)[: len(found)]
        assert found[-1] == last
        assert smallest_side(settings) == side


def test_in_luminance_alone_a_pictures_colours_have_no_part(plain, look):
    settings = dataclasses.replace(SHALLOW, color="luminance")
    grey = np.float32([0.299, 0.587, 0.114])
    at = picture("picture")
    value, _, gradient = look(settings)
    # Chroma: what YIQ's luminance is blind to.
    chroma = 0.1 * formula("chroma", SIZE, SIZE, 1) * np.cross(grey, [1, 0, 0]).astype(np.float32)
    assert look(settings, at=at + chroma)[0] == pytest.approx(value, rel=1e-5)
    assert look(SHALLOW, at=at + chroma)[0] != pytest.approx(plain[0], rel=1e-3)
    # The gradient is that of Y, spread over the channels by their weight in it.
    along = gradient.sum(axis=-1, keepdims=True)
    assert_near(gradient, along * (grey / grey.sum()).reshape(1, 1, 3), 1e-5)
    y = jnp.repeat((at @ grey)[..., None], 3, axis=-1)
    assert look(SHALLOW, at=y)[0] == pytest.approx(value, rel=1e-5)
