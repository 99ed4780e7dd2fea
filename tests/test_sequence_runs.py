"""Epochs on a text against their steps one by one: windows, carry, stops, resumes, and the end."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from text_setup import BATCH, PLAIN, Setup, assert_close, numbers

from jaxlessons import checkpoint, generate
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.sequence_training import Window
from jaxlessons.watch import NonFiniteError


@pytest.fixture(scope="module")
def jittered():
    return Setup("jittered", PLAIN)


@pytest.mark.parametrize("per_call", [4, None])
def test_epochs_are_their_steps_one_by_one_from_a_carry_of_zeros_each(jittered, per_call):
    made, reported = [], []
    assert jittered.per_epoch == 8
    total = 20
    found = numbers(
        jittered.fit(
            jittered.state(),
            total,
            made,
            steps_per_call=per_call or jittered.per_epoch,
            on_steps=lambda step, sums: reported.append((step, np.ravel(sums["loss"][0]))),
        )
    )
    assert len(made) == 3
    state, alone = jittered.state(), []
    for _, window in made:
        assert window.starts.shape == (jittered.per_epoch, BATCH)
        state = state.replace(carry=jax.tree.map(jnp.zeros_like, state.carry))
        for starts, lengths in zip(*window, strict=True):
            if int(state.step) < total:
                state, sums = jittered.step(state, jittered.tokens, Window(starts, lengths))
                alone.append(sums["loss"][0])
    assert_close(found, numbers(state), rtol=1e-5, atol=1e-6)
    assert reported[-1][0] == total
    np.testing.assert_allclose(np.concatenate([loss for _, loss in reported]), alone, rtol=1e-5)


def test_each_epoch_has_windows_of_its_own_the_same_whatever_came_before(jittered):
    """By a step that only counts."""

    def step(state, tokens, window):
        zero = jnp.zeros([])
        return state.replace(step=state.step + 1), {"loss": (zero, zero)}

    setup = Setup("jittered")
    setup.step = step
    orders = {}
    for seed in (0, 1):
        made = []
        setup.fit(setup.state(seed), 3 * setup.per_epoch, made, steps_per_call=1)
        orders[seed] = made
    keys = [str(key) for made in orders.values() for key, _ in made]
    assert len(set(keys)) == 6
    lengths = {tuple(window.lengths[:, 0]) for made in orders.values() for _, window in made}
    assert len(lengths) == 6
    resumed = []
    state = setup.state().replace(step=jnp.int32(setup.per_epoch + 2))
    setup.fit(state, 2 * setup.per_epoch, resumed, steps_per_call=1)
    assert resumed[0][0] == orders[0][1][0]


@pytest.mark.slow
def test_a_run_stopped_in_mid_epoch_and_resumed_ends_bit_for_bit_like_an_unbroken_one(
    jittered, tmp_path
):
    setup, total = jittered, 20
    whole = numbers(setup.fit(setup.state(), total, steps_per_call=4))
    # It is asked after each call and each epoch: this is the second epoch's first call.
    asked = iter([False, False, False, True, True])
    stopped = setup.fit(setup.state(), total, steps_per_call=4, should_stop=lambda: next(asked))
    assert int(stopped.step) == 12
    assert all(np.any(leaf) for leaf in jax.tree.leaves(numbers(stopped.carry)))
    checkpoint.save(tmp_path, stopped)
    resumed = checkpoint.restore(tmp_path, setup.state(seed=9))
    assert_close(numbers(setup.fit(resumed, total, steps_per_call=4)), whole)
    # Without its carry it would not have.
    lost = checkpoint.restore(tmp_path, setup.state(seed=9))
    lost = lost.replace(carry=jax.tree.map(jnp.zeros_like, lost.carry))
    other = numbers(setup.fit(lost, total, steps_per_call=4))
    assert np.abs(other.params["output"]["kernel"] - whole.params["output"]["kernel"]).max() > 1e-4


def test_a_second_epoch_and_another_key_compile_nothing(jittered, caplog):
    other = jittered.state(seed=1)
    state = jittered.fit(jittered.state(), 8, steps_per_call=4)
    with jax.log_compiles():
        jittered.fit(state, 24, steps_per_call=4)
        jittered.fit(other, 16, steps_per_call=4)
        assert [r.getMessage() for r in caplog.records if "ompil" in r.getMessage()] == []
        jax.jit(lambda x: x + 1234)(1.0)
    assert any("ompil" in record.getMessage() for record in caplog.records)


def test_a_loss_that_is_nan_is_reported_with_its_step():
    def rate(step):
        return jnp.where(step == 6, jnp.inf, 1e-3)

    setup = Setup(model=PLAIN, optimizer=optax.sgd(rate))
    steps, epochs = [], []
    with pytest.raises(NonFiniteError, match="The loss became NaN or infinite at step 8: ") as e:
        setup.fit(
            setup.state(),
            16,
            steps_per_call=4,
            on_steps=lambda step, sums: steps.append(step),
            on_epoch=lambda end: epochs.append(end.epoch),
        )
    assert e.value.step == 8
    assert steps == [4]
    assert epochs == []


@pytest.mark.slow
def test_a_tiny_text_is_learnt_by_heart_and_written():
    text = "The quick brown fox jumps over the lazy dog, and naps; so it goes."
    symbols = sorted(set(text))
    tokens = np.array([symbols.index(c) for c in text], np.int32)
    model = StatefulCharRNN(len(symbols), 16, 32, cell="rnn", backend="scan")
    setup = Setup(model=model, optimizer=optax.adam(1e-2), tokens=tokens, batch=1)
    ends = []
    state = setup.fit(setup.state(), 60 * setup.per_epoch, on_epoch=ends.append)
    assert ends[0].metrics["loss"] > 2
    assert ends[-1].metrics["loss"] < 0.1
    assert ends[-1].metrics["accuracy"] == 1.0
    found = generate.generate(
        model.apply,
        {"params": state.params},
        tokens[:1],
        len(text) - 3,
        jax.random.key(0),
        greedy=True,
    )
    assert "".join(symbols[t] for t in found[0]) == text[1:-2]
