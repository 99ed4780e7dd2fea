"""Figures show the numbers that they were given."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jaxlessons import plotting
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


def test_a_figure_that_can_not_be_drawn_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    figure = plotting.plot_curves(RECORDS, np.ones(2), 1, "x")
    plotting.save_figure(figure, path)
    before = path.read_bytes()

    def half(file, **settings):
        file.write_bytes(b"half")
        raise OSError("disk")

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(OSError, match="disk"):
        plotting.save_figure(figure, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


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
