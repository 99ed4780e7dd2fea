"""What of a style transfer's run is recorded, and the tables made of it."""

import json

import pytest

from experiments import results_table, style_table


def made_up(content="photo.png", style=("a.jpg",), **changes):
    config = {
        "content": content,
        "style": list(style),
        "content_layer": "block4_conv3",
        "content_weight": 1.0,
        "style_weight": 4.0,
        "preset": "quick",
        "size": 256,
        "seed": 0,
    }
    return {
        "experiment": "style_transfer",
        "size": [171, 256],
        "evaluations": 200,
        "value": 25462.1,
        "losses": {"100": 400.0, "200": 123.456},
        "seconds": 141.3,
        "memory_megabytes": 222.4,
        "device": "cpu, 2 cores",
        "command": "python -m experiments.style_transfer",
        "config": config | changes,
    }


def test_a_record_has_the_names_of_pictures_and_not_where_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(results_table, "RESULTS", tmp_path / "results")
    run = made_up("/home/x/photo.png", ("/home/x/a.jpg", "/home/y/b.jpg"), runs_dir="/home/x/runs")
    run["command"] += " --content /home/x/photo.png --style /home/x/a.jpg /home/y/b.jpg --seed 0"
    (tmp_path / "result.json").write_text(json.dumps(run))
    path = results_table.record(tmp_path)
    assert path.name == "style_transfer-photo-a-b-256px-quick-cpu-0.json"
    assert "/home" not in path.read_text()
    kept = json.loads(path.read_text())
    assert kept["command"].endswith("--content photo.png --style a.jpg b.jpg --seed 0")
    assert (kept["config"]["content"], kept["config"]["style"]) == ("photo.png", ["a.jpg", "b.jpg"])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "content_and_style"),
        ({"content_weight": 0.0}, "style"),
        ({"style_weight": 0.0}, "content_of_layer_32"),
        ({"style_weight": 0.0, "content_layer": "block5_conv1"}, "content_of_layer_37"),
    ],
)
def test_a_run_of_the_lesson_is_named_by_its_losses(changes, kind):
    run = made_up(preset="lesson", **changes)
    assert style_table.name(run, "cpu") == f"style_transfer-photo-a-{kind}-lesson-cpu-0"


def test_a_run_without_files_is_the_demonstration():
    assert style_table.name(made_up(None, ()), "cpu") == "style_transfer-demo-256px-quick-cpu-0"
    row = style_table.tables([made_up(None, ())])["style_transfer"].splitlines()[-1]
    assert row.startswith("| the demonstration | 256 x 171 | 200 | 2.546e+04 | 141 | 222 MB |")


def test_losses_stand_beside_the_lessons():
    table = style_table.losses([made_up(), made_up(content_weight=0.0)]).splitlines()
    assert table[0] == "| loss | | 100 | 200 | 1000 |"
    assert table[2:] == [
        "| content and style | lesson | 1802 |  | 646 |",
        "| content and style | ours | 400 | 123.5 |  |",
        "| content of layer 37 | lesson | 0.785 |  | 0.081 |",
        "| style | ours | 400 | 123.5 |  |",
    ]


def test_speed_is_a_ratio_with_its_quartiles():
    speed = made_up(size=512) | {
        "experiment": "style_speed",
        "ratio": 0.944,
        "quartiles": [0.82, 1.013],
        "ratio_to_equal_loss": 1.568,
        "resident_megabytes": {"ours": 1601.2, "torch": 1302.0},
        "memory_megabytes": {"ours": 601.2, "torch": None},
    }
    assert style_table.name(speed, "cpu") == "style_speed-photo-a-512px-cpu"
    row = style_table.tables([speed])["style_speed"].splitlines()[-1]
    expected = "| 512 px | 0.94 (0.82 to 1.01) | 1.57 | 1601 MB, PyTorch's 1302 | cpu, 2 cores |"
    assert row == expected
