"""What a name classifier's settings become, and what its report says."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from experiments import names_config, names_report, names_setup
from jaxlessons import training
from jaxlessons.errors import UserError


@pytest.fixture
def trained(trained_names):
    return trained_names


def load(tmp_path, train, test=(("Abe", "x"),), **settings):
    """The data of a config with these rows as files, all of them to train on."""
    for which, rows in (("train", train), ("test", test)):
        text = "".join(f"{name},{label}\n" for name, label in rows)
        (tmp_path / f"{which}.csv").write_text(text, encoding="utf-8")
    files = {"train_file": tmp_path / "train.csv", "test_file": tmp_path / "test.csv"}
    return names_setup.load_data(names_config.Config(**{**files, "validation": 0.0, **settings}))


def test_unknown_letters_are_trained_and_padding_stays():
    forget = names_setup.make_unknown(0.25)
    tokens = np.where(np.arange(50)[None] < 30, 7, -1) * np.ones((200, 1), int)
    batch = training.Examples(jnp.asarray(tokens), jnp.zeros(200, int))
    found = np.asarray(forget(random.key(0), batch, None).inputs)
    assert set(found[:, :30].ravel().tolist()) == {0, 7}
    assert (found[:, :30] == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert (found[:, 30:] == -1).all()
    assert names_setup.make_unknown(0.0) is None


def test_the_tutorials_preset_is_the_tutorials():
    config = names_config.defaults(None, "tutorial")
    (phase,) = names_config.phases(config)
    assert (config.cell, config.layers, config.features, config.embedding_size) == (
        "gru",
        2,
        100,
        100,
    )
    assert (config.bidirectional, config.batch_size, config.dropout) == (True, 256, 0.0)
    assert (phase.optimizer, phase.lr, phase.lr_decay, phase.weight_decay) == (
        "adam",
        1e-3,
        "none",
        0,
    )
    tuned = names_config.defaults("mingru", None)
    assert (tuned.preset, tuned.cell, tuned.features) == ("tuned", "mingru", 100)
    assert names_config.Config() == names_config.defaults(None, "tutorial")
    assert names_config.Config().preset == "tutorial"
    assert (tuned.dropout, tuned.unknown, tuned.schedule, tuned.lr) == (
        0.3,
        0.03,
        "one_cycle",
        3e-3,
    )


@pytest.mark.slow
def test_the_train_step_is_compiled_once_for_names_of_all_lengths(trained):
    small = {"features": 4, "embedding_size": 4, "layers": 1, "batch_size": 16, "epochs": 1.0}
    config = names_config.Config(train_file=trained.folder / "train.csv", **small)
    data = names_setup.load_data(config)
    setup = names_setup.set_up(config, data)
    state = setup.create_state(0, data.splits.train.inputs[:2])
    training.fit(
        state,
        setup.train_step,
        data.splits.train,
        batch_size=16,
        total_steps=setup.total_steps,
        order=setup.order,
    )
    assert len(set(data.lengths.tolist())) > 8
    assert setup.train_step._cache_size() == 1


def test_each_name_is_lower_cased_by_itself(tmp_path):
    rows = [("\u0391\u03a3", "x"), ("\u0392\u03a3", "y")]
    data = load(tmp_path, rows, rows, lower=True)
    # A sigma at a name's end is another letter than one within.
    assert data.vocabulary.symbols[1:] == ("\u03b1", "\u03b2", "\u03c2")
    assert np.asarray(data.splits.train.inputs).tolist() == [[1, 3], [2, 3]]
    assert (np.asarray(data.splits.test.inputs) > 0).all()


def test_a_long_name_to_test_on_leaves_training_alone(tmp_path):
    train = [("Abe", "x"), ("Beatrix", "y"), ("Cy", "x")]
    short = load(tmp_path, train)
    long = load(tmp_path, train, [("Abe", "x"), ("Abe" * 50, "y")])
    np.testing.assert_array_equal(short.splits.train.inputs, long.splits.train.inputs)
    assert long.splits.train.inputs.shape == (3, 7)
    real = (np.asarray(long.splits.test.inputs) >= 0).sum(axis=1)
    assert real.tolist() == [3, 150]
    assert names_report.longer(long) == 1
    assert names_report.longer(short) == 0


SHARED = [("Abe", "x"), ("abe", "y"), ("Bea", "y"), ("Dan", "x")]


@pytest.mark.parametrize(
    ("test", "lower", "expected", "sentence"),
    [
        (
            SHARED,
            False,
            (2, 1, 0.5, 0.5),
            "2 of them stand among the names to train on too, 1 with the same label: right are "
            "50.00% of those, and 50.00% of the others.",
        ),
        (
            SHARED,
            True,
            (3, 1, 1 / 3, 1),
            "3 of them stand among the names to train on too, 1 with the same label: right are "
            "33.33% of those, and 100.00% of the others.",
        ),
        (
            [("Dan", "x")],
            False,
            (0, 0, None, 1),
            "0 of them stand among the names to train on too.",
        ),
        (
            [("Bea", "x")],
            False,
            (1, 1, 1, None),
            "1 of them stand among the names to train on too, 1 with the same label: right are "
            "100.00% of those.",
        ),
    ],
)
def test_names_of_both_files_are_counted_as_the_network_reads_them(
    tmp_path, test, lower, expected, sentence
):
    data = load(tmp_path, [("Abe", "x"), ("Bea", "x"), ("Cy", "y")], test, lower=lower)
    always_x = np.tile([0.9, 0.1], (len(test), 1))
    found = names_report.in_both_files(data, always_x)
    assert tuple(found) == ("names", "same_label", "accuracy", "accuracy_of_others")
    assert tuple(found.values()) == pytest.approx(expected)
    assert names_report.shared(found) == sentence


def test_too_few_names_to_validate_on_are_told_with_the_flag(tmp_path):
    rows = [("Abe", "x"), ("Bea", "y"), ("Cy", "y")]
    with pytest.raises(UserError) as caught:
        load(tmp_path, rows, rows, validation=0.7)
    assert str(caught.value) == (
        "--validation is 0.7, which train.csv has too few names for: 2 of 3 can't be kept back "
        "where one with each of the 2 labels stays to train on; take a smaller share, or add names."
    )
