"""What a trained name classifier answers, and the one sentence that wrong input gets."""

import shutil

import numpy as np
import pytest
from names_files import network

from experiments import names, names_predict
from experiments.trained import find_checkpoint
from jaxlessons.errors import UserError


@pytest.fixture
def trained(trained_names):
    return trained_names


@pytest.fixture
def run(run_names):
    return run_names


@pytest.fixture
def ask(run_in, trained):
    """ask(name, ...): what the trained network's --predict says."""

    def call(*asked, settings=()):
        words = ["names", "--runs-dir", str(trained.folder / "runs"), *settings]
        return run_in(names.main, [*words, "--predict", *asked])

    return call


@pytest.mark.slow
def test_predict_tells_the_likeliest_with_their_probabilities(ask, trained):
    loaded, asked = network(trained), ["Tsumoto", "fjörsen", "Fjörsen"]
    done = ask(*asked)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    for line, name, row in zip(lines, asked, names_predict.predict(loaded, asked), strict=True):
        order = np.argsort(-row)
        expected = ", ".join(f"{loaded.classes[k]} {row[k]:.1%}" for k in order)
        assert line == f"{name}: {expected}"
    assert lines[0].startswith("Tsumoto: Cendri ")
    one = ask("Tsumoto", settings=("--top", "1")).out
    assert one == lines[0].split(",")[0] + "\n"


@pytest.mark.slow
def test_predict_takes_a_checkpoint_alone(run_in, ask, trained, tmp_path):
    folder, step = find_checkpoint(
        trained.run, tmp_path, "names", None, best="accuracy", mode="max"
    )
    shutil.copytree(folder / str(step), tmp_path / str(step))
    words = ["names", "--checkpoint", str(tmp_path / str(step)), "--predict", "Tsumoto"]
    done = run_in(names.main, words)
    assert done.out == ask("Tsumoto").out


@pytest.mark.slow
def test_what_training_has_nothing_like_is_warned_of(ask, trained):
    longest = network(trained).longest
    unlike = "which no name trained on has: read as unknown letters."
    long = "Tsu" * 9
    done = ask("Tsu\u017bo", "Ямамото", long, "Sa\u0308mo")
    assert done.code == 0
    assert len(done.out.splitlines()) == 4
    assert done.err.splitlines() == [
        f"warning: 'Tsu\u017bo' has '\u017b' (U+017B), {unlike}",
        "warning: no letter of 'Ямамото' was among the names trained on: the answer tells what is "
        "said of unknown letters, and nothing of this name.",
        f"warning: '{long}' has 27 letters, and no name trained on had more than {longest}: the "
        "answer may be poor.",
        f"warning: 'S\u00e4mo' has '\u00e4' (U+00E4), {unlike}",
    ]
    # In a batch with a long one the short ones get the answer that they get alone.
    assert done.out.splitlines()[0] == ask("Tsu\u017bo").out.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--predict", "--predict names nobody: give one name or more behind it."),
        ("--predict Abe --name nobody", "There is no trained network in runs/names"),
        ("--predict Abe --checkpoint nowhere", "nowhere holds no checkpoint"),
        ("--predict Abe --top 0", "--top is 0: it must be above 0."),
        ("--train-file none.csv", "none.csv can't be read (No such file or directory)"),
        ("--test-file none.csv", "--test-file is none.csv: it needs a --train-file too."),
        ("--data-dir .", "., given as the data folder, does not hold names_train.csv.gz and"),
        ("--epochs 0", "--epochs is 0.0: it must be above 0."),
        ("--buckets 0", "--buckets is 0: it must be above 0."),
        ("--dropout 1", "--dropout is 1.0: it must be from 0 to below 1."),
        ("--unknown -0.1", "--unknown is -0.1: it must be from 0 to below 1."),
        ("--validation 1", "--validation is 1.0: it must be from 0 to below 1."),
        ("--train-file FILE --validation 0.999", "can't be kept back where one with each of the"),
        ("--train-file FILE --batch-size 9999", "The batch size is 9999: it must be from 1 to"),
        ("--train-file FILE --devices 3", "A batch of 256 can't be shared out evenly among 3"),
        ("--resume", "There is no run to resume in runs/names"),
        ("--cell elman", "invalid choice 'elman' for argument '--cell'"),
    ],
)
def test_wrong_input_gets_one_sentence(run, trained, words, message):
    done = run(words.replace("FILE", str(trained.folder / "train.csv")))
    assert done.code not in (0, None)
    assert message in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err
    assert not done.folder.exists()


def test_names_that_are_none_are_refused(run_in):
    for asked, message in (
        ("", "--predict has an empty name: leave it out."),
        (" ", "--predict has an empty name: leave it out."),
        ("a\tb", "--predict has a name with the character U+0009, no letter: leave it out."),
        ("\udcff", "--predict has a name with the character U+DCFF, no letter: leave it out."),
        ("x" * 201, "--predict has a name of 201 characters, more than 200: leave it out."),
    ):
        done = run_in(names.main, ["names", "--predict", "Abe", asked])
        assert (done.code, done.err) == (1, f"error: {message}\n")


def test_another_experiments_checkpoint_is_refused(run, begun):
    folder = begun("whole")
    done = run(f"--predict Abe --checkpoint {folder}")
    assert done.code == 1
    assert " is no name classifier's: name another --checkpoint." in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("classes", ["a", "b"], "names 2 labels and {letters} letters where its network has 3 and"),
        ("vocabulary", {"symbols": "ab", "lower": False, "unknown": False}, "names 3 labels and 2"),
    ],
)
def test_a_checkpoint_whose_labels_or_letters_do_not_fit_is_refused(
    trained, monkeypatch, field, value, fault
):
    loaded = network(trained)
    folder, step = find_checkpoint(trained.run, trained.folder, "names", None, best="accuracy")
    about = names_predict.checkpoint.read_about(folder, step) | {field: value}
    monkeypatch.setattr(names_predict.checkpoint, "read_about", lambda *_: about)
    with pytest.raises(UserError) as caught:
        names_predict.load(folder, step)
    letters = len(loaded.vocabulary)
    assert fault.format(letters=letters) in str(caught.value)
    assert str(caught.value).endswith(
        f"has 3 and {letters}: it was altered; name another --checkpoint."
    )
