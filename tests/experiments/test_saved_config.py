"""What a run saved and something damaged since: told by file, field and line."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from experiments import cifar_resnet
from experiments.run_directory import RunDirectory
from jaxlessons.errors import UserError


@dataclass(frozen=True)
class Config:
    kind: Literal["a", "b"] = "a"
    count: int = 1
    rate: float = 0.5
    most: float | None = None
    folder: Path | None = None
    names: tuple[str, ...] = ()
    pair: tuple[int, int] = (1, 2)
    by_group: dict[str, float] = field(default_factory=dict)
    flag: bool = False
    title: str = ""


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "x")
    run.path.mkdir()
    run.write_json("config.json", {"command": "python", "data": "d"})
    return run


def saved(run, **values):
    run.write_json("config.json", {"command": "python", "data": "d"} | values)
    return run.read_config(Config())


def test_a_config_comes_back_as_it_was_saved(run):
    config = Config("b", 2, 1, 0.5, Path("a/b"), ("x", "y"), (3, 4), {"cell": 0.1}, True, "ä")
    assert saved(run, **json.loads(json.dumps(dataclasses.asdict(config), default=str))) == config
    assert saved(run) == Config()
    assert saved(run, unknown=1) == Config()
    network = cifar_resnet.Config(ema=0.9, data_dir=Path("d"))
    run.write_config(network, "CIFAR-10")
    assert run.read_config(cifar_resnet.Config()) == dataclasses.replace(network, name="x")


@pytest.mark.parametrize("space", ["\u202f", "\u00a0", "\u3000", "\u200d"])
def test_a_file_with_odd_spaces_in_its_name_can_be_the_runs_data(run, space):
    data = f"3.45{space}PM.png"
    run.write_config(cifar_resnet.Config(), data)
    run.check_data(data)
    run.write_result({}, cifar_resnet.Config())
    assert run.result() is not None


def test_a_home_folder_is_where_the_runs_go(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = RunDirectory.new(Path("~/mine"), "x", None, "d")
    assert run.path == tmp_path / "mine" / "x" / "d"
    run.write_config(cifar_resnet.Config(), "d")
    assert RunDirectory.existing(Path("~/mine"), "x", None).path == run.path


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kind", "c", "holds 'c' as kind, which must be one of a, b"),
        ("kind", ["a"], "holds a list of 1 as kind, which must be one of a, b"),
        ("count", 1.5, "holds 1.5 as count, which must be a whole number"),
        ("count", True, "holds True as count, which must be a whole number"),
        ("count", None, "holds None as count, which must be a whole number"),
        ("rate", "0.5", "holds '0.5' as rate, which must be a finite number"),
        ("rate", float("nan"), "holds nan as rate, which must be a finite number"),
        ("rate", 10**400, "as rate, which must be a finite number"),
        ("most", False, "holds False as most, which must be a finite number or null"),
        ("folder", "a\0b", "holds 'a\\x00b' as folder, which must be a path or null"),
        ("folder", "\ud800", "holds '\\ud800' as folder, which must be a path or null"),
        ("names", "x", "holds 'x' as names, which must be a list of a text"),
        ("names", ["x", 1], "holds a list of 2 as names, which must be a list of a text"),
        ("pair", [1], "holds a list of 1 as pair, which must be a list of 2 times a whole number"),
        ("by_group", {"a": "b"}, "as by_group, which must be a table with a finite number for"),
        ("flag", 1, "holds 1 as flag, which must be true or false"),
        ("title", {}, "holds a table of 0 as title, which must be a text"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_by_file_and_field(run, name, value, words):
    with pytest.raises(UserError) as told:
        saved(run, **{name: value})
    assert str(told.value).startswith(f"{run.path / 'config.json'} holds ")
    assert words in str(told.value)
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"[" * 100_000,
            r"config\.json can't be read as a run's config \(it is nested too deeply\)",
        ),
        (b'[["command", "x"]]', r"config \(it is no JSON object\): start a new run\."),
        (b"\xff{}", r"config\.json can't be read as a run's config \('utf-8' codec"),
        (b'{"data": "d"}', r"config\.json lacks the command that began the run: start a new run\."),
        (b'{"command": "c", "data": "a\\u001b"}', r"config\.json lacks the name of the run's data"),
        (b'{"command": "c", "data": 1}', r"config\.json lacks the name of the run's data"),
    ],
    ids=["nested", "list", "bytes", "command", "escape", "data"],
)
def test_a_config_that_is_none_is_told(run, content, words):
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=words):
        run.read_config(Config())


GOOD = b'{"step": 1, "seconds": 0.5}\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"step": 2, "sec', "Unterminated string"),
        (b'{"step": 2, "seconds": 1}{"step": 3, "seconds": 1}', "Extra data"),
        (b"", "Expecting value"),
        (b"[1]", "it is no JSON object"),
        (b"\xff", "'utf-8' codec"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"seconds": 1}', "its step is no number from 0 on"),
        (b'{"step": "2", "seconds": 1}', "its step is no number from 0 on"),
        (b'{"step": 2}', "its seconds is no number from 0 on"),
        (b'{"step": 2, "seconds": NaN}', "its seconds is no number from 0 on"),
    ],
    ids=range(10),
)
def test_a_damaged_line_of_the_metrics_is_told_by_file_and_line(run, line, words):
    (run.path / "metrics.jsonl").write_bytes(GOOD + line + b"\n" + GOOD)
    with pytest.raises(UserError) as told:
        run.metrics()
    start = f"{run.path / 'metrics.jsonl'} is damaged at line 2 ("
    assert str(told.value).startswith(start)
    assert words in str(told.value)
    assert str(told.value).endswith("): put that line right or delete it.")


def test_a_last_line_that_was_cut_short_and_a_diverged_trial_are_no_damage(run):
    (run.path / "metrics.jsonl").write_bytes(GOOD + b'{"step": 2, "diverged": 2}\n' + b'{"step"')
    assert run.metrics() == [{"step": 1, "seconds": 0.5}, {"step": 2, "diverged": 2}]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_broken_result_is_told_by_file(run, content):
    assert run.result() is None
    (run.path / "result.json").write_bytes(content)
    with pytest.raises(UserError, match=r"result\.json can't be read as a run's result \(.*delete"):
        run.result()
