"""Training that is killed at random moments ends bit for bit like training that was not."""

import random
import time
from dataclasses import dataclass, field

import pytest
from crash_endings import assert_same_end
from crash_processes import last_line, writings

COLD = 0.2  # chance of a kill before anything of this process is saved
STEPPING = 1.5  # seconds: a kill falls so late after the process has begun at most
WRITING = 0.03  # or so late after something began to be written
SKIPPED = 20  # changes of what is half written that are let pass at most
SPARED = 0.5  # chance that a process that has only the figures left is not killed


@dataclass
class Tally:
    """kills: those that found the process alive. writing: those of them that left a checkpoint
    half written. runs: that went on to their end, each compared with one that was not killed."""

    kills: int = 0
    writing: int = 0
    runs: int = 0
    lines: list[str] = field(default_factory=list)


def begun(process, run, chance):
    """Waits for the first step, mostly for the first epoch's end too; whether it lives then."""
    if not process.wait_for(lambda: process.stepped or all_trained(process), 0.01):
        return False
    if chance.random() < COLD:
        return True
    before = last_line(run.path)
    return process.wait_for(lambda: last_line(run.path) != before or all_trained(process))


def all_trained(process):
    """Whether the bar is at its end, so that there is no step to wait for."""
    return "100%|" in process.err


def kill_stepping(process, run, chance):
    """Kills at a random time after the first step; whether it did."""
    if not begun(process, run, chance):
        return False
    time.sleep(chance.uniform(0, STEPPING))
    return process.kill()


def kill_writing(process, run, chance):
    """Kills while something is written, or right after; whether it did."""
    if chance.random() > COLD and not begun(process, run, chance):
        return False
    kind = chance.choice(["checkpoint", "unfinished", "temporary", "line"])
    watched = last_line if kind == "line" else (lambda path: writings(path)[kind])
    left = chance.randrange(SKIPPED if kind == "checkpoint" else 4)
    before = watched(run.path)

    def due():
        nonlocal before, left
        now = watched(run.path)
        # What vanishes has been written: what is new or has changed is being written.
        changed = now != before if kind == "line" else bool(now - before)
        before = now
        left -= changed
        return left < 0

    if not process.wait_for(due, 0.0002):
        return False
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, WRITING))
    return process.kill()


def survive(run, whole, kills, chance, tally):
    """Kills the run until `kills` are made or it is at its end, which must be that of `whole`."""
    last = whole.records()[-1]["step"]
    steps = []
    for attempt in range(10 * kills):
        spare = steps[-1:] == [last] and chance.random() < SPARED
        aim = (kill_stepping, kill_writing)[attempt % 2]
        if tally.kills >= kills or spare:
            aim = None
        before = writings(run.path)
        with run.go_on() as process:
            if aim is None or not aim(process, run, chance):
                assert process.end() == 0, process.err
                break
        now = writings(run.path)
        tally.kills += 1
        tally.writing += any(now[kind] - before[kind] for kind in ("checkpoint", "unfinished"))
        tally.lines.append(f"{run.name} {aim.__name__} {run.good_steps()} {process.stepped}")
        earlier, steps = steps, run.good_steps()
        assert steps[-1:] >= earlier[-1:], f"{earlier} were finished, and now {steps}"
    assert_same_end(run, whole)
    tally.runs += 1


@pytest.mark.slow
@pytest.mark.parametrize(("case", "share"), [("char", 1), ("cifar", 5)])
def test_a_killed_run_ends_bit_for_bit_like_an_unbroken_one(runs, unbroken, case, share, request):
    kills = max(2, request.config.getoption("--kills") // share)
    tally, chance, seed = Tally(), random.Random(2024), 0
    while tally.kills < kills:
        whole = unbroken(case, seed)
        survive(runs(case, f"killed-{seed}", seed), whole, kills, chance, tally)
        seed += 1
    print(*tally.lines, sep="\n")
    print(f"{tally.kills} kills, {tally.writing} in a checkpoint's writing, {tally.runs} runs")
    assert tally.kills == kills
    if kills >= 40:
        assert tally.writing > kills // 10
