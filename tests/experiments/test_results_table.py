"""The README's table is what the recorded runs say, and its example runs."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from experiments import results_table
from jaxlessons.data import cifar10
from jaxlessons.data import images as images_of_files
from jaxlessons.models import resnet

README = Path(__file__).parents[2] / "README.md"


def made_up(model, seed, accuracy, seconds=90.0):
    config = {"model": model, "preset": "lesson", "seed": seed, "epochs": 6.0, "validation": 0}
    return {
        "experiment": "cifar_cnn",
        "device": "cpu, 2 cores",
        "parameters": 1234,
        "test_accuracy": accuracy,
        "train_seconds": seconds,
        "config": config,
        "command": f"python -m experiments.cifar_cnn --model {model} --seed {seed} --name x --lr 1",
    }


def test_a_row_is_the_mean_and_deviation_over_seeds():
    runs = [made_up("bn", 1, 0.70, 150.0), made_up("bn", 0, 0.68), made_up("simple", 0, 0.47)]
    lines = results_table.table(runs).splitlines()
    assert lines[2].startswith("| SimpleNet, 6 epochs | 1,234 | 46.9 % | 47.0 % | 1 |")
    assert lines[3].startswith(
        "| ConvBnNet, 6 epochs | 1,234 | 68.1 % | 69.0 ± 1.4 % | 2 | cpu, 2 cores | 2.0 min |"
    )
    assert lines[3].endswith("| `python -m experiments.cifar_cnn --model bn --lr 1` |")


def test_a_row_has_the_accuracy_of_several_views_where_all_seeds_have_it():
    runs = [made_up("resnet2", seed, 0.79) for seed in range(3)]
    for run, accuracy in zip(runs, (0.80, 0.82, None), strict=True):
        run["tta"] = accuracy and {"views": 4, "test_accuracy": accuracy, "test_loss": 0.5}
    cells = [results_table.table(of).splitlines()[2].split(" | ")[3] for of in (runs[:2], runs)]
    assert cells == ["79.0 ± 0.0 %, with TTA 81.0 ± 1.4 %", "79.0 ± 0.0 %"]


OTHERS = [
    {"model": "googlenet", "width": 0.25, "norm": "before"},  # as the quick preset has it
    {"model": "googlenet", "width": 0.5, "norm": "before"},
    {"model": "googlenet", "width": 0.25, "norm": "pre"},
    {"model": "googlenet", "width": 1.0, "norm": "none"},
]


def test_another_norm_or_width_is_a_network_and_a_record_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(results_table, "RESULTS", tmp_path)
    names = []
    for number, settings in enumerate(OTHERS):
        result = made_up("googlenet", 0, 0.5 + number / 10)
        result |= {"experiment": "cifar_inception", "data": "CIFAR-10"}
        result["config"] |= {"preset": "quick", **settings}
        (tmp_path / "result.json").write_text(json.dumps(result))
        names.append(results_table.record(tmp_path).name)
    (tmp_path / "result.json").unlink()
    assert names == [
        "cifar_inception-googlenet-quick-cpu-0.json",
        "cifar_inception-googlenet-quick-width-0.5-cpu-0.json",
        "cifar_inception-googlenet-quick-norm-pre-cpu-0.json",
        "cifar_inception-googlenet-quick-norm-none-width-1-cpu-0.json",
    ]
    lines = results_table.tables(results_table.recorded())["ladder"].splitlines()[2:]
    assert {line.split(" epochs |")[0]: line.split(" | ")[3:5] for line in lines} == {
        "| GoogLeNet, width 0.25, 6": ["50.0 %", "1"],
        "| GoogLeNet, width 0.5, 6": ["60.0 %", "1"],
        "| GoogLeNet, width 0.25, norm pre, 6": ["70.0 %", "1"],
        "| GoogLeNet, norm none, 6": ["80.0 %", "1"],
    }


def test_the_recorded_runs_keep_their_names():
    for path in results_table.RESULTS.glob("cifar_*.json"):
        assert results_table._name(json.loads(path.read_text())) == path.stem


def test_the_readme_shows_the_recorded_runs():
    tables = results_table.tables(results_table.recorded())
    assert "ladder" in tables
    for name, text in tables.items():
        assert text in README.read_text(), name


def test_a_comparison_is_recorded_whole_without_local_paths(tmp_path, monkeypatch):
    row = {"name": "a", "trials": 2, "validation": [50.0, 1.0], "test": [49.0, 2.0]}
    result = {
        "experiment": "cifar_x",
        "data": "CIFAR-10",
        "device": "cpu, 2 cores",
        "rows": [row],
        "trials": [{"variant": "a", "seed": 0}],
        "config": {"epochs": 2.0, "name": "mine", "runs_dir": "/somewhere"},
        "command": "python -m experiments.cifar_x --runs-dir=/a --data-dir b --lr=2 --style=c/d",
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    monkeypatch.setattr(results_table, "RESULTS", tmp_path)
    path = results_table.record(tmp_path)
    assert path.name == "cifar_x-cpu.json"
    saved = json.loads(path.read_text())
    assert saved["config"] == {"epochs": 2.0}
    assert saved["command"] == "python -m experiments.cifar_x --lr 2 --style d"
    assert saved["trials"] == result["trials"]
    tables = results_table.tables(results_table.recorded())
    assert tables["cifar_x"].splitlines()[-1] == "| a | 50.0 ± 1.0 % | 49.0 ± 2.0 % | 2 |"


@pytest.mark.slow
def test_the_readmes_example_runs(small_images, narrow_vgg16, monkeypatch, tmp_path):
    """As it stands, but for the data, the networks' and images' size, the number of steps."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "painting.jpg"):
        images_of_files.write_png(tmp_path / name, small_images.train_images[0], {})
    images = {
        field: getattr(small_images, field)[:, ::4, ::4]
        for field in ("train_images", "test_images")
    }
    small_images = dataclasses.replace(small_images, **images)
    code = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    monkeypatch.setattr(cifar10, "load", lambda: small_images)
    smaller = {
        "model = Resnet2()": "model = Resnet2((4, 8), residual_layers=1)",
        "50_000 // 256": "200 // 20",
        "batch_size=256": "batch_size=20",
        "every=20": "every=2",
        "evaluations=200": "evaluations=4",
        "size=256": "size=32",
    }
    for long, short in smaller.items():
        assert long in code
        code = code.replace(long, short)
    names = {}
    exec(code, names)
    assert int(names["state"].step) == 20
    assert images_of_files.read_settings(tmp_path / "picture.png") == {"by": "stylize"}
    assert images_of_files.read(tmp_path / "picture.png").shape == (32, 32, 3)
    assert int(names["state"].average.count) == 5
    np.testing.assert_allclose(names["probabilities"].sum(axis=1), np.ones(50), rtol=1e-6)
    assert isinstance(names["model"], resnet.Resnet2)
