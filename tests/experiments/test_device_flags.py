"""--devices and its kin: the same figures on several, and what makes no sense."""

import json
import subprocess
import sys

import jax
import pytest

from experiments import device_config
from jaxlessons import devices
from jaxlessons.errors import UserError

SIMPLE = "cifar_cnn --model simple --epochs 3 --batch-size 32 --validation 40"
TOGETHER = "--coordinator, --process-id and --processes go together"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--devices 3", "A batch of 32 can't be shared out evenly among 3 devices"),
        ("--devices 9", "There are 8 devices (cpu): 9 can't be used"),
        ("--devices 0", "--devices is 0: it must be 1 or more"),
        ("--shard-optimizer", "--shard-optimizer is for several devices: add --devices"),
        ("--coordinator localhost:9", TOGETHER),
        ("--process-id 0 --processes 2", TOGETHER),
        (
            "--coordinator localhost --process-id 0 --processes 2",
            "--coordinator is localhost: it must be HOST:PORT",
        ),
        (
            "--coordinator localhost:70000 --process-id 0 --processes 2",
            "--coordinator is localhost:70000: it must be HOST:PORT",
        ),
        (
            "--coordinator localhost:9 --process-id 2 --processes 2",
            "--process-id is 2: of 2 processes it must be 0 to 1",
        ),
    ],
)
def test_what_makes_no_sense_is_told_in_a_sentence(run, words, message):
    done = run(f"{SIMPLE} {words}")
    assert done.code == 1
    assert done.err.strip().splitlines()[-1].startswith(f"error: {message}")
    assert not done.folder.exists()


def result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.slow
def test_two_devices_come_to_the_figures_of_one_and_one_goes_on_from_there(run, begun):
    whole = result(begun("whole"))
    assert run(f"{SIMPLE} --devices 2 --name two", interrupt_at=8).code == 130
    done = run("cifar_cnn --resume --name two")
    assert done.code == 0, done.err
    found = result(done.folder / "two")
    assert found["config"]["devices"] is None  # this time
    assert found["test_loss"] == pytest.approx(whole["test_loss"], abs=1e-4)
    assert found["test_accuracy"] == whole["test_accuracy"]


@pytest.mark.parametrize(
    ("batch_size", "cores", "expected"),
    [
        (256, 2, 2),
        (256, 1, 1),
        (128, 2, 2),
        (126, 2, 1),  # with 63 images each it would not pay
        (64, 8, 1),
        (1024, 8, 8),
        (1024, 6, 4),  # the most that divide it
        (384, 8, 6),
        (390, 4, 3),
        (387, 2, 1),
    ],
)
def test_a_cpu_plays_a_device_a_core_for_large_batches(monkeypatch, batch_size, cores, expected):
    monkeypatch.setattr(device_config, "cores", lambda: cores)
    assert device_config.usual(batch_size) == expected
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert device_config.usual(batch_size) == 1


PLAYED = """
import jax, jax.numpy as jnp
from experiments import device_config
from experiments.device_config import Devices

double = jax.jit(lambda x: 2 * x)
assert double(jnp.ones(4)).sum() == 8
before = jax.local_device_count()
layout = device_config.layout(Devices(), 3)
device_config.play(2)
print(before, jax.local_device_count(), layout.count, layout.mesh.size)
print(float(double(layout.share_steps(jnp.ones((1, 6)))).sum()))
print(device_config.layout(Devices(devices=2), 3).count, device_config.layout(Devices()).count)
"""


def test_a_cpu_plays_more_devices_when_it_already_played_one():
    command = [sys.executable, "-c", PLAYED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["1 3 3 3", "12.0", "2 1"]


@pytest.mark.slow
def test_what_a_cpu_plays_unasked_comes_to_the_figures_of_one(run, monkeypatch):
    words = "cifar_cnn --model conv --epochs 2 --batch-size 40 --validation 40"
    monkeypatch.setattr(device_config, "FEWEST_IMAGES", 20)
    monkeypatch.setattr(device_config, "cores", lambda: 2)
    said = "This CPU plays 2 devices, which share each batch: --devices 1 for one."
    found = {}
    for name, more in (("usual", ""), ("one", "--devices 1")):
        done = run(f"{words} {more} --name {name}")
        assert done.code == 0, done.err
        assert (said in done.out) == (name == "usual")
        found[name] = result(done.folder / name)
    assert found["usual"]["test_loss"] == pytest.approx(found["one"]["test_loss"], abs=1e-4)
    # Without convolutions it would take longer.
    assert said not in run(f"{SIMPLE} --batch-size 40").out


@pytest.mark.slow
def test_a_run_in_bfloat16_goes_on_in_float32(run):
    words = f"{SIMPLE} --compute-dtype bfloat16 --name narrow"
    assert run(words, interrupt_at=8).code == 130
    done = run("cifar_cnn --resume --name narrow --compute-dtype float32")
    assert done.code == 0, done.err
    assert result(done.folder / "narrow")["config"]["compute_dtype"] == "float32"
    assert result(done.folder / "narrow")["steps"] == 15


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        # Within an allocation of many tasks, but not started by srun.
        ({"SLURM_NTASKS": "4"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
    ],
)
def test_a_cluster_is_found_out(monkeypatch, environment, several):
    for name in ("SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    joined = []
    monkeypatch.setattr(device_config, "_join", lambda **where: joined.append(where))
    device_config.start(None, None, None, None)
    assert joined == ([{}] if several else [])


def test_several_devices_have_no_use_for_nvidias_lstm():
    several = devices.layout(2)
    assert device_config.shareable("lstm", devices.SINGLE) == {}
    assert device_config.shareable("lstm", several) == {"backend": "fused"}
    assert device_config.shareable("lstm", several, "scan") == {}
    assert device_config.shareable("mingru", several) == {}
    with pytest.raises(UserError, match="--backend cudnn is for one device"):
        device_config.shareable("lstm", several, "cudnn")
