"""That all ways which step_speed times take the same step, and what it records of them."""

import json

import jax
import numpy as np
import pytest

from experiments import step_speed


@pytest.mark.slow
def test_every_way_takes_the_same_steps(monkeypatch):
    wait, losses = jax.block_until_ready, []
    for words in ({}, {"plain": True}, {"count": 2}):
        take, seen = step_speed.stepper("conv", 8, 3, **words), []
        with monkeypatch.context() as patch:
            patch.setattr(
                jax, "block_until_ready", lambda s, to=seen: to.append(float(wait(s)["loss"][0]))
            )
            take()
        losses.append(seen)
    assert len(losses[0]) == 3
    assert losses[0][0] > losses[0][-1]
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_every_way_is_recorded_beside_one_device(run_in, count):
    words = f"step_speed --models simple --batch-size 8 --rounds 3 --steps 2 --devices {count}"
    done = run_in(step_speed.main, words.split())
    assert done.code == 0, done.err
    row = json.loads((done.folder / "cpu" / "result.json").read_text())["rows"][0]
    several = {"several"} if count > 1 else set()
    assert set(row["images_per_second"]) == {"one", "plain", *several}
    assert all(speed > 0 for speed in row["images_per_second"].values())
    for name in ("times_plain_conv", *(["times_one_device"] if several else [])):
        median, low, high = row[name]
        assert 0 < low <= median <= high
        assert f"{median:.2f} times as" in done.out
    assert ("on 2 devices" in done.out) == bool(several)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--models nothing", "--models has 'nothing': it must be of"),
        ("--devices 0", "--devices is 0: it must be 1 or more"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_sentence(run_in, words, message):
    done = run_in(step_speed.main, ["step_speed", *words.split()])
    assert done.code == 1
    assert done.err.strip().startswith(f"error: {message}")
