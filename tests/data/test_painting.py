import numpy as np
import pytest

from jaxlessons.data.brush import Canvas
from jaxlessons.data.painting import flow_painting
from jaxlessons.data.painting_land import Land
from jaxlessons.data.painting_sky import Sky
from jaxlessons.errors import UserError

HEIGHT, WIDTH = 240, 300


@pytest.fixture(scope="module")
def painting():
    return flow_painting(HEIGHT, WIDTH, seed=0)


@pytest.fixture(scope="module")
def sky():
    """The sky of seed 0, not painted."""
    canvas = Canvas(np.random.RandomState(0), HEIGHT, WIDTH)
    return Sky(canvas, Land(canvas).horizon)


def tensor(picture, window=9):
    """The structure tensor's parts, xx, yy and xy, of the luminance, averaged over a window."""
    grey = picture.astype(float) @ [0.299, 0.587, 0.114]
    dy, dx = np.gradient(grey)
    kernel = np.ones(window) / window

    def blur(plane):
        for axis in (0, 1):
            plane = np.apply_along_axis(np.convolve, axis, plane, kernel, "same")
        return plane

    return blur(dx * dx), blur(dy * dy), blur(dx * dy)


def coherence(picture):
    """From 0, no direction, to 1, one direction; the mean over the picture by gradients' energy."""
    xx, yy, xy = tensor(picture)
    return np.hypot(xx - yy, 2 * xy).sum() / (xx + yy).sum()


@pytest.mark.slow
def test_a_seed_gives_one_painting_and_another_seed_another_one(painting):
    np.testing.assert_array_equal(flow_painting(HEIGHT, WIDTH, seed=0), painting)
    other = flow_painting(HEIGHT, WIDTH, seed=1)
    assert painting.shape == other.shape == (HEIGHT, WIDTH, 3)
    assert painting.dtype == np.uint8
    assert np.abs(other.astype(int) - painting).mean() > 15
    assert np.abs(other.mean((0, 1)) - painting.mean((0, 1))).max() < 8


@pytest.mark.slow
def test_its_strokes_have_a_direction_which_noise_has_not(painting):
    pixels = np.random.RandomState(0).permutation(painting.reshape(-1, 3))
    assert coherence(pixels.reshape(painting.shape)) < 0.2
    assert coherence(painting) > 0.45


def test_its_strokes_lie_along_the_flow(painting, sky):
    """Brightness changes across a stroke: along the flow there is less than half as much."""
    xx, yy, xy = tensor(painting, window=1)
    scale = HEIGHT / sky.canvas.height
    rows, columns = np.mgrid[0 : int(0.6 * HEIGHT), int(0.4 * WIDTH) : WIDTH]
    x, y = np.moveaxis(sky.flow((np.stack([columns, rows], -1) + 0.5) / scale), -1, 0)
    xx, yy, xy = (part[rows, columns] for part in (xx, yy, xy))
    along = (x * x * xx + 2 * x * y * xy + y * y * yy).mean()
    across = (y * y * xx - 2 * x * y * xy + x * x * yy).mean()
    assert along < 0.5 * across


def test_the_flow_goes_round_in_stars_and_nearly_so_in_vortices(sky):
    angles = np.linspace(0, 2 * np.pi, 40)
    away = np.stack([np.cos(angles), np.sin(angles)], -1)
    for glow in sky.glows:
        flow = sky.flow(glow.middle + 0.6 * glow.radius * away)
        outwards = np.abs((flow * away).sum(-1))
        assert np.median(outwards) < 0.2
    for vortex in sky.vortices:
        flow = sky.flow(vortex.middle + 0.4 * vortex.radius * away)
        np.testing.assert_allclose(np.linalg.norm(flow, axis=-1), 1, atol=1e-6)
        around = (flow * np.stack([-away[:, 1], away[:, 0]], -1)).sum(-1)
        assert around.min() > 0.7
        assert (flow * away).sum(-1).mean() < -0.2


def test_stars_glow_the_sky_is_blue_and_the_cypress_dark(painting, sky):
    scale = HEIGHT / sky.canvas.height
    for glow in sky.glows:
        column, row = (glow.middle * scale).astype(int)
        if 0.1 * WIDTH < column < 0.3 * WIDTH:
            continue  # perhaps behind the cypress
        red, _, blue = painting[row - 1 : row + 2, column - 1 : column + 2].mean((0, 1))
        assert red > 170
        assert red - blue > 40
    red, _, blue = painting[: HEIGHT // 2].mean((0, 1))
    assert blue - red > 25
    foot = painting[int(0.85 * HEIGHT) :, int(0.18 * WIDTH) : int(0.3 * WIDTH)]
    assert foot.mean() < 50 < painting.mean() - 25


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, -1)])
def test_a_side_below_one_is_told(height, width):
    with pytest.raises(UserError, match=f"can't be {width} x {height}: a side must be 1 pixel or"):
        flow_painting(height, width)
