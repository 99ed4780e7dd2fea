import numpy as np
import pytest

from jaxlessons.data.shapes import CLASSES, FIGURES, make_shapes

AREAS = {
    "disc": np.pi * 0.85**2,
    "square": 1.5**2,
    "triangle": 3 * np.sqrt(3) * 0.5**2,
    "cross": 2 * 2 * 0.56 - 0.56**2,
    "ring": np.pi * (0.97**2 - 0.53**2),
    "star": np.pi * (0.72**2 + 0.32**2 / 2),
    "half disc": np.pi / 2,
    "bar": 2.2 * 0.6,
    "frame": 1.7**2 - 0.9**2,
    "two dots": 2 * np.pi * 0.4**2,
}


@pytest.fixture(scope="module")
def split():
    """(training images, labels), (test images, labels)"""
    return make_shapes(3000, 0), make_shapes(1000, 1)


def test_a_seed_decides_every_pixel():
    (images, labels), (again, labels_again) = make_shapes(50, 7), make_shapes(50, 7)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, labels_again)
    other, other_labels = make_shapes(50, 8)
    assert (images != other).mean() > 0.9
    assert (labels != other_labels).any()


@pytest.mark.parametrize("count", [3, 10, 57, 600])
def test_every_class_is_as_frequent_in_a_random_order(count):
    images, labels = make_shapes(count, 3)
    assert images.shape == (count, 32, 32, 3)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    counts = np.bincount(labels, minlength=10)
    assert counts.max() - counts.min() <= 1
    assert count < 10 or (labels != np.sort(labels)).any()


@pytest.mark.parametrize(("name", "inside"), list(zip(CLASSES, FIGURES, strict=True)))
def test_each_figure_has_the_area_of_its_name(name, inside):
    axis = (np.arange(600) + 0.5) / 600 * 3 - 1.5
    v, u = np.meshgrid(axis, axis, indexing="ij")
    assert inside(u, v).mean() * 9 == pytest.approx(AREAS[name], rel=0.01)


def test_images_differ_and_use_the_range_of_bytes(split):
    images = split[0][0]
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert (images.min(), images.max()) == (0, 255)
    assert 115 < images.mean() < 140


def linear_accuracy(train, test, features):
    """Test accuracy of a ridge regression on features of the images."""
    (train_images, train_labels), (test_images, test_labels) = train, test
    known, new = features(train_images), features(test_images)
    mean, deviation = known.mean(0), known.std(0) + 1e-6
    known, new = (np.float32((x - mean) / deviation) for x in (known, new))
    penalty = known.shape[1]
    if len(known) > penalty:
        gram = known.T @ known + penalty * np.eye(penalty, dtype=np.float32)
        weights = np.linalg.solve(gram, known.T @ np.eye(10, dtype=np.float32)[train_labels])
    else:
        gram = known @ known.T + penalty * np.eye(len(known), dtype=np.float32)
        weights = known.T @ np.linalg.solve(gram, np.eye(10, dtype=np.float32)[train_labels])
    return ((new @ weights).argmax(1) == test_labels).mean()


def spectrum(images):
    """The power spectrum sorted within each ring: what neither place nor turn changes."""
    power = (abs(np.fft.rfft2(images / 255 - 0.5, axes=(1, 2))) ** 2).sum(-1)
    log = np.log(power.reshape(len(images), -1) + 0.1)
    radius = np.hypot((np.fft.fftfreq(32) * 32)[:, None], np.arange(17)[None, :]).round().ravel()
    return np.concatenate([np.sort(log[:, radius == k]) for k in range(1, 10)], axis=1)


def test_no_linear_function_of_the_pixels_tells_the_classes_apart(split):
    assert linear_accuracy(*split, lambda images: images.reshape(len(images), -1)) < 0.2


def test_features_free_of_place_and_turn_do_tell_them_apart(split):
    assert linear_accuracy(*split, spectrum) > 0.7
