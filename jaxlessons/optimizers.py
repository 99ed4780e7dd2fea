"""The optimizers that a phase can name, and one step of any with settings known only then."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlessons.errors import UserError
from jaxlessons.phase import Phase

Factory = Callable[..., optax.GradientTransformation]


def rmsprop(
    learning_rate: Any, momentum: Any = 0.9, b2: Any = 0.99
) -> optax.GradientTransformation:
    """RMSProp (Hinton, 2012) as PyTorch has it: epsilon outside the root, momentum before the rate.

    v = b2 v + (1 - b2) g^2; buffer = momentum * buffer + g / (sqrt(v) + 1e-8).
    """
    return optax.chain(
        optax.scale_by_rms(decay=b2, eps=1e-8, eps_in_sqrt=False),
        optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )


# Momentum as in PyTorch: buffer = momentum * buffer + gradient.
OPTIMIZERS: dict[str, Factory] = {
    "sgd": optax.sgd,
    "nesterov": partial(optax.sgd, nesterov=True),
    "adam": optax.adam,
    "adamw": optax.adamw,
    "rmsprop": rmsprop,
    "lamb": optax.lamb,
    "lion": optax.lion,
}


def _parameters(factory: Factory) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(factory).parameters


def find_factory(phase: Phase) -> Factory:
    """The phase's optimizer as a factory, once it is clear that the phase makes sense with it."""
    name = phase.optimizer
    if isinstance(name, str):
        if name not in OPTIMIZERS:
            raise UserError(
                f"Phase.optimizer is {name!r}: it must be one of {', '.join(OPTIMIZERS)}, or an "
                "optax factory."
            )
        factory = OPTIMIZERS[name]
    else:
        factory, name = name, getattr(name, "__name__", repr(name))
        if "learning_rate" not in _parameters(factory):
            raise UserError(
                f"Phase.optimizer is {name}: an optax factory must take learning_rate, as "
                "optax.radam does."
            )
    if name == "adamw" and phase.weight_decay and not phase.decoupled:
        raise UserError("adamw decouples its weight decay: for the coupled one take adam.")
    if phase.beta2 is not None and "b2" not in _parameters(factory):
        raise UserError(f"Phase.beta2 is {phase.beta2!r}: {name} has none, leave it out.")
    return factory


def default_beta2(factory: Factory) -> float:
    """The optimizer's own; any number where it has none."""
    parameter = _parameters(factory).get("b2")
    return 0.0 if parameter is None else parameter.default


def make(
    factory: Factory, lr: Any, momentum: Any, beta2: Any, decay: Any
) -> optax.GradientTransformation:
    """The transformation at one step's settings; its state's shape does not depend on them."""
    known = {"learning_rate": lr, "b2": beta2, "weight_decay": decay}
    takes = _parameters(factory)
    known["b1" if "b1" in takes else "momentum"] = momentum
    made = factory(**{name: value for name, value in known.items() if name in takes})
    if "weight_decay" in takes:
        return made

    def update(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = made.update(grads, state, params)
        return add_scaled(updates, -lr * decay, params), state

    return optax.GradientTransformation(made.init, update)


def add_scaled(tree: Any, scale: jax.Array, other: Any) -> Any:
    """tree + scale * other, leaf by leaf, in the types of `tree`."""
    return jax.tree.map(lambda a, b: a + jnp.asarray(scale, a.dtype) * b, tree, other)
