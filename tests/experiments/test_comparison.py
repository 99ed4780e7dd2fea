"""Comparisons of variants over seeds: what is trained, counted, kept and drawn."""

import json
import statistics
import sys
from functools import partial

import jax
import numpy as np
import pytest

from experiments import (
    cifar_ablation,
    cifar_schedules,
    cifar_swa,
    command_line,
    comparison,
    lr_schedules,
)
from experiments.comparison import Variant
from experiments.comparison_rows import Row, summarize, table
from jaxlessons import averaging
from jaxlessons.data import cifar10
from jaxlessons.errors import UserError
from jaxlessons.models.convnet import SimpleNet
from jaxlessons.models.resnet import FastResnet
from jaxlessons.schedules import Phase, lr_schedule, total_steps


@pytest.fixture
def small(monkeypatch, tmp_path, small_images):
    """A config for the small images, in a folder of the test's own."""
    monkeypatch.setattr(cifar10, "load", lambda data_dir: small_images)
    monkeypatch.chdir(tmp_path)
    return comparison.Config(epochs=1, batch_size=40, seeds=2, validation=40)


def two_variants(config, lrs=(0.002, 0.0)):
    trial = comparison.trial_config(config)
    return {f"lr {lr}": Variant(trial, SimpleNet((8,)), [Phase(config.epochs, lr)]) for lr in lrs}


@pytest.mark.slow
def test_every_variant_is_trained_with_every_seed_and_evaluated(small):
    run, records = comparison.compare("x", small, two_variants(small))
    assert [(r["variant"], r["seed"]) for r in records] == [
        ("lr 0.002", 0),
        ("lr 0.002", 1),
        ("lr 0.0", 0),
        ("lr 0.0", 1),
    ]
    trained, untrained = records[:2], records[2:]
    for a, b in zip(trained, untrained, strict=True):
        assert a["test_loss"] < b["test_loss"]
    # Seeds give different networks, and a variant's trial the same one again.
    assert len({r["test_loss"] for r in records}) == 4
    again = comparison.compare("x", small, two_variants(small, lrs=[0.002]))[1]
    assert [r["test_loss"] for r in again] == [r["test_loss"] for r in trained]
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert lines == records
    assert all(r["data"] == "small" and r["step"] == 4 for r in records)


@pytest.mark.slow
def test_resume_trains_only_what_is_missing(small, monkeypatch):
    run, _ = comparison.compare("x", small, two_variants(small, lrs=[0.002]))
    trained = []
    original = comparison._trial

    def trial(name, variant, setup, splits, seed, after):
        trained.append((name, seed))
        return original(name, variant, setup, splits, seed, after)

    monkeypatch.setattr(comparison, "_trial", trial)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"data": "sm')  # as an interrupted write leaves it
    more = comparison.Config(**{**vars(small), "resume": True, "name": run.path.name, "seeds": 3})
    _, records = comparison.compare("x", more, two_variants(small))
    assert trained == [("lr 0.002", 2), ("lr 0.0", 0), ("lr 0.0", 1), ("lr 0.0", 2)]
    assert len(records) == 6
    assert run.metrics() == records
    other = comparison.Config(**{**vars(more), "epochs": 2.0})
    with pytest.raises(UserError, match=r"was begun with --epochs 1: go on with the same, or"):
        comparison.compare("x", other, two_variants(other))


def test_a_trial_that_diverges_is_told_and_left_out(small, capsys):
    variants = two_variants(small, lrs=(1e30, 0.002))
    _, records = comparison.compare("x", small, variants)
    assert "diverged at step" in capsys.readouterr().out
    assert "test_accuracy" not in records[0]
    assert [row.name for row in summarize(records)] == ["lr 0.002"]


def test_rows_are_means_and_deviations_in_per_cent():
    tests, validations = [0.5, 0.7, 0.75], [0.4, 0.4, 0.1]
    records = [
        {"variant": "a", "test_accuracy": t, "validation_accuracy": v, "averaged_test_accuracy": 1}
        for t, v in zip(tests, validations, strict=True)
    ]
    records.append({"variant": "b", "test_accuracy": 0.25, "validation_accuracy": 0.5})
    rows = summarize(records)
    assert rows[0].test == pytest.approx((65, 100 * statistics.stdev(tests)))
    assert rows[0].validation == pytest.approx((30, 100 * statistics.stdev(validations)))
    assert rows[1] == Row("b", 1, (50, 0), (25, 0))
    assert [row.test for row in summarize(records, "averaged_")] == [(100, 0)]
    assert table(rows).splitlines() == [
        "| variant | validation | test | seeds |",
        "|---|---|---|---|",
        "| a | 30.0 ± 17.3 % | 65.0 ± 13.2 % | 3 |",
        "| b | 50.0 ± 0.0 % | 25.0 ± 0.0 % | 1 |",
    ]


def test_a_variant_that_does_not_exist_is_refused(small):
    config = comparison.Config(**{**vars(small), "variants": ("lr 1",)})
    with pytest.raises(UserError, match=r"--variants has 'lr 1': it must be of lr 0.002, lr 0.0."):
        comparison.compare("x", config, two_variants(small))
    with pytest.raises(UserError, match="--seeds is 0: it must be 1 or more"):
        comparison.compare("x", comparison.Config(seeds=0), {})


@pytest.mark.parametrize("module", [cifar_schedules, cifar_ablation, cifar_swa])
def test_variants_have_one_budget_and_one_highest_rate(module):
    config = module.Config(epochs=6, lr=0.2)
    per_epoch = 200
    for name, variant in module.variants(config).items():
        steps = total_steps(variant.phases, per_epoch)
        assert steps == 6 * per_epoch, name
        rates = np.asarray(lr_schedule(variant.phases, per_epoch)(np.arange(steps)))
        assert rates.max() == pytest.approx(0.2, rel=1e-2), name
        decays = {phase.weight_decay for phase in variant.phases}
        assert decays == {variant.config.weight_decay}, name


def test_the_ablation_changes_one_thing_at_a_time():
    variants = cifar_ablation.variants(cifar_ablation.Config())
    base = variants["base: conv, ReLU, batch norm"]
    for name, variant in variants.items():
        network = [
            field
            for field in base.module.__dataclass_fields__
            if getattr(variant.module, field) != getattr(base.module, field)
            and field not in ("parent", "name")
        ]
        training = [f for f, v in vars(variant.config).items() if v != getattr(base.config, f)]
        assert len(network + training) == (0 if variant is base else 1), name


@pytest.mark.slow
def test_swa_meets_sgd_at_equal_budget_and_the_line_ends_at_both_networks(
    small, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(cifar_swa, "SmallResnet", partial(FastResnet, layers=(4, 8)))
    words = "--epochs 4 --batch-size 40 --seeds 1 --validation 40 --swa-start 0.75 --swa-every 0.25"
    monkeypatch.setattr(sys, "argv", ["cifar_swa", *words.split()])
    command_line.run(cifar_swa.main)
    folder = tmp_path / "runs" / "cifar_swa" / "comparison"
    result = json.loads((folder / "result.json").read_text())
    assert [row["name"] for row in result["rows"]] == [
        "sgd",
        "swa, its last iterate",
        "swa, the average",
    ]
    trial = result["trials"][1]
    assert trial["networks"] == 4
    # All 160 training images are on the line, so that t = 1 is the average as it was evaluated.
    ends = [trial["line"]["validation"][cifar_swa.LINE.index(t)] for t in (0, 1)]
    assert ends[1] == pytest.approx(trial["averaged_validation_loss"], rel=1e-5)
    assert ends[0] != ends[1]
    assert {path.name for path in folder.glob("*.png")} == {"comparison.png", "loss_line.png"}
    assert "swa, the average" in capsys.readouterr().out


def test_the_line_is_straight(small_images):
    """t = 0 and 1 are the two networks themselves, between them it is their mixture."""

    def loss(params, batch_stats):
        return params["w"]

    class Fake:
        pass

    seen = []

    def evaluate(step, variables, examples):
        seen.append(float(variables["params"]["w"]))
        return {"loss": seen[-1]}, None

    setup = Fake()
    setup.module, setup.prepare, setup.eval_step = Fake(), None, None
    setup.module.apply = loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar_swa.training, "evaluate", evaluate)
        patch.setattr(averaging, "recalibrate_batch_stats", lambda *_, **__: {})
        split = cifar_swa.Examples(np.zeros((3, 2)), np.zeros(3))
        splits = cifar_swa.Splits(split, None, split)
        last, average = {"w": jax.numpy.float32(2)}, {"w": jax.numpy.float32(6)}
        found = cifar_swa.loss_along_line(setup, last, average, {}, splits)
    np.testing.assert_allclose(found["train"], 2 + 4 * np.array(cifar_swa.LINE))
    assert found["validation"] == []


@pytest.mark.slow
def test_lr_schedules_prints_every_value_and_draws(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lr_schedules", "--epochs", "3", "--lr", "0.1"])
    command_line.run(lr_schedules.main)
    lines = capsys.readouterr().out.splitlines()
    values = {tuple(line[:28].rsplit(maxsplit=1)): line[28:].split() for line in lines[1:-1]}
    numbers = {key: [float(v) for v in row] for key, row in values.items()}
    assert numbers["step", "lr"] == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001]
    assert numbers["linear", "lr"][2:5] == [0.1, 0.055, 0.01]
    assert numbers["exponential", "lr"][3] == pytest.approx(0.1 * 10**-0.5, rel=1e-3)
    assert numbers["polynomial 2", "lr"][3] == pytest.approx(0.01 + 0.09 / 4, rel=1e-3)
    assert numbers["polynomial 0.5", "lr"][3] == pytest.approx(0.01 + 0.09 * 0.5**0.5, rel=1e-3)
    assert numbers["1cycle, then adam", "momentum"][0] == 0.95
    assert len(numbers) == 16
    picture = tmp_path / "runs" / "lr_schedules" / "schedules" / "schedules.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_lr_schedules_last_phase_changes_the_optimizer():
    phases = lr_schedules.schedules(0.1, 3)["1cycle, then adam"]
    assert [phase.optimizer for phase in phases] == ["sgd", "sgd", "adam"]
