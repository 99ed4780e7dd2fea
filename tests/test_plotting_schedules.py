"""The figures of schedules and comparisons show the numbers that they were given."""

import numpy as np
import optax
import pytest

from experiments.comparison_rows import Row
from jaxlessons import plotting
from jaxlessons.schedules import Phase, lr_schedule, one_cycle

PHASES = [
    Phase(1, 0.1),
    Phase(2, (0.1, 0.01), ("polynomial", 2), momentum=(0.9, 0.5), momentum_decay="linear"),
    Phase(1, 0.01, optimizer=optax.radam),
]


def test_a_schedule_is_drawn_step_by_step_with_its_phases_labelled():
    rate, momentum = plotting.plot_schedule(PHASES, 10).axes
    x, y = rate.lines[0].get_data()
    np.testing.assert_allclose(x, np.arange(40) / 10, atol=1e-9)
    np.testing.assert_allclose(y, lr_schedule(PHASES, 10)(np.arange(40)))
    np.testing.assert_allclose(momentum.lines[0].get_ydata()[10:30:5], [0.9, 0.8, 0.7, 0.6])
    assert [text.get_text() for text in rate.texts] == ["constant", "polynomial 2", "constant"]
    assert [text.get_text() for text in momentum.texts] == ["sgd", "sgd", "radam"]
    assert [text.get_position()[0] for text in rate.texts] == [0.5, 2, 3.5]
    boundaries = [line.get_xdata()[0] for line in rate.lines[1:]]
    assert boundaries == [1, 3]
    assert (rate.get_ylabel(), momentum.get_ylabel()) == ("learning rate", "momentum")


def test_a_short_phase_is_marked_without_a_label():
    rate = plotting.plot_schedule([Phase(0.1, 0.001), Phase(5, 0.1, "cosine")], 100).axes[0]
    assert [text.get_text() for text in rate.texts] == ["cosine"]
    assert rate.lines[1].get_xdata()[0] == 0.1


def test_phases_fill_their_epochs_when_their_batch_sizes_differ():
    phases = [Phase(1, 0.1), Phase(1, 0.2)]
    rate = plotting.plot_schedule(phases, [2, 4]).axes[0]
    np.testing.assert_allclose(rate.lines[0].get_xdata(), [0, 0.5, 1, 1.25, 1.5, 1.75])


def test_every_schedule_has_a_panel_for_its_rate_and_one_for_its_momentum():
    named = {"held": [Phase(2, 0.1)], "1cycle": one_cycle(0.4, 2), "more": PHASES}
    figure = plotting.plot_schedules(named, 10, columns=2)
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 6
    titled = {axes.get_title(): axes for axes in shown if axes.get_title()}
    assert set(titled) == set(named)
    for name, axes in titled.items():
        values = axes.lines[0].get_ydata()
        np.testing.assert_allclose(values, lr_schedule(named[name], 10)(np.arange(len(values))))


def test_a_comparison_shows_means_and_deviations():
    rows = [Row("a", 3, (60, 1), (62, 2)), Row("b", 3, (70, 0.5), (71, 0.25))]
    axes = plotting.plot_comparison(rows, "x").axes[0]
    test, validation = axes.containers
    assert list(test[0].get_xdata()) == [62, 71]
    assert list(validation[0].get_xdata()) == [60, 70]
    segments = test[2][0].get_segments()
    bars = [[float(x) for x in segment[:, 0]] for segment in segments]
    assert bars == [[60, 64], [70.75, 71.25]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_yticks()[0] > axes.get_yticks()[1]  # the first row on top


def test_a_line_between_two_networks_names_its_ends():
    axes = plotting.plot_line([0, 1, 2], {"train": [3, 1, 2], "validation": [4, 2, 2.5]}, "x").axes[
        0
    ]
    curves = {line.get_label(): line.get_ydata() for line in axes.lines[:2]}
    assert list(curves["validation"]) == pytest.approx([4, 2, 2.5])
    texts = {text.get_text().strip(): text.get_position()[0] for text in axes.texts}
    assert texts == {"last iterate": 0, "average": 1}


def test_speeds_are_bars_from_parity_on_a_logarithmic_axis():
    rows = [
        {"workload": "LSTM", "side": "ours"},
        {"workload": "LSTM", "side": "torch", "ours_to_this": 4.0, "quartiles": [3.0, 5.0]},
        {"workload": "VGG", "side": "torch", "ours_to_this": 0.5, "quartiles": [0.4, 0.6]},
    ]
    axes = plotting.plot_speeds(rows, "x").axes[0]
    assert axes.get_xscale() == "log"
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert [sorted(pair) for pair in ends] == [[1, 4], [0.5, 1]]
    assert axes.get_xlim()[0] < 0.4
    assert axes.get_xlim()[1] > 5
    assert [text.get_text().strip() for text in axes.texts] == ["4.00", "0.50"]
    # The figure stands behind both the bar and the line of its quartiles.
    assert [text.get_position()[0] for text in axes.texts] == [5, 1]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["LSTM, torch", "VGG, torch"]


def test_growth_has_a_panel_for_each_workload_and_size_and_four_to_a_row():
    made = {"workload": "LSTM", "unit": "characters"}
    rows = [
        {**made, "size": size, "value": value, "side": side, "per_second": speed * value}
        for size in ("batch_size", "features", "bptt", "picture", "devices")
        for value in (8, 32)
        for side, speed in (("ours", 2.0), ("torch", 1.0))
    ]
    figure = plotting.plot_growth(rows, "x")
    panels = [axes.get_xlabel() for axes in figure.axes]
    assert panels == ["batch size", "features", "bptt", "picture", "devices"]
    ours, torch = figure.axes[3].get_lines()
    assert (ours.get_label(), ours.get_xydata().tolist()) == ("ours", [[8, 16], [32, 64]])
    assert (torch.get_label(), torch.get_xydata().tolist()) == ("torch", [[8, 8], [32, 32]])
    places = [axes.get_position() for axes in figure.axes]
    tops, lefts = [place.y0 for place in places], [place.x0 for place in places]
    assert len(set(tops[:4])) == 1
    assert tops[4] < tops[0]
    assert lefts[4] == lefts[0] < lefts[1] < lefts[2] < lefts[3]
