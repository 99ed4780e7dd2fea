"""Several processes train one run over the loopback, as several machines would."""

import json
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from crash_endings import arrays, assert_ascending, assert_nothing_left

SENTENCE = "error: Another process of this run has ended or can't be reached, so this one ends too"
WITHIN = 60  # seconds in which the others stop
NEAR = 1e-4  # what rounding comes to


def free_port(among=(0,)):
    """The first of `among` that nobody listens on; 0 leaves the choice to the system."""
    for port in among:
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return listener.getsockname()[1]
    raise AssertionError("no port is free")


def by_flags(start, count):
    """start(*words), as each of `count` processes."""
    where = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", count]
    return [partial(start, *where, "--process-id", number) for number in range(count)]


def by_slurm(run, kind, count):
    """The run begun by each of `count` tasks, which know what srun tells them and no flags."""
    step = {
        # From the job's number jax chooses the coordinator's port.
        "SLURM_JOB_ID": str(free_port(range(61440, 65536)) - 61440),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_NTASKS": str(count),
    }
    for number in range(count):
        task = step | {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number)}
        yield begin(replace(run, environment=run.environment | task), kind)


class Together:
    """The processes of one run, begun or resumed together."""

    def __init__(self, stack, starts):
        self.processes = [stack.enter_context(start()) for start in starts]

    def end(self):
        for process in self.processes:
            assert process.end() == 0, process.err
        # One of them speaks for all.
        assert all("Everything is in" not in process.out for process in self.processes[1:])
        assert "Everything is in" in self.processes[0].out


def assert_near_arrays(run, one):
    """All that the last checkpoint holds."""
    last = one.good_steps()[-1]
    ours, theirs = (arrays(r.path / "checkpoints", last) for r in (run, one))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=NEAR, err_msg=name)


def assert_near(run, one):
    """The same run, but for the order in which numbers were added up."""
    assert_nothing_left(run.path)
    steps = one.good_steps()
    assert run.good_steps() == steps
    assert_near_arrays(run, one)
    records, expected = run.records(), one.records()
    assert_ascending(records)
    assert [r["step"] for r in records] == [r["step"] for r in expected]
    for record, other in zip(records, expected, strict=True):
        assert record["validation_loss"] == pytest.approx(other["validation_loss"], abs=NEAR)
    result, other = (json.loads((r.path / "result.json").read_text()) for r in (run, one))
    assert result.keys() == other.keys()


# Plain steps, so few and so small that rounding does not grow into another network.
FLAGS = {
    "char": ("--epochs", "2", "--lr", "0.005"),
    "char, long": ("--epochs", "16", "--optimizer", "sgd", "--lr", "0.05"),
    # Without batch norm: of flat images it makes so much of rounding that even with and without jit
    # gradients differ; test_devices has it, on others.
    "cifar": ("--model", "simple", "--epochs", "2", "--optimizer", "sgd", "--lr", "0.01"),
}


@pytest.fixture(scope="module")
def alone(runs):
    """alone(kind): the run that a single process trains."""
    found = {}

    def run(kind):
        if kind not in found:
            found[kind] = runs(kind.split(",")[0], f"alone-{len(found)}")
            with found[kind].begin(*FLAGS[kind]) as process:
                assert process.end() == 0, process.err
        return found[kind]

    return run


def begin(run, kind):
    """(the words of one process) -> it."""
    return lambda *words: run.begin(*FLAGS[kind], *words)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "count"), [("char", 2), ("char", 4), ("cifar", 2)])
def test_several_processes_come_to_what_one_comes_to(runs, alone, case, count):
    run = runs(case, f"{count}-processes")
    with ExitStack() as stack:
        Together(stack, by_flags(begin(run, case), count)).end()
    assert_near(run, alone(case))


@pytest.mark.slow
def test_tasks_of_slurm_find_each_other_without_flags(runs, alone):
    run = runs("char", "slurm")
    with ExitStack() as stack:
        Together(stack, by_slurm(run, "char", 2)).end()
    assert_near(run, alone("char"))


@pytest.mark.slow
def test_several_processes_find_the_rate_that_one_finds(runs):
    found = []
    for count in (1, 2):
        run = runs("cifar", f"sweep-{count}")
        with ExitStack() as stack:
            sweep = begin(run, "cifar")
            if count == 1:
                processes = [stack.enter_context(sweep("--lr-find"))]
            else:
                processes = Together(stack, by_flags(partial(sweep, "--lr-find"), count)).processes
            assert all(process.end() == 0 for process in processes), processes[-1].err
            said = [
                process.out.partition("Suggested")[2].partition(" The curve")[0]
                for process in processes
            ]
        assert said[1:] == [""] * (count - 1)  # one of them speaks for all
        assert [path.name for path in run.path.iterdir()] == ["lr_find.png"]
        found.append(said[0])
    assert found[0] == found[1] != ""


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_is_killed_the_others_stop_and_all_go_on(runs, alone, killed):
    run = runs("char", f"without-{killed}")
    with ExitStack() as stack:
        both = Together(stack, by_flags(begin(run, "char, long"), 2)).processes
        assert both[0].wait_for(lambda: run.good_steps(), 0.01), both[0].err
        assert both[killed].kill()
        began = time.monotonic()
        other = both[1 - killed]
        assert other.end() == 1, other.err
        assert time.monotonic() - began < WITHIN
        assert SENTENCE in other.err
    with ExitStack() as stack:
        Together(stack, by_flags(run.resume, 2)).end()
    assert_near(run, alone("char, long"))


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_one_process_goes_on_alone(runs, alone):
    run = runs("char", "stopped-together")
    with ExitStack() as stack:
        both = Together(stack, by_flags(begin(run, "char, long"), 2)).processes
        assert both[0].wait_for(lambda: both[0].stepped, 0.01), both[0].err
        both[1].popen.terminate()
        assert [process.end() for process in both] == [143, 143], both[0].err + both[1].err
    step = run.good_steps()[-1]
    assert f"Stopped at step {step} of" in both[0].err
    with run.resume() as process:
        assert process.end() == 0, process.err
    ends = {record["step"] for record in alone("char, long").records()}
    assert ends <= {record["step"] for record in run.records()}
    assert_near_arrays(run, alone("char, long"))
