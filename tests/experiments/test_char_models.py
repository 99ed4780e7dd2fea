"""The lesson's models on a text of which three characters tell the next one."""

import json

import jax
import numpy as np
import pytest

from experiments import char_models
from experiments.char_models import LESSONS, examples

PERIOD = "abcadbecdf"  # any two neighbours tell the next one; a, b, c or d alone do not

SLOW = pytest.mark.slow


@pytest.fixture
def periodic(tmp_path):
    (tmp_path / "periodic.txt").write_text(PERIOD * 120)
    return "periodic.txt"


def numbers(split):
    return jax.tree.map(lambda array: np.asarray(array).tolist(), split)


def test_the_examples_are_the_lessons():
    tokens = np.arange(20, dtype=np.int32)
    three = numbers(examples(tokens, "three"))
    # Every third start.
    assert three.inputs == [[i, i + 1, i + 2] for i in range(0, 17, 3)]
    assert three.labels == [3, 6, 9, 12, 15, 18]
    for name in ("loop", "concat", "rnn"):
        found = numbers(examples(tokens, name))
        assert found.inputs == [list(range(i, i + 8)) for i in range(12)]
        assert found.labels == list(range(8, 20))
    sequence = numbers(examples(tokens, "sequence"))
    assert sequence.inputs == [list(range(8)), list(range(8, 16))]
    assert sequence.labels == [list(range(1, 9)), list(range(9, 17))]


def test_a_text_is_used_to_its_last_character():
    assert numbers(examples(np.arange(9, dtype=np.int32), "sequence")).labels == [[*range(1, 9)]]
    assert numbers(examples(np.arange(4, dtype=np.int32), "three")).labels == [3]


@pytest.mark.parametrize(("name", "length"), [("three", 3), ("rnn", 8), ("sequence", 8)])
def test_too_few_characters_are_refused(name, length):
    with pytest.raises(char_models.UserError) as caught:
        examples(np.zeros(length, np.int32), name)
    assert str(caught.value) == (
        f"{length} characters are too few for {name}: name a longer --text."
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n if n in ("three", "sequence") else pytest.param(n, marks=SLOW) for n in LESSONS]
)
def test_each_model_learns_a_periodic_text_and_goes_on_with_it(run_in, periodic, name):
    # About 300 steps each.
    epochs = {"three": 27, "sequence": 75}.get(name, 9)
    flags = f"--text {periodic} --model {name} --batch-size 32 --features 32 --epochs {epochs}"
    result = run_in(char_models.main, ["char_models", *flags.split()])
    assert result.code == 0, result.err
    written = json.loads((result.folder / name / "result.json").read_text())
    assert written["model"] == name
    assert written["text"] == "periodic.txt"
    # Of sequence's windows, two in five begin with d: what follows that first one is b or f.
    least = 2 / 5 * np.log(2) / 8 if name == "sequence" else 0
    assert 0.9 * least < written["validation_loss"] < least + 0.1
    assert written["epochs"][-1]["validation_loss"] == written["validation_loss"]
    assert written["epochs"][-1]["loss"] < written["epochs"][0]["loss"]
    (prompt, following), *others = written["written"].items()
    assert others == []
    assert prompt == PERIOD[: LESSONS[name].window]
    assert following == (PERIOD * 5)[len(prompt) :][:40]
    assert f"'{prompt}' -> '{PERIOD[len(prompt)]}', and on: '{prompt}{following}'" in result.out


@pytest.mark.slow
def test_the_validation_loss_is_that_of_the_texts_end(run_in, periodic, monkeypatch):
    """Of a network whose rates are too low to learn: ln of the number of symbols, about."""
    slow = LESSONS["three"]._replace(rates=((0.5, 1e-12), (0.5, 1e-12)))
    monkeypatch.setitem(LESSONS, "three", slow)
    flags = f"--text {periodic} --model three --batch-size 64 --features 32"
    result = run_in(char_models.main, ["char_models", *flags.split()])
    assert result.code == 0, result.err
    written = json.loads((result.folder / "three" / "result.json").read_text())
    assert abs(written["validation_loss"] - np.log(7)) < 0.7
    assert len(written["epochs"]) == 1


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--model four", "invalid choice 'four' for argument '--model'"),
        ("--epochs 0", "error: --epochs is 0.0: it must be above 0."),
        ("--batch-size 0", "error: --batch-size is 0: it must be above 0."),
        ("--features -1", "error: --features is -1: it must be above 0."),
        ("--seed -1", "error: --seed is -1: it must be from 0 to below"),
        ("--text none.txt", "none.txt"),
        (
            "--text periodic.txt --model loop --batch-size 2000",
            "error: The batch size is 2000: it must be from 1 to the 1,072 training examples.",
        ),
    ],
)
def test_wrong_flags_are_refused(run_in, periodic, flags, sentence):
    result = run_in(char_models.main, ["char_models", *flags.split()])
    assert result.code not in (0, None)
    assert sentence in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err
    assert not result.folder.exists()
