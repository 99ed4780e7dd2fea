"""The README's table of name classifiers."""

import json

from experiments import names_table, results_table


def made_up(cell, accuracy, preset="tuned", seed=0):
    config = {"cell": cell, "preset": preset, "layers": 2, "features": 100, "seed": seed}
    return {
        "experiment": "names",
        "device": "cpu, 2 cores",
        "epochs": 20.0,
        "parameters": 1234,
        "test_accuracy": accuracy,
        "in_both_files": {"accuracy_of_others": accuracy - 0.02},
        "balanced_accuracy": 0.7,
        "expected_calibration_error": 0.034,
        "train_seconds": 90.0,
        "config": config,
    }


def test_the_tutorials_is_first_and_seeds_are_one_row():
    runs = [
        made_up("mingru", 0.81),
        made_up("gru", 0.80, "tutorial"),
        made_up("gru", 0.84),
        made_up("gru", 0.86, seed=1),
    ]
    lines = names_table.table(runs).splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 10
    tail = "| 70.0 % | 3.4 % | 1 | cpu, 2 cores | 1.5 min |"
    name = "2 x 100 gru, 20 epochs (`--preset tutorial`)"
    assert lines[2] == f"| {name} | 1,234 | 80.0 % | 78.0 % {tail}"
    assert lines[3] == (
        "| 2 x 100 gru, 20 epochs (`--preset tuned`) | 1,234 | 85.0 ± 1.4 % | 83.0 ± 1.4 % | "
        "70.0 ± 0.0 % | 3.4 ± 0.0 % | 2 | cpu, 2 cores | 1.5 min |"
    )
    assert "mingru" in lines[4]


def test_a_run_whose_test_names_all_were_trained_on_has_a_dash():
    none = made_up("gru", 0.84) | {"in_both_files": {"accuracy_of_others": None}}
    assert "| 84.0 % | - | 70.0 % |" in names_table.table([none])
    both = [none, made_up("gru", 0.86, seed=1)]
    assert "| 85.0 ± 1.4 % | 84.0 % | 70.0 ± 0.0 % |" in names_table.table(both)


def test_a_users_names_are_recorded_without_paths_and_stay_out_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.setattr(results_table, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    own = {"train_file": "/home/x/names", "test_file": "/home/x/b.csv", "checkpoint": "/home/x/c"}
    for data, accuracy in (("names", 0.8), ("the file names", 0.7), ("nietzsche", 0.6)):
        result = made_up("gru", accuracy) | {"data": data, "data_source": "the file /home/x/names"}
        result["config"] |= own if data != "names" else dict.fromkeys(own)
        result["command"] = "python -m experiments.names --train-file /home/x/names"
        (tmp_path / "result.json").write_text(json.dumps(result))
        path = results_table.record(tmp_path)
        assert "/home" not in path.read_text()
        assert not set(own) & set(json.loads(path.read_text())["config"])
    assert len(list((tmp_path / "results").iterdir())) == 3
    table = results_table.tables(results_table.recorded())["names"]
    assert len(table.splitlines()) == 3
    assert "| 80.0 % |" in table
