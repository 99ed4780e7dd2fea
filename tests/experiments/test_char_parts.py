"""The character experiment's presets, and what it makes of a finished network."""

import numpy as np
import pytest

from experiments import char_config, char_report
from jaxlessons import schedules


@pytest.mark.parametrize(
    ("cell", "preset", "epochs", "rates"),
    [
        ("rnn", "lesson", 8, {1e-3, 1e-4}),
        ("gru", "lesson", 9, {1e-3, 1e-4}),
        ("lstm", "lesson", 17, {1e-2, 1e-4}),
        ("lstm", "lesson_long", 80, {1e-2, 1e-4}),
    ],
)
def test_the_lessons_presets(cell, preset, epochs, rates):
    config = char_config.defaults(cell, preset)
    phases = char_config.phases(config)
    assert schedules.total_steps(phases, 1000) == epochs * 1000
    assert sorted({phase.lr for phase in phases}) == pytest.approx(sorted(rates))
    assert (config.batch_size, config.bptt, config.lower, config.min_frequency) == (64, 8, True, 3)
    network = char_config.make_model(char_config.model_settings(config, 55))
    sizes = (network.embedding_size, network.features, network.layers, network.dropout)
    assert sizes == ((42, 512, 2, 0.5) if cell == "lstm" else (42, 256, 1, 0.0))
    assert all(not phase.decoupled for phase in phases)


def test_a_groups_weight_decay_replaces_the_others():
    config = char_config.Config(weight_decay=1e-5, group_weight_decay={"embedding": 0.5})
    assert {phase.weight_decay for phase in char_config.phases(config)} == {1e-5}
    ((pattern, own),) = char_config.groups(config).items()
    assert (pattern, {phase.weight_decay for phase in own}) == ("embedding", {0.5})
    assert char_config.groups(char_config.Config()) is None


def test_words_known_counts_words_that_the_text_has():
    # The first and the last word of what is written may be cut, and do not count.
    assert char_report.words_known("ha Beta gamma nope beta del", "alpha beta\ngamma!") == 0.75


def test_telling_units_are_those_that_move_much_and_hold_on():
    time = np.arange(64)
    still, hasty = np.zeros(64), np.where(time % 2, 1.0, -1.0)
    slow, faint = np.where(time < 32, 1.0, -1.0), np.where(time < 32, 0.1, -0.1)
    outputs = np.stack([still, hasty, faint, slow], axis=1)
    assert char_report.telling_units(outputs, 3) == [3, 2, 0]
