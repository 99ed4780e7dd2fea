"""Every file of a checkpoint, damaged in every way: it is refused, and the one before it taken."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import checkpoint
from jaxlessons.checkpoint_files import CHECKSUMS, DamagedError
from jaxlessons.errors import UserError

RANDOM = np.random.RandomState(0)


def state(step):
    return {"step": jnp.int32(step), "params": {"kernel": jnp.arange(12.0).reshape(3, 4) + step}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the steps 1 and 2, the second one with all that a checkpoint may hold."""
    folder = tmp_path_factory.mktemp("saved")
    checkpoint.save(folder, state(1), step=1, metrics={"accuracy": 0.5})
    checkpoint.save(folder, state(2), step=2, metrics={"accuracy": 0.7}, about={"symbols": "ab"})
    return folder


def flipped(content):
    """One bit of each of eight copies, somewhere at random."""
    for _ in range(8):
        place, bit = RANDOM.randint(len(content)), RANDOM.randint(8)
        altered = bytearray(content)
        altered[place] ^= 1 << bit
        yield bytes(altered)


def damages(content):
    """What became of a file, by name; None where it is gone."""
    yield "missing", None
    yield "empty", b""
    if content:
        yield "truncated", content[: len(content) // 2]
        yield "zeroed", bytes(len(content))
        yield from (("a bit flipped", altered) for altered in flipped(content))


def test_whatever_file_is_damaged_the_step_is_refused_and_the_one_before_it_taken(saved):
    files = [path for path in sorted((saved / "2").rglob("*")) if path.is_file()]
    assert len(files) > 8
    assert {CHECKSUMS, "_CHECKPOINT_METADATA", "manifest.ocdbt"} <= {path.name for path in files}
    tried = 0
    for file in files:
        content = file.read_bytes()
        for damage, altered in damages(content):
            if altered == content:  # an empty file that is emptied
                continue
            file.unlink()
            if altered is not None:
                file.write_bytes(altered)
            where = f"{file.relative_to(saved)} {damage}"
            with pytest.raises(DamagedError) as caught:
                checkpoint.restore(saved, state(0), step=2)
            assert str(caught.value).startswith(f"The checkpoint {saved / '2'} is damaged ("), where
            told = []
            assert checkpoint.latest_good_step(saved, told.append) == 1, where
            assert told == [f"{caught.value} The one before it is tried now."], where
            file.write_bytes(content)
            tried += 1
    assert tried > 80
    assert checkpoint.latest_good_step(saved, told.append) == 2


@pytest.mark.parametrize("name", [CHECKSUMS, "_CHECKPOINT_METADATA", "metrics/metrics", "default"])
def test_what_is_restored_is_the_step_before_and_saving_again_mends(saved, tmp_path, capsys, name):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    broken = folder / "2" / name
    shutil.rmtree(broken) if broken.is_dir() else broken.unlink()
    restored = checkpoint.restore(folder, state(0))
    np.testing.assert_array_equal(restored["params"]["kernel"], state(1)["params"]["kernel"])
    assert f"warning: The checkpoint {folder / '2'} is damaged (" in capsys.readouterr().err
    checkpoint.save(folder, state(2), step=2, metrics={"accuracy": 0.9}, keep=1, best="accuracy")
    assert [path.name for path in folder.iterdir()] == ["2"]
    assert int(checkpoint.restore(folder, state(0))["step"]) == 2
    assert checkpoint.best_step(folder, "accuracy") == 2


def test_when_all_are_damaged_the_latest_is_named(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    for step in ("1", "2"):
        (folder / step / "_METADATA").unlink(missing_ok=True)
        (folder / step / "_CHECKPOINT_METADATA").write_text("{}")
    with pytest.raises(DamagedError, match=f"^The checkpoint {folder / '2'} is damaged"):
        checkpoint.restore(folder, state(0), tell=lambda sentence: None)


def test_what_a_killed_save_left_is_removed_by_the_next(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")
    left = folder / "3.orbax-checkpoint-tmp"
    shutil.copytree(folder / "2", left)
    checkpoint.save(folder, state(3), step=3)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "3"]


def test_older_ones_go_only_when_the_new_one_is_finished(saved, tmp_path, monkeypatch):
    folder = shutil.copytree(saved, tmp_path / "checkpoints")

    def killed(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxlessons.checkpoint_files.write_checksums", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(folder, state(3), step=3, keep=1)
    assert checkpoint.all_steps(folder) == [1, 2]
    assert int(checkpoint.restore(folder, state(0), tell=lambda sentence: None)["step"]) == 2


def test_a_float_may_be_wanted_wider_than_it_was_saved_and_not_narrower(tmp_path):
    values = jnp.asarray(np.random.RandomState(1).normal(size=(5, 3)), jnp.bfloat16)
    checkpoint.save(tmp_path, {"kernel": values}, step=1)
    restored = checkpoint.restore(tmp_path, {"kernel": jnp.zeros((5, 3), jnp.float32)})
    assert restored["kernel"].dtype == jnp.float32
    np.testing.assert_array_equal(restored["kernel"], values.astype(jnp.float32))
    checkpoint.save(tmp_path, {"kernel": values.astype(jnp.float32)}, step=2)
    narrow = {"kernel": jax.ShapeDtypeStruct((5, 3), jnp.bfloat16)}
    difference = r"kernel is float32\[5, 3\] there and bfloat16\[5, 3\] here"
    with pytest.raises(UserError, match=difference):
        checkpoint.restore(tmp_path, narrow)
