"""The character models' numbers of parameters and first values, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from char_networks import SIZES, TOKENS, apply, draw, init

from jaxlessons.errors import UserError
from jaxlessons.models.char import (
    CharLoopConcatModel,
    CharLoopModel,
    CharRNN,
    CharSequenceRNN,
    StatefulCharRNN,
    ThreeCharModel,
)


def shapes_of(model, tokens):
    return jax.eval_shape(model.init, jax.random.key(0), tokens)["params"]


N, E, H = 85, 42, 256  # the lesson's sizes, which are the defaults
ENDS = N * E + H * N + N


@pytest.mark.parametrize(
    ("model", "time", "parameters"),
    [
        (ThreeCharModel(N), 3, ENDS + (E * H + H) + (H * H + H)),
        (CharLoopModel(N), 8, ENDS + (E * H + H) + (H * H + H)),
        (CharLoopConcatModel(N), 8, ENDS + ((E + H) * H + H) + (H * H + H)),
        (CharRNN(N), 8, ENDS + H * (E + H + 2)),
        (CharSequenceRNN(N), 8, ENDS + H * (E + H + 2)),
        (StatefulCharRNN(N, cell="rnn"), 8, ENDS + H * (E + H + 2)),
        (StatefulCharRNN(N, cell="gru"), 8, ENDS + 3 * H * (E + H + 2)),
        (
            StatefulCharRNN(N, features=512, layers=2),
            8,
            N * E + 512 * N + N + 4 * 512 * (E + 512 + 2) + 4 * 512 * (512 + 512 + 2),
        ),
    ],
)
def test_the_number_of_parameters_is_the_formulas(model, time, parameters):
    shapes = shapes_of(model, np.zeros((1, time), np.int32))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize(
    ("model", "gates"),
    [
        (CharSequenceRNN(**SIZES, recurrent_init="identity"), 1),
        (CharRNN(**SIZES, cell="lstm", recurrent_init="identity"), 4),
        (StatefulCharRNN(**SIZES, cell="gru", layers=2, recurrent_init="identity"), 3),
    ],
)
def test_the_recurrent_weights_can_start_at_the_identity(model, gates):
    own = init(model, TOKENS)["recurrent"]
    names = [name for name in own if name.startswith("weight_hh")]
    assert len(names) == getattr(model, "layers", 1)
    for name in names:
        np.testing.assert_array_equal(own[name], np.concatenate([np.eye(6)] * gates))
    # The others are still drawn.
    assert np.std(own["weight_ih_l0"]) > 0.1


def test_the_embedding_starts_as_a_normal_draw():
    table = np.asarray(init(CharRNN(85, features=4), TOKENS)["embedding"]["embedding"])
    assert abs(table.mean()) < 0.05
    assert abs(table.std() - 1) < 0.05


MODELS = [ThreeCharModel, CharLoopModel, CharLoopConcatModel, CharRNN, CharSequenceRNN]


@pytest.mark.parametrize("kind", [*MODELS[1:], StatefulCharRNN])
@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        (np.zeros((2, 9), np.float32), "float32[2, 9]"),
        (np.zeros(9, np.int32), "int32[9]"),
        (np.zeros((2, 0), np.int32), "int32[2, 0]"),
    ],
)
def test_what_is_not_token_ids_is_refused(kind, tokens, named):
    with pytest.raises(UserError) as caught:
        shapes_of(kind(**SIZES), jnp.asarray(tokens))
    assert str(caught.value) == (
        f"tokens are {named}: they must be whole numbers [batch, time], neither of them 0."
    )


@pytest.mark.parametrize("shape", [(2, 4), (2, 2), (3,), (2, 3, 1)])
def test_three_characters_are_three(shape):
    with pytest.raises(UserError) as caught:
        shapes_of(ThreeCharModel(**SIZES), jnp.zeros(shape, jnp.int32))
    expected = f"tokens are {list(shape)}: this model takes [batch, 3]."
    assert str(caught.value) == expected


def test_a_cell_that_there_is_not_and_a_carry_that_does_not_fit_are_refused():
    with pytest.raises(UserError, match=r"^cell is 'elman': it must be one of rnn, gru, lstm, "):
        shapes_of(StatefulCharRNN(**SIZES, cell="elman"), TOKENS)
    model = StatefulCharRNN(**SIZES, cell="gru")
    params = draw(model)
    carry = (np.zeros((3, 6), np.float32),)
    with pytest.raises(UserError) as caught:
        apply(model, params, TOKENS, carry)
    assert str(caught.value) == (
        "carry has the shapes ((3, 6),): for this layer and batch they are ((4, 6),)."
    )
