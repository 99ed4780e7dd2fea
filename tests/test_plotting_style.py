"""The figures of a style transfer show its history and its pictures."""

import warnings

import numpy as np
import pytest

from jaxlessons import plotting

HISTORY = {
    "value": np.array([9.0, 99.0, 6.0, 5.0, 77.0, 2.0]),
    "content": np.array([4.0, 90.0, 3.0, 3.0, 70.0, 1.5]),
    "style": np.array([5.0, 9.0, 3.0, 2.0, 7.0, 0.5]),
    "variation": np.zeros(6),
    "taken": np.array([True, False, True, True, False, True]),
    "scale": np.array([0, 0, 0, 1, 1, 2]),
}


def curves(figure):
    """Label -> points of every line that is in the legend."""
    axes = figure.axes[0]
    shown = {text.get_text() for text in axes.get_legend().get_texts()}
    return {
        line.get_label(): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in axes.lines
        if line.get_label() in shown
    }


def test_the_losses_are_those_of_the_points_taken_at_their_evaluations():
    figure = plotting.plot_losses(HISTORY, "a picture")
    # The total variation had no weight, so it has no curve.
    assert curves(figure) == {
        "loss": [(1, 9), (3, 6), (4, 5), (6, 2)],
        "content": [(1, 4), (3, 3), (4, 3), (6, 1.5)],
        "style": [(1, 5), (3, 3), (4, 2), (6, 0.5)],
    }
    axes = figure.axes[0]
    assert axes.get_title() == "a picture"
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == (
        "evaluation",
        "loss",
        "log",
    )


def test_a_part_that_has_a_weight_has_a_curve():
    history = HISTORY | {"variation": np.array([0.0, 0, 0.25, 0.5, 1, 0.75])}
    assert curves(plotting.plot_losses(history, "x"))["variation"] == [
        (1, 0),
        (3, 0.25),
        (4, 0.5),
        (6, 0.75),
    ]


def test_a_dashed_line_is_where_a_finer_scale_begins():
    axes = plotting.plot_losses(HISTORY, "x").axes[0]
    dashed = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == [3.5, 5.5]  # between the evaluations 3 and 4, and 5 and 6
    one = plotting.plot_losses(HISTORY | {"scale": np.zeros(6, int)}, "x").axes[0]
    assert not [line for line in one.lines if line.get_linestyle() == "--"]


def test_a_history_as_jsons_lists_is_drawn_alike():
    lists = {name: values.tolist() for name, values in HISTORY.items()}
    assert curves(plotting.plot_losses(lists, "x")) == curves(plotting.plot_losses(HISTORY, "x"))


def test_a_loss_of_nothing_has_no_curve_and_no_complaint():
    """As of a picture that begins as its content, with no style."""
    parts = ("value", "content", "style")
    history = HISTORY | {name: np.zeros(6) for name in parts}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes = plotting.plot_losses(history, "x").axes[0]
    assert axes.get_legend() is None


def test_pictures_stand_in_a_row_under_their_names_as_wide_as_they_are():
    random = np.random.RandomState(0)
    pictures = {
        "content": random.randint(0, 256, (10, 20, 3)).astype(np.uint8),
        "style": random.randint(0, 256, (30, 15, 3)).astype(np.uint8),
        "result": random.uniform(size=(10, 20, 3)).astype(np.float32),
    }
    figure = plotting.plot_pictures(pictures, "in the manner of")
    assert figure.get_suptitle() == "in the manner of"
    assert [axes.get_title() for axes in figure.axes] == list(pictures)
    for axes, picture in zip(figure.axes, pictures.values(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), picture)
        assert not axes.axison
    assert list(figure.axes[0].get_gridspec().get_width_ratios()) == [2, 0.5, 2]
    figure.draw_without_rendering()
    heights = [axes.get_window_extent().height for axes in figure.axes]
    assert heights == pytest.approx([heights[0]] * 3, rel=0.02)
