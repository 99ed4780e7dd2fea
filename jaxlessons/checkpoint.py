"""Checkpoints through orbax: the latest few and the best one, and a restore that checks first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from jaxlessons import checkpoint_files
from jaxlessons.errors import UserError

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

    step: `state.step` unless given; a step that is there already is left as it is. Afterwards
    the `keep` latest remain, and with `best` also the one with the highest (mode "min": lowest)
    `metrics[best]`; a checkpoint without metrics is never the best. about: JSON values that are
    kept inside the checkpoint, such as a vocabulary; `read_about` gives them back.

    Raises:
      UserError: when the disk is full or the directory can't be written. The earlier
        checkpoints stay: orbax gives a folder its name only when it is whole.
    """
    step = int(state.step) if step is None else step
    directory = check_directory(directory)
    if best is not None and metrics is not None and best not in metrics:
        raise UserError(f"best is {best!r}: the metrics are {', '.join(metrics)}.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        checkpoint_files.check_space(directory, state)
        if best is not None and metrics is None:
            # Orbax can't rank this one: it stays beside the others until the next that has them.
            keep = best = None
        with _manager(directory, keep, best, mode) as manager:
            if step not in manager.all_steps():
                plain = None if metrics is None else {k: float(v) for k, v in metrics.items()}
                manager.save(
                    step,
                    args=ocp.args.StandardSave(state),
                    metrics=plain,
                    custom_metadata=None if about is None else dict(about),
                )
                manager.wait_until_finished()
                checkpoint_files.write_checksums(directory / str(step))
    except UserError:
        raise
    except Exception as error:
        if checkpoint_files.is_disk_error(error):
            raise UserError(
                f"The checkpoint of step {step} could not be written to {directory} ({error}): "
                "make room there, or choose another place for the run; the earlier checkpoints "
                "are kept."
            ) from error
        raise


def check_directory(directory: str | Path) -> Path:
    """The absolute path; UserError where orbax would take it for a pattern and save in vain."""
    directory = Path(directory).expanduser().resolve()
    if found := set(str(directory)) & set("*?[]"):
        raise UserError(
            f"{directory} can't hold checkpoints, because of the {' '.join(sorted(found))} in its "
            "name: choose another."
        )
    return directory


def restore(
    directory: str | Path, target: Any, step: int | None = None, part: str | None = None
) -> Any:
    """The state saved at `step` (the latest by default), shaped like `target`.

    target: a pytree of arrays or of `jax.ShapeDtypeStruct`s, such as a freshly made state.
    part: a field of the state, such as "params", where `target` stands for that alone; the rest
    of what was saved does not matter then.

    Raises:
      UserError: when there is no such checkpoint, it can't be read, or its arrays are not the
        target's; then the first that differ are named.
    """
    directory, step = _found(directory, step)
    checkpoint_files.verify_checksums(directory / str(step))
    target = target if part is None else {part: target}
    target = jax.tree.map(lambda x: x if hasattr(x, "dtype") else jnp.asarray(x), target)
    with _manager(directory) as manager:
        try:
            tree = manager.item_metadata(step).tree
            saved = _saved_arrays(tree)
            own = {n: a for n, a in saved.items() if part in (None, n.split(".")[0])}
            _check_same(_arrays(target), own, directory / str(step))
            # Into the tree as it was saved, for a None in only one of the two stops orbax.
            wanted = dict(zip(_arrays(target), map(_placed, jax.tree.leaves(target)), strict=True))
            item = jax.tree.map(lambda leaf: wanted.get(leaf.name, _placed(leaf)), tree)
            restored = jax.tree.leaves(manager.restore(step, args=ocp.args.StandardRestore(item)))
            found = dict(zip(saved, restored, strict=True))
            state = jax.tree.unflatten(jax.tree.structure(target), [found[n] for n in wanted])
            return state if part is None else state[part]
        except UserError:
            raise
        # What a broken checkpoint raises is tensorstore's affair, and of many types.
        except Exception as error:
            raise checkpoint_files.damaged(
                directory / str(step), str(error).splitlines()[0][:200]
            ) from error


def read_about(directory: str | Path, step: int | None = None) -> dict[str, Any]:
    """What `save` was told about the state at `step` (the latest by default); {} for nothing.

    Raises:
      UserError: when there is no such checkpoint, or it can't be read.
    """
    directory, step = _found(directory, step)
    checkpoint_files.verify_checksums(directory / str(step))
    with _manager(directory) as manager:
        metadata = manager.metadata(step)
    # Orbax makes up metadata without it where the file is gone or can't be read.
    if metadata.commit_timestamp_nsecs is None:
        raise checkpoint_files.damaged(directory / str(step), "its metadata can't be read")
    return dict(metadata.custom_metadata or {})


def _found(directory: str | Path, step: int | None) -> tuple[Path, int]:
    """The absolute path and the step, the latest by default; UserError when it isn't there."""
    directory = Path(directory).expanduser().resolve()
    steps = all_steps(directory)
    if not steps:
        raise UserError(f"{directory} holds no checkpoint: train without --resume first.")
    step = steps[-1] if step is None else step
    if step not in steps:
        raise UserError(f"{directory} has no checkpoint of step {step}: it holds {steps}.")
    return directory, step


def all_steps(directory: str | Path) -> list[int]:
    """The steps that have a whole checkpoint, ascending; empty when there is no directory."""
    directory = Path(directory).expanduser().resolve()
    if not directory.is_dir():
        return []
    with _manager(directory) as manager:
        return sorted(manager.all_steps())


def latest_step(directory: str | Path) -> int | None:
    """The highest step with a checkpoint, or None."""
    return max(all_steps(directory), default=None)


def best_step(directory: str | Path, metric: str, mode: Mode = "max") -> int | None:
    """The step whose checkpoint has the highest (or lowest) `metric`, or None."""
    directory = Path(directory).expanduser().resolve()
    if not directory.is_dir():
        return None
    with _manager(directory, best=metric, mode=mode) as manager:
        return manager.best_step()


def _manager(
    directory: Path, keep: int | None = None, best: str | None = None, mode: Mode = "max"
) -> ocp.CheckpointManager:
    """keep None keeps all, which is what a reader wants."""

    def value(metrics: Any) -> float:
        return metrics[best]

    policies = checkpoint_managers
    kept: list[Any] = [policies.LatestN(keep)]
    if best is not None and keep is not None:
        lowest = mode == "min"
        kept.append(
            policies.BestN(
                get_metric_fn=value, reverse=lowest, n=1, keep_checkpoints_without_metrics=False
            )
        )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=policies.AnyPreservationPolicy(kept),
        best_fn=None if best is None else value,
        best_mode=mode,
        enable_async_checkpointing=False,
    )
    handler = ocp.StandardCheckpointHandler()
    return ocp.CheckpointManager(directory, options=options, item_handlers=handler)


def _arrays(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """path -> (shape, dtype) of every array; typed keys as the uint32 that orbax writes."""

    def plain(leaf: Any) -> Any:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.eval_shape(jax.random.key_data, leaf) if is_key else leaf

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            plain(x).shape,
            str(plain(x).dtype),
        )
        for path, x in leaves
    }


def _placed(leaf: Any) -> Any:
    """What orbax restores an array by. Without a place of its own it goes to the first device,
    and not where it was saved, which may be a GPU that is not here."""
    if isinstance(leaf, jax.Array):
        return ocp.utils.to_shape_dtype_struct(leaf)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)


def _saved_arrays(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """The same of orbax' metadata."""
    leaves = jax.tree.leaves(tree)
    return {leaf.name: (tuple(leaf.shape), str(jnp.dtype(leaf.dtype))) for leaf in leaves}


def _check_same(wanted: dict[str, Any], saved: dict[str, Any], where: Path) -> None:
    """Orbax drops leaves without a word when the target has fewer: hence this."""
    differences = [
        f"{name} is {_describe(saved.get(name))} there and {_describe(wanted.get(name))} here"
        for name in sorted(wanted.keys() | saved.keys())
        if wanted.get(name) != saved.get(name)
    ]
    if differences:
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(
            f"{where} holds another model or optimizer: {'; '.join(differences[:3])}{more}; "
            "take the settings that it was made with, or another run."
        )


def _describe(array: tuple[tuple[int, ...], str] | None) -> str:
    return "missing" if array is None else f"{array[1]}{list(array[0])}"
