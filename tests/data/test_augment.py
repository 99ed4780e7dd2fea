from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxlessons.data import augment

KEY = jax.random.key(5)


def pictures(count, height, width, dtype=np.int32):
    """Every pixel of every image its own number."""
    return np.arange(count * height * width, dtype=dtype).reshape(count, height, width, 1)


def equally_likely(places, count):
    return stats.chisquare(np.bincount(places, minlength=count)).pvalue > 0.001


def drawn(function, images):
    """function(KEY, images), once it's seen that the key alone decides and bytes stay bytes."""
    jitted = jax.jit(function)
    out = np.asarray(jitted(KEY, images))
    np.testing.assert_array_equal(jitted(KEY, images), out)
    assert (np.asarray(jitted(jax.random.key(6), images)) != out).any()
    assert jax.eval_shape(function, KEY, images.astype(np.uint8)).dtype == np.uint8
    return out


def test_normalize_is_the_formula_and_spans_uint8():
    images = np.array([[[[0, 128, 255]]]], np.uint8)
    out = augment.normalize(images, (0.5, 0.25, 0.0), (0.25, 0.5, 2.0))
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out[0, 0, 0], [-2, (128 / 255 - 0.25) / 0.5, 0.5], rtol=1e-6)


def test_half_of_the_images_are_mirrored_and_the_rest_untouched():
    images = pictures(4000, 2, 3)
    out = drawn(augment.random_flip, images)
    mirrored = (out == images[:, :, ::-1]).all((1, 2, 3))
    untouched = (out == images).all((1, 2, 3))
    assert (mirrored ^ untouched).all()
    assert 0.46 < mirrored.mean() < 0.54


alternating_flip = jax.jit(augment.alternating_flip)


@pytest.mark.parametrize("epoch", [0, 1, 6])
def test_two_epochs_of_alternating_flips_see_both_sides(epoch):
    images, index = pictures(400, 2, 3), np.arange(100, 500)
    now, then, again = (
        np.asarray(alternating_flip(KEY, images, index, e)) for e in range(epoch, epoch + 3)
    )
    np.testing.assert_array_equal(now, then[:, :, ::-1])
    np.testing.assert_array_equal(now, again)
    mirrored = (now == images[:, :, ::-1]).all((1, 2, 3))
    assert 0.4 < mirrored.mean() < 0.6
    other = alternating_flip(jax.random.key(6), images, index, epoch)
    assert (np.asarray(other) != now).any()


def test_an_alternating_flip_depends_on_the_example_not_its_place_in_the_batch():
    images, index = pictures(400, 2, 3), np.arange(400)
    order = np.random.default_rng(0).permutation(400)
    out = np.asarray(alternating_flip(KEY, images, index, 0))
    shuffled = alternating_flip(KEY, images[order], index[order], 0)
    np.testing.assert_array_equal(shuffled, out[order])


def test_crops_are_exact_windows_of_the_mirrored_border_and_every_place_is_as_likely():
    count, height, width, pad = 8100, 10, 8, 4
    images = pictures(count, height, width)
    out = drawn(augment.random_crop, images)
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    found = np.full(count, -1)
    for place in range(81):
        row, column = divmod(place, 9)
        window = padded[:, row : row + height, column : column + width]
        found[(out == window).all((1, 2, 3))] = place
    assert (found >= 0).all()
    assert equally_likely(found, 81)


def test_translation_moves_by_at_most_n_and_fills_with_zeros():
    images = 1 + pictures(2500, 7, 7)
    out = drawn(partial(augment.random_translate, by=2), images)
    found = np.full(len(images), -1)
    for place in range(25):
        down, right = place // 5 - 2, place % 5 - 2
        expected = np.zeros_like(images)
        to_rows, to_columns = (slice(max(0, n), 7 + min(0, n)) for n in (down, right))
        rows, columns = (slice(max(0, -n), 7 + min(0, -n)) for n in (down, right))
        expected[:, to_rows, to_columns] = images[:, rows, columns]
        found[(out == expected).all((1, 2, 3))] = place
    assert (found >= 0).all()
    assert equally_likely(found, 25)


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_covers_a_square_clipped_at_the_border_centred_anywhere(size):
    height, width, count = 8, 10, 8000
    images = np.full((count, height, width, 2), 7, np.uint8)
    out = drawn(partial(augment.cutout, size=size, fill=3), images)
    assert set(np.unique(out)) == {3, 7}
    found = np.full(count, -1)
    for place in range(height * width):
        row, column = (n - size // 2 for n in divmod(place, width))
        expected = np.full((height, width, 2), 7, np.uint8)
        expected[max(0, row) : row + size, max(0, column) : column + size] = 3
        found[(out == expected).all((1, 2, 3))] = place
    assert (found >= 0).all()
    assert equally_likely(found, height * width)


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_inside_covers_a_whole_square_and_every_place_is_as_likely(size):
    height, width, count = 6, 7, 4000
    images = np.full((count, height, width, 2), 7, np.uint8)
    out = drawn(partial(augment.cutout, size=size, fill=3, inside=True), images)
    rows, columns = height - size + 1, width - size + 1
    found = np.full(count, -1)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        expected = np.full((height, width, 2), 7, np.uint8)
        expected[row : row + size, column : column + size] = 3
        found[(out == expected).all((1, 2, 3))] = place
    assert (found >= 0).all()
    assert equally_likely(found, rows * columns)


MIX_KEY = jax.random.key(5, impl="rbg")  # compiles in half the time
mixup = jax.jit(augment.mixup, static_argnums=3)


def test_mixup_blends_two_images_and_their_labels_in_one_ratio():
    count = 500
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 2, 1), np.uint8)
    mixed, labels = mixup(MIX_KEY, images, np.arange(count), count)
    labels = np.asarray(labels)
    assert mixed.dtype == jnp.float32
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)
    assert (labels >= 0).all()
    assert ((labels > 0).sum(1) <= 2).all()
    expected = np.einsum("ij,jhwc->ihwc", labels, images.astype(np.float32))
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-3)
    # Beta(a, a) has mean 1/2 and variance 1/(4 (2 a + 1)), and a = 0.4.
    ratio = np.diag(labels)[(labels > 0).sum(1) == 2]
    assert len(ratio) > 0.9 * count
    assert ratio.mean() == pytest.approx(0.5, abs=0.06)
    assert ratio.var() == pytest.approx(1 / (4 * 1.8), abs=0.03)

    _, labels = mixup(MIX_KEY, images, np.full(count, 2), count)
    np.testing.assert_allclose(labels, np.eye(count)[[2] * count], atol=1e-6)


def triangle(size, new):
    """The weights `[new, size]` of a triangle two new pixels wide, or two old where they're wider.

    Half-pixel centres, and what falls outside the image is left out of the sum.
    """
    scale = size / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    apart = np.abs(centres[:, None] - np.arange(size)) / max(scale, 1)
    weights = np.maximum(0, 1 - apart)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(16, 16, 8), (12, 12, 8), (9, 14, 5), (8, 8, 12), (6, 10, 8)]
)
def test_resizing_is_the_nearest_byte_to_the_triangle_filters_value(height, width, size):
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), np.uint8)
    out = augment.resize(images, size)
    assert out.dtype == np.uint8
    rows, columns = triangle(height, size), triangle(width, size)
    exact = np.einsum("ih,jw,nhwc->nijc", rows, columns, images.astype(np.float64))
    assert out.shape == exact.shape
    assert np.abs(out - exact).max() < 0.5 + 1e-4


def test_halving_smooths_with_1_3_3_1_so_that_a_checkerboard_turns_grey():
    np.testing.assert_allclose(triangle(16, 8)[3, 5:9] * 8, [1, 3, 3, 1])
    board = (np.indices((16, 16)).sum(0) % 2 * 200).astype(np.uint8)[None, :, :, None]
    np.testing.assert_array_equal(augment.resize(board, 8)[:, 1:-1, 1:-1], 100)


@pytest.mark.parametrize("level", [0, 1, 200, 255])
@pytest.mark.parametrize("size", [3, 8, 13])
def test_resizing_leaves_an_even_image_even(level, size):
    images = np.full((2, 8, 8, 3), level, np.uint8)
    np.testing.assert_array_equal(augment.resize(images, size), np.full((2, size, size, 3), level))


def test_resizing_does_not_depend_on_how_many_images_there_are():
    images = np.random.default_rng(1).integers(0, 256, (170, 6, 6, 1), np.uint8)
    np.testing.assert_array_equal(augment.resize(images, 6), images)
    whole = augment.resize(images, 4)
    for part in (slice(0, 1), slice(3, 10), slice(50, 160)):
        np.testing.assert_array_equal(augment.resize(images[part], 4), whole[part])
