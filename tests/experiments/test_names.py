"""The name classifier as its users train it, on a few made-up names."""

import json
import shutil

import numpy as np
import pytest
from names_files import LANGUAGES, SMALL, network

from experiments import names_predict
from jaxlessons.data.name_files import read


@pytest.fixture
def trained(trained_names):
    return trained_names


@pytest.fixture
def run(run_names):
    return run_names


@pytest.mark.slow
def test_a_run_learns_and_leaves_its_whole_folder(trained, whole_folder):
    whole_folder(trained.run, {"curves.png", "confusion.png", "reliability.png"})
    records = [json.loads(x) for x in (trained.run / "metrics.jsonl").read_text().splitlines()]
    result = trained.result
    assert [record["epoch"] for record in records] == list(range(1, 9))
    best = max(record["validation_accuracy"] for record in records)
    assert result["validation_accuracy"] == best > 0.9
    assert result["test_accuracy"] > 0.9
    at_best = [r["epoch"] for r in records if r["validation_accuracy"] == best]
    assert result["best_epoch"] == at_best[-1]
    assert result["data"] == "train.csv"
    assert result["test_names"] == len(read(trained.folder / "test.csv").names)
    assert f"test accuracy {result['test_accuracy']:.2%}" in trained.out
    assert result["test_names_with_unknown_letters"] == 1
    assert "1 have letters that training lacks." in trained.out
    longest = network(trained).longest
    assert result["test_names_longer_than_trained_on"] == 1
    assert f"1 are longer than any name trained on, which had {longest} letters" in trained.out
    both = result["in_both_files"]
    shared = f"{both['names']} of them stand among the names to train on too, {both['same_label']}"
    assert shared in trained.out


@pytest.mark.slow
def test_the_figures_are_those_of_each_test_name_by_itself(trained):
    test, loaded = read(trained.folder / "test.csv"), network(trained)
    known = read(trained.folder / "train.csv")
    train = set(known.names)
    probabilities = np.concatenate([names_predict.predict(loaded, [n]) for n in test.names[:40]])
    together = names_predict.predict(loaded, test.names)
    np.testing.assert_allclose(together[:40], probabilities, rtol=1e-4, atol=1e-6)
    guesses = [loaded.classes[k] for k in together.argmax(axis=1)]
    right = np.array(guesses) == np.array(test.labels)
    assert trained.result["test_accuracy"] == pytest.approx(right.mean())
    loss = [
        -np.log(row[loaded.classes.index(x)]) for row, x in zip(together, test.labels, strict=True)
    ]
    assert trained.result["test_loss"] == pytest.approx(np.mean(loss), rel=1e-4)
    both = np.array([name in train for name in test.names])
    assert trained.result["in_both_files"] == pytest.approx(
        {
            "names": int(both.sum()),
            "same_label": sum(
                row in set(zip(known.names, known.labels, strict=True))
                for row in zip(test.names, test.labels, strict=True)
            ),
            "accuracy": right[both].mean(),
            "accuracy_of_others": right[~both].mean(),
        }
    )
    assert both.sum() >= 2
    recalls = []
    for language in LANGUAGES:
        own = np.array(test.labels) == language
        found = trained.result["classes"][language]
        assert found["share"] == pytest.approx(own.mean())
        assert found["predicted"] == pytest.approx(guesses.count(language) / len(guesses))
        assert found["accuracy"] == pytest.approx(right[own].mean())
        recalls.append(right[own].mean())
        confused = {x: np.array(guesses)[own].tolist().count(x) for x in LANGUAGES}
        expected = {x: count for x, count in confused.items() if count}
        assert trained.result["confusion"][language] == expected
    assert trained.result["balanced_accuracy"] == pytest.approx(np.mean(recalls))


@pytest.mark.slow
def test_ctrl_c_saves_and_resume_ends_bit_for_bit_like_an_unbroken_run(run, trained, parameters):
    per_epoch = trained.result["steps"] // 8
    stopped = run(f"{SMALL} {trained.files} --name b", interrupt_at=per_epoch + 3)
    assert stopped.code == 130
    assert f"Stopped at step {per_epoch + 4} of {8 * per_epoch}" in stopped.err
    resumed = run("--resume --name b")
    assert resumed.code == 0, resumed.err
    expected, found = (
        parameters(folder, 8 * per_epoch) for folder in (trained.run, stopped.folder / "b")
    )
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    result = json.loads((stopped.folder / "b" / "result.json").read_text())
    assert result["test_loss"] == trained.result["test_loss"]
    assert "is finished: test accuracy" in run("--resume --name b").out


@pytest.mark.slow
def test_two_devices_come_to_the_figures_of_one(run, trained):
    done = run(f"{SMALL} {trained.files} --name two --devices 2 --shard-optimizer")
    assert done.code == 0, done.err
    result = json.loads((done.folder / "two" / "result.json").read_text())
    assert result["test_loss"] == pytest.approx(trained.result["test_loss"], abs=0.01)
    assert result["best_epoch"] == trained.result["best_epoch"]


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["qrnn", "mingru"])
def test_the_other_cells_learn_too(run, trained, cell):
    done = run(f"--cell {cell} {SMALL} {trained.files} --name x --validation 0")
    assert done.code == 0, done.err
    result = json.loads((done.folder / "x" / "result.json").read_text())
    assert result["test_accuracy"] > 0.85
    assert result["validation_accuracy"] is None
    assert result["best_epoch"] == 8


@pytest.mark.slow
def test_resume_on_other_names_is_refused(run, trained, tmp_path):
    path = tmp_path / "train.csv"
    shutil.copy(trained.folder / "train.csv", path)
    words = f"{SMALL} --train-file {path} --name c --epochs 2"
    assert run(words, interrupt_at=10).code == 130
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(",Borgish\n", ",Cendri\n", 1), encoding="utf-8")
    done = run("--resume --name c")
    assert done.code == 1
    assert "The names of train.csv are not those that the checkpoint in" in done.err
    path.write_text(text, encoding="utf-8")
    assert run("--resume --name c").code == 0


@pytest.mark.slow
def test_a_label_in_the_test_file_alone_is_refused(run, trained, tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("Abe,Cendri\nBob,Martian\n")
    done = run(f"--train-file {trained.folder / 'train.csv'} --test-file {path}")
    assert done.code == 1
    assert f"{path} has the label 'Martian' at line 2, which no name in" in done.err
