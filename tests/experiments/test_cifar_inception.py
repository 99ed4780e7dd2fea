"""Networks of Inception modules and residual blocks as their users run them."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import cifar_config, cifar_inception, cifar_resnet, image_data
from jaxlessons import checkpoint
from jaxlessons.data import cifar10, mnist
from jaxlessons.data.image_set import ImageSet
from jaxlessons.data.shapes import CLASSES, make_shapes
from jaxlessons.models import inception, residual

SHORT = "--epochs 1 --batch-size 40 --validation 40 --name x"


@pytest.fixture(scope="module")
def grey():
    """200 training and 50 test images, 28x28 and grey."""
    train, test = (make_shapes(count, seed, 28, 1) for seed, count in enumerate((200, 50)))
    return ImageSet("MNIST", "a test", CLASSES, *train, *test, (0.5,), (0.25,))


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "cifar_resnet --model tutorial",
        pytest.param("cifar_inception --model inception", marks=pytest.mark.slow),
    ],
)
def test_the_tutorials_networks_train_on_28x28_grey_images(run, monkeypatch, grey, command):
    asked = []

    def load(name, data_dir):
        asked.append((name, data_dir))
        return grey

    monkeypatch.setattr(mnist, "load", load)
    experiment = command.split()[0]
    result = run(f"{command} --dataset mnist {SHORT}", draw=experiment == "cifar_resnet")
    assert result.code == 0, result.err
    assert asked == [("mnist", None)]
    found = json.loads((result.folder / "x" / "result.json").read_text())
    assert found["data"] == "MNIST"
    assert found["config"]["dataset"] == "mnist"
    assert found["config"]["augment"] == []  # a mirrored digit is none
    assert found["tta"] is None
    lesson = f"the lesson's: python -m experiments.{command} --preset lesson --dataset mnist"
    assert lesson in result.out.splitlines()[1]
    assert found["parameters"] == {"cifar_inception": 97_298, "cifar_resnet": 41_514}[experiment]
    assert checkpoint.latest_step(result.folder / "x" / "checkpoints") == 4
    # What was begun on other data is not gone on with.
    again = run(f"{experiment} --resume --name x --dataset cifar10")
    assert again.code == 1
    assert "was begun with --dataset mnist, and --resume goes on with the same" in again.err


@pytest.mark.slow
def test_a_run_from_before_the_flag_was_there_is_gone_on_with(run, begun):
    path = begun("stopped") / "config.json"
    saved = json.loads(path.read_text())
    assert saved.pop("dataset") == "cifar10"
    path.write_text(json.dumps(saved))
    result = run("cifar_cnn --resume --name stopped")
    assert result.code == 0, result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "cifar_inception --model googlenet --width 0.05",
        "cifar_inception --model inception_resnet --width 0.1",
        *(f"cifar_resnet --model {name}" for name in cifar_resnet.BLOCKS),
    ],
)
def test_the_others_train_too(run, command):
    result = run(f"{command} {SHORT} --tta 0")
    assert result.code == 0, result.err
    found = json.loads((result.folder / "x" / "result.json").read_text())
    assert 0 <= found["test_accuracy"] <= 1


@pytest.mark.parametrize(
    ("command", "total", "last"),
    [
        ("cifar_inception --model inception --dataset mnist", "97,298", "out [10] 14,090 28,160"),
        (
            "cifar_inception --model googlenet --preset lesson",
            "5,983,402",
            "out [10] 10,250 20,480",
        ),
        ("cifar_resnet --model basic --dataset fashion_mnist", "272,186", "out [10] 650 1,280"),
    ],
)
def test_summary_is_of_the_datas_images(run, command, total, last):
    lines = [" ".join(line.split()) for line in run(f"{command} --summary").out.splitlines()]
    assert lines[-1].split()[:2] == ["total", total]
    assert lines[-2] == last


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("cifar_inception --width 0.5", "--width has no meaning for --model inception."),
        ("cifar_inception --norm pre", "--norm has no meaning for --model inception."),
        ("cifar_inception --model googlenet --width 0", "--width is 0.0: it must be above 0."),
        ("cifar_inception --model vgg", "invalid choice 'vgg' for argument '--model'"),
        (
            "cifar_inception --dataset imagenet",
            "invalid choice 'imagenet' for argument '--dataset'",
        ),
        ("cifar_resnet --model tutorial --norm pre", "--norm has no meaning for --model tutorial"),
        (
            "cifar_resnet --dataset shapes --data-dir .",
            "--dataset shapes is made by a formula: leave out --data-dir.",
        ),
    ],
)
def test_a_sentence_and_a_code(run, command, sentence):
    result = run(f"{command} --validation 40")
    assert result.code not in (0, None)
    assert sentence in " ".join(result.err.replace("│", " ").split())
    assert not result.folder.exists()


@pytest.mark.parametrize("preset", ["lesson", "quick"])
@pytest.mark.parametrize("module", [cifar_inception, cifar_resnet])
def test_each_preset_makes_the_network_of_its_name(module, preset):
    kinds = {
        "inception": (inception.TutorialInceptionNet, None, 9),
        "googlenet": (inception.GoogLeNet, "before", 41),
        "inception_resnet": (inception.InceptionResnet, "before", 41),
        "tutorial": (residual.TutorialResidualNet, None, 9),
        "basic": (residual.BlockResnet, "before", 41),
        "preact": (residual.PreactResnet, "pre", 41),
        "bottleneck": (residual.BottleneckResnet, "before", 41),
        "preact_bottleneck": (residual.PreactBottleneckResnet, "pre", 41),
    }
    for name in module.NETWORKS.keys() & kinds.keys():
        kind, norm, epochs = kinds[name]
        config = module.defaults(name, preset)
        assert config.epochs == (epochs if preset == "lesson" else 3)
        made = cifar_config.network(config, module.NETWORKS, 10)
        assert type(made) is kind
        assert getattr(made, "norm", None) == norm
        phases = cifar_config.phases(config, module.LESSONS[name])
        if preset == "lesson" and norm is None:  # the tutorial's own
            assert [(p.lr, p.momentum, p.epochs) for p in phases] == [(0.01, 0.5, 9)]
            assert (config.batch_size, config.augment, config.tta) == (64, (), 0)
    if module is cifar_inception:
        assert dataclasses.asdict(module.defaults(None, preset))["model"] == "inception"


def test_data_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(cifar10, "SHAPES", {"train": (20, 0), "test": (10, 1)})
    found = image_data.load("shapes", None)
    assert (found.name, found.train_images.shape) == ("shapes", (20, 32, 32, 3))
    assert found.source == "made by a formula, since they were asked for"
    np.testing.assert_array_equal(found.train_images, make_shapes(20, 0)[0])
