"""What the speedrun tells of its seeds."""

import numpy as np
import pytest

from experiments import speedrun_report
from experiments.run_directory import RunDirectory


def test_a_seed_that_diverged_counts_with_what_it_got_right():
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [np.nan, 1.0]])
    found = speedrun_report.record(4, logits[:2], [0, 0], 1.23456)
    assert found == {"seed": 4, "accuracy": 0.5, "seconds": 1.2346}
    assert speedrun_report.line(found) == "seed 4: accuracy 50.00%, 1.235 s"
    worse = speedrun_report.record(0, logits, [0, 1, 1], 1.0)
    assert worse["diverged"]
    assert worse["accuracy"] == pytest.approx(2 / 3)
    assert speedrun_report.line(worse).endswith(", diverged")


def test_a_cpu_is_told_how_long_it_takes_and_a_cache_that_it_was_read():
    found = {
        "compile_seconds": 1.5,
        "from_cache": 0,
        "flops": 6e15,
        "peak_flops_per_second": 1e12,
    }
    assert speedrun_report.outlook(found, 25, on_cpu=False) == "Compiled in 1.5 s."
    text = speedrun_report.outlook(found | {"from_cache": 3}, 25, on_cpu=True)
    assert text == (
        "Compiled in 1.5 s, 3 of its programs out of the cache of an earlier run. There is no "
        "GPU: what was not asked for is small, 3 epochs of a narrow network. Trainings: 25, of "
        "6 PFLOP each, which takes this CPU at least 100.0 minutes."
    )


def test_the_table_tells_validation_from_test_and_no_time_of_compiling_for_a_cache():
    result = {
        "config": {
            "target": "95",
            "optimizer": "nesterov",
            "widths": [128, 384, 384],
            "epochs": 15.0,
        },
        "told": "test",
        "parameters": 1000,
        "trainings": [
            {"accuracy": 0.9475, "seconds": 2.0},
            {"accuracy": 0.9525, "seconds": 3.0},
        ],
        "compile_seconds": 12.3,
        "from_cache": 0,
        "flops": 1.4e15,
        "share_of_peak": 0.5,
        "device": "gpu, X",
    }
    cached = result | {"told": "validation", "from_cache": 4}
    rows = speedrun_report.table([result, cached]).splitlines()[2:]
    head, tail = "1,000 | 95.00 ± 0.35 % | 2 | 2.50 ± 0.71", "1.40 | 50% | gpu, X |"
    assert rows == [
        f"| 95, nesterov | {head} | 12 s | {tail}",
        f"| 95, nesterov (validation) | {head} | cached | {tail}",
    ]


def test_the_table_says_which_sizes_are_not_the_recipes_and_no_deviation_of_one_training():
    result = {
        "config": {"target": "94", "optimizer": "muon", "widths": [16, 32, 32], "epochs": 3.0},
        "told": "test",
        "parameters": 1000,
        "trainings": [{"accuracy": 0.5, "seconds": 2.0}],
        "compile_seconds": 12.3,
        "from_cache": 0,
        "flops": 1.4e15,
        "share_of_peak": 0.5,
        "device": "cpu, X",
    }
    row = speedrun_report.table([result]).splitlines()[-1]
    head = "| 94, muon, widths 16 32 32, 3 epochs | 1,000 | 50.00 % | 1 | 2.00 | 12 s |"
    assert row == f"{head} 1.40 | 50% | cpu, X |"


def test_a_deviation_is_told_of_several_trainings_only():
    result = {
        "data": "shapes",
        "told": "test",
        "accuracy": (90.931, 0.25),
        "seconds": (2.5, 0.125),
        "parameters": 1000,
        "compile_seconds": 12.0,
        "from_cache": 0,
        "flops": 1e15,
        "flops_xla": 2e15,
        "share_of_peak": 0.5,
        "peak_flops_per_second": 1e12,
        "published_accuracy": None,
    }
    assert speedrun_report.lines(result | {"n": 1})[:2] == [
        "shapes, test: 90.93 % mean accuracy, n = 1, 1,000 parameters.",
        "2.500 s a training; compiled once in 12.0 s beside it.",
    ]
    assert speedrun_report.lines(result | {"n": 2})[:2] == [
        "shapes, test: 90.93 % mean accuracy, standard deviation 0.25, n = 2, 1,000 parameters.",
        "2.500 s a training, standard deviation 0.125; compiled once in 12.0 s beside it.",
    ]


def test_who_stops_it_before_the_first_seed_is_not_sent_to_a_file_that_is_not_there(tmp_path):
    run = RunDirectory(tmp_path)
    assert speedrun_report.stopped(run) == "Stopped before the first seed was done."
    run.append_metrics({"seed": 0, "step": 1})
    expected = f"Stopped: the seeds so far are in {tmp_path / 'metrics.jsonl'}."
    assert speedrun_report.stopped(run) == expected


def test_every_seed_that_did_not_diverge_is_judged(tmp_path):
    run = RunDirectory(tmp_path)
    sure = 10 * np.eye(2, dtype=np.float32)
    logits = [sure[[0, 1, 1, 1]], np.full((4, 2), np.nan), sure[[0, 0, 0, 1]]]
    labels = np.array([0, 0, 0, 1])
    found = speedrun_report.judge(run, logits, labels, ("cat", "dog"), "two seeds")
    assert found["classes"]["cat"] == pytest.approx(
        {"share": 6 / 8, "predicted": 4 / 8, "accuracy": 4 / 6}
    )
    assert found["classes"]["dog"]["accuracy"] == 1
    confident = 1 / (1 + np.exp(-10))
    assert found["expected_calibration_error"] == pytest.approx(confident - 6 / 8)
    assert (tmp_path / "reliability.png").exists()


def test_seeds_that_all_diverged_have_no_shares(tmp_path):
    lost = [np.full((4, 2), np.nan)]
    run = RunDirectory(tmp_path)
    assert speedrun_report.judge(run, lost, np.zeros(4, int), ("cat", "dog"), "lost") == {}
    assert not list(tmp_path.iterdir())
