"""Checkpoints through orbax: the latest few and the best one, and a restore that checks first.

A checkpoint counts from the moment that the checksums of its files stand beside them, and not
before; older ones are removed after that. So there is a good one at every moment, wherever the
program is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from jaxlessons import checkpoint_files, checkpoint_trees, devices
from jaxlessons.checkpoint_files import (
    DamagedError,
    all_steps,
    latest_good_step,
    latest_step,
    say_damaged,
)
from jaxlessons.errors import UserError, reason
from jaxlessons.files import expanded

__all__ = [
    "DamagedError",
    "Mode",
    "all_steps",
    "best_step",
    "latest_good_step",
    "latest_step",
    "prune",
    "read_about",
    "restore",
    "save",
]

Mode = Literal["max", "min"]


def save(
    directory: str | Path,
    state: Any,
    *,
    step: int | None = None,
    metrics: Mapping[str, float] | None = None,
    keep: int | None = 3,
    best: str | None = None,
    mode: Mode = "max",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes `state` (any pytree of arrays) as `directory/<step>`; on return it is on the disk.

    step: `state.step` unless given; a good checkpoint of it that is there already is left as it
    is. Afterwards the `keep` latest remain, and with `best` also the one with the highest (mode
    "min": lowest) `metrics[best]`; a checkpoint without metrics is never the best, and removes
    none. about: JSON values that are kept inside the checkpoint, such as a vocabulary;
    `read_about` gives them back. What an interrupted save left behind is removed: a directory has
    one writer at a time.

    Raises:
      UserError: when the disk is full or the directory can't be written. The earlier
        checkpoints stay: orbax gives a folder its name only when it is whole.
    """
    step = int(state.step) if step is None else step
    directory = checkpoint_files.check_directory(directory)
    if best is not None and metrics is not None and best not in metrics:
        raise UserError(f"best is {best!r}: the metrics are {', '.join(metrics)}.")
    plain = None if metrics is None else {k: float(v) for k, v in metrics.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        checkpoint_files.check_space(directory, state)
        with _manager(directory, writes=True, scored=plain is not None) as manager:
            if not _drop_unless_good(manager, directory, step):
                manager.save(
                    step,
                    args=ocp.args.StandardSave(state),
                    metrics=plain,
                    custom_metadata=None if about is None else dict(about),
                )
                manager.wait_until_finished()
                if devices.is_main():
                    checkpoint_files.write_checksums(directory / str(step))
                devices.wait_for_all(f"checksums of {directory / str(step)}")
            if keep is not None and (best is None or plain is not None):
                _prune(manager, directory, keep, best, mode)
    except UserError:
        raise
    except Exception as error:
        if checkpoint_files.is_disk_error(error):
            raise UserError(
                f"The checkpoint of step {step} could not be written to {directory} "
                f"({reason(error)}): make room there, or choose another place for the run; the "
                "earlier checkpoints are kept."
            ) from error
        raise


def _drop_unless_good(manager: ocp.CheckpointManager, directory: Path, step: int) -> bool:
    """Whether there is a good checkpoint of the step; what there is otherwise makes room."""
    if step not in manager.all_steps():
        return False
    try:
        checkpoint_files.verify_checksums(directory / str(step))
        return True
    except DamagedError:
        manager.delete(step)
        return False


def _prune(
    manager: ocp.CheckpointManager, directory: Path, keep: int, best: str | None, mode: Mode
) -> None:
    """Removes what is neither among the latest nor the best, half-written ones too."""
    finished = all_steps(directory)
    kept = {*finished[-keep:], best and _best(manager, finished, best, mode)}
    for step in sorted(set(manager.all_steps()) - kept):
        manager.delete(step)


def prune(directory: str | Path, *, keep: int, best: str | None = None, mode: Mode = "max") -> None:
    """Removes all but the `keep` latest checkpoints and the best, as `save` does at its end.

    For a run that was killed between the two.
    """
    directory = expanded(directory).resolve()
    if all_steps(directory):
        with _manager(directory, writes=True) as manager:
            _prune(manager, directory, keep, best, mode)


def restore(
    directory: str | Path,
    target: Any,
    step: int | None = None,
    part: str | None = None,
    tell: Callable[[str], None] = say_damaged,
) -> Any:
    """The state saved at `step` (the latest good one by default), shaped and placed like `target`.

    target: a pytree of arrays or of `jax.ShapeDtypeStruct`s, such as a freshly made state: its
    arrays' shardings say on which devices to put what is restored, wherever it was saved. A float
    may be wider in it than it was saved. part: a field of the state, such as "params", where
    `target` stands for that alone; the rest of what was saved does not matter then. tell: as for
    `latest_good_step`.

    Raises:
      UserError: when there is no such checkpoint, it is damaged (a DamagedError), or its arrays
        are not the target's; then the first that differ are named.
    """
    directory, step = _find(directory, step, tell)
    target = target if part is None else {part: target}
    target = jax.tree.map(lambda x: x if hasattr(x, "dtype") else jnp.asarray(x), target)
    names = checkpoint_trees.arrays(target)
    with _manager(directory) as manager:
        try:
            tree = manager.item_metadata(step).tree
            saved = checkpoint_trees.saved_arrays(tree)
            own = {n: a for n, a in saved.items() if part in (None, n.split(".")[0])}
            checkpoint_trees.check_same(names, own, directory / str(step))
            # Into the tree as it was saved, for a None in only one of the two stops orbax.
            leaves = map(checkpoint_trees.placed, jax.tree.leaves(target))
            wanted = dict(zip(names, leaves, strict=True))
            item = jax.tree.map(
                lambda leaf: wanted.get(leaf.name, checkpoint_trees.placed(leaf)), tree
            )
            restored = jax.tree.leaves(manager.restore(step, args=ocp.args.StandardRestore(item)))
            found = dict(zip(saved, restored, strict=True))
            state = jax.tree.unflatten(jax.tree.structure(target), [found[n] for n in wanted])
            return state if part is None else state[part]
        except UserError:
            raise
        # What a broken checkpoint raises is tensorstore's affair, and of many types.
        except Exception as error:
            raise checkpoint_files.damaged(directory / str(step), reason(error)) from error


def read_about(
    directory: str | Path, step: int | None = None, tell: Callable[[str], None] = say_damaged
) -> dict[str, Any]:
    """What `save` was told about the state at `step` (the latest good one by default), or {}.

    Raises:
      UserError: when there is no such checkpoint, or it can't be read.
    """
    directory, step = _find(directory, step, tell)
    with _manager(directory) as manager:
        return dict(manager.metadata(step).custom_metadata or {})


def _find(directory: str | Path, step: int | None, tell: Callable[[str], None]) -> tuple[Path, int]:
    """The absolute path and the step, checked; UserError when it isn't there or is damaged."""
    directory = expanded(directory).resolve()
    if step is None:
        step = latest_good_step(directory, tell)
        if step is None:
            unfinished = checkpoint_files.folders(directory)
            if unfinished:
                checkpoint_files.verify_checksums(directory / str(unfinished[-1]))
            raise UserError(f"{directory} holds no checkpoint: train without --resume first.")
        return directory, step
    if not (directory / str(step)).is_dir():
        steps = all_steps(directory)
        raise UserError(f"{directory} has no checkpoint of step {step}: it holds {steps}.")
    checkpoint_files.verify_checksums(directory / str(step))
    return directory, step


def best_step(directory: str | Path, metric: str, mode: Mode = "max") -> int | None:
    """The step whose checkpoint has the highest (or lowest) `metric`, or None."""
    directory = expanded(directory).resolve()
    steps = all_steps(directory)
    if not steps:
        return None
    with _manager(directory) as manager:
        return _best(manager, steps, metric, mode)


def _best(manager: ocp.CheckpointManager, steps: list[int], metric: str, mode: Mode) -> int | None:
    """The latest of the best; one whose metrics can't be read isn't among them."""
    sign = 1 if mode == "max" else -1
    ranked = []
    for step in steps:
        try:
            ranked.append((sign * float(manager.metrics(step)[metric]), step))
        # None were written, or they are damaged, which is for `restore` to say; of many types.
        except Exception:
            continue
    return max(ranked)[1] if ranked else None


def _manager(
    directory: Path, *, writes: bool = False, scored: bool = True
) -> ocp.CheckpointManager:
    """Keeps all, for `_prune` comes after the checksums. scored: whether it sees to metrics."""
    options = ocp.CheckpointManagerOptions(
        best_fn=(lambda metrics: 0.0) if scored else None,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=writes,
    )
    handler = ocp.StandardCheckpointHandler()
    return ocp.CheckpointManager(directory, options=options, item_handlers=handler)
