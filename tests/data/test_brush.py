import numpy as np
import pytest

from jaxlessons.data.brush import GROUND, POINTS, Canvas, _trace, palette, ramp


@pytest.fixture
def canvas():
    return Canvas(np.random.RandomState(0), 80, 100)


def towards(x, y):
    return lambda points: np.broadcast_to(np.array([x, y], float), points.shape)


def test_a_canvas_has_its_own_unit():
    for height, width in ((80, 100), (300, 50), (1, 1)):
        canvas = Canvas(np.random.RandomState(0), height, width)
        assert canvas.width * canvas.height == pytest.approx(1.25)
        assert canvas.width / canvas.height == pytest.approx(width / height)
        assert canvas.lit().shape == (height, width, 3)


def test_strokes_run_round_where_the_flow_does():
    """A fourth of a circle: every point is as far from its middle, the length is right."""
    random = np.random.RandomState(0)
    angles, radii = random.uniform(0, 2 * np.pi, 50), random.uniform(0.1, 2, 50)
    starts = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    lengths = radii * np.pi / 2
    paths = _trace(lambda p: 7 * p[:, ::-1] * [-1, 1], starts, lengths)
    assert paths.shape == (50, POINTS, 2)
    np.testing.assert_array_equal(paths[:, POINTS // 2], starts)
    distance = np.linalg.norm(paths, axis=-1) / radii[:, None]
    np.testing.assert_allclose(distance, 1, atol=5e-3)
    turned = np.arctan2(paths[..., 1], paths[..., 0]) - angles[:, None]
    expected = np.linspace(-np.pi / 4, np.pi / 4, POINTS)[None]
    np.testing.assert_allclose((turned - expected + np.pi) % (2 * np.pi), np.pi, atol=1e-2)


def test_a_ramp_of_colours():
    colors = palette("000000 ff8000 ffffff")
    np.testing.assert_array_equal(colors, [[0, 0, 0], [255, 128, 0], [255, 255, 255]])
    at = np.array([-1, 0, 0.25, 0.5, 0.75, 1, 2])
    red, green, blue = (np.interp(at, [0, 0.5, 1], channel) for channel in colors.T)
    np.testing.assert_allclose(ramp(colors, at), np.stack([red, green, blue], -1))


def test_a_stroke_paints_where_it_lies_in_about_its_colour(canvas):
    middle = np.array([[canvas.width / 2, canvas.height / 2]])
    color = np.array([[200.0, 100, 50]])
    canvas.stroke(middle, towards(1, 0), color, width=0.2, length=0.5)
    picture = canvas.lit(relief=0).astype(float)
    inside = picture[38:43, 40:60].reshape(-1, 3)
    assert np.abs(inside.mean(0) / color[0] - 1).max() < 0.2
    np.testing.assert_allclose(inside / inside[:, :1], color / 200 + 0 * inside, atol=0.05)
    painted = (np.abs(picture - GROUND[:3]) > 20).any(-1)
    rows, columns = painted.any(1).nonzero()[0], painted.any(0).nonzero()[0]
    # 80 pixels are one unit of length here; strokes vary by 30 % in width, 40 % in length.
    assert 0.7 * 16 - 2 <= len(rows) <= 1.3 * 16 + 2
    assert 0.6 * 40 - 2 <= len(columns) <= 1.4 * 40 + 2
    assert rows.mean() == pytest.approx(39.5, abs=1)
    assert columns.mean() == pytest.approx(49.5, abs=1)


def test_later_strokes_lie_over_earlier_ones(canvas):
    middles = np.array([[canvas.width / 2, canvas.height / 2]] * 2)
    colors = np.array([[255.0, 0, 0], [0, 0, 255]])
    canvas.stroke(middles, towards(0, 1), colors, width=0.2, length=0.5)
    red, green, blue = canvas.lit(relief=0)[40, 50]
    assert (red, green) == (0, 0)
    assert blue > 150


def test_a_region_is_filled_and_nothing_else(canvas):
    canvas.fill(
        lambda points: points[:, 0] < canvas.width / 2,
        towards(0, 1),
        lambda points: np.full((len(points), 3), 230.0),
        spacing=0.02,
        width=0.04,
        length=0.06,
    )
    painted = canvas.lit(relief=0).mean(-1) > 100
    assert painted[:, :46].mean() > 0.97
    assert not painted[:, 54:].any()


def test_light_comes_from_the_upper_left(canvas):
    """Paint rises above the ground: a stroke is brighter at its upper end and darker at its lower.

    Likewise at its left and right ends. Between them the strips' edges, up and down, cancel out.
    """
    middle = np.array([[canvas.width / 2, canvas.height / 2]])
    canvas.stroke(middle, towards(1, 1), np.array([[120.0] * 3]), width=0.2, length=0.8)
    flat = canvas.lit(relief=0).astype(int)
    change = canvas.lit(relief=0.2)[..., 0].astype(int) - flat[..., 0]
    painted = (flat != GROUND[:3]).any(-1)
    assert (change[~painted] == 0).mean() > 0.97
    rows, columns = np.mgrid[0:80, 0:100]
    upper, lower = rows + columns < 78, rows + columns > 100
    assert change[upper].sum() > 50
    assert change[lower].sum() < -50
