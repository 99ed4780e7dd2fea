"""The losses against torch's numbers, their gradients against the papers' closed forms."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxlessons.style_losses import content_loss, gram_matrix, style_loss, total_variation

KINDS = ["lesson", "gatys"]


def formula(name, *shape):
    """As in stored/make_networks.py."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(index * index + index + sum(map(ord, name))).reshape(shape)


# Those of stored/make_style.py: two pictures of 5 x 6 with 4 channels.
FEATURES, OTHER = (
    jnp.asarray(formula(name, 2, 5, 6, 4), jnp.float32) for name in ("features", "other")
)
MASK = jnp.asarray((1 + formula("mask", 5, 6)) / 2, jnp.float32)


def slope(function, at, along, step):
    """The derivative, exact for polynomials to the fourth degree: no step is too long for them."""
    values = [float(function(at + n * step * along)) for n in (-2, -1, 1, 2)]
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)


def assert_slopes(function, at, step=0.25):
    """Along directions of which none is near a right angle to the gradient."""
    gradient = jax.jit(jax.grad(function))(at)
    unit = gradient / jnp.linalg.norm(gradient)
    function = jax.jit(function)
    for seed in range(4):
        other = np.random.RandomState(seed).normal(size=at.shape)
        along = unit + jnp.asarray(other / np.linalg.norm(other), jnp.float32)
        expected = slope(function, at, along, step)
        assert float(jnp.vdot(gradient, along)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gram_matrices_are_torchs_and_those_of_the_sums_written_out(kind, stored):
    expected = stored("style")["losses"][kind]
    batch = gram_matrix(FEATURES, kind)
    np.testing.assert_allclose(batch, expected["gram"], rtol=1e-5, atol=1e-7)
    masked = gram_matrix(FEATURES[0], kind, MASK)
    np.testing.assert_allclose(masked, expected["masked_gram"], rtol=1e-5, atol=1e-7)
    pixels = np.asarray(FEATURES[1], np.float64).reshape(30, 4)
    product = sum(np.outer(pixel, pixel) for pixel in pixels)
    by = 30 * 4 if kind == "lesson" else 30
    np.testing.assert_allclose(batch[1], product / by, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_each_of_a_batch_has_its_own_gram_matrix(kind):
    twice = jnp.stack([FEATURES, OTHER])
    for mask in (None, MASK):
        found = gram_matrix(twice, kind, mask)
        assert found.shape == (2, 2, 4, 4)
        for place in np.ndindex(2, 2):
            alone = gram_matrix(twice[place], kind, mask)
            np.testing.assert_allclose(found[place], alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_gram_matrices_are_symmetric_and_no_direction_has_a_negative_share(kind):
    few = jnp.asarray(np.random.RandomState(0).normal(size=(2, 2, 6)), jnp.float32)
    gram = np.asarray(gram_matrix(few, kind), np.float64)
    np.testing.assert_array_equal(gram, gram.T)
    values = np.linalg.eigvalsh(gram)
    # Four positions span four of the six channels' dimensions.
    np.testing.assert_allclose(values[:2], 0, atol=1e-6 * values[-1])
    assert (values[2:] > 1e-3 * values[-1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_counts_its_region_as_if_there_were_nothing_else(kind):
    whole = gram_matrix(FEATURES, kind)
    np.testing.assert_allclose(gram_matrix(FEATURES, kind, jnp.ones((5, 6))), whole, rtol=1e-6)
    half = jnp.zeros((5, 6)).at[:, :3].set(1)
    alone = gram_matrix(FEATURES[:, :, :3], kind)
    np.testing.assert_allclose(gram_matrix(FEATURES, kind, half), alone, rtol=1e-6, atol=1e-7)
    # How strong a mask is makes no difference, for the region is counted by it too.
    np.testing.assert_allclose(gram_matrix(FEATURES, kind, half / 4), alone, rtol=1e-6, atol=1e-7)
    assert not gram_matrix(FEATURES, kind, jnp.zeros((5, 6))).any()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_features_are_summed_in_float32(kind):
    # So many positions that a sum in bfloat16 would stand still at 256.
    ones = jnp.ones((40, 50, 2), jnp.bfloat16)
    assert gram_matrix(ones, kind).dtype == jnp.float32
    np.testing.assert_array_equal(gram_matrix(ones, kind), 0.5 if kind == "lesson" else 1)
    rounded = FEATURES.astype(jnp.bfloat16)
    exact = gram_matrix(rounded.astype(jnp.float32), kind)
    np.testing.assert_allclose(gram_matrix(rounded, kind), exact, rtol=1e-5, atol=1e-7)
    whole = gram_matrix(FEATURES, kind)
    near = np.testing.assert_allclose
    near(gram_matrix(rounded, kind), whole, atol=0.01 * float(whole.max()))
    near(gram_matrix(rounded, kind, MASK), gram_matrix(FEATURES, kind, MASK), atol=0.01)
    for loss in (content_loss(rounded, OTHER), style_loss(rounded, whole, kind)):
        assert loss.dtype == jnp.float32


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_torchs(kind, stored):
    expected = stored("style")["losses"]
    assert float(content_loss(FEATURES, OTHER)) == pytest.approx(expected["content"], rel=1e-5)
    variation = float(total_variation(FEATURES[0]))
    assert variation == pytest.approx(expected["total_variation"], rel=1e-5)
    target = gram_matrix(OTHER[0], kind)
    style = float(style_loss(FEATURES[0], target, kind))
    assert style == pytest.approx(expected[kind]["style"], rel=1e-5)
    masked = float(style_loss(FEATURES[0], target, kind, MASK))
    assert masked == pytest.approx(expected[kind]["masked_style"], rel=1e-5)


def test_gatyss_style_loss_is_the_lessons_times_a_quarter_of_the_channels_squared():
    """G_gatys = c G_lesson, and mean (c d)^2 / 4 = c^2/4 mean d^2."""
    lesson, gatys = (
        float(style_loss(FEATURES[0], gram_matrix(OTHER[0], kind), kind)) for kind in KINDS
    )
    assert gatys == pytest.approx(lesson * 4**2 / 4, rel=1e-5)
    # The paper's own form, with its sums over positions and its factor.
    flat, other = (np.asarray(f[0], np.float64).reshape(30, 4) for f in (FEATURES, OTHER))
    paper = ((flat.T @ flat - other.T @ other) ** 2).sum() / (4 * 4**2 * 30**2)
    assert gatys == pytest.approx(paper, rel=1e-5)


def test_losses_vanish_where_the_picture_is_the_target():
    assert content_loss(FEATURES, FEATURES) == 0
    # The Gram matrix knows nothing of places: any order of the positions has the same style.
    shuffled = np.random.RandomState(0).permutation(np.asarray(FEATURES[0]).reshape(30, 4))
    for kind in KINDS:
        moved = jnp.asarray(shuffled.reshape(6, 5, 4))
        assert float(style_loss(moved, gram_matrix(FEATURES[0], kind), kind)) < 1e-13


def test_content_losss_gradient_is_the_difference():
    gradient = jax.grad(content_loss)(FEATURES, OTHER)
    expected = 2 * (np.asarray(FEATURES) - np.asarray(OTHER)) / FEATURES.size
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-9)
    assert_slopes(lambda x: content_loss(x, OTHER), FEATURES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
def test_style_losss_gradient_is_gatyss(kind, mask):
    """Equation 6 of the paper, with a mask's squares as the weights of the positions."""
    target = gram_matrix(OTHER[0], kind)
    found = jax.grad(lambda x: style_loss(x, target, kind, mask))(FEATURES[0])
    flat = np.asarray(FEATURES[0], np.float64).reshape(30, 4)
    counted = np.ones(30) if mask is None else np.asarray(mask, np.float64).ravel() ** 2
    by = counted.sum() * (4 if kind == "lesson" else 1)
    apart = (flat.T * counted) @ flat / by - np.asarray(target, np.float64)
    expected = 4 * counted[:, None] * (flat @ apart) / (by * 4**2)
    expected = (expected if kind == "lesson" else expected / 4).reshape(5, 6, 4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert_slopes(lambda x: style_loss(x, target, kind, mask), FEATURES[0])


@pytest.mark.parametrize("kind", KINDS)
def test_gram_matrices_can_be_differentiated_forwards_and_twice(kind):
    # The rule is the code's own. Quadratic, so the differences are exact but for the rounding.
    gram = partial(gram_matrix, normalization=kind)
    check_grads(gram, (FEATURES[0],), order=2, modes=["fwd", "rev"], atol=1e-3, rtol=1e-3)
    batch = jax.jvp(gram, (FEATURES,), (OTHER,))[1]
    each = [jax.jvp(gram, (x,), (t,))[1] for x, t in zip(FEATURES, OTHER, strict=True)]
    np.testing.assert_allclose(batch, each, rtol=1e-5, atol=1e-7)


def test_total_variation_is_half_the_mean_steps_down_and_to_the_right():
    row, column = np.mgrid[0:5, 0:7].astype(np.float32)
    ramp = jnp.asarray(np.stack([3 * row + 2 * column] * 3, -1))
    assert float(total_variation(ramp)) == pytest.approx((3 + 2) / 2, rel=1e-6)
    stripes = jnp.asarray(np.stack([column % 2] * 3, -1))
    assert float(total_variation(stripes)) == pytest.approx(0.5, rel=1e-6)
    assert float(total_variation(stripes.swapaxes(0, 1))) == pytest.approx(0.5, rel=1e-6)
    assert float(total_variation(jnp.full((4, 4, 3), 0.3))) == 0
    both = total_variation(jnp.stack([ramp, stripes]))
    assert float(both) == pytest.approx((2.5 + 0.5) / 2, rel=1e-6)


def test_total_variations_gradient_is_the_signs_of_the_steps():
    # Heights in an order by chance, all 1/16 apart and more: no step changes its sign nearby.
    picture = np.random.RandomState(0).permutation(5 * 6 * 3).reshape(5, 6, 3) / 16
    found = jax.grad(total_variation)(jnp.asarray(picture, jnp.float32))
    expected = np.zeros_like(picture)
    for axis in (0, 1):
        signs = np.sign(np.diff(picture, axis=axis))
        ends = np.concatenate([np.zeros_like(signs.take([0], axis)), signs], axis)
        begins = np.concatenate([signs, np.zeros_like(signs.take([0], axis))], axis)
        expected += 0.5 * (ends - begins) / signs.size
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    assert_slopes(total_variation, jnp.asarray(picture, jnp.float32), step=0.01)


@pytest.mark.parametrize("kind", ["Lesson", "", None])
def test_another_normalization_is_refused(kind):
    message = f"normalization is {kind!r}: it must be 'lesson' or 'gatys'."
    with pytest.raises(ValueError, match="normalization") as caught:
        gram_matrix(FEATURES, kind)
    assert str(caught.value) == message
    with pytest.raises(ValueError, match="normalization") as caught:
        style_loss(FEATURES, jnp.zeros((2, 4, 4)), kind)
    assert str(caught.value) == message
