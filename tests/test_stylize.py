"""Whole style transfers, of tiny pictures by the first layers of VGG16."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.averaging import ema_update, swa_init
from jaxlessons.data import images
from jaxlessons.data.color import YIQ
from jaxlessons.models import vgg
from jaxlessons.style_settings import Settings
from jaxlessons.stylize import stylize

BOTH = Settings(
    content_layer="block1_conv1",
    style_layers=("block1_conv1", "block2_conv1"),
    style_weight=10.0,
    evaluations=12,
)
ALONE = dataclasses.replace(BOTH, style_layers=("block1_conv1",), style_weight=0.0)  # the content


def photo(height=12, width=16, seed=0):
    """Soft spots, in colours of its own."""
    random = np.random.RandomState(seed)
    low, high = np.sort(random.randint(40, 216, (2, 1, 1, 3)), axis=0)
    return images.resize(random.randint(low, high + 1, (3, 4, 3)).astype(np.uint8), height, width)


@pytest.fixture(scope="module")
def params(by_formula):
    return by_formula(vgg.VGG16("block2_conv1"), jnp.zeros((1, 8, 8, 3)))["params"]


@pytest.fixture(scope="module")
def paint(params):
    """(settings, changes to them or to what stylize takes besides) -> Stylized."""

    def run(settings=BOTH, content=None, styles=None, **given):
        fields = {field.name for field in dataclasses.fields(Settings)}
        changes = {name: given.pop(name) for name in fields & given.keys()}
        content = photo() if content is None else content
        styles = [photo(14, 17, 1)] if styles is None else styles
        return stylize(content, styles, params, dataclasses.replace(settings, **changes), **given)

    return run


@pytest.fixture(scope="module")
def whole(paint):
    return paint()


def test_content_alone_comes_back_from_noise(paint):
    made = paint(ALONE, styles=[], evaluations=30)
    assert made.picture.dtype == np.float32
    np.testing.assert_allclose(made.picture, photo() / 255, atol=1e-3)
    assert made.history["value"][0] > 1e4 * made.history["value"][-1]
    assert not made.history["style"].any()


def test_style_alone_takes_the_styles_gram_matrices_and_not_its_places(paint):
    made = paint(content_weight=0, evaluations=40)
    value = made.history["value"]
    assert value[made.history["taken"]][-1] < 0.02 * value[0]
    np.testing.assert_array_equal(made.history["style"], value)
    style = images.scale_match(photo(14, 17, 1), 12, 16) / np.float32(255)
    np.testing.assert_allclose(made.picture.mean((0, 1)), style.mean((0, 1)), atol=0.05)
    flat = ((x - x.mean((0, 1))).ravel() for x in (made.picture, style))
    assert abs(np.corrcoef(*flat)[0, 1]) < 0.5


@pytest.mark.slow
def test_the_same_seed_makes_the_same_picture_bit_for_bit(paint, whole):
    again, other = paint(), paint(seed=1)
    np.testing.assert_array_equal(again.picture, whole.picture)
    for name, values in whole.history.items():
        np.testing.assert_array_equal(again.history[name], values)
    assert np.abs(other.picture - whole.picture).max() > 0.01


def test_the_history_has_all_of_every_evaluation(whole):
    history = whole.history
    assert set(history) == {"value", "content", "style", "variation", "taken", "scale"}
    assert {len(values) for values in history.values()} == {12}
    parts = sum(history[name].astype(np.float64) for name in ("content", "style", "variation"))
    np.testing.assert_allclose(history["value"], parts, rtol=1e-6)
    assert history["content"].all()
    assert history["style"].all()
    assert history["taken"].dtype == bool
    assert (np.diff(history["value"][history["taken"]]) <= 0).all()
    assert not history["scale"].any()


def test_a_picture_is_within_its_range_where_the_point_is_not(paint):
    points, harsh = [], np.where(photo() > 128, 255, 0).astype(np.uint8)
    made = paint(
        ALONE,
        harsh,
        [],
        evaluations=6,
        on_call=lambda progress: points.append(np.array(progress.descent.state.point)),
    )
    assert points[-1].min() < 0
    assert points[-1].max() > 1
    np.testing.assert_array_equal(made.picture, points[-1].clip(0, 1))
    assert made.picture.shape == (12, 16, 3)


def test_several_evaluations_a_call_make_the_same_picture(paint, whole):
    """Not bit for bit: XLA computes a convolution within a loop in another order."""
    told = []
    made = paint(per_call=5, on_call=told.append)
    # Four is the most up to five that divides twelve.
    assert [progress.done for progress in told] == [4, 8, 12]
    assert [len(progress.record["value"]) for progress in told] == [4, 4, 4]
    np.testing.assert_allclose(made.picture, whole.picture, atol=1e-4)
    np.testing.assert_allclose(made.history["value"], whole.history["value"], rtol=1e-4)
    np.testing.assert_array_equal(made.history["taken"], whole.history["taken"])


@pytest.mark.slow
def test_each_scale_is_twice_the_one_before_and_goes_on_from_it(paint):
    points, pictures, values = [], [], []

    def on_call(progress):
        points.append(np.array(progress.descent.state.point))
        pictures.append(progress.picture())
        values.append(progress.record["value"].item())
        np.testing.assert_array_equal(pictures[-1], points[-1].clip(0, 1))

    made = paint(ALONE, photo(13, 22), [], scales=2, evaluations=5, on_call=on_call)
    sizes = [(6, 11)] * 2 + [(13, 22)] * 3  # what is left over goes to the last
    assert [picture.shape[:2] for picture in pictures] == sizes
    np.testing.assert_array_equal(made.history["scale"], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(made.history["value"], values)
    np.testing.assert_array_equal(points[2], images.resize(points[1], 13, 22))
    np.testing.assert_array_equal(made.picture, pictures[-1])
    # From so near the noise is a poor start.
    assert values[2] < 0.5 * values[0]


def test_the_average_is_the_picture_where_it_is_asked_for(paint):
    points = []
    made = paint(
        ALONE,
        styles=[],
        optimizer="adam",
        evaluations=6,
        average=0.5,
        on_call=lambda progress: points.append(np.array(progress.descent.state.point)),
    )
    average = swa_init(jnp.zeros((12, 16, 3)))
    for point in points:
        average = ema_update(average, jnp.asarray(point), 0.5)
    np.testing.assert_allclose(made.picture, average.params, atol=1e-6)
    assert np.abs(made.picture - points[-1]).max() > 1e-3


def test_luminance_alone_is_painted_in_the_contents_colours(paint):
    made = paint(color="luminance", content_weight=0)
    before, after = (
        picture.astype(np.float64) @ YIQ.T for picture in (photo() / 255, made.picture)
    )
    inside = ((made.picture > 0) & (made.picture < 1)).all(-1)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(after[inside][:, 1:], before[inside][:, 1:], atol=1e-6)
    assert np.abs(after[inside][:, 0] - before[inside][:, 0]).mean() > 0.02


def test_a_style_of_no_weight_has_no_part_in_the_picture(paint, whole):
    styles = [photo(9, 9, 2), photo(14, 17, 1)]
    made = paint(styles=styles, weights=(0, 5))
    np.testing.assert_allclose(made.picture, whole.picture, atol=1e-4)
    assert np.abs(paint(styles=styles).picture - whole.picture).max() > 0.01
    assert np.abs(paint(style_size=30).picture - whole.picture).max() > 0.01


@pytest.mark.slow
def test_masks_give_each_style_its_part_of_the_picture(paint):
    """Of a black and a white style the white one's side gets the lighter, on either side."""
    left = np.zeros((12, 16), np.float32)
    left[:, :8] = 1
    black, white = (np.full((12, 16, 3), value, np.uint8) for value in (0, 255))
    for styles, sign in (([black, white], 1), ([white, black], -1)):
        made = paint(styles=styles, masks=[left, 1 - left], content_weight=0, init="content")
        assert sign * (made.picture[:, -6:].mean() - made.picture[:, :6].mean()) > 0.3


def test_a_stop_after_a_call_leaves_the_picture_as_it_is_then(paint, whole):
    asked, pictures = [], []

    def should_stop():
        asked.append(len(pictures))
        return len(asked) == 5

    made = paint(on_call=lambda p: pictures.append(p.picture()), should_stop=should_stop)
    assert asked == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(made.picture, pictures[-1])
    for name, values in whole.history.items():
        np.testing.assert_array_equal(made.history[name], values[:5])


def test_memory_is_counted_and_grows_with_the_picture_and_with_what_is_remembered(paint, whole):
    # Ten steps and as many changes of the gradient, of 12 x 16 x 3 float32 each.
    assert whole.memory > 20 * 12 * 16 * 3 * 4
    more = paint(memory=30, evaluations=1)
    assert more.memory - whole.memory == pytest.approx(40 * 12 * 16 * 3 * 4, rel=0.1)
