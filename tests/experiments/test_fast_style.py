"""The fast style transfer as its users run it: small photos, a narrow VGG16 of made-up weights."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import (
    fast_style,
    fast_style_config,
    fast_style_report,
    fast_style_setup,
)
from experiments.fast_style_config import Config
from jaxlessons import checkpoint, plotting, weights
from jaxlessons.data import images
from jaxlessons.models import vgg
from jaxlessons.models.image_transform import ImageTransform
from jaxlessons.weights import Weights

LAYERS = "--content-layer block2_conv1 --style-layers block1_conv2 block2_conv1"
# Six steps, three an epoch.
QUICK = (
    "fast_style --data-dir photos --style style.png --style-size 24 --crop 16 --batch-size 2 "
    f"--validation 3 --steps 6 --channels 2 3 4 --residual-blocks 0 {LAYERS}"
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with a painting, and nine photos of several sizes in photos/ and below it."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "photos" / "more" / ".hidden").mkdir(parents=True)
    random = np.random.RandomState(0)

    def write(path, height, width):
        coarse = Image.fromarray(random.randint(0, 256, (4, 5, 3)).astype(np.uint8))
        coarse.resize((width, height)).save(root / path)

    write("style.png", 40, 30)
    for i in range(9):
        folder = "photos" if i % 2 else "photos/more"
        write(f"{folder}/{i}.{['png', 'JPG', 'webp'][i % 3]}", 20 + i, 30)
    write("photos/more/.hidden/no.png", 20, 20)
    (root / "photos" / "notes.txt").write_text("no photo")
    return root


@pytest.fixture
def narrow(monkeypatch):
    """VGG16 of a few layers with six channels."""
    kept = ("block1_conv1", "block1_conv2", "block1_pool", "block2_conv1", "block2_conv2")
    monkeypatch.setattr(vgg, "LAYERS", dict.fromkeys(kept, 6))
    random = np.random.RandomState(1)
    params = {
        name: {
            "kernel": random.normal(0, 0.3, shape).astype(np.float32),
            "bias": np.full(6, 0.1, np.float32),
        }
        for name, shape in vgg.kernel_shapes().items()
    }
    found = Weights(params, vgg.MEAN, "made up")
    monkeypatch.setattr(weights, "vgg16", lambda file: found)
    return found


@pytest.fixture
def run(run_in, pictures, tmp_path):
    """run(words): the exit code, output and runs folder, in a folder with the pictures."""
    shutil.copytree(pictures, tmp_path, dirs_exist_ok=True)

    def call(words, draw=False, **settings):
        undrawn = None if draw else (plotting, "save_figure")
        return run_in(fast_style.main, words.split(), undrawn=undrawn, **settings)

    return call


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def trained(folder, step=6):
    """(the network, its parameters) of a run."""
    network = ImageTransform((2, 3, 4), residual_blocks=0)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    return network, checkpoint.restore(folder / "checkpoints", shapes, step, part="params")


@pytest.mark.slow
def test_a_run_trains_and_leaves_its_whole_folder(run, narrow, whole_folder, monkeypatch):
    drawn = {}
    original = plotting.plot_pictures
    monkeypatch.setattr(
        plotting,
        "plot_pictures",
        lambda shown, title: original(drawn.update(shown) or shown, title),
    )
    done = run(f"{QUICK} --name x", draw=True)
    assert done.code == 0, done.err
    path = done.folder / "x"
    whole_folder(path, {"curves.png", "comparison.png", "pictures"})
    assert "6 of the 9 photos in" in done.out
    assert "and 3 kept back. Style: style.png." in done.out
    assert "VGG16's weights: made up." in done.out
    assert "to paint: python -m experiments.fast_style --paint PHOTO" in done.out

    records = read(path / "metrics.jsonl")
    assert [record["step"] for record in records] == [3, 6]
    for record in records:
        for split in ("train", "validation"):
            parts = [record[f"{split}_{name}"] for name in ("content", "style", "variation")]
            assert record[f"{split}_loss"] == pytest.approx(sum(parts), rel=1e-5)
            assert min(parts[:2]) > 0
    result = json.loads((path / "result.json").read_text())
    assert result["validation_loss"] == records[-1]["validation_loss"]
    assert (result["style"], result["weights"]) == ("style.png", "made up")
    assert result["painted_size"] == [32, 32]
    assert 0 < result["painted_seconds"] < 60

    # The pictures are those of the checkpoint's network, of photos kept back.
    network, params = trained(path)
    assert next(iter(drawn)) == "style"
    assert len(drawn) == 4
    for name, pair in list(drawn.items())[1:]:
        photo, picture = np.split(pair, 2)
        found = jax.jit(network.apply)({"params": params}, photo[None])[0]
        np.testing.assert_allclose(picture, found, atol=1e-5)
        (file,) = (path.parents[2] / "photos").rglob(name)
        assert photo.shape == (32, 32, 3)
        assert np.abs(photo.mean((0, 1)) - images.read(file).mean((0, 1)) / 255).max() < 0.2
    saved = images.read(path / "pictures" / "000006.png")
    first = np.split(list(drawn.values())[1], 2)[1]
    assert np.abs(saved / 255 - first).max() <= 0.5 / 255 + 1e-5


# A step's sums are read one step late, so the stop comes after the next or at the epoch's end.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("interrupt_at", "stops_at"), [(1, 2), pytest.param(3, 3, marks=pytest.mark.slow)]
)
def test_ctrl_c_saves_and_resume_ends_bit_for_bit_like_an_unbroken_run(
    run, narrow, parameters, interrupt_at, stops_at
):
    whole = run(f"{QUICK} --name whole")
    assert whole.code == 0, whole.err
    stopped = run(f"{QUICK} --name stopped", interrupt_at=interrupt_at)
    assert stopped.code == 130
    assert "python -m experiments.fast_style --resume --name stopped" in stopped.err
    assert checkpoint.latest_step(stopped.folder / "stopped" / "checkpoints") == stops_at
    resumed = run("fast_style --resume --name stopped")
    assert resumed.code == 0, resumed.err
    expected = parameters(whole.folder / "whole", 6)
    found = parameters(resumed.folder / "stopped", 6)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    last = [read(whole.folder / x / "metrics.jsonl")[-1] for x in ("whole", "stopped")]
    assert last[0]["validation_loss"] == last[1]["validation_loss"]
    assert "is finished: loss" in run("fast_style --resume --name stopped").out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--crop 1", "--crop is 1: with these layers it must be 2 or more."),
        ("--channels 2 0 4", "--channels is (2, 0, 4): each must be 1 or more."),
        ("--steps 0", "--steps is 0: it must be above 0."),
        ("--validation 0", "--validation is 0: it must be above 0."),
        ("--style-weight -1", "style_weight is -1.0: it must be 0 or more."),
        ("--content-layer block9", "content_layer has 'block9': it must be of block1_conv1, "),
        ("--data-dir nowhere", "nowhere is not a folder: give --data-dir a folder of photos."),
        ("--validation 8", "photos holds 9 photos (.jpg, .jpeg, .png, .webp): with --validation 8"),
        ("--photos 1", "The batch size is 2: it must be from 1 to the 1 training examples."),
        ("--style photos/notes.txt", "photos/notes.txt can't be read as a picture"),
        ("--style-size 1", "The style is 1 x 1 pixels: with these layers each side must have 2"),
        ("--resume", "There is no run to resume in runs/fast_style"),
    ],
)
def test_training_with_wrong_input_gets_a_sentence_and_leaves_nothing(run, narrow, words, sentence):
    done = run(f"{QUICK} {words}")
    assert done.code == 1
    assert sentence in " ".join(done.err.split())
    assert not done.folder.exists()


def test_without_photos_the_sentence_says_what_to_give(run, monkeypatch, tmp_path):
    monkeypatch.delenv("JAXLESSONS_PHOTOS", raising=False)
    done = run("fast_style")
    assert done.code == 1
    assert "There are no photos to train on: give --data-dir (or JAXLESSONS_PHOTOS) a fold" in (
        done.err
    )
    monkeypatch.setenv("JAXLESSONS_PHOTOS", str(tmp_path / "photos"))
    assert "photos holds 9 photos" in run("fast_style --validation 50").err


@pytest.mark.slow
def test_resume_with_another_style_is_refused(run, narrow, tmp_path):
    run(f"{QUICK} --name mine", interrupt_at=1)
    shutil.copy(tmp_path / "photos" / "1.JPG", tmp_path / "style.png")
    done = run("fast_style --resume --name mine")
    assert done.code == 1
    assert "mine was begun with the style style.png as seen by made up; style.png as seen by" in (
        done.err
    )


def test_photos_are_found_below_the_folder_but_for_what_is_hidden(pictures):
    names = [path.name for path in fast_style_setup.find(pictures / "photos")]
    assert sorted(names) == sorted(f"{i}.{['png', 'JPG', 'webp'][i % 3]}" for i in range(9))


def test_photos_kept_back_are_not_trained_on_and_stay_the_same(pictures):
    config = Config(data_dir=pictures / "photos", crop=16, validation=3, batch_size=2, photos=4)
    found = fast_style_setup.load_photos(config)
    assert found.train.shape == (4, 18, 18, 3)
    assert found.validation.shape == (3, 18, 18, 3)
    both = [photo.tobytes() for photo in (*found.train, *found.validation)]
    assert len(set(both)) == 7
    other = fast_style_setup.load_photos(dataclasses.replace(config, photos=6, seed=5))
    np.testing.assert_array_equal(other.validation, found.validation)
    np.testing.assert_array_equal(other.train[:4], found.train)


def test_without_a_style_it_is_the_generated_painting(monkeypatch):
    painting = np.full((60, 75, 3), 9, np.uint8)
    monkeypatch.setattr(
        fast_style_setup, "flow_painting", lambda height, width: painting[: height // 10]
    )
    style, source = fast_style_setup.load_style(Config(style_size=50))
    assert source == "generated painting"
    np.testing.assert_array_equal(style, np.full((40, 50, 3), 9))


def test_crops_are_windows_of_the_photo_or_its_mirror_image_and_all_of_them_come():
    photo = np.arange(7 * 7 * 3).reshape(7, 7, 3).astype(np.uint8)
    batch = jnp.asarray(np.stack([photo] * 400))
    crops = np.asarray(fast_style_setup.random_window(1, jax.random.key(0), batch))
    wanted = {
        side[i : i + 5, j : j + 5].tobytes()
        for side in (photo, photo[:, ::-1])
        for i in range(3)
        for j in range(3)
    }
    assert {np.rint(255 * crop).astype(np.uint8).tobytes() for crop in crops} == wanted
    middle = np.asarray(fast_style_setup.middle(1, batch[:1]))[0]
    np.testing.assert_allclose(middle, photo[1:6, 1:6] / np.float32(255), rtol=1e-6)


def test_the_rate_is_one_cycle_over_all_steps():
    (rising, falling, tail) = fast_style_config.phases(Config(lr=0.01, steps=400), per_epoch=100)
    assert [p.optimizer for p in (rising, falling, tail)] == ["adam"] * 3
    assert (rising.lr[1], falling.lr[0]) == (0.01, 0.01)
    assert rising.epochs + falling.epochs + tail.epochs == pytest.approx(4)


def test_the_comparison_puts_each_painting_below_its_photo():
    photo = np.full((1, 2, 2, 3), 255, np.uint8)
    found = fast_style_setup.Photos("", "", photo, photo, photo, ("a.jpg",))
    shown = fast_style_report.side_by_side(found, np.zeros((1, 2, 2, 3), np.float32), photo[0])
    assert list(shown) == ["style", "a.jpg"]
    np.testing.assert_array_equal(shown["a.jpg"][:, 0, 0], [1, 1, 0, 0])


def test_help_explains_every_field(run):
    done = run("fast_style --help")
    assert done.code == 0
    text = " ".join(done.out.replace("│", " ").split())
    for field in dataclasses.fields(Config):
        assert "--" + field.name.replace("_", "-") in text
    assert "Adam's highest rate, of one cycle." in text
