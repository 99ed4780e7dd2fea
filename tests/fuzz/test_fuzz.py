"""Damaged files: what comes out is a well-formed result or one sentence that names the file.

The cases are run in processes of their own (child.py), by the readers of readers*.py, on what
mutations.py makes of small valid files. Their number alone decides them.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import mutations
import pytest

# Cases of each reader; those that take longest, or are the simplest, have fewer.
SHARES = {
    "arrays": 800,
    "batches": 1000,
    "archive": 600,
    "idx": 600,
    "tfrecord": 400,
    "tfds_info": 250,
    "tfds_records": 250,
    "text": 500,
    "names": 500,
    "vocabulary": 500,
    "pictures": 1600,
    "photos": 600,
    "settings": 600,
    "h5": 1200,
    "onnx": 900,
    "safetensors": 600,
    "npz": 500,
    "recurrent": 500,
    "config.json": 1000,
    "metrics.jsonl": 800,
    "result.json": 300,
}
CRASHES = 5  # after which it is given up


def fuzz(folder: Path, counts: dict[str, int], module: str = "readers") -> list[str]:
    """The faults that these many cases of each reader in `module` have."""
    jobs = [(name, 0, count) for name, count in counts.items()]
    faults = []
    while jobs and len(faults) < CRASHES:
        ended = _child(folder, jobs, module)
        if ended is None:
            break
        # A crash: on with the case after the one that it died in.
        name, number = (folder / "current").read_text().split()
        faults.append(f"{name} {number}: the process died: {ended}")
        names = [job[0] for job in jobs]
        at = names.index(name)
        jobs = [(name, int(number) + 1, jobs[at][2]), *jobs[at + 1 :]]
    if (folder / "faults").exists():
        for line in (folder / "faults").read_text().splitlines():
            name, number, done, found = json.loads(line)
            faults.append(f"{name} {number} ({done}): {found}")
    return faults


def _child(folder: Path, jobs: list[tuple[str, int, int]], module: str) -> str | None:
    """None, or how the process died."""
    script = Path(__file__).parent / "child.py"
    paths = [str(path) for path in (script.parents[2], script.parents[1], folder)]
    # With arenas, glibc sets aside 128 MB of addresses for each thread that first asks for memory,
    # whenever that is: it would count as the growth of the case that happens to run.
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "JAX_PLATFORMS": "cpu",
        "MALLOC_ARENA_MAX": "1",
    }
    with (folder / "stderr").open("w") as stderr:
        done = subprocess.run(
            [sys.executable, str(script), str(folder), json.dumps(jobs), module],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
        )
    if done.returncode == 0:
        return None
    assert (folder / "current").exists(), (folder / "stderr").read_text()
    return f"code {done.returncode}, {(folder / 'stderr').read_text()[-2000:]}"


def counted(folder: Path) -> dict[str, tuple[int, float]]:
    """Reader -> (cases that were run, seconds)."""
    lines = map(json.loads, (folder / "seconds").read_text().splitlines())
    return {name: (cases, seconds) for name, cases, seconds in lines}


def test_a_damaged_file_gives_a_result_or_a_sentence(tmp_path):
    # TFDS takes two seconds to import.
    counts = {name: 20 for name in SHARES if not name.startswith("tfds")}
    assert fuzz(tmp_path, counts) == []
    assert sum(cases for cases, _ in counted(tmp_path).values()) == 20 * len(counts)


@pytest.mark.slow
def test_ten_thousand_damaged_files_give_results_or_sentences(tmp_path):
    faults = fuzz(tmp_path, SHARES)
    found = counted(tmp_path)
    for name, (cases, seconds) in found.items():
        print(f"{name}: {cases:,} cases in {seconds:.0f} s")
    assert faults == []
    assert set(found) == set(SHARES)
    assert sum(cases for cases, _ in found.values()) >= 10_000


def test_cases_are_the_same_at_each_call_and_differ_from_each_other():
    blob = bytes(range(256)) * 4
    made = [mutations.damaged(blob, [b"x" * 50], random.Random(f"a {n}")) for n in range(300)]
    again = [mutations.damaged(blob, [b"x" * 50], random.Random(f"a {n}")) for n in range(300)]
    assert made == again
    assert len({changed for changed, _ in made}) > 280
    said = {name for _, done in made for name in done.split(" and ")}
    assert {damage.__name__ for damage in mutations.DAMAGES} <= said
    value = json.dumps({"a": [1, {"b": "x"}], "c": 0.5}).encode()
    odd = {mutations.odd_json(value, random.Random(n))[0] for n in range(300)}
    assert len(odd) > 60
    assert b"[" * 100_000 in odd


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('a\\nb')", "KeyError"),
        ("raise UserError('Something is wrong.')", "is not named"),
        ("raise UserError(f'{path} is\\nwrong.')", "not one short line"),
        ("raise UserError(f'{path} is wrong')", "no sentence"),
        ("warnings.warn('hm', stacklevel=1)", "it warned: UserWarning hm"),
        ("bytearray(400 << 20)", "it took "),
        ("os.write(2, b'x')", "it wrote to stderr"),
        ("time.sleep(9)", "the process died: code 1, Timeout (0:00:02)!"),
        ("os.abort()", "the process died: code -6"),
        ("assert len(path.read_bytes()) == 9", "AssertionError"),
    ],
)
def test_each_kind_of_fault_is_seen(tmp_path, monkeypatch, body, words):
    """Of a made-up reader, which reads its undamaged file and fails at the damaged one."""
    (tmp_path / "made_up.py").write_text(
        "import os, time, warnings\n"
        "from reader import Reader, Seed\n"
        "from jaxlessons.errors import UserError\n"
        "def read(path):\n"
        "    if path.read_bytes() != b'undamaged':\n"
        f"        {body}\n"
        "def make(folder, names):\n"
        "    return [Reader('one', (Seed('a.bin', b'undamaged'),), read)]\n"
    )
    monkeypatch.setenv("FUZZ_SECONDS", "2")
    faults = fuzz(tmp_path, {"one": 1}, "made_up")
    assert len(faults) == 1
    assert re.match(r"one 0.*: ", faults[0])
    assert words in faults[0]
