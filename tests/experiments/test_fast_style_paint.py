"""Painting with a trained network: a checkpoint and a photo are all that there is."""

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import fast_style, fast_style_about
from experiments.fast_style_config import Config
from jaxlessons import checkpoint, weights
from jaxlessons.data import images
from jaxlessons.errors import UserError
from jaxlessons.models.image_transform import ImageTransform

NETWORK = ImageTransform((2, 3, 4), residual_blocks=0)


@pytest.fixture(scope="module")
def _painter(tmp_path_factory, by_formula):
    """A run's folder with nothing but a checkpoint, whose network was not trained."""
    params = by_formula(NETWORK, jnp.zeros((1, 8, 8, 3)))
    folder = tmp_path_factory.mktemp("painter") / "x"
    config = Config(channels=(2, 3, 4), residual_blocks=0)
    about = fast_style_about.describe(config, "style.png", "made up", ())
    checkpoint.save(folder / "checkpoints", dict(params), step=6, about=about)
    return folder


@pytest.fixture
def painter(_painter, tmp_path, monkeypatch):
    """The same as run "x" beside a photo; VGG16's weights are not to be had."""

    def gone(file):
        raise UserError("VGG16 is not to be had.")

    monkeypatch.setattr(weights, "vgg16", gone)
    coarse = Image.fromarray(np.random.RandomState(0).randint(0, 256, (4, 5, 3)).astype(np.uint8))
    coarse.resize((30, 25)).save(tmp_path / "photo.jpg")
    path = tmp_path / "runs" / "fast_style" / "x"
    shutil.copytree(_painter, path)
    (path / "config.json").write_text("{}")
    return path


@pytest.fixture
def run(run_in):
    """run(words): the exit code and the output."""
    return lambda words: run_in(fast_style.main, words.split())


PAINT = "fast_style --paint photo.jpg"


@pytest.mark.slow
def test_painting_needs_the_checkpoint_alone_and_keeps_any_size(run, painter, tmp_path):
    done = run(f"{PAINT} --output out/mine.png")
    assert done.code == 0, done.err
    said = (
        r"out/mine\.png: photo\.jpg in the manner of style\.png, 30 x 25, painted in [\d.e-]+ s "
        r"\(after [\d.e-]+ s of compiling\) on \w+\.\n"
    )
    assert re.fullmatch(said, done.out)
    photo = images.read(tmp_path / "photo.jpg")
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    params = checkpoint.restore(painter / "checkpoints", shapes, 6, part="params")
    expected = jax.jit(NETWORK.apply)({"params": params}, photo[None] / np.float32(255))[0]
    found = images.read(tmp_path / "out" / "mine.png")
    assert found.shape == (25, 30, 3)
    assert np.abs(found / 255 - expected).max() <= 0.5 / 255 + 1e-5
    kept = images.read_settings(tmp_path / "out" / "mine.png")
    assert kept == {"photo": "photo.jpg", "style": "style.png", "step": 6}

    for words in ("--checkpoint runs/fast_style/x", "--checkpoint runs/fast_style/x/checkpoints/6"):
        (painter / "config.json").unlink(missing_ok=True)
        done = run(f"{PAINT} --size 48 {words}")
        assert done.code == 0, done.err
        assert images.read(tmp_path / "photo-painted.png").shape == (40, 48, 3)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--name y", "There is no trained network in runs/fast_style: train one by python -m"),
        ("--checkpoint out", "out holds no checkpoint: name another by --checkpoint or --name."),
        ("--output out", "--output is out: the picture is written as a .png."),
        ("--output notes.txt/a.png", "--output is notes.txt/a.png: it can't be written"),
        ("--size 0", "--size is 0: it must be above 0."),
        ("--paint notes.txt", "notes.txt can't be read as a picture"),
        ("--paint nothing.png", "nothing.png can't be read (No such file or directory)"),
    ],
)
def test_painting_with_wrong_input_gets_a_sentence(run, painter, tmp_path, words, sentence):
    (tmp_path / "notes.txt").write_text("no picture")
    done = run(f"{PAINT} {words}")
    assert done.code == 1
    assert sentence in done.err
    assert not list(tmp_path.glob("*-painted.png"))


def test_a_checkpoint_of_something_else_is_refused(run, painter):
    checkpoint.save(painter / "checkpoints", {"params": {"a": jnp.ones(3)}}, step=7)
    done = run(PAINT)
    assert done.code == 1
    assert "checkpoints/7 is no fast style transfer's: name another --checkpoint." in done.err


def test_gram_matrices_survive_the_checkpoints_json_bit_for_bit():
    gram = np.random.RandomState(0).normal(size=(5, 5)).astype(np.float32)
    np.testing.assert_array_equal(fast_style_about.decode(fast_style_about.encode(gram)), gram)
