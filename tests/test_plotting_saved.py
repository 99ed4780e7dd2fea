"""Figures as files: texts as they are, and never half a file."""

import numpy as np
import pytest
from matplotlib.text import Text

from jaxlessons import metrics, plotting

RECORDS = [{"epoch": epoch, "train_loss": 10.0 ** (3 * epoch)} for epoch in (1.0, 2.0)]


def test_a_name_with_two_dollars_is_shown_as_it_is(tmp_path):
    classes, title = ("$^$", "a$b_{$"), "names $_{$ in $x.csv"
    found = metrics.reliability(np.eye(2), np.array([0, 1]))
    figures = [
        plotting.plot_confusion(np.eye(2, dtype=int), classes, title),
        plotting.plot_curves(RECORDS, np.ones(2), 1, title),
        plotting.plot_predictions(
            np.zeros((1, 4, 4, 3), np.uint8), np.array([0]), np.eye(1, 2), classes, title
        ),
        plotting.plot_reliability(found, title),
        plotting.plot_shares({title: {classes[0]: 0.5}}, title),
        plotting.plot_pictures({title: np.zeros((8, 8, 3), np.uint8)}, title),
    ]
    for figure in figures:
        plotting.save_figure(figure, tmp_path / "x.png")
        shown = figure.findobj(Text)
        assert not any(t.get_parse_math() for t in shown if t.get_text() in (*classes, title))


def test_reactions_show_each_letter_as_it_is_whatever_the_font_has(tmp_path):
    text = "a$b\N{HIRAGANA LETTER A}\\"
    figure = plotting.plot_reactions(text, np.ones((len(text), 1)), [3], "x")
    # Saved without a warning for each that the font lacks, which would fail here.
    plotting.save_figure(figure, tmp_path / "x.png")
    letters = [t for t in figure.axes[0].texts if t.get_text() != ""]
    assert "".join(t.get_text() for t in letters) == text
    assert not any(t.get_parse_math() for t in letters)


def test_powers_of_ten_stay_mathematics(tmp_path):
    figure = plotting.plot_loss_parts(RECORDS, "x")
    plotting.save_figure(figure, tmp_path / "x.png")
    powers = [t for t in figure.findobj(Text) if "mathdefault" in t.get_text()]
    assert len(powers) > 2
    assert all(t.get_parse_math() for t in powers)


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
