import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxlessons.data import photo_augment

KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def photos():
    """Smooth images 0..255 without any symmetry."""
    noise = np.random.RandomState(0).uniform(0, 255, (3, 24, 20, 3))
    return ndimage.gaussian_filter(noise, (0, 2, 2, 0)).astype(np.float32)


def independent(images, matrix, shift):
    """scipy's own bilinear sampling with the same border, channel by channel."""
    out = np.empty(images.shape)
    middle = (np.array(images.shape[1:3]) - 1) / 2
    for i, image in enumerate(images):
        offset = middle + shift[i] - matrix[i] @ middle
        for c in range(image.shape[-1]):
            out[i, :, :, c] = ndimage.affine_transform(
                image[:, :, c], matrix[i], offset, order=1, mode="reflect"
            )
    return out


def test_sampling_is_scipys(photos):
    random = np.random.RandomState(1)
    matrix = np.eye(2) + random.uniform(-0.4, 0.4, (3, 2, 2))
    shift = random.uniform(-5, 5, (3, 2))
    found = jax.jit(photo_augment.affine_sample)(
        photos, matrix.astype(np.float32), shift.astype(np.float32)
    )
    np.testing.assert_allclose(found, independent(photos, matrix, shift), atol=0.02)


def test_the_identity_and_a_flip_are_exact(photos):
    photos = photos.astype(np.uint8)
    for sign, expected in ((1, photos), (-1, photos[:, :, ::-1])):
        matrix = np.tile(np.diag([1, sign]).astype(np.float32), (3, 1, 1))
        found = jax.jit(photo_augment.affine_sample)(photos, matrix, np.zeros((3, 2), np.float32))
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, expected)


def drawn(count, **settings):
    """The matrices and shifts that random_affine draws for images of 20 x 30."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photo_augment, "affine_sample", lambda images, matrix, shift: (matrix, shift))
        draw = jax.jit(lambda key, x: photo_augment.random_affine(key, x, **settings))
        return jax.tree.map(np.asarray, draw(KEY, jnp.zeros((count, 20, 30, 1))))


def test_rotation_zoom_and_flip_are_drawn_as_fastai_draws_them():
    matrix, shift = drawn(4000)
    determinant = np.linalg.det(matrix)
    scale = 1 / np.sqrt(abs(determinant))
    angle = np.rad2deg(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    mirrored = determinant < 0
    # A turn, one scale both ways and perhaps a mirror is all that a matrix holds.
    sign = np.where(mirrored, -1, 1)
    cos, sin = np.cos(np.deg2rad(angle)) / scale, np.sin(np.deg2rad(angle)) / scale
    rebuilt = np.stack([np.stack([cos, -sin * sign], -1), np.stack([sin, cos * sign], -1)], -2)
    np.testing.assert_allclose(matrix, rebuilt, atol=1e-5)

    assert 0.46 < mirrored.mean() < 0.54
    turned, zoomed = abs(angle) > 1e-4, scale > 1 + 1e-5
    assert 0.72 < turned.mean() < 0.78
    assert 0.72 < zoomed.mean() < 0.78
    assert stats.kstest((angle[turned] + 10) / 20, "uniform").pvalue > 0.001
    assert stats.kstest((scale[zoomed] - 1) / 0.1, "uniform").pvalue > 0.001
    # The window that a zoom leaves lies inside the image, anywhere.
    room = (1 - 1 / scale)[:, None] / 2 * np.array([20, 30])
    assert (abs(shift) <= room + 1e-4).all()
    place = (shift[zoomed] / room[zoomed] + 1) / 2
    for axis in (0, 1):
        assert stats.kstest(place[:, axis], "uniform").pvalue > 0.001
    for one, other in ((angle, scale), (angle, mirrored), (scale, mirrored)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


def test_what_is_switched_off_stays_off():
    matrix, shift = drawn(50, degrees=0.0, zoom=1.0, flip=False)
    np.testing.assert_allclose(matrix, np.tile(np.eye(2), (50, 1, 1)), atol=1e-7)
    np.testing.assert_array_equal(shift, np.zeros((50, 2)))


def test_lighting_is_fastais_formula():
    random = np.random.RandomState(0)
    images = random.uniform(100, 150, (2000, 2, 2, 3)).astype(np.float32)
    out = np.asarray(jax.jit(photo_augment.random_lighting)(KEY, images))
    mean = images.mean((1, 2, 3), keepdims=True)
    # Two pixels give factor and shift; the others must agree.
    factor = (out[:, :1, :1, :1] - out[:, :1, :1, 1:2]) / (
        images[:, :1, :1, :1] - images[:, :1, :1, 1:2]
    )
    shift = out.mean((1, 2, 3), keepdims=True) - mean
    np.testing.assert_allclose(out, (images - mean) * factor + mean + shift, atol=0.05)
    clear = abs(images[:, 0, 0, 0] - images[:, 0, 0, 1]) > 20
    factor = factor.ravel()[clear]
    u = np.where(factor < 1, 1 - 1 / factor, factor - 1) / 0.05
    assert stats.kstest((u + 1) / 2, "uniform").pvalue > 0.001
    assert stats.kstest((shift.ravel() / 255 / 0.05 + 1) / 2, "uniform").pvalue > 0.001


def test_lighting_stays_within_0_to_255():
    images = np.array([0, 255] * 600, np.uint8).reshape(100, 2, 2, 3)
    out = np.asarray(jax.jit(photo_augment.random_lighting)(KEY, images))
    assert (out.min(), out.max()) == (0, 255)


def test_side_on_is_decided_by_the_key_and_image_by_image(photos):
    side_on = jax.jit(photo_augment.side_on)
    out = np.asarray(side_on(KEY, photos))
    np.testing.assert_array_equal(side_on(KEY, photos), out)
    assert not np.allclose(side_on(jax.random.key(6), photos), out, atol=1)
    same = np.asarray(side_on(KEY, np.stack([photos[0]] * 3)))
    assert not np.allclose(same[0], same[1], atol=1)
    # Small changes: the middle's colours stay near.
    middle = (slice(None), slice(8, 16), slice(6, 14))
    assert abs(out[middle].mean((1, 2)) - photos[middle].mean((1, 2))).max() < 40
