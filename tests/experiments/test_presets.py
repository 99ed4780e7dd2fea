"""What a preset makes of its flags."""

import dataclasses

import numpy as np
import pytest

from experiments import cifar_cnn, cifar_config, cifar_inception, cifar_resnet, command_line
from jaxlessons import schedules


def rates(module, config, per_epoch=100):
    phases = cifar_config.phases(config, module.LESSONS[config.model])
    steps = np.arange(round(config.epochs * per_epoch))
    return np.asarray(schedules.lr_schedule(phases, per_epoch)(steps)), phases


def cosine(lr, epochs, per_epoch=100):
    steps = np.arange(epochs * per_epoch)
    return lr / 2 * (1 + np.cos(np.pi * steps / len(steps)))


def first_cycle(lr, epochs=1, per_epoch=100):
    """The lesson spends a twentieth of it at a hundredth of the rate."""
    return np.concatenate(
        [np.full(5 * epochs, lr / 100), cosine(lr, 1, per_epoch * epochs * 95 // 100)]
    )


@pytest.mark.parametrize(
    ("model", "lr", "cycle_lr", "cycles"),
    [
        ("simple", 1e-2, 1e-2, 2),
        ("conv", 1e-1, 1e-1, 4),
        ("conv2", 1e-1, 1e-1, 2),
        ("bn", 3e-2, 1e-1, 4),
        ("deep_bn", 1e-2, 1e-2, 2),
    ],
)
def test_the_first_rungs_lessons(model, lr, cycle_lr, cycles):
    config = cifar_cnn.defaults(model, "lesson")
    found, phases = rates(cifar_cnn, config)
    later = [cosine(cycle_lr, 1)] * (cycles - 1)
    expected = np.concatenate([np.full(200, lr), first_cycle(cycle_lr), *later])
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert config.batch_size == 256
    assert {(p.optimizer, p.momentum, p.weight_decay) for p in phases} == {("sgd", 0.9, 0.0)}


@pytest.mark.parametrize(("model", "decay"), [("resnet", 1e-5), ("resnet2", 1e-6)])
def test_the_resnets_lesson_is_41_epochs(model, decay):
    config = cifar_resnet.defaults(model, "lesson")
    found, phases = rates(cifar_resnet, config)
    expected = np.concatenate(
        [
            np.full(200, 1e-2),
            first_cycle(1e-2),
            cosine(1e-2, 2),
            cosine(1e-2, 4),
            first_cycle(1e-2, 4),
            *[cosine(1e-2, 4)] * 7,
        ]
    )
    assert config.epochs == 41
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert {(p.weight_decay, p.decoupled) for p in phases} == {(decay, False)}
    assert config.dropout == {"resnet": 0.0, "resnet2": 0.2}[model]


def test_epochs_and_lr_stretch_and_scale_the_lesson():
    config = cifar_cnn.defaults("bn", "lesson")
    longer = dataclasses.replace(config, epochs=12.0, lr=0.2)
    found, _ = rates(cifar_cnn, longer)
    original, _ = rates(cifar_cnn, config, per_epoch=200)
    np.testing.assert_allclose(found, 2 * original, rtol=1e-5, atol=1e-8)


def test_one_cycle_rises_to_lr_and_falls_to_almost_nothing():
    config = cifar_resnet.defaults("fast", "quick")
    found, _ = rates(cifar_resnet, config)
    assert found[0] == np.float32(config.lr / 5)
    assert found.max() == np.float32(config.lr)
    assert np.argmax(found) == 0.45 * 300
    assert found[-1] < config.lr / 100


def test_without_a_preset_a_cpu_is_quick_and_an_accelerator_runs_the_lesson(monkeypatch):
    assert cifar_resnet.defaults(None, None).preset == "quick"
    assert cifar_resnet.defaults(None, None).model == "fast"
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert cifar_resnet.defaults(None, None).preset == "lesson"
    assert cifar_resnet.defaults(None, None).model == "resnet2"


@pytest.mark.parametrize(
    ("module", "words", "augment", "tta"),
    [
        (cifar_cnn, "--preset lesson", ("flip", "crop"), 0),
        (cifar_inception, "--preset quick", ("flip",), 0),
        (cifar_inception, "--preset quick --model googlenet", ("flip",), 0),
        (cifar_inception, "--preset lesson --model googlenet", ("flip", "crop"), 0),
        (cifar_inception, "--preset lesson", (), 0),
        (cifar_resnet, "--preset quick --model tutorial", ("flip",), 4),
        (cifar_resnet, "--preset lesson --model basic", ("flip", "crop"), 4),
        (cifar_resnet, "--preset lesson --model tutorial", (), 0),
    ],
)
def test_digits_are_not_mirrored_and_all_other_images_are(module, words, augment, tta, monkeypatch):
    """Neither in training nor at the end; a flag of the user's own is left as it is."""
    experiment = module.__name__.rpartition(".")[2]
    real, asked = command_line.parse, []

    def parse(line):
        def parse(*given, **settings):
            asked.append(real(*given, line.split(), **settings))
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(command_line, "parse", parse)
            with pytest.raises(KeyboardInterrupt):
                module.main()
        return asked[-1]

    for dataset in ("", "--dataset fashion_mnist", "--dataset shapes", "--dataset cifar10"):
        config = parse(f"{words} {dataset}")
        assert (experiment, config.augment, config.tta) == (experiment, augment, tta)
    for dataset in ("--dataset mnist", "--dataset=mnist"):
        config = parse(f"{dataset} {words}")
        unmirrored = tuple(name for name in augment if name != "flip")
        assert (config.dataset, config.augment, config.tta) == ("mnist", unmirrored, 0)
    config = parse(f"{words} --dataset mnist --augment flip --tta 3")
    assert (config.augment, config.tta) == (("flip",), 3)


def test_flags_beat_the_preset():
    words = "--preset lesson --model conv --epochs 2 --lr 0.3 --batch-size 32 --validation 40"
    config = command_line.parse("cifar_cnn", cifar_cnn.defaults, None, words.split())
    assert (config.epochs, config.lr, config.batch_size) == (2.0, 0.3, 32)
    assert (config.schedule, config.momentum) == ("lesson", 0.9)
