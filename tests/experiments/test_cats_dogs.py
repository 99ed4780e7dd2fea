"""The cats-and-dogs experiment as its users run it: a few small photos, a narrow trunk."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import cats_dogs, cats_dogs_report
from experiments.cats_dogs_config import Config
from jaxlessons import checkpoint, plotting, weights

QUICK = "--size 32 --batch-size 8 --validation 8 --epochs 2 --fine-epochs 1"


@pytest.fixture
def run(run_in, narrow_vgg, disc_photos, monkeypatch):
    """run(words): the experiment's exit code, output and runs folder."""
    monkeypatch.setenv("JAXLESSONS_PHOTOS", str(disc_photos))

    def call(words, draw=False, **settings):
        undrawn = None if draw else (cats_dogs_report, "draw")
        return run_in(cats_dogs.main, ["cats_dogs", *words.split()], undrawn=undrawn, **settings)

    return call


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_run_learns_and_leaves_its_whole_folder(run, whole_folder, monkeypatch):
    drawn = {}
    for name in ("plot_heatmaps", "plot_zoom"):
        original = getattr(plotting, name)
        monkeypatch.setattr(
            plotting, name, lambda *a, n=name, o=original: drawn.update({n: a}) or o(*a)
        )
    result = run(f"{QUICK} --epochs 5 --lr 0.03 --name x --views 2", draw=True)
    assert result.code == 0, result.err
    path = result.folder / "x"
    whole_folder(path, {"weights.json", "heatmaps.png", "zoom.png"})
    final = json.loads((path / "result.json").read_text())
    # Whether a disc is red or blue is plain to see.
    assert final["test_accuracy"] == 1.0
    assert final["zoomed"]["test_accuracy"] >= 0.9
    assert final["test_examples"] == 12
    assert final["weights_source"] == "made up"
    assert final["classes"] == ["blue", "red"]
    assert final["steps"] == 6 * 3
    assert "VGG16's weights: made up." in result.out
    assert "Data: discs (the photos in" in result.out
    assert "accuracy 100.0% on valid/, log loss" in result.out
    assert "zoomed into the hottest region" in result.out
    records = read(path / "metrics.jsonl")
    assert [r["step"] for r in records] == list(range(3, 19, 3))
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    # What was drawn: the maps of the photos that stand above them, from the same network.
    _, maps, labels, probabilities, classes, sections, title = drawn["plot_heatmaps"]
    assert list(maps) == ["class map", "Grad-CAM"]
    assert classes == ("blue", "red")
    assert "accuracy 100.0%" in title
    assert [len(x) for x in sections.values()] == [8, 8]
    for found in maps.values():
        assert found.shape == (16, 32, 32)
    first = next(iter(sections.values()))
    assert (np.argmax(probabilities[first], axis=1) == labels[first]).all()
    _, boxes, crops, *_ = drawn["plot_zoom"]
    assert (boxes[:, 2:] - boxes[:, :2] == 24).all()
    assert crops.dtype == np.uint8


# A step's sums are read one step late, so the stop comes after the next or at the epoch's end.
@pytest.mark.parametrize(
    ("interrupt_at", "stops_at", "more"),
    [
        pytest.param(2, 3, "--dropout 0.3 --views 2", id="head", marks=pytest.mark.slow),
        pytest.param(6, 6, "", id="between the stages", marks=pytest.mark.slow),
        pytest.param(7, 8, "--dropout 0.3 --views 2", id="views", marks=pytest.mark.slow),
        pytest.param(7, 8, "", id="second stage", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_saves_and_resume_ends_bit_for_bit_like_an_unbroken_run(
    run, parameters, interrupt_at, stops_at, more
):
    words = f"{QUICK} {more}"
    whole = run(f"{words} --name whole")
    assert whole.code == 0, whole.err
    stopped = run(f"{words} --name stopped", interrupt_at=interrupt_at)
    assert stopped.code == 130
    assert "python -m experiments.cats_dogs --resume --name stopped" in stopped.err
    assert checkpoint.latest_step(stopped.folder / "stopped" / "checkpoints") == stops_at
    resumed = run("--resume --name stopped")
    assert resumed.code == 0, resumed.err
    expected = parameters(whole.folder / "whole", 9)
    found = parameters(resumed.folder / "stopped", 9)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    results = [
        json.loads((whole.folder / name / "result.json").read_text())
        for name in ("whole", "stopped")
    ]
    assert results[0]["test_loss"] == results[1]["test_loss"]
    assert "is finished: test accuracy" in run("--resume --name stopped").out


@pytest.mark.slow
@pytest.mark.parametrize(
    "unfreeze",
    ["none", "block5", "block4", "block1"],
)
def test_only_what_is_unfrozen_changes_and_lower_blocks_less(run, narrow_vgg, parameters, unfreeze):
    result = run(f"{QUICK} --unfreeze {unfreeze} --optimizer sgd --rate-ratio 0.1 --name x")
    assert result.code == 0, result.err
    steps = 6 if unfreeze == "none" else 9
    found = parameters(result.folder / "x", steps)
    changed = {}
    for block in range(1, 6):
        name = f"block{block}_conv1"
        if f"trunk.{name}.kernel" in found:
            new, old = found[f"trunk.{name}.kernel"], narrow_vgg.params[name]["kernel"]
            changed[block] = float(np.abs(new - old).max())
    expected = {
        "none": {5: False},
        "block5": {5: True},
        "block4": {4: True, 5: True},
        "block1": dict.fromkeys(range(1, 6), True),
    }
    assert {block: change > 0 for block, change in changed.items()} == expected[unfreeze]
    records = read(result.folder / "x" / "metrics.jsonl")
    assert [r["lr"] for r in records[:2]] != [r["lr"] for r in records[1:]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--size 8", "--size is 8: block5_conv3 needs 16 or more."),
        ("--size 31 --last block5_pool", "--size is 31: block5_pool needs 32 or more."),
        ("--views 0", "--views is 0: it must be above 0."),
        ("--fine-epochs 0", "--fine-epochs is 0.0: it must be above 0."),
        ("--lr -1", "--lr is -1.0: it must be above 0."),
        ("--dropout 1", "--dropout is 1.0: it must be from 0 to below 1."),
        ("--zoom 1.2", "--zoom is 1.2: it must be above 0 and at most 1."),
        ("--size 16 --validation 40", "--validation is 40: there are 32 training images."),
        ("--size 16 --validation 8 --batch-size 99", "The batch size is 99: it must be from 1 to"),
        ("--data-dir nowhere", "nowhere/train is not a folder: photos are expected in"),
        ("--resume", "There is no run to resume in runs/cats_dogs"),
        ("--unfreeze block6", "invalid choice 'block6' for argument '--unfreeze'"),
    ],
)
def test_wrong_input_gets_a_sentence_and_leaves_nothing(run, words, sentence):
    result = run(words)
    assert result.code not in (0, None)
    assert sentence in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err
    assert not result.folder.exists()


def test_without_photos_the_sentence_says_what_to_give(run, monkeypatch):
    monkeypatch.delenv("JAXLESSONS_PHOTOS")
    result = run(QUICK)
    assert result.code == 1
    assert "error: There are no photos to train on: give --data-dir (or JAXLESSONS_PHOTOS)" in (
        result.err
    )


@pytest.mark.slow
def test_resume_with_other_weights_is_refused(run, narrow_vgg, monkeypatch):
    run(f"{QUICK} --name mine", interrupt_at=1)
    monkeypatch.setattr(weights, "vgg16", lambda file: narrow_vgg._replace(source="another"))
    result = run("--resume --name mine")
    assert result.code == 1
    assert "was begun with made up as VGG16's weights, and what was found now is another" in (
        result.err
    )


def test_help_explains_every_field(run):
    result = run("--help")
    assert result.code == 0
    text = " ".join(result.out.replace("│", " ").split())
    for field in dataclasses.fields(Config):
        assert "--" + field.name.replace("_", "-") in text
    assert "it is enlarged and classified again. (default: 0.75)" in text
