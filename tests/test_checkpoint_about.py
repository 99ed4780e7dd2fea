"""What a checkpoint says about itself, and one part of a state restored alone."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons import checkpoint
from jaxlessons.checkpoint_files import CHECKSUMS
from jaxlessons.errors import UserError

ABOUT = {
    "symbols": 'a"\\\n\N{SNOWMAN}\N{GRINNING FACE}',
    "sizes": [1, 2.5, None],
    "on": {"x": True},
}


def state(seed=0, features=3, **others):
    random = np.random.RandomState(seed)
    params = {
        "inner": {"kernel": jnp.asarray(random.randn(2, features), jnp.float32)},
        "bias": jnp.asarray(random.randn(features), jnp.float32),
    }
    opt_state = {"mu": np.float32(random.randn(4))}
    return {"step": jnp.int32(seed), "params": params, "opt_state": opt_state, **others}


def assert_same(a, b):
    assert set(a) == set(b)
    np.testing.assert_array_equal(a["inner"]["kernel"], b["inner"]["kernel"])
    np.testing.assert_array_equal(a["bias"], b["bias"])


def test_what_a_state_is_about_comes_back_of_each_step(tmp_path):
    checkpoint.save(tmp_path, state(1), step=1, about=ABOUT)
    checkpoint.save(tmp_path, state(2), step=2, metrics={"loss": 1.0}, about={"second": 2})
    checkpoint.save(tmp_path, state(3), step=3)
    assert checkpoint.read_about(tmp_path, 1) == ABOUT
    assert checkpoint.read_about(tmp_path, 2) == {"second": 2}
    assert checkpoint.read_about(tmp_path) == {}
    assert_same(checkpoint.restore(tmp_path, state(9), step=1)["params"], state(1)["params"])


def test_it_does_not_change_what_is_ranked_or_kept(tmp_path):
    for step, loss in enumerate([2.0, 1.0, 3.0]):
        checkpoint.save(
            tmp_path,
            state(step),
            step=step,
            metrics={"loss": loss},
            keep=1,
            best="loss",
            mode="min",
            about={"step": step},
        )
    assert checkpoint.best_step(tmp_path, "loss", "min") == 1
    assert checkpoint.all_steps(tmp_path) == [1, 2]
    assert [checkpoint.read_about(tmp_path, step)["step"] for step in (1, 2)] == [1, 2]


def test_no_checkpoint_is_about_nothing(tmp_path):
    with pytest.raises(UserError, match=r"holds no checkpoint: train without --resume first\.$"):
        checkpoint.read_about(tmp_path)
    checkpoint.save(tmp_path, state(), step=2)
    with pytest.raises(UserError, match=r"has no checkpoint of step 1: it holds \[2\]\.$"):
        checkpoint.read_about(tmp_path, 1)


def test_the_parameters_come_back_alone_though_all_else_differs(tmp_path):
    saved = state(1, carry=(jnp.ones((4, 3)), None))
    checkpoint.save(tmp_path, saved, step=1, about=ABOUT)
    found = checkpoint.restore(tmp_path, state(2)["params"], part="params")
    assert_same(found, saved["params"])
    with pytest.raises(UserError, match="holds another model or optimizer"):
        checkpoint.restore(tmp_path, state(2))


def test_a_part_that_is_one_array_comes_back(tmp_path):
    checkpoint.save(tmp_path, state(7), step=1)
    assert int(checkpoint.restore(tmp_path, jnp.int32(0), part="step")) == 7


def test_another_part_comes_back_alone_too(tmp_path):
    checkpoint.save(tmp_path, state(1), step=1)
    found = checkpoint.restore(tmp_path, {"mu": np.zeros(4, np.float32)}, part="opt_state")
    np.testing.assert_array_equal(found["mu"], state(1)["opt_state"]["mu"])


@pytest.mark.parametrize(
    ("target", "part", "difference"),
    [
        (
            state(features=4)["params"],
            "params",
            "params.bias is float32[3] there and float32[4] here; params.inner.kernel is "
            "float32[2, 3] there and float32[2, 4] here",
        ),
        (
            {"bias": jnp.zeros(3)},
            "params",
            "params.inner.kernel is float32[2, 3] there and missing here",
        ),
        ({"x": jnp.zeros(1)}, "batch_stats", "batch_stats.x is missing there and float32[1] here"),
        # The beginning of a name is not that name.
        ({"bias": jnp.zeros(3)}, "param", "param.bias is missing there and float32[3] here"),
    ],
)
def test_another_shape_or_part_is_refused_in_one_sentence(tmp_path, target, part, difference):
    checkpoint.save(tmp_path, state(), step=1)
    with pytest.raises(UserError) as caught:
        checkpoint.restore(tmp_path, target, part=part)
    assert str(caught.value) == (
        f"{tmp_path / '1'} holds another model or optimizer: {difference}; take the settings that "
        "it was made with, or another run."
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("abcdef", "abcdeg"),
    ],
    ids=["empty", "cut", "altered"],
)
def test_what_was_damaged_is_refused_by_name(tmp_path, damage):
    checkpoint.save(tmp_path, state(), step=1, about={"symbols": "abcdef"})
    file = tmp_path / "1" / "_CHECKPOINT_METADATA"
    assert json.loads(file.read_text())["custom_metadata"] == {"symbols": "abcdef"}
    file.write_text(damage(file.read_text()))
    sentence = (
        f"The checkpoint {tmp_path / '1'} is damaged (_CHECKPOINT_METADATA is not as it was "
        "written): delete that folder to go on from the checkpoint before it."
    )
    for read in (
        lambda: checkpoint.read_about(tmp_path),
        lambda: checkpoint.restore(tmp_path, state()["params"], part="params"),
    ):
        with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
            read()


def test_damage_is_found_in_the_checksums_too(tmp_path):
    checkpoint.save(tmp_path, state(), step=1, about={"symbols": "abcdef"})
    (tmp_path / "1" / CHECKSUMS).write_text("{")
    with pytest.raises(UserError, match=rf"is damaged \({CHECKSUMS} can't be read\)"):
        checkpoint.read_about(tmp_path)


def test_a_checkpoint_without_checksums_was_not_written_to_its_end(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, state(), step=step, about={"step": step})
    (tmp_path / "2" / CHECKSUMS).unlink()
    assert checkpoint.all_steps(tmp_path) == [1]
    told = []
    assert checkpoint.read_about(tmp_path, tell=told.append) == {"step": 1}
    sentence = (
        f"The checkpoint {tmp_path / '2'} is damaged (it has no {CHECKSUMS}, so it was not "
        "written to its end): delete that folder to go on from the checkpoint before it."
    )
    assert told == [f"{sentence} The one before it is tried now."]
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        checkpoint.read_about(tmp_path, 2)
    # Saved again it is whole.
    checkpoint.save(tmp_path, state(), step=2, about={"step": 2})
    assert checkpoint.read_about(tmp_path, 2) == {"step": 2}
