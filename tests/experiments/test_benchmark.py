"""The benchmark's arithmetic, that its sides compute the same, and what it refuses."""

import contextlib
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import (
    benchmark,
    benchmark_ours,
    benchmark_table,
    benchmark_torch,
    benchmark_workloads,
    device_config,
    measuring,
    peak,
)
from experiments.benchmark_ours import Sizes
from experiments.benchmark_workloads import WORKLOADS, Workload, check_agreement
from jaxlessons.models.resnet import Resnet2

SMALL = Sizes(batch_size=4, streams=3, bptt=5, features=8, length=6, picture=32)


def test_operations_are_those_of_the_formulas():
    # Forward, of the 13 convolutions and the last layer; see the design's list of layers.
    sides = [(32, 7, 3, 16)]
    for side, inputs, outputs in ((16, 16, 32), (8, 32, 64), (4, 64, 128), (2, 128, 256)):
        sides += [(side, 3, inputs, outputs), *[(side, 3, outputs, outputs)] * 2]
    layers = [2 * side**2 * kernel**2 * i * o for side, kernel, i, o in sides]
    forward = sum(layers) + 2 * 256 * 10
    assert Resnet2().layers == (16, 32, 64, 128, 256)
    assert WORKLOADS["resnet2_inference"](SMALL).flops == 4 * forward
    assert WORKLOADS["resnet2_training"](SMALL).flops == 4 * (3 * forward - layers[0])
    character = 2 * (32 * (42 + 8) + 32 * (8 + 8) + 8 * 85)
    assert WORKLOADS["lstm_sampling"](SMALL).flops == 6 * character
    assert WORKLOADS["lstm_training"](SMALL).flops == 3 * 3 * 5 * character


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where a contestant says so; all of them are in this process."""
    now = SimpleNamespace(seconds=0.0)
    for module in (measuring, benchmark):
        monkeypatch.setattr(module.time, "perf_counter", lambda: now.seconds)
    monkeypatch.setattr(measuring.time, "sleep", lambda pause: None)

    @contextlib.contextmanager
    def here(makes):
        yield {side: make() for side, make in makes.items()}

    monkeypatch.setattr(measuring, "apart", here)
    return now


def contestant(clock, seconds, figures=(1.0, -2.0), start=0.0):
    """The first call takes 30 seconds more, and each of them `start` seconds, however often the
    work is done in it."""

    def make():
        left = [30.0]

        def call(times=1):
            clock.seconds += start + times * seconds + left[0]
            left[0] = 0.0
            return np.asarray(figures)

        return call

    return make


def workload(**makes):
    named = {name.replace("_", " "): make for name, make in makes.items()}
    return Workload("work", "pieces", items=10, flops=6e9, makes=named, rtol=1e-3)


def test_a_row_has_speed_ratio_compilation_and_share_of_the_peak(clock):
    sides = {"ours": 2.0, "torch": 3.0, "torch_compiled": 1.0}
    made = workload(**{side: contestant(clock, s) for side, s in sides.items()})
    config = benchmark.Config(rounds=4, memory=False)
    rows = {row["side"]: row for row in benchmark.compare(made, config, top=6e9)}
    assert list(rows) == ["ours", "torch", "torch compiled"]
    assert [row["per_second"] for row in rows.values()] == [5.0, pytest.approx(10 / 3), 10.0]
    assert [row["ours_to_this"] for row in rows.values()] == [1.0, 1.5, 0.5]
    assert [row["compile_seconds"] for row in rows.values()] == [30.0] * 3
    assert [row["share_of_peak"] for row in rows.values()] == [0.5, pytest.approx(1 / 3), 1.0]
    assert "ours is 1.50 times as fast (1.50 to 1.50), 33.3% of peak" in benchmark.line(
        rows["torch"]
    )
    plain = benchmark.Config(rounds=4, memory=False, compiled=False)
    assert len(benchmark.compare(made, plain, top=6e9)) == 2


def test_short_work_is_repeated_as_often_by_all_until_a_turn_is_long_enough(clock):
    # The faster's 0.25 s fill 2 s in 8 calls, which the slower has to do as well.
    sides = {
        "ours": contestant(clock, 0.5, start=0.5),
        "torch": contestant(clock, 0.125, start=0.125),
    }
    config = benchmark.Config(rounds=3, memory=False, turn=2.0)
    rows = benchmark.compare(workload(**sides), config, top=6e9)
    assert [row["per_second"] for row in rows] == [10 * 8 / 4.5, 10 * 8 / 1.125]
    assert rows[1]["ours_to_this"] == 0.25
    # Work that is longer is done once.
    config = benchmark.Config(rounds=3, memory=False, turn=0.0)
    rows = benchmark.compare(workload(**sides), config, top=6e9)
    assert [row["per_second"] for row in rows] == [10.0, 40.0]


@pytest.mark.parametrize("torch_keeps", [False, True])
def test_memory_is_kept_by_ours_and_by_pytorch_where_that_is_asked_for(
    clock, monkeypatch, torch_keeps
):
    kept = []
    monkeypatch.setattr(measuring, "keeping_memory", lambda make: kept.append(make) or make())
    makes = {side: contestant(clock, 1.0) for side in ("ours", "torch")}
    config = benchmark.Config(rounds=1, memory=False, torch_keeps=torch_keeps)
    benchmark.compare(workload(**makes), config, top=1e9)
    assert kept == [makes["ours"], makes["torch"]][: 2 if torch_keeps else 1]


def test_sides_that_compute_something_else_are_not_timed(clock):
    made = workload(ours=contestant(clock, 1.0), torch=contestant(clock, 1.0, (1.0, -2.1)))
    with pytest.raises(AssertionError, match="work, torch"):
        benchmark.compare(made, benchmark.Config(memory=False), top=1e9)
    # A figure that is small beside the others may differ by as much as they.
    check_agreement("work", {"ours": np.array([1.0, 0.0]), "torch": np.array([1.0, 9e-4])}, 1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--workloads lstm", "--workloads has 'lstm': it must be of resnet2_training, "),
        ("--grow size", "--grow has 'size': it must be of batch_size, image_size, "),
        ("--rounds 0", "--rounds is 0: it must be above 0."),
        ("--features 0", "--features is 0: it must be above 0."),
        ("--devices 0", "--devices is 0: it must be above 0."),
        ("--devices 3", "--devices is 3: a batch of 256 images can't be shared out evenly."),
        ("--pause -1", "--pause is -1.0: it must be 0 or more."),
        ("--turn inf", "--turn is inf: it must be 0 or more."),
    ],
)
def test_bad_settings_are_named(run_in, words, message):
    done = run_in(benchmark.main, ["benchmark", *words.split()])
    assert (done.code, message in done.err) == (1, True), done.err


@pytest.mark.parametrize(
    ("images", "asked", "taken"), [(128, None, 2), (256, None, 4), (512, 2, 2), (64, 8, 8)]
)
def test_a_batch_is_on_the_devices_asked_for_or_on_those_of_a_run(
    monkeypatch, images, asked, taken
):
    monkeypatch.setattr(device_config, "cores", lambda: 4)
    assert benchmark_ours.layout_of(Sizes(batch_size=images, devices=asked)).count == taken


def test_a_run_without_pytorch_leaves_its_figures(run_in, monkeypatch, clock):
    monkeypatch.setattr(benchmark_torch, "torch", None)
    monkeypatch.setattr(peak, "matmul_peak", lambda *_: 1e9)
    for name in WORKLOADS:
        fake = lambda sizes, name=name: workload(ours=contestant(clock, 1.0))  # noqa: E731
        monkeypatch.setitem(benchmark_workloads.WORKLOADS, name, fake)
    words = "benchmark --no-memory --rounds 2 --workloads lstm_training --grow bptt"
    done = run_in(benchmark.main, words.split())
    assert done.code == 0, done.err
    assert "PyTorch is not installed: this project is timed alone." in done.out
    result = json.loads((done.folder / "cpu" / "result.json").read_text())
    assert [row["per_second"] for row in result["rows"]] == [10.0]
    assert [(row["size"], row["value"]) for row in result["growth"]] == [
        ("bptt", value) for value in (8, 32, 128)
    ]
    for figure in ("speeds.png", "growth.png"):
        assert (done.folder / "cpu" / figure).stat().st_size > 5000


@pytest.mark.slow
def test_the_peak_is_that_of_a_product_by_pytorch_too():
    pytest.importorskip("torch")
    own = peak.matmul_peak("float32", 512, 4, 3)
    assert 0.2 * own < benchmark_torch.matmul_peak("float32", 512, 4, 3) < 5 * own


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKLOADS)
def test_pytorch_computes_what_we_compute(name):
    pytest.importorskip("torch")
    made = WORKLOADS[name](SMALL)
    calls = {side: made.makes[side]() for side in ("ours", "torch")}
    for _ in range(3):
        check_agreement(name, {side: call() for side, call in calls.items()}, made.rtol)


@pytest.mark.slow
def test_our_side_is_timed_in_a_process_of_its_own():
    made = WORKLOADS["lstm_training"](SMALL)
    alone = dataclasses.replace(made, makes={"ours": made.makes["ours"]})
    config = benchmark.Config(rounds=3, pause=0.0, memory=False)
    (row,) = benchmark.compare(alone, config, top=1e9)
    assert (row["side"], row["ours_to_this"]) == ("ours", 1.0)
    assert row["compile_seconds"] > 0.1
    assert row["share_of_peak"] == pytest.approx(made.flops * row["per_second"] / made.items / 1e9)


@pytest.mark.slow
def test_our_language_model_learns_what_it_is_timed_on():
    call = WORKLOADS["lstm_training"](SMALL).makes["ours"]()
    losses = [float(call()[0]) for _ in range(300)]
    assert losses[0] == pytest.approx(np.log(85), rel=0.1)
    assert losses[-1] < 0.7 * losses[0]


def test_the_table_of_growth_has_a_row_for_each_workload_and_size():
    def grown(workload, size, value, side, ratio):
        made = {"workload": workload, "size": size, "value": value}
        return {**made, "side": side, "ours_to_this": ratio}

    growth = [
        grown("A", "batch_size", 16, "ours", 1.0),
        grown("A", "batch_size", 16, "torch", 1.216),
        grown("A", "batch_size", 256, "torch", 0.8),
        grown("B", "bptt", 8, "torch", 2.0),
    ]
    assert benchmark_table.growth_table({"growth": growth}).splitlines() == [
        "| times as fast as PyTorch |  |  |",
        "|---|---|---|",
        "| A, images a batch | 16: 1.22 | 256: 0.80 |",
        "| B, characters a step | 8: 2.00 |  |",
    ]
    assert benchmark_table.growth_table({"growth": []}) == ""
    assert set(benchmark_table.SIZES) == set(benchmark.GROWTH)
