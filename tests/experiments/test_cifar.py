"""The CIFAR experiments as their users run them, on a few small images."""

import json
import signal

import numpy as np
import pytest

from experiments import bias
from jaxlessons import checkpoint

SIMPLE = "cifar_cnn --model simple --epochs 3 --batch-size 32 --validation 40"


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_its_whole_folder_and_the_figures_agree(run, whole_folder):
    result = run(SIMPLE, draw=True)
    assert result.code == 0, result.err
    folder = result.folder / "simple-quick"
    figures = {"curves.png", "predictions.png", "confusion.png", "reliability.png"}
    whole_folder(folder, figures)
    final = json.loads((folder / "result.json").read_text())
    records = read(folder / "metrics.jsonl")
    assert [(r["epoch"], r["step"]) for r in records] == [(1, 5), (2, 10), (3, 15)]
    assert {r["data"] for r in records} == {final["data"]} == {"small"}
    assert final["parameters"] == 123_330
    assert final["test_examples"] == 50
    assert f"test accuracy {final['test_accuracy']:.2%}" in result.out
    assert bias.table(final) in result.out
    shares = [row["share"] for row in final["classes"].values()]
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(1)
    assert final["validation_accuracy"] == records[-1]["validation_accuracy"]
    assert final["config"]["model"] == "simple"
    assert checkpoint.latest_step(folder / "checkpoints") == 15
    assert "Data: small (a test)" in result.out
    assert "--preset lesson" in result.out  # how to run the whole


@pytest.mark.slow
def test_what_learns_gets_better(run):
    run("cifar_cnn --model simple --epochs 20 --batch-size 16 --validation 0 --augment --name x")
    first, *_, last = read(run("cifar_cnn --summary").folder / "x" / "metrics.jsonl")
    assert first["train_loss"] > 2
    assert last["train_loss"] < 1


# A step's sums are read one step late, so the stop comes after the next.
@pytest.mark.parametrize(
    ("interrupt_at", "stops_at"), [(5, 5), (8, 9)], ids=["an epoch's end", "the middle of one"]
)
def test_ctrl_c_saves_and_resume_ends_bit_for_bit_like_an_unbroken_run(
    run, begun, parameters, interrupt_at, stops_at
):
    whole = begun("whole")
    stopped = run(f"{SIMPLE} --name stopped", interrupt_at=interrupt_at)
    assert stopped.code == 130
    assert "python -m experiments.cifar_cnn --resume --name stopped" in stopped.err
    assert not (stopped.folder / "stopped" / "result.json").exists()
    resumed = run("cifar_cnn --resume --name stopped")
    assert resumed.code == 0, resumed.err
    expected = parameters(whole, 15)
    found = parameters(resumed.folder / "stopped", 15)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    results = [
        json.loads((whole.parent / name / "result.json").read_text())
        for name in ("whole", "stopped")
    ]
    assert results[0]["test_loss"] == results[1]["test_loss"]
    assert results[0]["command"] == results[1]["command"].replace("stopped", "whole")
    whole, stopped = (read(whole.parent / name / "metrics.jsonl") for name in ("whole", "stopped"))
    assert [r["step"] for r in stopped] == sorted({5, 10, 15, stops_at})
    # What was trained before and after the stop adds up to the unbroken run's epoch.
    parts = [r for r in stopped if 5 < r["step"] <= 10]
    steps = np.diff([5, *(r["step"] for r in parts)])
    mean = np.average([r["train_loss"] for r in parts], weights=steps)
    assert mean == pytest.approx(whole[1]["train_loss"], rel=1e-6)
    assert "is finished: test accuracy" in run("cifar_cnn --resume --name stopped").out


def test_a_line_that_was_cut_short_does_not_keep_a_run_from_resuming(run, begun):
    with (begun("stopped") / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1.')
    result = run("cifar_cnn --resume --name stopped")
    assert result.code == 0, result.err


def test_ctrl_c_at_the_last_step_stops_before_the_test_images_are_looked_at(run):
    stopped = run(f"{SIMPLE} --name mine", interrupt_at=15)
    assert stopped.code == 130
    assert "Stopped at step 15 of 15" in stopped.err
    assert "test accuracy" in run("cifar_cnn --resume --name mine").out


def test_a_terminated_run_is_saved_too(run):
    stopped = run(f"{SIMPLE} --name mine", interrupt_at=8, by=signal.SIGTERM)
    assert stopped.code == 128 + signal.SIGTERM
    assert checkpoint.latest_step(stopped.folder / "mine" / "checkpoints") == 9


def test_resume_without_a_name_takes_the_last_run(run, begun):
    begun("whole")
    run(f"{SIMPLE} --name second", interrupt_at=3)
    assert "runs/cifar_cnn/second" in run("cifar_cnn --resume").out


def test_a_second_run_gets_a_folder_of_its_own(run):
    run(SIMPLE)
    assert "runs/cifar_cnn/simple-quick-2" in run(SIMPLE).out


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        "--augment alternating_flip translate cutout mixup --label-smoothing 0.1 --clip-norm 1 "
        "--schedule constant",
        "--optimizer adamw --weight-decay 0.01 --schedule cosine --lr 0.001 "
        "--compute-dtype bfloat16",
    ],
    ids=["augmentations", "adamw in bfloat16"],
)
def test_the_other_settings_train_too(run, settings):
    result = run(f"{SIMPLE} {settings} --name x")
    assert result.code == 0, result.err
    losses = [record["train_loss"] for record in read(result.folder / "x" / "metrics.jsonl")]
    assert losses[-1] < losses[0]


def test_summary_is_the_layer_table(run):
    result = run("cifar_resnet --model resnet2 --summary")
    lines = result.out.splitlines()
    assert lines[0].split() == ["layer", "output", "shape", "parameters", "FLOPs"]
    assert lines[1].split() == ["stem.conv", "[32,", "32,", "16]", "2,352", "4,816,896"]
    assert lines[-1].split() == ["total", "1,966,234", "52,007,936"]
    assert not result.folder.exists()
