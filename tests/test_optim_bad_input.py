"""Each optimizer that makes no sense gets its one sentence."""

import re

import jax.numpy as jnp
import optax
import pytest

from jaxlessons.errors import UserError
from jaxlessons.optim import phased_optimizer
from jaxlessons.schedules import Phase


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: phased_optimizer([Phase(1, 0.1, optimizer="adagrad")], 1),
            "Phase.optimizer is 'adagrad': it must be one of sgd, nesterov, adam, adamw, rmsprop, "
            "lamb, lion, or an optax factory.",
        ),
        (
            lambda: phased_optimizer(
                [Phase(1, 0.1, optimizer="adamw", weight_decay=0.1, decoupled=False)], 1
            ),
            "adamw decouples its weight decay: for the coupled one take adam.",
        ),
        (
            lambda: phased_optimizer([Phase(1, 0.1)], 1, clip_norm=0),
            "clip_norm is 0: it must be above 0, or None for no clipping.",
        ),
        (
            lambda: phased_optimizer([Phase(1, 0.1)], 1, clip_norm=float("nan")),
            "clip_norm is nan: it must be above 0",
        ),
        (
            lambda: phased_optimizer([Phase(1, 0.1, beta2=0.9)], 1),
            "Phase.beta2 is 0.9: sgd has none, leave it out.",
        ),
        (
            lambda: phased_optimizer([Phase(1, 0.1, optimizer=optax.clip)], 1),
            "Phase.optimizer is clip: an optax factory must take learning_rate, as optax.radam",
        ),
        (lambda: phased_optimizer([], 1), "The list of phases is empty"),
        (lambda: phased_optimizer([Phase(1, 0.1)], 0), "steps_per_epoch is 0"),
    ],
)
def test_an_optimizer_without_meaning_is_refused(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()


def test_an_update_without_parameters_is_refused():
    optimizer = phased_optimizer([Phase(1, 0.1)], 1)
    state = optimizer.init(jnp.float32(0))
    with pytest.raises(ValueError, match="needs the parameters"):
        optimizer.update(jnp.float32(1), state)
