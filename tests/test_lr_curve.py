"""What the finder suggests, on curves whose answer is known."""

import numpy as np
import pytest

from jaxlessons.lr_curve import Sweep


def smooth(losses, beta):
    """fast.ai's: an average that starts at 0, divided by 1 - beta^(steps so far)."""
    average, smoothed = 0.0, []
    for i, loss in enumerate(losses, 1):
        average = beta * average + (1 - beta) * loss
        smoothed.append(average / (1 - beta**i))
    return np.array(smoothed)


def curve(height, noise=0.0, low=-6, high=1, steps=100, seed=0):
    """A sweep whose losses are height(log10 of the rate) plus noise, not smoothed any further."""
    values = np.logspace(low, high, steps)
    losses = height(np.log10(values))
    losses = losses + noise * np.random.RandomState(seed).randn(steps)
    return Sweep(values, losses, smooth(losses, 0.9) if noise else losses)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def fall_and_explosion(x):
    """Falls by 2, fastest at 1e-3, and explodes from about 1 on."""
    return 2.5 - 2 * sigmoid(3 * (x + 3)) + np.exp(6 * (x - 0.3))


def test_suggestions_on_a_clean_curve():
    found = curve(fall_and_explosion)
    spacing = 10 ** (7 / 99)
    assert 1e-3 / spacing < found.steepest() < 1e-3 * spacing
    lowest = found.values[np.argmin(found.losses)]
    assert found.minimum() == lowest
    assert found.minimum_tenth() == lowest / 10
    # The whole way down, from the first step that counts, the eleventh, to the lowest.
    first, last = 10, int(np.argmin(found.losses))
    assert found.valley() == found.values[first + round((last - first) * 2 / 3)]
    assert list(found.suggestions()) == ["steepest", "valley", "minimum/10"]
    assert list(found.suggestions().values()) == [
        found.steepest(),
        found.valley(),
        found.minimum_tenth(),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_suggestions_on_a_noisy_curve_stay_near(seed):
    clean, noisy = curve(fall_and_explosion), curve(fall_and_explosion, noise=0.05, seed=seed)
    # Smoothing by 0.9 lags about nine steps, which are two thirds of a decade.
    assert 1e-3 < noisy.steepest() < 1e-2
    assert 0.2 < noisy.valley() / clean.valley() < 5
    assert 1 < noisy.minimum_tenth() / clean.minimum_tenth() < 10


@pytest.mark.parametrize(
    ("smoothed", "first", "last"),
    [
        ([9, 3, 6, 8, 5, 4, 7, 3, 2, 1], 3, 9),  # 8 5 4 3 2 1; 6 5 4 3 2 1 starts earlier
        ([9, 3, 6, 8, 2, 7, 6.5, 6, 5.5, 5, 4.5], 3, 10),  # 8 7 6.5 6 5.5 5 4.5
        ([9.5, 8, 7, 6, 9, 5, 4, 4.1, 4.2, 4.3], 1, 6),  # 8 7 6 5 4 over the 9
        ([5, 5, 5, 5, 5, 5, 4, 3, 2, 2], 5, 8),  # the plateau's end, not its beginning
    ],
)
def test_the_valley_is_the_longest_fall_and_need_not_be_of_neighbours(smoothed, first, last):
    values = 10.0 ** np.arange(len(smoothed))
    losses = np.linspace(5, 1, len(smoothed))
    found = Sweep(values, losses, np.array(smoothed, np.float64))
    assert found.valley() == values[first + round((last - first) * 2 / 3)]


def test_the_first_tenth_and_what_follows_the_minimum_are_not_read():
    values, smoothed = np.logspace(-6, 1, 100), fall_and_explosion(np.linspace(-6, 1, 100))
    expected = Sweep(values, smoothed, smoothed).suggestions()
    smoothed = smoothed.copy()
    smoothed[:2] = 20, 0
    smoothed[-2:] = 100, 50
    assert Sweep(values, fall_and_explosion(np.log10(values)), smoothed).suggestions() == expected


def test_the_slope_is_by_the_log_only_where_the_values_are_geometric():
    values = np.linspace(0.5, 0.99, 50)
    losses = 3 - 2 * sigmoid(40 * (values - 0.8))
    found = Sweep(values, losses, losses, name="momentum")
    assert not found.is_geometric()
    assert found.steepest() == values[np.argmin(abs(values - 0.8))]
    assert found.suggestions()["minimum"] == 0.99
    assert "minimum/10" not in found.suggestions()
    # d exp(-5v)/dv is most negative at the start, d exp(-5v)/d log(v) at 1/5.
    values = np.linspace(0.02, 1, 50)
    assert Sweep(values, np.exp(-5 * values), np.exp(-5 * values)).steepest() == values[5]
    values = np.geomspace(0.02, 1, 50)
    found = Sweep(values, np.exp(-5 * values), np.exp(-5 * values))
    assert found.steepest() == values[np.argmin(abs(np.log(5 * values)))]
    assert curve(fall_and_explosion).is_geometric()
    assert not Sweep(np.linspace(0, 1, 9), np.ones(9), np.ones(9)).is_geometric()


@pytest.mark.parametrize(
    "losses",
    [np.full(60, 2.3), np.linspace(2, 9, 60), 2 + np.exp(np.linspace(-9, 2, 60))],
    ids=["flat", "rising", "exploding"],
)
def test_where_the_loss_never_fell_nothing_is_suggested(losses):
    found = Sweep(np.geomspace(1e-3, 1, 60), losses, smooth(losses, 0.98))
    assert found.steepest() is found.valley() is found.minimum_tenth() is found.minimum() is None
    assert found.suggestions() == {}
    assert found.describe() == (
        "The loss never fell for a learning rate from 0.001 to 1, so none is suggested: "
        "sweep other values, or more steps."
    )


def test_noise_is_no_fall_and_a_fall_that_stands_out_of_it_is():
    noise = np.random.RandomState(3).randn(400, 100)
    values = np.geomspace(1e-7, 10, 100)
    flat = [Sweep(values, 2.3 + 0.1 * row, row).fell() for row in noise]
    assert np.mean(flat) < 0.04
    falling = 2.3 - 0.3 * sigmoid(np.linspace(-8, 8, 100))
    assert np.mean([Sweep(values, falling + 0.1 * row, row).fell() for row in noise]) > 0.98


def test_the_suggestions_in_a_sentence():
    found = curve(fall_and_explosion)
    assert found.describe() == (
        f"Suggested learning rate: steepest {found.steepest():.2g}, valley {found.valley():.2g}, "
        f"minimum/10 {found.minimum_tenth():.2g}."
    )
