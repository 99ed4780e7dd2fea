"""A speedrun's compiled program: what is timed, and what its compilation takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments import compiled
from experiments.speedrun_optimizer import Plan
from jaxlessons.training import Examples, Place, TrainState

PREDICTED = 2000  # test images at a time


class Carry(NamedTuple):
    """What a step hands to the next. slow: lookahead's weights, None without it."""

    state: TrainState
    slow: Any


class Parts(NamedTuple):
    """A training as functions to compile; images are bytes.

    begin: (state, train split) -> (carry, places of all steps), with the whitening done.
    advance: (carry, train split, places, first step, how many) -> carry; the first while the
    whitening's bias is trained, the second after that. predict: (carry, images) -> logits.
    """

    begin: Callable[..., tuple[Carry, Place]]
    advance: tuple[Callable[..., Carry], Callable[..., Carry]]
    predict: Callable[[Carry, jax.Array], jax.Array]


class Program(NamedTuple):
    """The compiled training. run: (state, train split, images) -> logits; it consumes the state.

    compile_seconds: of tracing and compiling. from_cache: how many of its compiled parts an earlier
    run had left in the cache, so that these seconds are not what compiling takes. flops: what XLA
    counts before it optimises, each scan's body as often as it runs.
    """

    run: Callable[[TrainState, Examples, jax.Array], jax.Array]
    compile_seconds: float
    from_cache: int
    flops: float


def compile_parts(
    parts: Parts, plan: Plan, state: TrainState, train: Examples, test: jax.Array, many: int | None
) -> Program:
    """Compiles ahead of time. many: steps a call; None for all of each of the two scans.

    With `many`, `run` waits for each call and shows a progress bar; otherwise it waits for nothing.
    """
    with compiled.counting_hits() as hits:
        began = time.perf_counter()
        begin = jax.jit(parts.begin, donate_argnums=0).lower(state, train).compile()
        carry, places = jax.eval_shape(parts.begin, state, train)
        predict = jax.jit(parts.predict).lower(carry, test)
        flops = xla_flops(predict) * math.ceil(len(test) / PREDICTED)
        calls: list[tuple[Any, int]] = []
        ends = (0, plan.whitening, plan.total)
        for advance, start, end in zip(parts.advance, ends, ends[1:], strict=False):
            if end > start:
                length = many or end - start
                place = jax.ShapeDtypeStruct((), jnp.int32)
                jitted = jax.jit(advance, static_argnums=4, donate_argnums=0)
                lowered = jitted.lower(carry, train, places, place, length)
                flops += xla_flops(lowered) * (end - start)
                advance_compiled = lowered.compile()
                calls += [(advance_compiled, at) for at in range(start, end, length)]
        compiled_predict = predict.compile()
        seconds = time.perf_counter() - began

    def run(state: TrainState, train: Examples, test: jax.Array) -> jax.Array:
        carry, places = begin(state, train)
        for advance, at in tqdm(calls, unit="step", leave=False, disable=many is None):
            carry = advance(carry, train, places, np.int32(at))
            if many:  # otherwise Ctrl-C would wait for all the steps that are queued
                jax.block_until_ready(carry)
        return compiled_predict(carry, test)

    return Program(run, seconds, len(hits), flops)


def xla_flops(lowered: Any) -> float:
    """Of a program as it was lowered: the body of a loop counts once, 0 where XLA has no count."""
    return (lowered.cost_analysis() or {}).get("flops", 0.0)
