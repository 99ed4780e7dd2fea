"""Each wrong input gets its one sentence and a code that is not zero, and loses nothing."""

import dataclasses
import errno
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from experiments import cifar_cnn
from jaxlessons import checkpoint, optim, plotting, training
from jaxlessons.data import cifar10
from jaxlessons.models.convnet import ConvNet
from jaxlessons.schedules import Phase

LOAD = cifar10.load  # the tests' run() puts small images in its place
SIMPLE = "cifar_cnn --model simple --epochs 3 --batch-size 32 --validation 40"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("cifar_cnn --bogus 3", "Unrecognized options: --bogus"),
        ("cifar_cnn --model vgg", "invalid choice 'vgg' for argument '--model'"),
        ("cifar_resnet --preset slow", "invalid choice 'slow' for argument '--preset'"),
        ("cifar_cnn --epochs 0", "error: --epochs is 0.0: it must be above 0."),
        ("cifar_cnn --epochs -2", "error: --epochs is -2.0: it must be above 0."),
        ("cifar_cnn --epochs nan", "error: --epochs is nan: it must be above 0."),
        ("cifar_cnn --lr 0", "error: --lr is 0.0: it must be above 0."),
        ("cifar_cnn --lr -1", "error: --lr is -1.0: it must be above 0."),
        ("cifar_cnn --batch-size 0", "error: --batch-size is 0: it must be above 0."),
        ("cifar_cnn --batch-size -8", "error: --batch-size is -8: it must be above 0."),
        (
            "cifar_cnn --batch-size 201",
            "error: The batch size is 201: it must be from 1 to the 160",
        ),
        ("cifar_cnn --validation 200", "error: --validation is 200: there are 200 training"),
        ("cifar_cnn --validation -1", "error: --validation is -1: it must be 0 or more."),
        ("cifar_cnn --momentum 1", "error: --momentum is 1.0: it must be from 0 to below 1."),
        ("cifar_cnn --clip-norm 0", "error: --clip-norm is 0.0: it must be above 0"),
        ("cifar_cnn --model simple --dropout 0.5", "--dropout has no meaning for --model simple"),
        (
            "cifar_cnn --batch-size 32 --name ../x",
            "error: --name is '../x': it must be a plain folder name.",
        ),
        ("cifar_cnn --batch-size 32 --name a[1]", "can't hold checkpoints, because of the [ ]"),
        (
            "cifar_cnn --augment flip flip",
            "--augment names flip flip: each can be there once",
        ),
        ("cifar_cnn --resume=1", "Unrecognized options: 1"),
        ("cifar_cnn --resume --runs-dir", "no run to resume in runs/cifar_cnn"),
        ("cifar_cnn --resume --name /abs", "error: --name is '/abs': it must be a plain folder"),
        ("cifar_cnn --resume --name *", "no run to resume in runs/cifar_cnn/*"),
        ("cifar_cnn --resume", "error: There is no run to resume in runs/cifar_cnn"),
        ("cifar_cnn --resume --name none", "no run to resume in runs/cifar_cnn/none"),
    ],
)
def test_a_sentence_and_a_code(run, command, sentence):
    # All but those that are about the number of validation images have too few for the default.
    words = command if "--validation" in command else f"{command} --validation 40"
    result = run(words)
    assert result.code not in (0, None)
    assert sentence in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err
    assert not result.folder.exists()


def test_a_bad_data_folder_is_refused_without_falling_back(run, monkeypatch, tmp_path):
    monkeypatch.setattr(cifar10, "load", LOAD)
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(b"x")
    result = run(f"{SIMPLE} --data-dir {folder}")
    assert result.code == 1
    assert f"error: {folder}, given as data_dir, holds holiday.jpg where CIFAR-10" in result.err
    assert not result.folder.exists()


@pytest.mark.slow
def test_a_name_that_is_taken_is_refused_and_the_run_stays(run, begun):
    folder = begun("whole")
    before = (folder / "result.json").read_bytes()
    again = run(f"{SIMPLE} --name whole --lr 0.5")
    assert again.code == 1
    assert "whole exists already: go on with it by --resume" in again.err
    assert (folder / "result.json").read_bytes() == before


def test_resume_with_other_settings_is_refused_by_flag(run, begun):
    begun("stopped")
    result = run("cifar_cnn --resume --name stopped --batch-size 16")
    assert result.code == 1
    assert "was begun with --batch-size 32, and --resume goes on with the same" in result.err


def test_resume_on_other_data_is_refused(run, begun, monkeypatch, small_images):
    begun("stopped")
    other = dataclasses.replace(small_images, name="shapes")
    monkeypatch.setattr(cifar10, "load", lambda data_dir: other)
    result = run("cifar_cnn --resume --name stopped")
    assert result.code == 1
    assert "stopped was begun on small, and what was found now is shapes" in result.err


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_broken_config_is_refused_by_name(run, begun, content):
    (begun("stopped") / "config.json").write_text(content)
    result = run("cifar_cnn --resume --name stopped")
    assert result.code == 1
    assert "config.json can't be read as a run's config" in result.err


def test_a_checkpoint_of_another_model_is_refused(run, begun):
    checkpoints = begun("stopped") / "checkpoints"
    shutil.rmtree(checkpoints)
    optimizer = optim.phased_optimizer([Phase(1, 0.1)], 1)
    images = jnp.zeros((1, 32, 32, 3))
    other = training.create_state(ConvNet((4,)), optimizer, jax.random.key(0), images)
    checkpoint.save(checkpoints, other)
    result = run("cifar_cnn --resume --name stopped")
    assert result.code == 1
    assert "holds another model or optimizer: " in result.err
    assert "conv1" in result.err


@pytest.mark.slow
def test_nan_stops_with_the_step_and_keeps_the_last_good_checkpoint(run, monkeypatch):
    # The second epoch's rate is beyond what float32 stands.
    lessons = {"simple": [cifar_cnn.Phase(1, 1e-3), cifar_cnn.Phase(1, 1e30)]}
    monkeypatch.setitem(cifar_cnn.LESSONS, "simple", lessons["simple"])
    result = run(f"{SIMPLE} --epochs 2 --preset lesson --name mine --lr 1e30")
    assert result.code == 1
    assert "became NaN or infinite at step 7: try a lower rate (--lr" in result.err
    assert "That of step 5 is kept: go on by" in result.err
    assert checkpoint.all_steps(result.folder / "mine" / "checkpoints") == [5]
    assert "Traceback" not in result.err
    resumed = run("cifar_cnn --resume --name mine --lr 0.01")
    assert resumed.code == 0, resumed.err


def test_nan_before_the_first_checkpoint_says_that_there_is_none_and_resume_starts_anew(run):
    result = run(f"{SIMPLE} --name mine --lr 1e30")
    assert result.code == 1
    assert "No checkpoint is before it: go on by python -m experiments.cifar_cnn" in result.err
    usual = cifar_cnn.defaults("simple", "quick").lr
    resumed = run(f"cifar_cnn --resume --name mine --lr {usual}")
    assert resumed.code == 0, resumed.err
    assert checkpoint.latest_step(result.folder / "mine" / "checkpoints") == 15


def test_a_full_disk_stops_with_a_sentence(run, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    result = run(f"{SIMPLE} --name mine")
    assert result.code == 1
    assert "is full: a checkpoint takes" in result.err


def test_a_disk_that_fills_under_a_figure_stops_with_a_sentence_too(run, monkeypatch):
    def full(figure, path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(plotting, "save_figure", full)
    result = run(f"{SIMPLE} --name mine", draw=True)
    assert result.code == 1
    assert "curves.png can't be used (No space left on device)" in result.err
    assert checkpoint.all_steps(result.folder / "mine" / "checkpoints") == [5, 10, 15]


def test_help_explains_every_field(run):
    result = run("cifar_cnn --help --model conv --preset lesson")
    assert result.code == 0
    text = " ".join(result.out.replace("│", " ").split())
    for field in dataclasses.fields(cifar_cnn.Config):
        assert "--" + field.name.replace("_", "-") in text
    assert "The highest learning rate; the lesson's rates are scaled to it. (default: 0.1)" in text
    assert "(default: 6.0)" in text  # the lesson's 2 + 4 epochs
