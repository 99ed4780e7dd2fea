"""Runs cases in a process of its own, so that a crash, a hang or a full memory is seen.

One case again, by hand: python tests/fuzz/child.py FOLDER '[["h5", 17, 18]]' readers
with tests/ and tests/fuzz/ on PYTHONPATH; the file stays in FOLDER/case, faults are in FOLDER.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

from reader import Reader

from jaxlessons.errors import UserError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))  # for one case, on a busy machine too
GROWTH = 300 << 20  # bytes that a case may take
LONGEST = 1000  # characters of a message


def fault(reader: Reader, path: Path) -> str | None:
    """What is wrong with the outcome of reading `path`; None when it is as promised."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            reader.read(path)
            found = None
        except UserError as error:
            found = _unclear(error, reader.named or path.name)
        except BaseException:
            found = traceback.format_exc()
    if warned and not found:
        found = f"it warned: {warned[0].category.__name__} {warned[0].message}"
    return found


def _unclear(error: UserError, named: str) -> str | None:
    message, cause = str(error), error.__cause__
    if not message.isprintable() or len(message) > LONGEST:
        return f"not one short line: {message[:LONGEST]!r}"
    if not message.endswith("."):
        return f"no sentence: {message}"
    if named not in message:
        return f"{named} is not named: {message}"
    if isinstance(cause, MemoryError):
        return f"it asked for more memory than there is: {message}"
    return None


def virtual_peak() -> int:
    """Bytes of address space, at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmPeak"):
            return int(line.split()[1]) << 10
    raise OSError("no VmPeak")


def warm_up(reader: Reader, folder: Path) -> None:
    """Every seed is read as it is, which must work."""
    for seed in reader.seeds:
        reader.read(alone(folder, seed.name, seed.wrap(seed.blob)))


def run(reader: Reader, folder: Path, start: int, stop: int) -> None:
    """Writes each case's number to "current" before it is run, and its fault to "faults"."""
    place = folder / "case"
    place.mkdir(exist_ok=True)
    warm_up(reader, place)
    peak, told = virtual_peak(), os.fstat(2).st_size
    resource.setrlimit(resource.RLIMIT_AS, (peak + 8 * GROWTH, resource.RLIM_INFINITY))
    for number in range(start, stop):
        (folder / "current").write_text(f"{reader.name} {number}")
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        file, blob, done = reader.case(number)
        found = fault(reader, alone(place, file, blob))
        if (now := virtual_peak()) > peak + GROWTH:
            found, peak = f"it took {(now - peak) >> 20} MB; {found}", now
        if (size := os.fstat(2).st_size) > told:
            found, told = f"it wrote to stderr; {found}", size
        if found:
            with (folder / "faults").open("a") as faults:
                faults.write(json.dumps([reader.name, number, done, found]) + "\n")
    faulthandler.cancel_dump_traceback_later()


def alone(folder: Path, name: str, blob: bytes) -> Path:
    """The file in `folder`, where there is no other."""
    for path in folder.iterdir():
        path.unlink()
    (folder / name).write_bytes(blob)
    return folder / name


def main(folder: Path, jobs: list[tuple[str, int, int]], module: str) -> None:
    """Runs each job, (reader, first case, last case + 1), and adds its time to "seconds"."""
    made = importlib.import_module(module).make(folder, [name for name, _, _ in jobs])
    known = {reader.name: reader for reader in made}
    for name, start, stop in jobs:
        began = time.perf_counter()
        run(known[name], folder, start, stop)
        with (folder / "seconds").open("a") as file:
            file.write(json.dumps([name, stop - start, time.perf_counter() - began]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3])
