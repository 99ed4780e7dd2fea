"""The loop by a step that only counts: which calls it makes, on what, and what it tells."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxlessons import loop


class Counter(struct.PyTreeNode):
    """What a loop needs of a state. begun: epochs begun, seen: the sum of the steps' inputs."""

    step: jnp.ndarray
    begun: jnp.ndarray
    seen: jnp.ndarray

    @property
    def variables(self):
        return {"params": self.seen}


def fresh(step=0):
    return Counter(jnp.int32(step), jnp.int32(0), jnp.float32(0))


def step(state, data, own):
    """Takes in data * own, and says so as its loss over one example."""
    seen = data * own["x"]
    state = state.replace(step=state.step + 1, seen=state.seen + seen)
    return state, {"loss": (seen, jnp.float32(1))}


def inputs(state, epoch):
    """Step k of epoch e has 100 e + k."""
    return {"x": np.float32(100 * epoch + np.arange(5))}


def begin(state):
    return state.replace(begun=state.begun + 1)


def run(state, total, per_call, **settings):
    """(the state, what on_steps and on_epoch were told)"""
    told = []
    settings = {
        "on_steps": lambda at, sums: told.append((at, np.ravel(sums["loss"][0]).tolist())),
        "on_epoch": lambda end: told.append(("epoch", end.epoch, end.metrics["loss"])),
        **settings,
    }
    state = loop.run(
        state,
        step,
        jnp.float32(2),
        inputs,
        per_epoch=5,
        total_steps=total,
        steps_per_call=per_call,
        begin_epoch=begin,
        **settings,
    )
    return state, told


def test_calls_end_with_their_epoch_and_the_run():
    state, told = run(fresh(), 12, 3)
    assert told == [
        (3, [0, 2, 4]),
        (5, [6, 8]),
        ("epoch", 1, 4.0),
        (8, [200, 202, 204]),
        (10, [206, 208]),
        ("epoch", 2, 204.0),
        (12, [400, 402]),
        ("epoch", 3, 401.0),
    ]
    assert (int(state.step), int(state.begun), float(state.seen)) == (12, 3, 20 + 1020 + 802)


@pytest.mark.parametrize("per_call", [1, 2, 5, 50])
def test_the_calls_size_changes_no_step(per_call):
    state, told = run(fresh(), 12, per_call)
    assert (int(state.step), int(state.begun), float(state.seen)) == (12, 3, 20 + 1020 + 802)
    steps = [loss for entry in told if entry[0] != "epoch" for loss in entry[1]]
    assert steps == [2 * (100 * (k // 5) + k % 5) for k in range(12)]


def test_a_run_that_goes_on_within_an_epoch_does_not_begin_it_and_makes_the_same_calls():
    state, told = run(fresh(step=7), 12, 3)
    assert told == [
        (8, [204]),
        (10, [206, 208]),
        ("epoch", 2, 206.0),
        (12, [400, 402]),
        ("epoch", 3, 401.0),
    ]
    assert int(state.begun) == 1
    assert int(run(fresh(step=5), 6, 3)[0].begun) == 1


def test_a_run_that_is_over_does_nothing():
    state, told = run(fresh(step=12), 12, 3)
    assert told == []
    assert (int(state.step), int(state.begun)) == (12, 0)


@pytest.mark.parametrize(
    ("answers", "stopped_at", "epochs"),
    [
        ([True], 3, []),
        ([False, True, True], 5, [1]),
        ([False, False, False, True], 8, [1]),
        ([False, False, True], 5, [1]),
    ],
    ids=["within an epoch", "in its last call", "in the second epoch", "after an epoch"],
)
def test_it_stops_after_the_call_and_tells_of_whole_epochs_only(answers, stopped_at, epochs):
    asked = iter(answers)
    state, told = run(fresh(), 20, 3, should_stop=lambda: next(asked))
    assert int(state.step) == stopped_at
    assert [entry[1] for entry in told if entry[0] == "epoch"] == epochs
    # What was done is told of, the last call too.
    assert [entry[0] for entry in told if entry[0] != "epoch"][-1] == stopped_at


def test_epochs_are_counted_from_where_this_stretch_began():
    """As when the batch size has changed: the 40 steps before were 7 epochs of other lengths."""
    _, told = run(fresh(step=43), 50, 4, began=(40, 7))
    assert told == [
        (44, [1406]),
        (45, [1408]),
        ("epoch", 8, 1407.0),
        (49, [1600, 1602, 1604, 1606]),
        (50, [1608]),
        ("epoch", 9, 1604.0),
    ]
