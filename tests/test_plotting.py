"""Figures show the numbers that they were given."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jaxlessons import metrics, plotting
from jaxlessons.lr_curve import Sweep

RECORDS = [
    {"epoch": 1.0, "train_loss": 2.0, "validation_loss": 1.8, "train_accuracy": 0.2},
    {"epoch": 2.0, "train_loss": 1.0, "train_accuracy": 0.6, "validation_accuracy": None},
]


def points(line):
    return [(float(x), float(y)) for x, y in line.get_xydata()]


def test_curves_are_the_records_and_leave_out_what_they_lack():
    rates = np.array([0.1, 0.2, 0.3, 0.4])
    figure = plotting.plot_curves(RECORDS, rates, per_epoch=2, title="a run")
    loss, accuracy, rate = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert points(loss.lines[0]) == [(1, 2), (2, 1)]
    assert points(loss.lines[1]) == [(1, 1.8)]
    assert [points(line) for line in accuracy.lines] == [[(1, 0.2), (2, 0.6)]]
    assert points(rate.lines[0]) == list(zip([0, 0.5, 1, 1.5], rates, strict=True))
    assert figure.get_suptitle() == "a run"


def test_the_parts_of_a_loss_are_the_records_and_validation_is_dashed():
    records = [
        {"epoch": 1.0, "train_loss": 9.0, "train_content": 3.0, "train_variation": 0.0},
        {"epoch": 2.5, "train_loss": 8.0, "train_content": 2.0, "validation_loss": 7.0},
    ]
    axes = plotting.plot_loss_parts(records, "x").axes[0]
    found = {line.get_label(): (points(line), line.get_linestyle()) for line in axes.lines}
    assert found == {
        "train loss": ([(1, 9), (2.5, 8)], "-"),
        "validation loss": ([(2.5, 7)], "--"),
        "train content": ([(1, 3), (2.5, 2)], "-"),
    }
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2]
    assert axes.get_yscale() == "log"


def test_predictions_name_both_classes_and_colour_the_wrong_ones():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    images[1] = 200
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.25, 0.75]])
    labels = np.array([0, 1, 1])
    figure = plotting.plot_predictions(
        images, labels, probabilities, ("cat", "dog"), "x", columns=2
    )
    titles = [axes.title for axes in figure.axes]
    assert [title.get_text() for title in titles] == [
        "true: cat\ncat 90%",
        "true: dog\ncat 70%",
        "true: dog\ndog 75%",
        "",
    ]
    colours = [to_rgba(title.get_color()) for title in titles[:3]]
    assert colours[0] == colours[2] != colours[1]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), images[1])


def test_a_confusion_matrix_shows_counts_and_the_share_of_each_row():
    matrix = np.array([[3, 1], [0, 0]])
    axes = plotting.plot_confusion(matrix, ("cat", "dog"), "x").axes[0]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "0"]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert axes.get_ylabel() == "true class"


def test_a_large_confusion_matrix_has_a_larger_figure():
    sizes = [
        plotting.plot_confusion(np.eye(n, dtype=int), [str(k) for k in range(n)], "x")
        .get_size_inches()
        .tolist()
        for n in (2, 10, 20)
    ]
    assert sizes[0] == sizes[1] == [7.5, 6.8]
    assert sizes[2][0] == pytest.approx(11)


def test_with_many_classes_a_confusion_matrix_is_no_larger_and_names_some(tmp_path):
    matrix = np.eye(200, dtype=int)
    figure = plotting.plot_confusion(matrix, [f"c{k}" for k in range(200)], "x")
    axes = figure.axes[0]
    assert figure.get_size_inches()[0] == 20
    assert len(axes.texts) == 0
    for ticks, labels in (
        (axes.get_xticks(), axes.get_xticklabels()),
        (axes.get_yticks(), axes.get_yticklabels()),
    ):
        assert list(ticks) == list(range(0, 200, 4))
        assert [label.get_text() for label in labels] == [f"c{k}" for k in ticks]
    plotting.save_figure(figure, tmp_path / "x.png")
    counted = plotting.plot_confusion(np.eye(30, dtype=int), "x" * 30, "x").axes[0]
    assert len(counted.texts) == 900
    assert len(counted.get_xticks()) == 30


def test_the_reliability_curve_shows_the_bins_that_have_predictions():
    confident = np.array([0.6, 0.7, 0.8, 0.9])
    probabilities = np.stack([confident, 1 - confident], axis=1)
    found = metrics.reliability(probabilities, np.array([0, 1, 0, 0]), bins=4)
    figure = plotting.plot_reliability(found, "a net")
    upper, lower = figure.axes
    curve, diagonal = upper.lines
    assert points(curve) == [(pytest.approx(0.65), 0.5), (pytest.approx(0.85), 1)]
    assert points(diagonal) == [(0, 0), (1, 1)]
    bars = [[(p.get_x(), p.get_width(), p.get_height()) for p in a.patches] for a in (upper, lower)]
    assert bars == [[(0.5, 0.25, 0.5), (0.75, 0.25, 1)], [(0.5, 0.25, 2), (0.75, 0.25, 2)]]
    assert upper.get_title() == "a net"


def test_the_learning_rate_plot_shows_both_losses_and_marks_the_suggestions():
    values = np.geomspace(1e-4, 1, 41)
    x = np.log10(values)
    smoothed = 2 - np.tanh(2 * (x + 2)) + np.exp(9 * (x + 0.5))
    sweep = Sweep(values, smoothed + 0.01 * np.cos(9 * np.arange(41)), smoothed)
    axes = plotting.plot_lr_find(sweep, "a net").axes[0]
    raw, smooth, *marks = axes.lines
    assert points(raw) == list(zip(values, sweep.losses, strict=True))
    assert points(smooth) == list(zip(values, smoothed, strict=True))
    assert raw.get_alpha() < 0.5 < smooth.get_linewidth()
    suggestions = sweep.suggestions()
    dots = [line for line in marks if line.get_marker() == "o"]
    assert [line.get_label() for line in dots] == [f"{k}: {v:.2g}" for k, v in suggestions.items()]
    assert len(dots) == 3
    assert [points(line)[0][0] for line in dots] == list(suggestions.values())
    steepest = points(dots[0])[0][1]
    assert steepest == pytest.approx(smoothed[list(values).index(sweep.steepest())])
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_title()) == (
        "log",
        "learning rate",
        "a net",
    )
    # The fall is in view, the end that explodes is not.
    low, high = axes.get_ylim()
    assert low < smoothed.min() < smoothed[0] < high < smoothed[-1]


def test_a_sweep_that_never_fell_is_drawn_without_suggestions():
    sweep = Sweep(np.linspace(0.5, 0.9, 9), np.ones(9), np.ones(9), name="momentum")
    axes = plotting.plot_lr_find(sweep).axes[0]
    assert len(axes.lines) == 2
    assert [text.get_text() for text in axes.texts] == ["the loss never fell"]
    assert (axes.get_xscale(), axes.get_xlabel()) == ("linear", "momentum")


PHOTOS = np.random.RandomState(0).randint(0, 256, (3, 8, 8, 3)).astype(np.uint8)
HEAT = np.arange(3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8)
GUESSES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
SECTIONS = {"hits": np.array([0, 1]), "misses": np.array([2])}


def panels(figure):
    """The axes of every section that show something, in order."""
    return [axes for part in figure.subfigs for axes in part.axes if axes.images]


def test_heat_maps_stand_below_their_photos_and_are_hottest_where_the_map_is():
    maps = {"class map": HEAT, "other": -HEAT}
    labels = np.array([0, 1, 1])
    figure = plotting.plot_heatmaps(
        PHOTOS, maps, labels, GUESSES, ("cat", "dog"), SECTIONS, "a title"
    )
    assert [part.get_suptitle() for part in figure.subfigs] == ["hits", "misses"]
    axes = panels(figure)
    assert len(axes) == 9
    titles = [a.title for a in (axes[0], axes[1], axes[6])]
    assert [t.get_text() for t in titles] == ["cat 90%", "dog 80%", "cat 60%\n(dog)"]
    colours = [to_rgba(t.get_color()) for t in titles]
    assert colours[0] == colours[1] != colours[2]
    np.testing.assert_array_equal(axes[1].images[0].get_array(), PHOTOS[1])
    grey = PHOTOS[1].mean(-1) / 255
    one, other = (np.asarray(axes[k].images[0].get_array()) for k in (3, 5))
    assert one.min() >= 0
    assert one.max() <= 1
    # The coldest place is the grey photo, a little darker; the hottest is the most coloured.
    np.testing.assert_allclose(one[0, 0], 0.85 * grey[0, 0], atol=0.01)
    np.testing.assert_allclose(other[-1, -1], 0.85 * grey[-1, -1], atol=0.01)
    assert np.ptp(one[-1, -1]) > 0.2


def test_a_flat_heat_map_is_drawn_too():
    flat = np.zeros((3, 8, 8), np.float32)
    labels = np.zeros(3, int)
    figure = plotting.plot_heatmaps(PHOTOS, {"x": flat}, labels, GUESSES, "ab", SECTIONS, "x")
    assert np.isfinite(panels(figure)[2].images[0].get_array()).all()


def test_a_zoom_shows_the_box_and_below_it_what_is_inside():
    boxes = np.array([[0, 0, 6, 6], [2, 1, 8, 7], [1, 1, 7, 7]])
    crops, after, labels = PHOTOS[::-1], GUESSES[:, ::-1], np.array([0, 1, 1])
    figure = plotting.plot_zoom(
        PHOTOS, boxes, crops, GUESSES, after, labels, ("cat", "dog"), SECTIONS, "a title"
    )
    upper, lower = panels(figure)[1], panels(figure)[3]
    np.testing.assert_array_equal(upper.images[0].get_array(), PHOTOS[1])
    np.testing.assert_array_equal(lower.images[0].get_array(), crops[1])
    corners = set(points(upper.lines[0]))
    assert corners == {(0.5, 1.5), (6.5, 1.5), (6.5, 7.5), (0.5, 7.5)}
    assert upper.title.get_text() == "dog 80%"
    assert lower.title.get_text() == "cat 80%\n(dog)"


def test_shares_are_bars_by_kind_in_the_order_given():
    shares = {"a": {"time": 0.5, "FLOPs": 0.25}, "b": {"time": 1.5, "FLOPs": 0.75}}
    axes = plotting.plot_shares(shares, "x").axes[0]
    found = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert found == {"time": [0.5, 1.5], "FLOPs": [0.25, 0.75]}
    names = dict(
        zip([t.get_text() for t in axes.get_yticklabels()], axes.get_yticks(), strict=True)
    )
    for bars in axes.containers:
        for bar, name in zip(bars, shares, strict=True):
            assert abs(bar.get_y() + bar.get_height() / 2 - names[name]) < 0.4
    assert names["a"] > names["b"]  # the first on top
    assert axes.lines[0].get_xdata()[0] == 1


def test_grey_images_are_shown_in_grey():
    images = np.full((1, 4, 4, 1), 128, np.uint8)
    figure = plotting.plot_predictions(
        images, np.array([0]), np.array([[1.0]]), ("cat",), "x", columns=1
    )
    (shown,) = figure.axes[0].images
    grey = shown.to_rgba(shown.get_array())[..., :3]
    np.testing.assert_allclose(grey, 128 / 255, atol=0.01)


def test_accuracies_are_a_point_a_training_with_their_mean_and_what_was_published():
    axes = plotting.plot_accuracies([93.0, 95.0, 94.6], "x", reference=94.5).axes[0]
    trainings, mean, published = axes.lines
    assert points(trainings) == [(0, 93.0), (1, 95.0), (2, 94.6)]
    assert list(mean.get_ydata()) == pytest.approx([94.2, 94.2])
    assert list(published.get_ydata()) == [94.5, 94.5]
    assert [line.get_label() for line in (mean, published)] == ["mean", "published"]
    assert len(plotting.plot_accuracies([1.0], "x").axes[0].lines) == 2
