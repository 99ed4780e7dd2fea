"""What two runs that should have ended alike have to have in common."""

import json

import jax
import numpy as np
import orbax.checkpoint as ocp
from crash_processes import CHECKPOINT_TEMPORARY, TEMPORARY

from jaxlessons import checkpoint_trees

# How long it took, who began it, and what the checkout is at: all of result.json that may differ.
OWN = ("train_seconds", "seconds_to_first_step", "command", "commit")


def assert_same_end(broken, whole):
    """Bit for bit: the checkpoints kept, the metrics, the figures, the files there are."""
    assert files(broken.path) == files(whole.path)
    assert_nothing_left(broken.path)
    steps = whole.good_steps()
    assert broken.good_steps() == steps
    for step in steps:
        assert_same_arrays(broken, whole, step)
    ours, theirs = timeless(broken.records()), timeless(whole.records())
    assert ours == theirs
    assert_ascending(ours)
    assert [r["lr"] for r in ours] == [r["lr"] for r in theirs]
    assert_same_results(broken, whole)


def assert_same_results(broken, whole):
    """result.json but for its times, and bit for bit the samples and the figures."""
    ours, theirs = (json.loads((run.path / "result.json").read_text()) for run in (broken, whole))
    for name in OWN:
        ours.pop(name), theirs.pop(name)
    for name in ("name", "resume", "runs_dir", "keep"):
        ours["config"].pop(name), theirs["config"].pop(name)
    assert ours == theirs
    for path in [*whole.path.glob("*.png"), *whole.path.glob("*.txt")]:
        assert (broken.path / path.name).read_bytes() == path.read_bytes(), path.name


def assert_same_arrays(broken, whole, step):
    """Every array of the checkpoint: parameters, optimizer's state, average, carry, key."""
    ours, theirs = (arrays(run.path / "checkpoints", step) for run in (broken, whole))
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("params") for name in ours)
    for name, value in ours.items():
        other = theirs[name]
        same = value.dtype == other.dtype and value.tobytes() == other.tobytes()
        assert same, f"{name} of step {step} is {value} and was {other}"


def arrays(folder, step):
    """The name -> the array, of all that a checkpoint holds."""
    handler = ocp.StandardCheckpointHandler()
    with ocp.CheckpointManager(folder, item_handlers=handler) as manager:
        # Onto this process's device, wherever it was saved.
        here = jax.tree.map(checkpoint_trees.placed, manager.item_metadata(step).tree)
        tree = manager.restore(step, args=ocp.args.StandardRestore(here))
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(_plain(leaf))
        for path, leaf in leaves
    }


def _plain(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def timeless(records):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


def assert_ascending(records):
    steps = [record["step"] for record in records]
    assert steps == sorted(set(steps))


def files(path):
    """The names in the run's folder and among its checkpoints."""
    return sorted(
        str(entry.relative_to(path))
        for entry in (*path.iterdir(), *(path / "checkpoints").iterdir())
    )


def assert_nothing_left(path):
    """No temporary file or folder, however deep."""
    for entry in path.rglob("*"):
        assert CHECKPOINT_TEMPORARY not in entry.name, entry
        assert not TEMPORARY.fullmatch(entry.name), entry


def assert_one_sentence(process, sentence):
    """The last line of stderr has it, and there is no traceback."""
    lines = [line for line in process.err.replace("\r", "\n").splitlines() if line.strip()]
    assert sentence in lines[-1], process.err
    assert "Traceback" not in process.err, process.err
    # What stands ahead of it are bars of progress, and what is written beside them.
    said = [line for line in lines if line.startswith(("error", "Stopped", "Exception"))]
    assert said == lines[-1:], process.err
