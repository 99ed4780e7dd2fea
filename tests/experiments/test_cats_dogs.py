"""The cats-and-dogs experiment as its users run it: a few small photos, a narrow trunk."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import cats_dogs, cats_dogs_config, cats_dogs_report, cats_dogs_setup
from experiments.cats_dogs_config import Config
from jaxlessons import cam, checkpoint, plotting, weights
from jaxlessons.models import vgg
from jaxlessons.weights import Weights

QUICK = "--size 32 --batch-size 8 --validation 8 --epochs 2 --fine-epochs 1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Red photos with a bright disc somewhere, and blue ones: 16 and 6 of each."""
    root = tmp_path_factory.mktemp("photos") / "discs"
    random = np.random.RandomState(0)
    rows, columns = np.mgrid[0:32, 0:40]
    for split, count in (("train", 16), ("valid", 6)):
        for channel, name in ((0, "red"), (2, "blue")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                photo = random.randint(0, 60, (32, 40, 3))
                centre = random.randint(6, 26), random.randint(10, 30)
                disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 36
                photo[disc, channel] = 250
                Image.fromarray(photo.astype(np.uint8)).save(root / split / name / f"{i:02}.png")
    return root


@pytest.fixture
def narrow(monkeypatch):
    """VGG16 with six channels a layer, fewer layers, and weights that let a colour through."""
    kept = [
        name for name in vgg.LAYERS if name.endswith(("conv1", "pool")) or name == "block5_conv3"
    ]
    monkeypatch.setattr(vgg, "LAYERS", dict.fromkeys(kept, 6))
    random, params = np.random.RandomState(1), {}
    for name, shape in vgg.kernel_shapes().items():
        kernel = random.normal(0, 0.15 * shape[2] ** -0.5, shape)
        kernel[1, 1] += np.resize(np.eye(shape[2]), (shape[2], 6))
        params[name] = {
            "kernel": kernel.astype(np.float32),
            "bias": np.full(6, 0.1, np.float32),
        }
    found = Weights(params, vgg.MEAN, "made up")
    monkeypatch.setattr(weights, "vgg16", lambda file: found)
    return found


@pytest.fixture
def run(run_in, narrow, folder, monkeypatch):
    """run(words): the experiment's exit code, output and runs folder."""
    monkeypatch.setenv("JAXLESSONS_PHOTOS", str(folder))

    def call(words, draw=False, **settings):
        undrawn = None if draw else (cats_dogs_report, "draw")
        return run_in(cats_dogs.main, ["cats_dogs", *words.split()], undrawn=undrawn, **settings)

    return call


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


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
def test_only_what_is_unfrozen_changes_and_lower_blocks_less(run, narrow, parameters, unfreeze):
    result = run(f"{QUICK} --unfreeze {unfreeze} --optimizer sgd --rate-ratio 0.1 --name x")
    assert result.code == 0, result.err
    steps = 6 if unfreeze == "none" else 9
    found = parameters(result.folder / "x", steps)
    changed = {}
    for block in range(1, 6):
        name = f"block{block}_conv1"
        if f"trunk.{name}.kernel" in found:
            new, old = found[f"trunk.{name}.kernel"], narrow.params[name]["kernel"]
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


def test_the_rates_fall_from_block_to_block():
    groups = cats_dogs_config.groups(Config(unfreeze="block3", fine_lr=0.1, rate_ratio=0.5))
    rates = {pattern: [phase.lr for phase in phases] for pattern, phases in groups.items()}
    assert rates == {
        "trunk/block5_": [0.0, 0.05],
        "trunk/block4_": [0.0, 0.025],
        "trunk/block3_": [0.0, 0.0125],
    }
    assert cats_dogs_config.groups(Config(unfreeze="none")) == {"trunk": 0}


@pytest.fixture
def network(narrow):
    config = Config(size=32, unfreeze="block4")
    return config, cats_dogs_setup.make_network(config, 2, narrow)


def test_frozen_and_trained_parts_make_the_whole_network(network, folder):
    config, network = network
    images = cats_dogs_setup.load_photos(dataclasses.replace(config, data_dir=folder))
    photos = jnp.asarray(images.train_images)
    views = cats_dogs_setup.Views(network, photos[:5], seed=0, name="five")
    below, last = views.features(0)
    assert below.shape == (5, 4, 4, 6)
    assert last.shape == (5, 2, 2, 6)
    setup = SimpleNamespace(optimizer=SimpleNamespace(init=lambda params: ()))
    state = cats_dogs_setup.create_state(config, network, setup)
    whole = network.whole_params(state.params)
    assert set(whole["trunk"]) == set(vgg.kernel_shapes())
    logits, features = network.whole.apply(
        {"params": whole}, network.prepare(photos[:5]), return_features=True
    )
    np.testing.assert_allclose(below, features["block3_pool"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(last, features["block5_conv3"], rtol=1e-5, atol=1e-4)
    top = network.top.apply({"params": state.params}, below)
    np.testing.assert_allclose(top, logits, rtol=1e-4, atol=1e-4)


def test_views_are_the_photo_and_then_others_the_same_each_time(network, folder, monkeypatch):
    config, network = network
    images = cats_dogs_setup.load_photos(dataclasses.replace(config, data_dir=folder))
    photos = jnp.asarray(images.train_images[:24])  # as many as a run above trains on
    views = cats_dogs_setup.Views(network, photos, seed=0, name="x")
    plain, changed = views.features(0).last, views.features(1).last
    assert not np.allclose(plain, changed, rtol=0.01)
    assert not np.allclose(views.features(2).last, changed, rtol=0.01)
    again = cats_dogs_setup.Views(network, photos, seed=0, name="x")
    np.testing.assert_array_equal(again.features(1).last, changed)
    other = cats_dogs_setup.Views(network, photos, seed=1, name="x")
    assert not np.allclose(other.features(1).last, changed, rtol=0.01)
    # Batches that don't fit the number of photos change nothing.
    monkeypatch.setattr(cats_dogs_setup, "BATCH", 12)
    small = cats_dogs_setup.Views(network, photos, seed=0, name="x")
    np.testing.assert_allclose(small.features(0).last, plain, rtol=1e-5, atol=1e-5)


def test_looking_counts_every_photo_once_and_its_maps_are_the_heads(network, folder):
    config, network = network
    images = cats_dogs_setup.load_photos(dataclasses.replace(config, data_dir=folder))
    kernel = 0.001 * np.ones((3, 3, 6, 2)) * [1, -1]
    head = {"class_maps": {"kernel": kernel, "bias": np.zeros(2)}}
    params = {"trunk": network.trunk_params, "head": head}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    look = cats_dogs_report.make_look(network, params)
    many, few = look(images.train_images), look(images.train_images[:5])
    assert many.maps.shape == (32, 2, 2, 2)
    np.testing.assert_allclose(many.maps[:5], few.maps, rtol=1e-4, atol=1e-4)
    logits = many.maps.mean((1, 2))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(many.probabilities, expected, rtol=1e-4, atol=1e-6)
    assert (many.guesses == 0).all()
    boxes, crops = cats_dogs_report.zoom_in(images.train_images, many, 0.5)
    heat = cam.upsample(jnp.asarray(many.maps[..., 0]), (32, 32))
    np.testing.assert_array_equal(boxes, cam.hottest_box(heat, 0.5))
    assert crops.shape == images.train_images.shape


def test_the_figure_shows_the_surest_of_each_class_and_then_the_worst():
    own = np.array([0.9, 0.8, 0.99, 0.6, 0.7, 0.3, 0.1, 0.95] + [0.55] * 6)
    labels = np.array([0, 0, 0, 0, 1, 1, 0, 0] + [1] * 6)
    sections = cats_dogs_report.hits_and_misses(own > 0.5, own, labels)
    hits, worst = sections.values()
    assert hits.tolist() == [2, 4, 7, 8, 0, 9, 1, 10]
    assert worst[:3].tolist() == [6, 5, 13]
    assert list(sections) == ["the surest hits", "the misses, and the least sure hits"]


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


def test_resume_with_other_weights_is_refused(run, narrow, monkeypatch):
    run(f"{QUICK} --name mine", interrupt_at=1)
    monkeypatch.setattr(weights, "vgg16", lambda file: narrow._replace(source="another"))
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
