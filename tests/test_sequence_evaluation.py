"""Evaluation on a text against one long pass over it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from text_setup import MODEL, TOKENS, losses, quick

from jaxlessons import sequence_training
from jaxlessons.data import windows


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
