"""Style transfer as its users run it: small pictures, and a narrow VGG16 of made-up weights."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import style_config, style_transfer
from experiments.style_journal import StyleJournal
from jaxlessons.data import images

LAYERS = "--content-layer block2_conv1 --style-layers block1_conv1 block2_conv1"
QUICK = f"style_transfer --size 24 --scales 2 --evaluations 8 --every 3 {LAYERS}"


@pytest.fixture
def folder(tmp_path):
    """A photo of 30 x 20 pixels, two paintings, and a mask whose left half is white."""
    random = np.random.RandomState(1)
    for name, size in (("photo", (20, 30)), ("one", (40, 33)), ("two", (26, 36))):
        coarse = random.randint(0, 256, (3, 4, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize(size[::-1]).save(tmp_path / f"{name}.png")
    mask = np.zeros((20, 30), np.uint8)
    mask[:, :15] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


@pytest.fixture
def run(run_in, narrow_vgg16, folder, monkeypatch):
    """run(words): the exit code, output and runs folder, in the folder of the pictures."""
    monkeypatch.setattr("experiments.style_pictures.PAINTING", (60, 75))
    return lambda words: run_in(style_transfer.main, words.split())


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_run_paints_and_leaves_its_whole_folder(run, whole_folder, folder):
    words = f"{QUICK} --content photo.png --style one.png --name a --output mine.png"
    done = run(words)
    assert done.code == 0, done.err
    assert "made up" in done.out
    pictures = {"picture.png", "comparison.png", "losses.png"}
    # Of so short a run there is no checkpoint.
    (done.folder / "a" / "checkpoints").mkdir()
    whole_folder(done.folder / "a", pictures | {"way.gif", "steps"})
    picture = images.read(done.folder / "a" / "picture.png")
    assert picture.shape == (16, 24, 3)
    np.testing.assert_array_equal(images.read(folder / "mine.png"), picture)
    kept = images.read_settings(folder / "mine.png")
    assert (kept["size"], kept["content"], kept["style"]) == (24, "photo.png", ["one.png"])

    records = read(done.folder / "a" / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 9))
    assert [record["scale"] for record in records] == [0] * 4 + [1] * 4
    for record in records:
        parts = record["content"] + record["style"] + record["variation"]
        assert record["value"] == pytest.approx(parts, rel=1e-5)
    result = json.loads((done.folder / "a" / "result.json").read_text())
    taken = [record for record in records if record["taken"]]
    assert result["value"] == taken[-1]["value"]
    assert result["value"] < min(record["value"] for record in records[4:5])
    assert result["size"] == [16, 24]
    with Image.open(done.folder / "a" / "way.gif") as way:
        assert way.n_frames == len(list((done.folder / "a" / "steps").glob("*.png"))) == 3
        assert way.size == (24, 16)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_very_same_picture(run, monkeypatch):
    words = f"{QUICK} --content photo.png --style one.png two.png --style-weights 1 3"
    whole = run(f"{words} --name whole")
    original = StyleJournal.on_call

    def on_call(self, progress):
        original(self, progress)
        if progress.done == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StyleJournal, "on_call", on_call)
        stopped = run(f"{words} --name cut")
    assert stopped.code == 130
    assert "Stopped after 6 evaluations and saved" in stopped.err
    assert "--resume --name cut" in stopped.err
    assert (stopped.folder / "cut" / "picture.png").exists()
    assert run("style_transfer --resume --name cut").code == 0
    ours, theirs = (whole.folder / name for name in ("cut", "whole"))
    records = [read(path / "metrics.jsonl") for path in (ours, theirs)]
    assert all(record.pop("seconds") > 0 for run in records for record in run)
    assert records[0] == records[1]
    pictures = [images.read(path / "picture.png") for path in (ours, theirs)]
    np.testing.assert_array_equal(*pictures)
    again = run("style_transfer --resume --name cut --output late.png")
    assert (again.code, "is finished" in again.out) == (0, True)
    np.testing.assert_array_equal(images.read("late.png"), pictures[0])


@pytest.mark.slow
def test_two_styles_share_a_picture_by_a_mask(run):
    words = f"{QUICK} --content photo.png --style one.png two.png"
    inside = run(f"{words} --mask mask.png --name masked")
    assert inside.code == 0, inside.err
    mixed = run(f"{words} --name mixed")
    first, second = (
        images.read(done.folder / name / "picture.png").astype(int)
        for done, name in ((inside, "masked"), (mixed, "mixed"))
    )
    assert np.abs(first - second).max() > 0


@pytest.mark.slow
def test_without_arguments_a_demonstration_runs(run):
    done = run(f"{QUICK} --name demo")
    assert done.code == 0, done.err
    assert "Grace Hopper" in done.out
    assert "generated painting" in done.out
    assert images.read(done.folder / "demo" / "picture.png").shape == (24, 20, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--content nothing.png", "nothing.png"),
        ("--style one.png --mask mask.png", "--mask is for two styles"),
        ("--style one.png two.png --style-weights 1", "There are 1 weights for 2 styles"),
        ("--output mine.jpg", "the picture is written as a .png"),
        ("--output photo.png/mine.png", "--output is photo.png/mine.png: it can't be written"),
        ("--style-size 100000", "--style-size is 100000: it must be 8944 or less"),
        ("--size 3", "each side must have 4 or more"),
        ("--evaluations 1", "evaluations is 1: it must be 2 or more"),
        ("--style-layers block9_conv1", "style_layers has 'block9_conv1'"),
        ("--content-weight 0 --style-weight 0", "made of nothing"),
    ],
)
def test_bad_input_gets_one_sentence(run, words, message):
    base = QUICK if "--content" in words else f"{QUICK} --content photo.png"
    done = run(f"{base} {words}")
    assert done.code == 1
    assert message in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.strip().splitlines()) == 1
    assert not done.folder.exists()


def test_a_mask_of_another_shape_is_refused(run, folder):
    Image.fromarray(np.zeros((30, 20), np.uint8)).save(folder / "tall.png")
    words = f"{QUICK} --content photo.png --style one.png two.png --mask tall.png"
    done = run(words)
    assert (done.code, "must have the photo's proportions" in done.err) == (1, True)


def test_presets_follow_the_device(monkeypatch):
    quick = style_config.defaults(None, None)
    assert (quick.size, quick.evaluations) == (256, 200)
    assert style_config.defaults(None, "lesson").evaluations == 1000
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert style_config.defaults(None, None).size == 512
