"""How long a speedrun trains, and what makes a step of a gradient."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.speedrun_config import Config
from jaxlessons import schedules, training
from jaxlessons.muon import muon
from jaxlessons.schedules import Phase


class Plan(NamedTuple):
    """How many steps there are. whitening: those before the whitening's bias is frozen."""

    per_epoch: int
    total: int
    whitening: int


def make_plan(config: Config, count: int) -> Plan:
    """The steps of a training on `count` images."""
    per_epoch = training.steps_per_epoch(count, config.batch_size)
    # Rounded first, since 1.1 epochs of 10 steps are a little more than 11 as floats.
    total, whitening = (
        math.ceil(round(epochs * per_epoch, 6))
        for epochs in (config.epochs, config.whitening_epochs)
    )
    return Plan(per_epoch, max(1, total), min(max(1, total), whitening))


def course(config: Config, steps: int) -> np.ndarray:
    """Each step's rate as a share of the highest: up in a line, then down in one."""
    up = int(config.warmup * steps)
    phases = [Phase(steps - up, (1.0, config.end), "linear")]
    if up:
        phases.insert(0, Phase(up, (config.start, 1.0), "linear"))
    return np.asarray(schedules.lr_schedule(phases, 1)(np.arange(steps)))


def make_optimizer(config: Config, plan: Plan) -> optax.GradientTransformation:
    """SGD for gradients of a batch's mean loss, and Muon for the filters where it is asked for."""
    # With a constant gradient, Nesterov's momentum makes a step this many times as long.
    longer = 1 + 1 / (1 - config.momentum)
    rate = config.lr / 1024 / longer
    decay = config.weight_decay * config.batch_size / 1024 / longer
    usual = course(config, plan.total)
    steps, until_frozen = np.arange(plan.total), usual
    if config.optimizer == "muon":
        until_frozen = 1 - steps / max(1, plan.whitening)
    until_frozen = np.where(steps < plan.whitening, until_frozen, 0)

    def scheduled(highest: float, shares: np.ndarray) -> optax.Schedule:
        rates = jnp.asarray(highest * shares, jnp.float32)
        return lambda step: rates[step]

    def sgd(highest: float, shares: np.ndarray = usual) -> optax.GradientTransformation:
        return optax.chain(
            optax.scale(config.batch_size),  # the rates are those of a batch's sum
            optax.add_decayed_weights(decay / highest),
            optax.sgd(scheduled(highest, shares), config.momentum, nesterov=True),
        )

    biases = rate * config.bias_scale
    uses_muon = config.optimizer == "muon"
    filters = muon(scheduled(config.muon_lr, usual), config.muon_momentum)
    # Muon's network divides its logits by the head's inputs, so a step moves them by rate/inputs;
    # the published rate is for 256.
    head = rate * (config.widths[-1] / 256 if uses_muon else 1)
    transforms = {
        "whiten/kernel": optax.set_to_zero(),
        "whiten/bias": sgd(biases if uses_muon else rate, until_frozen),
        "norm": sgd(biases),
        "head": sgd(head),
        "conv": filters if uses_muon else sgd(rate),
    }

    def label(path: Any, _: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return next(part for part in transforms if part in name)

    return optax.partition(transforms, partial(jax.tree_util.tree_map_with_path, label))
