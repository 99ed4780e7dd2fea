"""Training and evaluation on a text, against loops and gradients of the tests' own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlessons import checkpoint, generate, sequence_training
from jaxlessons.data import windows
from jaxlessons.models.char import StatefulCharRNN
from jaxlessons.sequence_training import Window
from jaxlessons.watch import NonFiniteError

VOCABULARY, BATCH, BPTT = 6, 3, 8
TOKENS = np.random.RandomState(0).randint(0, VOCABULARY, 196).astype(np.int32)
MODEL = StatefulCharRNN(
    VOCABULARY, embedding_size=4, features=5, cell="lstm", output_dropout=0.3, backend="scan"
)
PLAIN = MODEL.clone(cell="rnn", output_dropout=0.0)

# Compiling is nearly all that these tests do.
quick = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Setup:
    """A model's state and step on TOKENS, by one of the schemes of data.windows."""

    def __init__(self, scheme="streams", model=MODEL, optimizer=None, tokens=TOKENS, batch=BATCH):
        self.scheme, self.model, self.batch = windows.SCHEMES[scheme], model, batch
        self.optimizer = optimizer or optax.sgd(0.5, momentum=0.9)
        self.tokens = jnp.asarray(tokens)
        self.windows = partial(self.scheme.windows, len(tokens), batch, BPTT)
        self.per_epoch = len(self.windows(jax.random.key(0)).starts)
        self.step = sequence_training.make_train_step(
            model.apply,
            self.optimizer,
            partial(windows.gather, width=self.scheme.width(BPTT)),
            ragged=scheme == "jittered",
        )

    def state(self, seed=0):
        return sequence_training.create_state(
            self.model,
            self.optimizer,
            jax.random.key(seed),
            self.batch,
            carried=self.scheme.carried,
        )

    def fit(self, state, total_steps, made=None, **settings):
        """made: a list that gets (key, the windows made with it) for each epoch."""

        def recorded(key):
            own = self.windows(key)
            if made is not None:
                made.append((jax.random.key_data(key).tolist(), Window(*map(np.asarray, own))))
            return own

        return sequence_training.fit(
            state,
            self.step,
            self.tokens,
            recorded,
            steps_per_epoch=self.per_epoch,
            total_steps=total_steps,
            **settings,
        )


@pytest.fixture(scope="module")
def streams():
    return Setup()


@pytest.fixture(scope="module")
def jittered():
    return Setup("jittered", PLAIN)


def numbers(tree):
    """Every array as numpy's: training consumes a state, and a key can't be compared."""

    def plain(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(plain, tree)


def assert_close(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def cut(starts, length):
    """Inputs and targets `[batch, length]` from these places of TOKENS."""
    inputs = np.stack([TOKENS[s : s + length] for s in starts])
    return inputs, np.stack([TOKENS[s + 1 : s + 1 + length] for s in starts])


def losses(logits, targets):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]


def nonzero(carry):
    random = np.random.RandomState(1)
    return jax.tree.map(lambda c: jnp.asarray(random.randn(*c.shape) / 2, jnp.float32), carry)


# One step.


def by_hand(optimizer, state, objective):
    """params, opt_state and what `objective(params)` says besides, one step on."""

    @quick
    def step(params, opt_state):
        grads, extra = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, extra

    return step(state.params, state.opt_state)


def test_a_step_is_the_gradient_and_the_optimizers_update_on_its_windows(streams):
    starts = np.array([3, 100, 41], np.int32)
    inputs, targets = cut(starts, BPTT)
    state = streams.state()
    state = state.replace(step=jnp.int32(5), carry=nonzero(state.carry))
    rngs = {"dropout": jax.random.fold_in(state.key, 5)}

    def objective(params):
        logits, carry = MODEL.apply({"params": params}, inputs, state.carry, train=True, rngs=rngs)
        each = losses(logits, targets)
        return each.mean(), (carry, each.sum(), (logits.argmax(-1) == targets).sum())

    params, opt_state, (carry, loss, right) = by_hand(streams.optimizer, state, objective)
    before = numbers(state)
    found, sums = streams.step(state, streams.tokens, Window(starts, np.full(3, BPTT, np.int32)))
    assert int(found.step) == 6
    assert_close(numbers(found.params), numbers(params), rtol=1e-5, atol=1e-6)
    assert_close(numbers(found.opt_state), numbers(opt_state), rtol=1e-4, atol=1e-6)
    assert_close(numbers(found.carry), numbers(carry), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(numbers(found.key), before.key)
    np.testing.assert_allclose(sums["loss"], (loss, BATCH * BPTT), rtol=1e-5)
    np.testing.assert_array_equal(sums["accuracy"], (right, BATCH * BPTT))


def test_random_windows_start_from_zeros_and_leave_no_carry():
    setup = Setup("random", PLAIN)
    state = setup.state()
    assert state.carry is None
    starts = np.array([0, 64, 8], np.int32)
    inputs, targets = cut(starts, BPTT)

    def objective(params):
        return losses(PLAIN.apply({"params": params}, inputs)[0], targets).mean(), None

    params, _, _ = by_hand(setup.optimizer, state, objective)
    state, _ = setup.step(state, setup.tokens, Window(starts, np.full(3, BPTT, np.int32)))
    assert state.carry is None
    assert_close(numbers(state.params), numbers(params), rtol=1e-5, atol=1e-6)
    assert setup.fit(state, 4, steps_per_call=1).carry is None


def test_shorter_windows_count_as_if_each_had_been_gathered_at_its_length(jittered):
    setup = jittered
    starts, lengths = np.array([150, 7, 190], np.int32), np.array([5, 18, 5], np.int32)
    state = setup.state()
    state = state.replace(carry=nonzero(state.carry))

    def objective(params):
        total, right, carries = 0.0, 0, []
        for lane, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            inputs, targets = cut([start], length)
            own = jax.tree.map(lambda c, i=lane: c[i : i + 1], state.carry)
            logits, carry = PLAIN.apply({"params": params}, inputs, own)
            total += losses(logits, targets).sum()
            right += (logits.argmax(-1) == targets).sum()
            carries.append(carry)
        carry = jax.tree.map(lambda *lanes: jnp.concatenate(lanes), *carries)
        return total / lengths.sum(), (carry, total, right)

    params, _, (carry, loss, right) = by_hand(setup.optimizer, state, objective)
    state, sums = setup.step(state, setup.tokens, Window(starts, lengths))
    np.testing.assert_allclose(sums["loss"], (loss, lengths.sum()), rtol=1e-5)
    np.testing.assert_array_equal(sums["accuracy"], (right, lengths.sum()))
    assert_close(numbers(state.carry), numbers(carry), rtol=1e-5, atol=1e-6)
    assert_close(numbers(state.params), numbers(params), rtol=1e-5, atol=1e-6)


# Epochs.


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


# Evaluation.


@pytest.fixture(scope="module")
def evaluate():
    def with_width(width):
        return sequence_training.make_evaluate(MODEL.apply, partial(windows.gather, width=width))

    params = draw(MODEL, jnp.zeros((1, 1), jnp.int32))
    return {"params": jax.tree.map(lambda value: 2 * np.asarray(value), params)}, with_width


@partial(quick, static_argnums=0)
def draw(model, tokens):
    return model.init(jax.random.key(4), tokens)["params"]


def one_pass(variables, first, last):
    """Losses and hits of the targets first + 1 to last, read in one go from zeros."""

    @quick
    def read(variables):
        logits, _ = MODEL.apply(variables, TOKENS[None, first:last])
        targets = TOKENS[None, first + 1 : last + 1]
        return losses(logits, targets)[0], (logits.argmax(-1) == targets)[0]

    return jax.tree.map(np.asarray, read(variables))


@pytest.mark.parametrize("width", [1, 65, 300])
def test_evaluation_in_one_stream_is_one_long_pass_whatever_the_width(evaluate, width):
    variables, with_width = evaluate
    loss, right = one_pass(variables, 0, len(TOKENS) - 1)
    assert len(loss) == 195
    found = with_width(width)(variables, TOKENS, windows.whole(len(TOKENS), 1, width))
    assert found["loss"] == pytest.approx(loss.mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(right.mean(), abs=1e-6)


@pytest.mark.parametrize("width", [7, 300])
def test_evaluation_in_streams_counts_every_target_once(evaluate, width):
    variables, with_width = evaluate
    # 195 targets in 4 streams: 49, 49, 49 and 48.
    bounds = [(0, 49), (49, 98), (98, 147), (147, 195)]
    loss, right = map(np.concatenate, zip(*(one_pass(variables, *b) for b in bounds), strict=True))
    found = with_width(width)(variables, TOKENS, windows.whole(len(TOKENS), 4, width))
    assert found["loss"] == pytest.approx(loss.mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(right.mean(), abs=1e-6)


def test_evaluation_does_not_begin_where_training_stopped(evaluate):
    """It has no carry of its own from call to call either."""
    variables, with_width = evaluate
    measure, whole = with_width(7), windows.whole(len(TOKENS), 4, 7)
    assert measure(variables, TOKENS, whole) == measure(variables, TOKENS, whole)
