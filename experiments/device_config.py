"""The flags that say on how many devices, and on how many machines, a run trains."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import jax
from jax.extend.backend import clear_backends

from jaxlessons import devices
from jaxlessons.devices import Layout
from jaxlessons.errors import UserError

C = TypeVar("C")

# A process that is not heard of for so long has died; the others are to stop within a minute.
HEARTBEAT_SECONDS = 30
# As long as the slowest of them may take for its data and imports.
START_SECONDS = 300

FEWEST_IMAGES = 64  # that make it pay for a CPU to play one more device

GONE = (
    "Another process of this run has ended or can't be reached, so this one ends too; start all of "
    "them again with --resume."
)


@dataclass(frozen=True)
class Devices:
    """Where a run trains."""

    devices: int | None = None
    """Devices of each process to train on; a CPU plays as many as asked for. Otherwise one (a CPU
    plays one a core for large batches of images), and with several processes all of each."""
    shard_optimizer: bool = False
    """Share the optimizer's state out among the devices, which saves their memory."""
    coordinator: str | None = None
    """With several processes: HOST:PORT of process 0. On Slurm (srun) and cloud TPUs all three
    flags are found out."""
    process_id: int | None = None
    """With several processes: which one this is, from 0."""
    processes: int | None = None
    """With several processes: how many there are."""


def cores() -> int:
    """How many of the machine's cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start(count: int | None, coordinator: str | None, number: int | None, of: int | None) -> None:
    """Makes the devices ready; to be called ahead of everything that uses one.

    Raises:
      UserError: for flags that don't go together, or when the processes don't find each other.
    """
    if count is not None and count < 1:
        raise UserError(f"--devices is {count}: it must be 1 or more.")
    if count is not None:
        # Too late in a process that has used them: `layout` counts them.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", count)
    given = (coordinator, number, of)
    if any(value is not None for value in given):
        if coordinator is None or number is None or of is None:
            raise UserError("--coordinator, --process-id and --processes go together: give all.")
        _check(coordinator, number, of)
        _join(coordinator_address=coordinator, process_id=number, num_processes=of)
    elif _in_cluster():
        _join()


def shareable(cell: str, layout: Layout, backend: str = "auto") -> dict[str, str]:
    """What several devices need of a recurrent network: NVIDIA's LSTM is one call, which XLA can't
    share out, so that each of them would compute the whole batch."""
    if layout.mesh is None or cell != "lstm":
        return {}
    if backend == "cudnn":
        raise UserError("--backend cudnn is for one device: with several leave it out.")
    return {"backend": "fused"} if backend == "auto" else {}


def usual(batch_size: int) -> int:
    """How many devices are best for a batch of images, which convolutions are to see.

    A CPU plays one a core: within one device XLA's threads wait for each other at the end of each
    operation, but several devices only where they add up. That pays for 64 images each, and for
    32 it no longer does (`python -m experiments.step_speed`).
    """
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return 1
    most = min(cores(), batch_size // FEWEST_IMAGES)
    return next((count for count in range(most, 1, -1) if batch_size % count == 0), 1)


def play(count: int) -> None:
    """Has a CPU play `count` devices. Those that it played before, and arrays on them, end."""
    if jax.default_backend() == "cpu" and count > jax.local_device_count():
        clear_backends()
        jax.config.update("jax_num_cpu_devices", count)


def layout(config: Devices, count: int = 1) -> Layout:
    """The devices that the config asks for, or else `count`, which a CPU is to play from now on.

    Raises UserError when there are fewer, or when one's optimizer is to be shared out.
    """
    many = jax.process_count() > 1
    if many and config.devices is not None:
        found = jax.local_device_count()
        if found != config.devices:
            raise UserError(
                f"This process has {found} devices and --devices is {config.devices}: with "
                "several processes all of each are used, so leave it out."
            )
    if config.devices is None and count > 1:
        play(count)
    chosen = devices.layout(None if many else config.devices or count, config.shard_optimizer)
    if config.shard_optimizer and chosen.count == 1:
        raise UserError("--shard-optimizer is for several devices: add --devices.")
    return chosen


def forgotten(config: C) -> C:
    """The saved config of a run that may go on with other devices than it had."""
    fields: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(Devices)}
    if not isinstance(config, Devices):
        return config
    return dataclasses.replace(config, **fields)


def _check(coordinator: str, number: int, of: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator is {coordinator}: it must be HOST:PORT.")
    if not 0 <= number < of:
        raise UserError(f"--process-id is {number}: of {of} processes it must be 0 to {of - 1}.")


def _in_cluster() -> bool:
    """Whether this is one of several tasks of a Slurm step, or hosts of a cloud TPU."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return (tasks.isdecimal() and int(tasks) > 1) or "," in hosts


# Kept for as long as the process, since C calls it.
_END_TOO = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _number: end_too())


def end_too() -> NoReturn:
    """Ends this process at once, without the ordinary end in which each waits for all."""
    print(f"error: {GONE}", file=sys.stderr, flush=True)
    os._exit(1)


def _join(**where: Any) -> None:
    # Else it takes SIGTERM for itself, upon which a run is to save.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            **where,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes did not find each other ({str(error).splitlines()[0]}): start all of "
            "them, with the same --coordinator and --processes."
        ) from error
    # When the coordinator dies, the runtime aborts the others with a stack trace: this is to be the
    # last word. Python's own handlers come too late for an abort, and jax has no way to be told.
    if os.name == "posix":
        ctypes.CDLL(None).signal(signal.SIGABRT, _END_TOO)
    if not devices.is_main():  # what all would say the same is said once
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, for the process's whole life
