"""phased_optimizer with groups of parameters: the lessons' LayerOptimizer and freeze_to."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlessons.errors import UserError
from jaxlessons.optim import phased_optimizer
from jaxlessons.schedules import Phase

TREE = {
    "trunk": {"low": {"w": 1.0}, "high": {"w": 2.0}},
    "head": {"w": 3.0, "bias": 4.0},
}


def group_updates(groups, phases=None, steps=3, grad=1.0, **settings):
    """name -> its update at each step, for gradients that are all `grad`; and the last state."""
    params = jax.tree.map(jnp.float32, TREE)
    phases = phases or [Phase(3, 1.0, momentum=0)]
    optimizer = phased_optimizer(phases, 1, groups, **settings)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    each = []
    for _ in range(steps):
        updates, state = update(
            jax.tree.map(lambda p: jnp.full_like(p, grad), params), state, params
        )
        each.append([float(u) for u in jax.tree.leaves(updates)])
    names = ["bias", "head", "high", "low"]  # in the order of a dict's sorted keys
    return dict(zip(names, np.array(each).T.tolist(), strict=True)), state


def test_groups_scale_the_rate_by_the_first_pattern_that_fits():
    updates, _ = group_updates({"bias$": 2, "low/": 0.25, "^trunk": 0.5})
    expected = {"bias": -2, "head": -1, "high": -0.5, "low": -0.25}
    assert updates == {name: [value] * 3 for name, value in expected.items()}


def test_a_group_can_have_phases_of_its_own():
    own = [Phase(1, 0), Phase(2, (0.4, 0.2), "linear", momentum=0)]
    updates, _ = group_updates({"trunk": own})
    np.testing.assert_allclose(updates["low"], [0, -0.4, -0.3], rtol=1e-6)
    assert updates["head"] == [-1, -1, -1]


def test_weight_decay_of_a_group_follows_its_rate():
    updates, _ = group_updates({"low": 0.5}, [Phase(3, 0.1, momentum=0, weight_decay=0.5)])
    assert updates["low"][0] == pytest.approx(-0.05 * (1 + 0.5 * 1))
    assert updates["high"][0] == pytest.approx(-0.1 * (1 + 0.5 * 2))


def test_a_group_at_0_has_no_state_and_its_gradient_is_not_computed():
    phases = [Phase(3, 1.0, optimizer="adam", weight_decay=0.1)]
    updates, state = group_updates({"trunk": 0}, phases)
    assert updates["low"] == updates["high"] == [0, 0, 0]
    assert updates["head"][0] == pytest.approx(-1.3)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.float32]
    assert len(moments) == 4  # two for each of head/w and head/bias

    def products(groups):
        """How many matrix products a training step of two layers has."""
        params = {"trunk": jnp.ones((4, 4)), "head": jnp.ones((4, 4))}
        optimizer = phased_optimizer(phases, 1, groups, clip_norm=1.0)

        def step(params, state, x):
            loss = lambda p: jnp.sum(jnp.tanh(jnp.tanh(x @ p["trunk"]) @ p["head"]))  # noqa: E731
            return optimizer.update(jax.grad(loss)(params), state, params)

        x = jnp.ones((3, 4))
        compiled = jax.jit(step).lower(params, optimizer.init(params), x).compile()
        return compiled.as_text().count(" dot(")

    # Two forward, two weights' gradients, one gradient handed down; frozen, one gradient remains.
    assert products({}) == 5
    assert products({"trunk": 0}) == 3


def test_clipping_counts_what_is_trained_only():
    updates, _ = group_updates({"trunk": 0}, clip_norm=1.0, grad=3.0)
    np.testing.assert_allclose(updates["head"], [-(0.5**0.5)] * 3, rtol=1e-6)
    updates, _ = group_updates({"trunk": 0.5}, clip_norm=1.0, grad=3.0)
    np.testing.assert_allclose(updates["head"], [-0.5] * 3, rtol=1e-6)
    np.testing.assert_allclose(updates["low"], [-0.25] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"(": 1}, "groups: '(' is no regular expression (missing ), unterminated"),
        ({3: 1}, "groups: 3 is no regular expression"),
        ({"head": -1}, "groups: 'head' has -1: it must be a multiplier of the rate, 0 or more, or"),
        ({"head": "0.1"}, "groups: 'head' has '0.1': it must be a multiplier"),
        ({"head": None}, "groups: 'head' has None"),
        ({"head": float("nan")}, "groups: 'head' has nan"),
        (
            {"head": [Phase(2, 0.1)]},
            "groups: the phases of 'head' have 2 steps, and all others 3: they must be equally",
        ),
        ({"head": []}, "The list of phases is empty"),
        ({"haed": 1}, "groups: 'haed' fits no parameter; their paths are like head/bias."),
    ],
)
def test_a_group_without_meaning_is_refused(groups, message):
    with pytest.raises(UserError, match=re.escape(message)):
        group_updates(groups)
