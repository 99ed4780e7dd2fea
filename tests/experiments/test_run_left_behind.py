"""What a process that was killed, or a full disk, leaves in a run's folder is no obstacle."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from experiments import command_line
from experiments.run_directory import RunDirectory
from jaxlessons.errors import UserError

RECORDS = [{"step": 5, "seconds": 1.5}, {"step": 10, "seconds": 0.5}]


@pytest.fixture
def old_run(tmp_path):
    """A run of which a killed process left temporaries, and a line that is cut short."""
    path = tmp_path / "made_up" / "mine"
    (path / "pictures").mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"data": "small", "command": "python"}))
    whole = "".join(json.dumps(record) + "\n" for record in RECORDS)
    (path / "metrics.jsonl").write_text(whole + '{"step": 15, "l')
    for name in (".config.123.json", "pictures/.000005.77.png"):
        (path / name).write_text("half")
    return path


def resume(path):
    config = SimpleNamespace(resume=True, runs_dir=path.parents[1], name=path.name)
    return RunDirectory.open(config, path.parent.name, "small", "default")


def test_a_resumed_run_has_no_leftovers_and_no_torn_line(old_run):
    run = resume(old_run)
    assert sorted(entry.name for entry in old_run.rglob("*")) == [
        "config.json",
        "metrics.jsonl",
        "pictures",
    ]
    run.append_metrics({"step": 15})
    lines = (old_run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [*RECORDS, {"step": 15}]


def test_metrics_that_are_whole_are_left_alone(old_run):
    path = old_run / "metrics.jsonl"
    path.write_text('{"step":5,"seconds":1}\n')
    before = path.stat().st_mtime_ns, path.stat().st_ino
    resume(old_run)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    path.unlink()
    resume(old_run)
    assert not path.exists()


@pytest.mark.parametrize("left", [[], [".config.123.json"]])
def test_a_named_folder_that_was_not_begun_is_begun(tmp_path, left):
    path = tmp_path / "made_up" / "mine"
    path.mkdir(parents=True)
    for name in left:
        (path / name).write_text("half")
    run = RunDirectory.new(tmp_path, "made_up", "mine", "default")
    assert run.path == path
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "notes.txt", ".hidden"])
def test_a_named_folder_with_anything_else_in_it_is_refused(tmp_path, name):
    path = tmp_path / "made_up" / "mine"
    path.mkdir(parents=True)
    (path / name).write_text("mine")
    with pytest.raises(UserError, match="exists already: go on with it by --resume"):
        RunDirectory.new(tmp_path, "made_up", "mine", "default")
    assert (path / name).read_text() == "mine"


def test_a_default_folder_that_was_not_begun_may_be_anothers(tmp_path):
    (tmp_path / "made_up" / "default").mkdir(parents=True)
    run = RunDirectory.new(tmp_path, "made_up", None, "default")
    assert run.path.name == "default-2"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_metrics_that_the_disk_has_no_room_for_are_named(old_run, capsys):
    run = resume(old_run)
    (old_run / "metrics.jsonl").unlink()
    (old_run / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(SystemExit) as end:
        command_line.run(lambda: run.append_metrics({"step": 1}))
    assert end.value.code == 1
    expected = f"error: {old_run / 'metrics.jsonl'} can't be used (No space left on device): make"
    assert capsys.readouterr().err.startswith(expected)


def test_a_run_that_had_an_old_checkpoint_yet_to_remove_does_so_at_its_end(run, begun):
    folder = begun("whole")
    (folder / "result.json").unlink()
    old = shutil.copytree(folder / "checkpoints" / "5", folder / "checkpoints" / "3")
    next(path for path in (old / "default").rglob("*") if path.is_file()).unlink()
    result = run("cifar_cnn --resume --name whole")
    assert result.code == 0, result.err
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["10", "15", "5"]
